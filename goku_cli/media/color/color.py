"""From decoded frames to RGB: one set of rules for everything that looks at a frame.

Matrix, range, transfer and primaries are what the stream says. Where it says nothing, they are what players take:
BT.709 from 720 lines on, BT.601 below, limited range, standard dynamic range. High dynamic range is mapped to
standard range with the white of subtitles (203 cd/m2, ITU-R BT.2408) kept as white; other primaries, also those of PAL
and SMPTE C, are mapped to BT.709's; transparent pixels lie on middle gray, and never show what is behind them.

Numbers of matrices, transfers and primaries are those of ITU-T H.273, as FFmpeg has them.
"""

import functools
import threading
from dataclasses import dataclass

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

HD = 720
LUMA = {
    "bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "fcc": (0.30, 0.11), "smpte240m": (0.212, 0.087),
    "bt2020": (0.2627, 0.0593),
}  # fmt: skip
"""How much of red and of blue is luma."""
PLANAR = frozenset(["yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p"])
"""Formats of 8 bits in three planes."""
MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
SCALER = {"bt709": 1, "fcc": 4, "bt601": 5, "smpte240m": 7, "bt2020": 9}
"""What the scaler calls them."""
TRANSFERS = {16: "pq", 18: "hlg"}
PRIMARIES = {5: "bt470bg", 6: "smpte170m", 7: "smpte170m", 9: "bt2020", 11: "p3", 12: "p3"}
TO_BT709 = {
    "bt2020": ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),
    "p3": ((1.2249, -0.2249, 0.0), (-0.0421, 1.0421, 0.0), (-0.0196, -0.0786, 1.0983)),
    "bt470bg": ((1.0440, -0.0440, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0118, 0.9882)),
    "smpte170m": ((0.9395, 0.0502, 0.0103), (0.0178, 0.9658, 0.0164), (-0.0016, -0.0044, 1.0060)),
}
"""Of linear light, all with the white of D65 (ITU-R BT.2087; SMPTE EG 432-1; ITU-R BT.1700 of PAL; SMPTE 170M)."""
LUMINANCE = (0.2627, 0.6780, 0.0593)
"""Of linear BT.2020."""
FULL_RANGE = 2
WHITE = 203.0
"""cd/m2 of what is white in standard range."""
KNEE = 0.75
"""Brighter than this share of white, linear, light is compressed to leave room for highlights."""
GAMMA = 2.4
"""Of a display of BT.709 pictures (ITU-R BT.1886)."""
ALPHA_GRAY = 128
LEVELS = 1 << 16
_scalers = threading.local()


@dataclass(frozen=True)
class Coding:
    """How the numbers of a frame are to be read."""

    matrix: str
    """rgb, gray, or one of MATRICES"""
    full: bool = False
    transfer: str = "sdr"
    """sdr, pq or hlg"""
    primaries: str = "bt709"
    """bt709, or one of TO_BT709"""
    alpha: bool = False
    assumed: bool = False
    """The stream does not name its matrix."""

    def __str__(self) -> str:
        words = [
            self.matrix, "full" if self.full else "", self.transfer if self.transfer != "sdr" else "",
            f"primaries {self.primaries}" if self.primaries != "bt709" else "",
            f"alpha on {ALPHA_GRAY}" if self.alpha else "", "assumed" if self.assumed else "",
        ]  # fmt: skip
        return " ".join(word for word in words if word)

    @property
    def plain(self) -> bool:
        """Whether the scaler alone gives the colors."""
        return self.transfer == "sdr" and self.primaries == "bt709"


def coding_of(frame: av.VideoFrame) -> Coding:
    """Return how a frame is coded, by its tags and, where there are none, by convention."""
    form = frame.format
    alpha = any(component.is_alpha for component in form.components) or form.name == "pal8"
    transfer = TRANSFERS.get(int(frame.color_trc or 0), "sdr")
    primaries = PRIMARIES.get(int(frame.color_primaries or 0), "bt709")
    if form.is_rgb or form.name == "pal8":
        return Coding("rgb", True, transfer, primaries, alpha)
    full = int(frame.color_range) == FULL_RANGE or form.name.startswith("yuvj")
    if len([component for component in form.components if not component.is_alpha]) == 1:
        return Coding("gray", full, transfer, primaries, alpha)
    if matrix := MATRICES.get(int(frame.colorspace)):
        return Coding(matrix, full, transfer, primaries, alpha)
    wide = transfer != "sdr" or primaries == "bt2020"
    convention = "bt2020" if wide else "bt709" if frame.height >= HD else "bt601"
    return Coding(convention, full, transfer, primaries, alpha, assumed=True)


def to_rgb(
    frame: av.VideoFrame, width: int | None = None, height: int | None = None, coding: Coding | None = None
) -> np.ndarray:
    """Return a frame as RGB (H, W, 3) uint8 of BT.709, scaled by area, but neither turned nor made square."""
    coding, width, height = coding or coding_of(frame), width or frame.width, height or frame.height
    if coding.transfer != "sdr":
        return _standard(_flat(frame, width, height, "rgba64le" if coding.alpha else "rgb48le", coding), coding)
    if coding.matrix in LUMA and not coding.alpha:
        image = _by_matrix(frame, width, height, coding)
    else:
        image = _flat(frame, width, height, "rgba" if coding.alpha else "rgb24", coding)
    return image if coding.plain else _from_primaries(image, coding.primaries)


def _by_matrix(frame: av.VideoFrame, width: int, height: int, coding: Coding) -> np.ndarray:
    """Scale in planes, and convert these to the level: the scaler's own fast conversion errs by up to 4 levels, and its
    exact one takes three times as long as this."""
    if (width, height) != (frame.width, frame.height) or frame.format.name not in PLANAR:
        frame = _reformatted(frame, width, height, "yuv444p", coding, full=coding.full)
    luma, *chroma = (plane_view(plane) for plane in frame.planes)
    chroma = [cv2.resize(plane, (width, height), interpolation=cv2.INTER_NEAREST) for plane in chroma]
    return cv2.transform(cv2.merge([luma, *chroma]), _matrix(coding.matrix, coding.full))


def plane_view(plane: av.video.plane.VideoPlane) -> np.ndarray:
    """Return a plane of 8 bits as (H, W), without a copy."""
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


@functools.cache
def _matrix(matrix: str, full: bool) -> np.ndarray:
    """Return what turns (Y, Cb, Cr, 1) of 8 bits into RGB, (3, 4) (ITU-R BT.601, BT.709, BT.2020)."""
    red, blue = LUMA[matrix]
    green = 1 - red - blue
    rows = np.array([
        [1, 0, 2 * (1 - red)],
        [1, -2 * (1 - blue) * blue / green, -2 * (1 - red) * red / green],
        [1, 2 * (1 - blue), 0],
    ])  # fmt: skip
    scale, black = (np.ones(3), 0) if full else (np.array([255 / 219, 255 / 224, 255 / 224]), 16)
    rows = rows * scale
    return np.hstack([rows, -rows @ [[black], [128], [128]]])


def _flat(frame: av.VideoFrame, width: int, height: int, form: str, coding: Coding) -> np.ndarray:
    """Scale and convert by the scaler, and lay what is transparent on gray."""
    image = np.asarray(_reformatted(frame, width, height, form, coding, full=True).to_ndarray())
    return _on_gray(image) if coding.alpha else image


def _reformatted(
    frame: av.VideoFrame, width: int, height: int, form: str, coding: Coding, *, full: bool
) -> av.VideoFrame:
    scaler = getattr(_scalers, "scaler", None)
    if scaler is None:
        scaler = _scalers.scaler = VideoReformatter()
    how = Interpolation.AREA if (width, height) != (frame.width, frame.height) else Interpolation.BILINEAR
    matrix = SCALER.get(coding.matrix, SCALER["bt709"])
    return scaler.reformat(
        frame, width, height, form, src_colorspace=matrix, dst_colorspace=SCALER["bt709"] if full else matrix,
        src_color_range=_range(coding.full), dst_color_range=_range(full), interpolation=how, threads=1,
    )  # fmt: skip


def _range(full: bool) -> ColorRange:
    return ColorRange.JPEG if full else ColorRange.MPEG


def _on_gray(image: np.ndarray) -> np.ndarray:
    """Lay (H, W, 4) on middle gray."""
    most = np.iinfo(image.dtype).max
    share = image[..., 3:].astype(np.float32) / most
    laid = image[..., :3] * share + (1 - share) * (ALPHA_GRAY / 255 * most)
    return np.rint(laid).astype(image.dtype)


def _from_primaries(image: np.ndarray, primaries: str) -> np.ndarray:
    """Turn (H, W, 3) uint8 of other primaries into those of BT.709."""
    light = cv2.LUT(image, _to_light("sdr")[:: (LEVELS - 1) // 255])
    return _shown(cv2.transform(light, np.array(TO_BT709[primaries], np.float32)))


def _standard(image: np.ndarray, coding: Coding) -> np.ndarray:
    """Turn (H, W, 3) uint16, of high dynamic range, into uint8 of BT.709 in standard range."""
    light = _to_light(coding.transfer)[image]
    if coding.transfer == "hlg":  # the display's part of it: brighter pictures get more contrast (ITU-R BT.2100)
        light = light * np.maximum(light @ np.array(LUMINANCE, np.float32), 1e-6)[..., None] ** 0.2
        light = light * np.float32(1000 / WHITE)
    if coding.primaries in TO_BT709:
        light = np.maximum(light @ np.array(TO_BT709[coding.primaries], np.float32).T, 0)
    brightest = light.max(-1, keepdims=True)
    return _shown(light * (_compressed(brightest) / np.maximum(brightest, 1e-6)))


def _shown(light: np.ndarray) -> np.ndarray:
    """Return the levels of linear light, 1 = white; what lies outside of BT.709 is clipped."""
    return _to_display()[np.rint(light.clip(0, 1) * (LEVELS - 1)).astype(np.uint16)]


def _compressed(x: np.ndarray) -> np.ndarray:
    """Return light of which all above the knee lies below 1, with one slope at the knee."""
    room = 1 - KNEE
    return np.where(x <= KNEE, x, KNEE + room * (1 - np.exp(-(x - KNEE) / room)))


@functools.cache
def _to_light(transfer: str) -> np.ndarray:
    """Return linear light, 1 = white, of every level of 16 bits (of HLG: the scene's, before its system gamma)."""
    e = np.linspace(0, 1, LEVELS)
    if transfer == "pq":  # SMPTE ST 2084
        root = e ** (1 / 78.84375)
        light = (
            10_000 / WHITE * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
        )
    elif transfer == "hlg":  # ARIB STD-B67
        light = np.where(e <= 0.5, e**2 / 3, (np.exp((e - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    else:
        light = e**GAMMA
    return light.astype(np.float32)


@functools.cache
def _to_display() -> np.ndarray:
    """Return the level of 8 bits of every linear level of 16."""
    return np.rint(255 * np.linspace(0, 1, LEVELS) ** (1 / GAMMA)).astype(np.uint8)
