"""`goku sample`: draw what is not there yet, publish each file, then its row."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from goku_cli.manifest.store import Manifest, Row
from goku_cli.media.shown import enlarged, write_shown
from goku_cli.model import checkpoint
from goku_cli.publish import sha256
from goku_cli.recipe import fingerprint
from goku_cli.sample.generate import Generator, Request
from goku_cli.sample.settings import SampleSettings
from goku_cli.stage import Progress


def sample_id(folder: Path, request: Request, name: str) -> str:
    """Return the id of a sample of a set: the same checkpoint, request and settings draw the same clip."""
    weights = json.loads((folder / checkpoint.COMPLETE).read_text())
    key = json.dumps([weights["ema.safetensors"]["sha256"], asdict(request), name])
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def set_name(folder: Path, bench: str | None, settings: SampleSettings) -> str:
    """Return the name of a set of samples: run, step, benchmark, and a fingerprint of the settings."""
    parts = [folder.resolve().parent.name, folder.name, bench, fingerprint(settings)[:4]]
    return "-".join(part for part in parts if part)


def draw_missing(
    manifest: Manifest, generator: Generator, folder: Path, requests: list[Request], settings: SampleSettings, *,
    name: str, out: Path, progress: Progress,
) -> int:  # fmt: skip
    """Draw the requests whose sample has no row, or whose file is gone; return how many were drawn."""
    known = {row["id"]: row["path"] for row in manifest.query("SELECT id, path FROM samples")}
    ids = {sample_id(folder, request, name): request for request in requests}
    present = {i for i in ids if i in known and (manifest.path.parent / known[i]).exists()}
    todo = {request: i for i, request in ids.items() if i not in present}
    progress.start("sample", len(todo))
    drawn = generator.generate(list(todo), steps=settings.steps, guidance=settings.guidance, solver=settings.solver)
    for row in _published(drawn, todo, generator.fps, out, manifest.path.parent):
        row |= {"name": name, "settings": json.dumps(asdict(settings)), "checkpoint": str(folder.absolute())}
        with manifest.transaction():
            manifest.execute("DELETE FROM samples WHERE id = ?", [row["id"]])
            manifest.insert("samples", [row])
        progress.advance()
    return len(todo)


def _published(
    drawn: Iterator[tuple[Request, np.ndarray]], ids: dict[Request, str], fps: float, out: Path, root: Path
) -> Iterator[Row]:
    for request, frames in drawn:
        key = ids[request]
        large = enlarged(frames)
        path = write_shown(out, key, large, fps)
        yield {
            "id": key, "prompt": request.prompt, "metadata": request.metadata, "seed": request.seed,
            "path": os.path.relpath(path, root),
            "frames": request.frames, "width": large.shape[2], "height": large.shape[1], "fps": fps,
            "sha256": sha256(path),
        }  # fmt: skip
