"""A set of samples on one sheet that moves: python bench/sheet.py demo/demo.duckdb#SAMPLES sheet.webp --columns 6

An animated WebP, lossless and looping: clips run in step, images stand still, each enlarged by whole pixels over its
prompt. Prompts that the benchmark holds out of training are marked. In the order of their seeds every k-th sample is
shown; --seed says which is the first. None is chosen by what it shows.
"""

import argparse
import json
import math
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from goku_cli.manifest.store import Manifest, Row
from goku_cli.media.sample_files import as_drawn, read_shown

SIDE, GAP, LINE = 128, 8, 14
"""Pixels: about the longer side of a sample; between samples; from line to line."""
PAPER, INK, MARK, FONT = "#ffffff", "#222222", "#b34700", ImageFont.load_default(11)

Cell = tuple[list[Image.Image], list[str], list[str]]
"""A sample's frames, the lines of its prompt, and the line that marks one that was held out."""


def main() -> None:
    """Draw the sheet that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", help="MANIFEST#SAMPLES")
    parser.add_argument("out", type=Path)
    for name, default in {"columns": 6, "rows": 4, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    file, _, name = options.samples.rpartition("#")
    with Manifest(Path(file), read_only=True) as manifest:
        rows = manifest.query("SELECT * FROM samples WHERE name = ? ORDER BY seed, id", [name])
    if not rows:
        parser.error(f"{file} has no samples of the name {name}")
    shown = min(len(rows), options.columns * options.rows)
    chosen = [rows[(options.seed + i * len(rows) // shown) % len(rows)] for i in range(shown)]
    first, *others = sheet([cell(Path(file).parent, row) for row in chosen], options.columns)
    duration = round(1000 / max(row["fps"] or 1.0 for row in chosen))
    first.save(options.out, "WEBP", lossless=True, save_all=True, append_images=others, duration=duration, loop=0)


def cell(folder: Path, row: Row) -> Cell:
    """Read a sample."""
    frames = as_drawn(read_shown(folder / row["path"]))
    scale = max(1, round(SIDE / max(frames.shape[1:3])))
    images = [Image.fromarray(frame) for frame in frames.repeat(scale, 1).repeat(scale, 2)]
    for image in images:
        image.thumbnail((3 * SIDE // 2, 3 * SIDE // 2))  # a large one; what was enlarged is no larger
    noted = json.loads(row["metadata"] or "null")
    marks = ["held out"] if isinstance(noted, dict) and not noted.get("seen", True) else []
    lines = [""]
    for word in row["prompt"].split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if FONT.getlength(longer) <= max(SIDE, images[0].width) else [*lines, word]
    return images, lines, marks


def sheet(cells: list[Cell], columns: int) -> list[Image.Image]:
    """Return the frames of the sheet; what has fewer frames than the longest clip rests at its last."""
    width = GAP + max(SIDE, *(images[0].width for images, _, _ in cells))
    picture = max(images[0].height for images, _, _ in cells)
    height = GAP + picture + LINE * max(len(lines + marks) for _, lines, marks in cells)
    size = GAP + width * min(columns, len(cells)), GAP + height * math.ceil(len(cells) / columns)
    pages = [Image.new("RGB", size, PAPER) for _ in range(max(len(images) for images, _, _ in cells))]
    for place, (images, lines, marks) in enumerate(cells):
        x, y = GAP + place % columns * width, GAP + place // columns * height
        for i, page in enumerate(pages):
            page.paste(images[min(i, len(images) - 1)], (x, y))
            for n, words in enumerate(lines + marks):
                ImageDraw.Draw(page).text((x, y + picture + n * LINE), words, INK if n < len(lines) else MARK, FONT)
    return pages


if __name__ == "__main__":
    main()
