"""Reference clips for distances: clips and images of a selection, of another set of samples, or of a folder."""

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from goku_cli.errors import GokuError, UsageError
from goku_cli.evaluate.sample_scores import read_sample
from goku_cli.manifest.store import Manifest, Row
from goku_cli.media.frames import read_frames
from goku_cli.media.probing.suffixes import IMAGE_SUFFIXES, MEDIA_SUFFIXES
from goku_cli.stage import Progress


@dataclass(frozen=True)
class Footage:
    """A clip of a file, or an image."""

    path: Path
    image: bool
    start_us: int = 0
    end_us: int | None = None
    fields: str | None = None


def of_manifest(manifest: Manifest, name: str | None) -> list[Footage]:
    """Return what a selection keeps, or a set of samples of that name, by a hash: halves are as good as drawn.

    Raises:
        UsageError: there is neither.
    """
    drawn = manifest.query("SELECT path, frames FROM samples WHERE name = ? ORDER BY md5(id)", [name or ""])
    if drawn and not manifest.query("SELECT 1 FROM selections WHERE name = ? LIMIT 1", [name]):
        return [Footage(manifest.path.parent / row["path"], row["frames"] == 1) for row in drawn]
    rows = manifest.query(
        "SELECT source_path, start_us, end_us, fields FROM clip_files JOIN selections ON clip = id"
        " WHERE name = ? AND reason IS NULL AND source_path IS NOT NULL ORDER BY md5(id)",
        [manifest.selection(name)],
    )
    return [_footage(row) for row in rows]


def _footage(clip: Row) -> Footage:
    start_us, end_us = clip["start_us"], clip["end_us"]
    return Footage(Path(clip["source_path"]), end_us <= start_us, start_us, end_us, clip["fields"])


def of_folder(folder: Path) -> list[Footage]:
    """Return the images and videos below a folder, in the order of a hash.

    Raises:
        UsageError: there are none.
    """
    files = [path for path in folder.rglob("*") if path.suffix.lower() in MEDIA_SUFFIXES]
    if not files:
        raise UsageError(f"--real {folder} has no images and no videos")
    files.sort(key=lambda path: hashlib.sha256(str(path.relative_to(folder)).encode()).digest())
    return [Footage(path, path.suffix.lower() in IMAGE_SUFFIXES) for path in files]


def drawn_frames(manifest: Manifest, rows: list[Row], progress: Progress) -> Iterator[np.ndarray]:
    """Yield the frames (T, H, W, 3) uint8 of samples, without those that cannot be read."""
    for row in rows:
        progress.advance()
        try:
            yield read_sample(manifest.path.parent / row["path"], row["sha256"])
        except GokuError:  # who asks counts what is missing
            continue


def filmed_frames(
    clips: list[Footage], length: int, fps: float, progress: Progress, short_side: int | None = None
) -> Iterator[np.ndarray]:
    """Yield the first frames (length, H, W, 3) uint8 of clips at `fps`, without those unreadable or shorter."""
    for clip in clips:
        progress.advance()
        try:
            span = {"start_us": clip.start_us, "end_us": clip.end_us, "fields": clip.fields}
            read = read_frames(clip.path, fps=fps, short_side=short_side, **span)  # type: ignore[arg-type]
            frames = [frame for _, frame in itertools.islice(read, length)]
        except GokuError:
            continue
        if len(frames) == length:
            yield np.stack(frames)


def fitted(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the middle of frames (T, H, W, 3) uint8 in another size, by Pillow's bicubic filter."""
    if frames.shape[1:3] == (height, width):
        return frames
    scaled = [ImageOps.fit(Image.fromarray(frame), (width, height), Image.Resampling.BICUBIC) for frame in frames]
    return np.stack([np.asarray(image) for image in scaled])
