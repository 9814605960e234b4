"""Resolution of a recipe and its data to a run's folder.

A run is told from others by what it learns: how the work is parted, how often it is saved, and what is done about
faults may change on the way. So the same command goes on with the same run, another recipe or other data start a new
one, which says what is different, and a run that is named goes on whatever is different.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.util import hash_array

from goku_cli.errors import UsageError
from goku_cli.model.weights import checkpoint
from goku_cli.recipe import build, changes, fingerprint
from goku_cli.train.data.index import READ_ROWS
from goku_cli.train.recipe import Recipe

HOW = ("parallel", "faults", "watch")
"""Tables of a recipe that do not change what is learned."""
HOW_TO_TRAIN = (
    "max_tokens", "attention", "compile", "recompute", "save_every", "log_every", "eval_every", "keep", "keep_every",
)  # fmt: skip
"""Keys of [train] that do not, either."""
WINDOW, CLIP = ("key", "text_keys"), ("clip", "start_us", "end_us")
"""What of a row of latents, or of clips, changes what is learned, beside its weight."""
FIXED = (
    "kind", "size", "model", "lora", "vae.base_dim", "vae.latent_channels", "train.optimizer", "train.ema",
    "train.ema_lengths", "objective.kind", "objective.predicts", "text",
)  # fmt: skip
"""What the numbers of a checkpoint mean, so that no run can go on with another."""

Plan = Mapping[str, Any]
"""What a run's recipe.json holds."""


@dataclass(frozen=True)
class Choice:
    """The folder of a run, and what there is to say about it."""

    folder: Path
    remark: str = ""

    def keep(self, plan: dict[str, Any]) -> None:
        """Let a plan have what is frozen with the run: by which its latents are normalized."""
        before = _read(self.folder)
        if before is not None and "statistics" in before["data"]:
            plan["data"]["statistics"] = before["data"]["statistics"]


def samples(parquet: Path) -> str:
    """Return a name of the rows that a run learns from, in their order."""
    file, digest = pq.ParquetFile(parquet), hashlib.sha256()
    known = set(file.schema_arrow.names)
    columns = [name for name in (*(WINDOW if "key" in known else CLIP), "weight") if name in known]
    for batch in file.iter_batches(READ_ROWS, columns=columns):
        told = np.zeros(len(batch), np.uint64)
        for column in batch.columns:
            told = told * np.uint64(31) + _hashes(column)
        digest.update(told.tobytes())
    return digest.hexdigest()[:16]


def _hashes(column: pa.Array) -> np.ndarray:
    """Return a number for each of a column's values; for a list, of its members in order."""
    if not pa.types.is_list(column.type):
        return hash_array(column.to_numpy(zero_copy_only=False))
    inner, ends = _hashes(column.flatten()), column.offsets.to_numpy() - column.offsets[0].as_py()
    place = np.arange(len(inner)) - np.repeat(ends[:-1], np.diff(ends))
    sums = np.concatenate(([0], np.cumsum(inner * (2 * place + 1).astype(np.uint64)))).astype(np.uint64)
    return sums[ends[1:]] - sums[ends[:-1]]


def choose(plan: Plan, name: str, runs: Path, named: Path | None = None) -> Choice:
    """Return the run that a plan goes on with, or a new one: of the runs with this recipe's name the one that learns
    the same, else the `named`.

    Raises:
        UsageError: the named run cannot go on with this plan, or there is none; or the run is beyond the plan's steps.
    """
    if named is not None:
        return _continued(named, plan)
    wanted, others = learned(plan), []
    for folder in sorted(runs.glob(f"{name}-*")):
        before = _read(folder) if re.fullmatch(r"[0-9a-f]{8}", folder.name.removeprefix(f"{name}-")) else None
        if before is None:
            continue
        if not (differ := _differences(learned(before), wanted)):
            return _same(folder, plan["recipe"]["train"]["steps"])
        if step := _stands_at(folder):
            others.append((-len(differ), step, folder, differ))
    chosen = runs / f"{name}-{fingerprint(wanted)[:8]}"
    if not others:
        return Choice(chosen)
    _, step, folder, differ = max(others)
    return Choice(chosen, f"a new run: {folder} stands at step {step} and differs in {', '.join(differ)}; to go on "
                          f"with that one all the same: --continue {folder}")  # fmt: skip


def learned(plan: Plan) -> dict[str, Any]:
    """Return what a run learns: what its recipe says other than the defaults, by dotted key, and its data."""
    recipe = build(Recipe, dict(plan["recipe"]), where="recipe.json")
    said = dict(_flat(changes(recipe)))
    how = {f"train.{key}" for key in HOW_TO_TRAIN}
    if recipe.train.schedule == "constant":
        how.add("train.steps")  # the rate of a step does not depend on it
    said = {k: v for k, v in said.items() if k.partition(".")[0] not in (*HOW, "init_from") and not _within(k, how)}
    data = plan["data"]
    return said | {
        "init_from": plan.get("init_from"), "encoder": data.get("encoder"), "text": data.get("text"),
        "clips": plan["samples"],
    }  # fmt: skip


def _same(folder: Path, steps: int) -> Choice:
    step = _stands_at(folder)
    if step > steps and checkpoint.step_folder(folder, steps) not in checkpoint.checkpoints(folder):
        raise UsageError(f"{folder} stands at step {step} already, and has no checkpoint of step {steps}; set steps of "
                         f"[train] to {step} or more")  # fmt: skip
    return Choice(folder)


def _continued(folder: Path, plan: Plan) -> Choice:
    before = _read(folder)
    if before is None:
        raise UsageError(f"{folder} is no run; name the folder of one, e.g. runs/shapes-1a2b3c4d")
    differ = _differences(learned(before), learned(plan))
    unfit = [key for key in differ if _within(key, FIXED)]
    if before["data"].get("codec_sha256") != plan["data"].get("codec_sha256"):
        unfit.append("VAE")
    if unfit:
        raise UsageError(f"{folder} cannot go on with another {', '.join(unfit)}, which its checkpoints would not fit; "
                         "begin a new run, or leave that as it was")  # fmt: skip
    step, steps = _stands_at(folder), plan["recipe"]["train"]["steps"]
    if differ and step >= steps:
        raise UsageError(f"{folder} stands at step {step} already; give [train] steps of more than that")
    return Choice(folder, f"{folder} goes on after step {step} with another {', '.join(differ)}" if differ else "")


def _read(folder: Path) -> dict[str, Any] | None:
    """Return the plan of a run, or None where there is none that this goku can read."""
    try:
        plan: dict[str, Any] = json.loads((folder / "recipe.json").read_text())
        if "samples" not in plan:  # it was begun before they were named
            plan["samples"] = samples(folder / "data.parquet")
        build(Recipe, plan["recipe"], where=str(folder))
    except (OSError, ValueError, KeyError, UsageError):
        return None
    return plan


def _stands_at(folder: Path) -> int:
    return max((int(step.name.removeprefix("step-")) for step in checkpoint.checkpoints(folder)), default=0)


def _differences(before: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    return [key for key in sorted({*before, *wanted}) if before.get(key) != wanted.get(key)]


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.loads(json.dumps(value))  # lists, as they come back from a file


def _within(key: str, tables: Iterable[str]) -> bool:
    return any(key == table or key.startswith(f"{table}.") for table in tables)
