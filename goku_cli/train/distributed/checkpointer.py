"""Checkpoints of a run: every rank copies its fragments, then writes them beside the training.

While the next steps run, each rank's thread writes what the rank held, and the first rank's puts the weights of all
together, seals the folder and gives it its name. Nothing is pickled. A checkpoint of N ranks can be read by any other
number, at any ZeRO stage.
"""

import json
import math
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from goku_cli.errors import GokuError
from goku_cli.model.weights import checkpoint
from goku_cli.train.distributed.ema import EmaWeights
from goku_cli.train.distributed.weight_shards import Fragment, WeightShards

STATE = "state.json"
RNG = "rng"
POLL_SECONDS = 0.05
WEIGHTS = "model.safetensors"
ADAPTERS = "adapters-"
"""Before the name of a file that holds the trained part of the weights alone."""


@dataclass
class Snapshot:
    """What a rank held after a step, on the CPU."""

    step: int
    parts: dict[str, dict[str, Tensor]]
    """File of weights -> name of a weight -> this rank's part of it, flattened."""
    optimizer: dict[str, Tensor]
    starts: dict[str, int]
    """Where in the flattened weight each part begins."""


def snapshot(step: int, fragments: WeightShards, averages: EmaWeights, extra: dict[str, Tensor]) -> Snapshot:
    """Copy a rank's fragments to the CPU; `extra` tensors go into its own file as they are."""
    names = [fragment.name for fragment in fragments.list]
    stretch = {fragment.name: slice(*fragment.mine) for fragment in fragments.list}

    def mine(held: dict[str, Tensor]) -> dict[str, Tensor]:
        parts = {name: x[stretch[name.rpartition("/")[2]]] for name, x in held.items()}
        return {name: x.to("cpu", copy=True) for name, x in parts.items() if x.numel()}

    files = _files(fragments, averages).items()
    parts = {file: mine(dict(zip(names, values, strict=True))) for file, values in files}
    optimizer = mine(fragments.states())
    optimizer |= {name: x.detach().to("cpu", copy=True) for name, x in extra.items()}
    starts = {f.name: f.start + f.mine[0] for f in fragments.list}
    return Snapshot(step, parts, optimizer | {RNG: torch.get_rng_state()}, starts)


def _files(fragments: WeightShards, averages: EmaWeights) -> dict[str, list[Tensor]]:
    """Return the fragments of the weights and of their averages by the files that they lie in."""
    frozen = not all(weight.requires_grad for weight in fragments.module.parameters())
    files = {WEIGHTS: fragments.values(), **averages.values}
    return {f"{ADAPTERS if frozen else ''}{name}": values for name, values in files.items()}


class Checkpointer:
    """Writes one checkpoint at a time in a thread of this rank."""

    def __init__(
        self, run: Path, rank: int, world: int, shapes: dict[str, torch.Size], keep: int, keep_every: int
    ) -> None:
        self.run = run
        self.rank, self.world = rank, world
        self.shapes = shapes
        self.keep, self.keep_every = keep, keep_every
        self.problem = ""
        """Why the last checkpoint could not be written."""
        self.seconds = 0.0
        """What the last one took, beside the training."""
        self.written = 0
        """Files that were written or read so far: how far it is."""
        self._thread: threading.Thread | None = None
        self._place = (run, run)
        """Where the last one is written, and what that is called when it is whole."""

    @property
    def busy(self) -> bool:
        """Whether this rank is writing."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def pending(self) -> bool:
        """Whether this rank or the first one is still at the last checkpoint."""
        temporary, final = self._place
        return self.busy or (self.rank > 0 and temporary != final and temporary.exists())

    def start(self, taken: Snapshot, describe: Callable[[Path], dict[str, Any]], state: dict[str, Any]) -> None:
        """Begin to write; `describe` writes further files of the first rank and returns its config.json."""
        self.wait()
        final = checkpoint.step_folder(self.run, taken.step)
        self._place = final.with_name(f".{final.name}"), final
        self._thread = threading.Thread(target=self._run, args=(taken, describe, state), daemon=True)
        self._thread.start()

    def wait(self, seconds: float | None = None) -> None:
        """Return when nothing is being written, or after so many seconds."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self, taken: Snapshot, describe: Callable[[Path], dict[str, Any]], state: dict[str, Any]) -> None:
        started = time.monotonic()
        temporary, final = self._place
        try:
            self._write(temporary, taken)
            if self.rank == 0:
                sums = self._gather(temporary)
                config = describe(temporary)
                (temporary / "config.json").write_text(json.dumps(config, indent=1) + "\n")
                (temporary / STATE).write_text(json.dumps(state) + "\n")
                checkpoint.finish(temporary, final, sums, self._count)
                checkpoint.prune(self.run, self.keep, self.keep_every)
        except (OSError, SafetensorError, GokuError) as error:
            self.problem = f"the checkpoint of step {taken.step} was not written ({error})"
            if self.rank == 0:
                shutil.rmtree(temporary, ignore_errors=True)
        self.seconds = time.monotonic() - started

    def _count(self) -> None:
        self.written += 1

    def _write(self, folder: Path, taken: Snapshot) -> None:
        """Write this rank's files, and one that says how it went, with the sum of what stays as it is."""
        folder.mkdir(exist_ok=True)
        mark = folder / f"rank-{self.rank:05d}"
        about = {"starts": json.dumps(taken.starts)}
        try:
            own = folder / f"optimizer-{self.rank:05d}-of-{self.world:05d}.safetensors"
            save_file(taken.optimizer, own, about)
            self._count()
            for file, parts in taken.parts.items():
                save_file(parts, folder / f"rank-{self.rank:05d}.{file}", about)
                self._count()
            sums = checkpoint.sums_of(folder, own)
        except (OSError, SafetensorError):
            mark.with_suffix(".failed").touch()  # an empty file has room on a full disk
            raise
        told = mark.with_suffix(".telling")
        told.write_text(json.dumps(sums))
        told.replace(mark.with_suffix(".done"))

    def _gather(self, folder: Path) -> checkpoint.Sums:
        """Wait for all ranks and put their parts of the weights together; return the sums of the other files."""
        marks = [folder / f"rank-{rank:05d}.done" for rank in range(self.world)]
        while not all(mark.exists() for mark in marks):
            if failed := sorted(folder.glob("rank-*.failed")):
                raise GokuError(f"{failed[0].stem} could not write its part; is its disk full?")
            time.sleep(POLL_SECONDS)
        for file in sorted(path.name.split(".", 1)[1] for path in folder.glob("rank-00000.*.safetensors")):
            parts = [folder / f"{mark.stem}.{file}" for mark in marks]
            whole = {name: torch.empty(shape) for name, shape in self.shapes.items()}
            for piece in pieces(parts):
                whole[piece.name].view(-1)[piece.start : piece.start + piece.length] = piece.read()
            checkpoint.write_weights(folder, file, whole)
            for path in parts:
                path.unlink()
            self._count()
        sums: checkpoint.Sums = {}
        for mark in marks:
            sums |= json.loads(mark.read_text())
            mark.unlink()
        return sums


@dataclass(frozen=True)
class Piece:
    """A stretch of a flattened weight, or of its state, in the file of the rank that saved it."""

    name: str
    start: int
    length: int
    file: Any

    def read(self, first: int = 0, last: int | None = None) -> Tensor:
        """Return its elements from `first` to `last`, counted from where the piece begins."""
        part: Tensor = self.file.get_slice(self.name)[first:last]
        return part


def pieces(files: Iterable[Path]) -> Iterator[Piece]:
    """Yield all that the ranks' files hold of weights; nothing of it is read yet."""
    for path in files:
        with safe_open(path, framework="pt") as file:
            starts = json.loads(file.metadata()["starts"])
            for name in file.keys():  # noqa: SIM118 - a reader, not a dict
                if name.rpartition("/")[2] in starts:
                    length = file.get_slice(name).get_shape()[0]
                    yield Piece(name, starts[name.rpartition("/")[2]], length, file)


def restore(folder: Path, fragments: WeightShards, averages: EmaWeights, rank: int, world: int) -> dict[str, Tensor]:
    """Read weights, averages and the optimizer's state into this rank's fragments.

    Returns the other tensors that this rank saved; nothing when another number of ranks than now saved it.

    Raises:
        GokuError: the checkpoint has not the averages that the recipe asks for.
    """
    for name, values in _files(fragments, averages).items():
        _read_whole(folder / name, fragments.list, values)
    fragments.publish()
    saved = sorted(folder.glob("optimizer-*.safetensors"))
    _read_optimizer(saved, fragments, json.loads((folder / STATE).read_text())["optimizer_steps"])
    if len(saved) != world:
        return {}
    with safe_open(saved[rank], framework="pt") as file:
        starts = json.loads(file.metadata()["starts"])
        extra = {n: file.get_tensor(n) for n in file.keys() if n.rpartition("/")[2] not in starts}  # noqa: SIM118
    torch.set_rng_state(extra.pop(RNG))
    return extra


def _read_whole(path: Path, fragments: list[Fragment], values: list[Tensor]) -> None:
    if not path.exists():
        raise GokuError(f"{path} is missing: the recipe's averages were others when it was saved")
    with safe_open(path, framework="pt") as file:
        for fragment, x in zip(fragments, values, strict=True):
            x.copy_(stretch(file, fragment.name, fragment.start, fragment.length))


def stretch(file: Any, name: str, start: int, length: int) -> Tensor:
    """Return elements `start` to `start + length` of a flattened tensor, and read no rows but those they lie in."""
    rows = file.get_slice(name)
    width = math.prod(rows.get_shape()[1:])
    first, last = start // width, -(-(start + length) // width)
    part: Tensor = rows[first:last].reshape(-1)
    return part[start - first * width :][:length]


def _read_optimizer(saved: list[Path], fragments: WeightShards, steps: int) -> None:
    """Fill the optimizer's state from what the ranks saved, however they had parted it."""
    names = {piece.name for piece in pieces(saved)}
    if not names:
        return
    fragments.begin(names, steps)
    held, places = fragments.states(), {fragment.name: fragment for fragment in fragments.list}
    for piece in pieces(saved):
        if piece.name in held:
            x, fragment = held[piece.name], places[piece.name.partition("/")[2]]
            first = max(fragment.start, piece.start)
            last = min(fragment.start + fragment.length, piece.start + piece.length)
            if first < last:
                x[first - fragment.start : last - fragment.start] = piece.read(first - piece.start, last - piece.start)
