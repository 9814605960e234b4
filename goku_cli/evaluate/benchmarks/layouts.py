"""Samples in the folders and under the names that official evaluators read.

Names are part of the protocol: VBench takes prompts, and the action that it should see, from them; so nothing in them
is replaced. A prompt that the model read in other words stands there in the list's own.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from goku_cli.benches.protocol import BENCHES
from goku_cli.errors import GokuError, UsageError
from goku_cli.evaluate.benchmarks.coverage import Take
from goku_cli.publish import publish, publish_folder

LONGEST = 255
"""Bytes of a file's name, nearly everywhere."""
Files = dict[str, Path]
"""Samples by the names that they get."""


def write_layout(bench: str, takes: list[Take], folder: Path) -> int:
    """Write samples as a benchmark's tool reads them into `folder`, which must not exist; return how many files.

    Samples are linked, or copied where that is not possible.

    Raises:
        UsageError: `folder` exists.
        GokuError: a sample is not what the tool reads, or the disk does not tell two names apart.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists; remove it, or name another folder")
    with publish_folder(folder) as temporary:
        return LAYOUTS[bench](takes, temporary)


def fingerprint(takes: list[Take]) -> str:
    """Return what changes when any sample, or what is asked of it, changes."""
    key = json.dumps([(take.index, take.take, take.prompt, take.metadata, take.sha256) for take in takes])
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def write_vbench(takes: list[Take], folder: Path) -> int:
    """Write PROMPT-N.mp4, all in one folder. Two prompts of its list stand there twice, and share their clips."""
    if images := [take for take in takes if take.file.suffix != ".mp4"]:
        raise GokuError(f"VBench reads clips, {images[0].file} is none; draw them with --frames 97, say")
    files = {f"{_named(take)}-{take.take}.mp4": take.file for take in reversed(takes)}
    return _place(files, folder)


def write_geneval(takes: list[Take], folder: Path) -> int:
    """Write %05d/metadata.jsonl, the row of the list, and %05d/samples/%04d.png."""
    _images(takes)
    placed = _place({f"{take.index:05d}/samples/{take.take:04d}.png": take.file for take in takes}, folder)
    for index, metadata in {take.index: take.metadata for take in takes}.items():
        (folder / f"{index:05d}" / "metadata.jsonl").write_text(json.dumps(metadata), encoding="utf-8")
    return placed


def write_compbench(takes: list[Take], folder: Path) -> int:
    """Write CATEGORY/samples/PROMPT_%06d.png, numbers counting through a category as in its authors' own script."""
    _images(takes)
    count = BENCHES["t2i-compbench"].count
    files = {}
    for take in takes:
        number = take.metadata["number"] * count + take.take
        files[f"{take.metadata['category']}/samples/{_named(take)}_{number:06d}.png"] = take.file
    return _place(files, folder)


def write_dpg(takes: list[Take], folder: Path) -> int:
    """Write ID.png, a picture of two by two samples; a prompt with fewer than four has none.

    Raises:
        GokuError: samples are not square, or not of one size: the tool cuts squares of one side out of them.
    """
    _images(takes)
    width, height = _size_of([take.file for take in takes])
    if width != height:
        raise GokuError(f"DPG reads square images, these have {height}x{width}; draw with --size 512x512, say")
    grids: dict[str, list[Path]] = {}
    for take in takes:
        grids.setdefault(take.metadata["id"], []).append(take.file)
    whole = {name: files[:4] for name, files in grids.items() if len(files) >= 4}
    for name, files in whole.items():
        quarters = [np.asarray(Image.open(file).convert("RGB")) for file in files]
        grid = np.block([[[quarters[0]], [quarters[1]]], [[quarters[2]], [quarters[3]]]])
        Image.fromarray(grid).save(folder / f"{name}.png")
    return len(whole)


def write_npz(files: list[Path], path: Path) -> int:
    """Publish images as `arr_0`, uint8 (N, H, W, 3), which guided-diffusion's `evaluator.py` reads; return N.

    Raises:
        GokuError: they are not images of one size.
    """
    width, height = _size_of(files)
    with publish(path) as temporary:
        raw = temporary.with_suffix(".raw")
        try:
            # On the disk: 50,000 images of 256 pixels are 10 GB.
            images_NHW3 = np.memmap(raw, np.uint8, "w+", shape=(len(files), height, width, 3))
            for i, file in enumerate(files):
                images_NHW3[i] = np.asarray(Image.open(file).convert("RGB"))
            with temporary.open("wb") as archive:
                np.savez(archive, arr_0=images_NHW3)
        finally:
            raw.unlink(missing_ok=True)
    return len(files)


def _named(take: Take) -> str:
    if "/" in take.prompt or "\0" in take.prompt:
        raise GokuError(f'"{take.prompt}" cannot be the name of a file, and this benchmark reads prompts from names')
    return take.prompt


def _images(takes: list[Take]) -> None:
    if clips := [take for take in takes if take.file.suffix != ".png"]:
        raise GokuError(f"this benchmark reads images, {clips[0].file} is a clip; draw with --frames 1")


def _size_of(files: list[Path]) -> tuple[int, int]:
    sizes: dict[tuple[int, int], Path] = {}
    for file in files:
        try:
            with Image.open(file) as image:
                sizes.setdefault(image.size, file)
        except OSError as error:
            raise GokuError(f"{file} is no image: {error}") from error
    if len(sizes) != 1:
        found = ", ".join(f"{height}x{width} ({file.name})" for (width, height), file in sizes.items())
        raise GokuError(f"images of one size are needed; there are {found or 'none'}")
    return next(iter(sizes))


def _place(files: Files, folder: Path) -> int:
    for name, file in files.items():
        target = folder / name
        if len(os.fsencode(target.name)) > LONGEST:
            raise GokuError(f'"{target.name[:60]}..." is too long to be the name of a file')
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise GokuError(
                f'"{name}" and another name differ by case alone, which the disk of {folder.parent} does not '
                "tell apart; export to one that does"
            )
        _link(file, target)
    return len(files)


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:  # another disk, or one that knows no links
        shutil.copyfile(file, target)


LAYOUTS: dict[str, Callable[[list[Take], Path], int]] = {
    "vbench": write_vbench,
    "geneval": write_geneval,
    "dpg": write_dpg,
    "t2i-compbench": write_compbench,
}
