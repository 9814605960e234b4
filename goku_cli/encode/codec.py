"""Choice of the codec: a VAE's folder, or the linear one, which is fitted when this manifest has none of its kind."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from goku_cli.encode.clip import clip_windows
from goku_cli.encode.settings import EncodeSettings
from goku_cli.errors import Fault, GokuError, UsageError
from goku_cli.manifest.beside import beside
from goku_cli.manifest.store import Manifest, Row
from goku_cli.model.vae.codec import codec_fingerprint, load_codec
from goku_cli.model.vae.linear_codec import LinearCodec, to_unit
from goku_cli.publish import publish_folder
from goku_cli.recipe import fingerprint

FIT_CLIPS = 1_024
"""Clips that the linear codec is fitted on (these are decoded a second time when they are encoded)."""
NOT_OF_THE_VAE = ("vae", "text", "text_dtype", "channels")
"""Settings that the row of a VAE does not need: they are named by it, or by its folder."""


def latents_folder(manifest: Manifest) -> Path:
    """Return the folder of the manifest's shards and codecs."""
    return beside(manifest.path, "latents")


def codec_folder(manifest: Manifest, clips: list[Row], settings: EncodeSettings) -> Path:
    """Return the codec's folder; the linear one is fitted on `clips` unless that was done before.

    Raises:
        UsageError: the folder holds no codec, or one that does not take windows of so many frames or such tiles.
        GokuError: its weights are damaged, or the disk is full.
    """
    if settings.vae != "linear":
        load_codec(Path(settings.vae), settings.tile).check_frames(settings.frames)
        return Path(settings.vae).absolute()
    if settings.tile:
        raise UsageError("the linear VAE takes each block of 8x8 pixels by itself and has no tiles; leave --tile out")
    name = fingerprint([settings.channels, settings.bucket, settings.fps, settings.frames, settings.allow_upscale])
    folder = latents_folder(manifest).absolute() / f"linear-{name}"
    if not folder.exists():
        step = max(1, len(clips) // FIT_CLIPS)
        codec = LinearCodec.fit(_readable(clips[::step], settings), settings.channels)
        try:
            with publish_folder(folder) as temporary:
                codec.save(temporary)
        except (OSError, SafetensorError) as error:
            raise GokuError(f"{folder} could not be written ({error}); free space and run again") from error
    return folder


def _readable(clips: list[Row], settings: EncodeSettings) -> Iterator[Tensor]:
    """Yield one window of each clip that can be read; the others fail in their own turn, with a row."""
    for row in clips:
        with contextlib.suppress(Fault):
            for _, frames in clip_windows(row, settings, LinearCodec.period, 1):
                yield to_unit(frames)


def vae_encoder(codec: Path, settings: EncodeSettings) -> Row:
    """Return the encoder's row; its id is the fingerprint of all that decides a latent's bits: codec and settings."""
    made_with = {name: value for name, value in asdict(settings).items() if name not in NOT_OF_THE_VAE}
    made_with["codec_sha256"] = codec_fingerprint(codec)
    return {
        "id": fingerprint(made_with), "kind": "vae", "name": settings.vae, "path": str(codec),
        "settings": json.dumps(made_with),
    }  # fmt: skip
