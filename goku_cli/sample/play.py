"""`goku play`: samples drawn one at a time as somebody asks, and kept as `goku sample` keeps them.

The manifest is open only for the moment in which it is read or written: other commands can have it in between.
"""

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from goku_cli.errors import GokuError, UsageError
from goku_cli.manifest.beside import beside
from goku_cli.manifest.store import Manifest, Row
from goku_cli.sample.conditions import cropped_share
from goku_cli.sample.generate import Generator
from goku_cli.sample.prompts import Wish, requests
from goku_cli.sample.sample import Set, draw_rows, keep, missing, sample_id, set_name
from goku_cli.sample.settings import SampleSettings

SHOWN = 24
"""Past samples in the gallery."""
RANDOM_SEEDS = 1 << 31
PAST = r"""
SELECT prompt, text, seed, path, frames, width, height, fps, settings, checkpoint, name FROM samples
WHERE starts_with(path, ?) AND regexp_matches(path, '\.(mp4|gif|png)$') ORDER BY run DESC, rowid DESC LIMIT ?
"""


@dataclass(frozen=True)
class Asked:
    """What the page says when Draw is pressed; a field that was cleared is None."""

    prompt: str | None
    steps: int | None
    guidance: float | None
    solver: str
    size: str | None
    frames: int | None
    seed: int | None
    any_seed: bool
    negative: str | None = None
    motion: str | None = None
    """A number, or nothing."""
    image: str | None = None
    """Path of the uploaded picture."""


@dataclass(frozen=True)
class Kept:
    """A sample that was drawn."""

    path: Path
    seed: int
    remarks: list[str]
    """Lines for people."""


class Player:
    """Draws one sample at a time from a loaded checkpoint, and knows those that were drawn."""

    def __init__(self, generator: Generator, folder: Path, manifest: Path, weights: str) -> None:
        self.generator = generator
        self.folder = folder
        self.path = manifest
        self.weights = weights
        self.samples = beside(manifest, "samples")
        self.samples.mkdir(parents=True, exist_ok=True)
        self._drawing = threading.Lock()
        self._opening = threading.Lock()
        self._stopped = threading.Event()

    def draw(self, asked: Asked, moved: Callable[[int, int], None]) -> Kept:
        """Draw what is asked for, unless it is there already, and keep it; `moved` gets steps done and to do.

        Raises:
            UsageError: this checkpoint cannot draw it.
            GokuError: the manifest is held by another process, or a file could not be written.
        """
        if not asked.prompt:
            raise UsageError("type a prompt")
        settings = self._settings(asked)
        seed = random.randrange(RANDOM_SEEDS) if asked.any_seed or asked.seed is None else asked.seed
        wish = Wish(
            seed=seed, count=1, frames=settings.frames, size=settings.size, negative=asked.negative or "",
            image=asked.image or "", motion=_motion(asked.motion),
        )  # fmt: skip
        (request,) = requests([{"prompt": asked.prompt}], self.generator.request, wish)
        remarks = []
        if request.image and (share := cropped_share(Path(request.image), request.height, request.width)):
            remarks.append(f"{share:.0%} of the picture was cropped to fit {request.height}x{request.width}")
        name = f"play-{set_name(self.folder, '', settings)}"
        drawn = Set(name, self.folder, settings, self.samples, self.path.parent)
        ids = {request: sample_id(drawn, request)}
        with self._drawing:
            with self._opened() as manifest:  # also finds out before the work whether it can be had
                if not missing(manifest, ids):
                    (row,) = manifest.query("SELECT path FROM samples WHERE id = ?", list(ids.values()))
                    return Kept(self.path.parent / row["path"], seed, [*remarks, "this was drawn before"])
            started = time.monotonic()
            (row,) = draw_rows(
                self.generator, drawn, ids, ids.keys(), _Steps(settings.steps, moved, self._stopped.is_set)
            )
            try:
                self._keep(row, asdict(settings) | vars(wish), time.monotonic() - started)
            except GokuError as error:
                remarks.append(f"{error}; this sample has no row yet: draw its seed again")
        return Kept(self.path.parent / row["path"], seed, remarks)

    def past(self) -> list[Row]:
        """Return what was drawn beside this manifest and a browser can show, newest first.

        Raises:
            GokuError: the manifest is held by another process.
        """
        with self._opened(read_only=True) as manifest:
            rows = manifest.query(PAST, [os.path.relpath(self.samples, self.path.parent) + os.sep, SHOWN])
        home = self.samples.resolve()
        for row in rows:
            row["path"] = (self.path.parent / row["path"]).resolve()
        return [row for row in rows if row["path"].is_relative_to(home) and row["path"].is_file()]

    def stop(self) -> None:
        """Give up what is being drawn at its next step, and wait for that."""
        self._stopped.set()
        with self._drawing:
            pass

    def _settings(self, asked: Asked) -> SampleSettings:
        guidance = SampleSettings.guidance if asked.guidance is None else asked.guidance
        steps = SampleSettings.steps if asked.steps is None else asked.steps
        return SampleSettings(
            steps, guidance, frames=asked.frames or 0, size=(asked.size or "").strip(), weights=self.weights,
            solver=asked.solver,
        )  # fmt: skip

    @contextlib.contextmanager
    def _opened(self, *, read_only: bool = False) -> Iterator[Manifest]:
        with self._opening, Manifest(self.path, read_only=read_only) as manifest:
            yield manifest

    def _keep(self, row: Row, arguments: Row, seconds: float) -> None:
        with self._opened() as manifest:
            manifest.begin_run("play", arguments | {"checkpoint": str(self.folder)})
            keep(manifest, row)
            manifest.end_run("ok", {"drawn": 1, "asked": 1}, seconds, f"{self.path}#{row['name']}")


def _motion(text: str | None) -> float | None:
    try:
        return float(text) if text and text.strip() else None
    except ValueError as error:
        raise UsageError(f"a motion score is a number, not {text}") from error


class _Steps:
    """Progress of one draw, and its end when the page is closed."""

    def __init__(self, total: int, moved: Callable[[int, int], None], stopped: Callable[[], bool]) -> None:
        self.done = 0
        self.total = total
        self.moved = moved
        self.stopped = stopped

    def start(self, what: str, total: int) -> None: ...

    def advance(self, count: int = 1) -> None:
        if self.stopped():
            raise GokuError("the page was closed")
        self.done += count
        self.moved(self.done, self.total)
