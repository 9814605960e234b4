"""From a still picture, as Pillow opens it, to sRGB: profiles, depths of samples, inks and transparency."""

import functools
import io
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from goku_cli.errors import Cause, Fault
from goku_cli.media.color.color import ALPHA_GRAY

SRGB_GAMMA = 1 / 2.2
"""What a PNG of sRGB says, as near as its single exponent goes."""


def to_srgb(image: Image.Image) -> tuple[np.ndarray, str]:
    """Return a picture as (H, W, 3) uint8 sRGB, transparency laid on middle gray, and what was done to it in words.

    Raises:
        Fault: NO_DECODER, when its samples do not say which of them is white.
    """
    words = [image.mode.lower()]
    profile, gamma = image.info.get("icc_profile"), _gamma(image)
    image, alpha = _without_alpha(_eight_bits(image))
    if image.mode == "LAB":
        image = _converted(image, ImageCms.createProfile("LAB"))
    elif profile:
        image, name = _by_profile(image, profile)
        words += [f"profile {name}"] if name else []
    elif gamma:
        exponent = SRGB_GAMMA / gamma
        image = image.convert("RGB").point([round(255 * (level / 255) ** exponent) for level in range(256)] * 3)
        words.append(f"gamma {gamma:g}")
    rgb = np.asarray(image.convert("RGB"))
    if alpha is not None:
        words.append(f"alpha on {ALPHA_GRAY}")
        share = np.asarray(alpha, np.float32)[..., None] / 255
        rgb = np.rint(rgb * share + (1 - share) * ALPHA_GRAY).astype(np.uint8)
    return rgb, " ".join(words)


def _gamma(image: Image.Image) -> float | None:
    """Return the exponent by which a PNG says that its samples were made of light, unless that is about sRGB's."""
    gamma = float(image.info.get("gamma", 0.0))
    told = gamma > 0 and "srgb" not in image.info and abs(gamma / SRGB_GAMMA - 1) > 0.05
    return gamma if told else None


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale samples of one channel that are deeper than 8 bits by their type; Pillow would clip them."""
    if image.mode.startswith("I;16"):
        return Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.mode == "I":
        raise Fault(Cause.NO_DECODER, "whole numbers of 32 bits, which do not say what is white; convert it to 16 bits")
    if image.mode == "F":
        numbers = np.asarray(image)
        if not (np.isfinite(numbers).all() and numbers.min() >= 0 and numbers.max() <= 1):
            raise Fault(Cause.NO_DECODER, "floating-point numbers that are not all from 0 to 1; convert it to 16 bits")
        return Image.fromarray(np.rint(numbers * 255).astype(np.uint8))
    return image


def _without_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    if not image.has_transparency_data:
        return (image.convert("RGB") if image.mode in ("P", "PA") else image), None
    whole = image.convert("RGBA")
    return whole.convert("RGB"), whole.getchannel("A")


def _by_profile(image: Image.Image, profile: bytes) -> tuple[Image.Image, str]:
    """Return a picture in sRGB by its ICC profile, and the profile's name; as it is where that is sRGB or damaged."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = ImageCms.getProfileDescription(source).strip()
        if "srgb" in name.lower():
            return image, ""
        return _converted(image, source), name[:60] or "without a name"
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image, "not followed, it is damaged"


def _converted(image: Image.Image, source: Any) -> Image.Image:
    converted = ImageCms.profileToProfile(
        image, source, _srgb(), renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )  # fmt: skip
    return converted or image


@functools.cache
def _srgb() -> Any:
    return ImageCms.createProfile("sRGB")
