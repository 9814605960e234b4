"""The ceiling of the shapes benchmark: what real clips score after the codec that samples were drawn through.

For each prompt a scene is drawn that shows what it asks for (the same one each time), rendered as its first sample was
drawn, encoded, decoded and judged by the same prompt. What this codec loses no model behind it can draw. A clip of the
linear codec takes milliseconds; a large VAE takes a CPU minutes for each. So there is one clip for each prompt and
not for each sample, and what it scored is kept.

Shapes: T frames, H x W pixels.
"""

import json
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from goku_cli.errors import GokuError
from goku_cli.evaluate.bootstrap import mean_figure
from goku_cli.evaluate.result import OWN, Figure
from goku_cli.evaluate.sample_scores import Scores, Wanted, native, read_sample
from goku_cli.evaluate.shapes.scores import CODEC, PREFIX
from goku_cli.manifest.store import Manifest, Row
from goku_cli.media.sample_files import as_drawn
from goku_cli.model.vae.codec import Codec
from goku_cli.model.vae.linear_codec import to_frames, to_unit
from goku_cli.model.weights import checkpoint
from goku_cli.shapes.asked import scene_of
from goku_cli.shapes.caption import Metadata
from goku_cli.shapes.detect import judge
from goku_cli.shapes.render import render
from goku_cli.stage import Progress
from goku_cli.vision.device import device

Verdict = dict[str, float | None]
"""By title, as `score_sample` returns them."""


@dataclass(frozen=True)
class Ceiling:
    """What real clips scored, and what the reader must know of it, a line each."""

    figures: list[Figure]
    notes: list[str]


def eval_ceiling(manifest: Manifest, wanted: list[Wanted], scores: Scores, progress: Progress) -> Ceiling:
    """Return the figures, tagged `codec`, of real clips of the prompts of samples that have scores.

    A prompt whose scene does not fit, or whose frames the codec does not take, is left out and told; where the codec
    is gone there are no figures.
    """
    chosen = _one_each(wanted, scores)
    known = [_known(scores[one.row["id"]]) for one in chosen]
    pending = [one for one, has in zip(chosen, known, strict=True) if not has]
    try:
        fresh, notes = _measure(manifest, pending, progress) if pending else ([], [])
    except (GokuError, KeyError) as error:
        fresh, notes = [], [f"shapes: no ceiling (codec): {error}"]
    found: dict[str, list[float]] = {}
    for verdict in [*known, *fresh]:
        for title, value in verdict.items():
            if value is not None:
                found.setdefault(title.replace(CODEC, ""), []).append(value)
    return Ceiling([mean_figure(title, values, CODEC.rstrip(".")) for title, values in found.items()], notes)


def real_clip(asked: Metadata, *, height: int, width: int, fps: float, frames: int) -> np.ndarray:
    """Return a clip (T, H, W, 3) uint8 of the world that shows what is asked for; one prompt, always the same scene.

    Raises ValueError when no such scene stays in the frame for so long.
    """
    rng = np.random.default_rng(zlib.crc32(asked["prompt"].encode()))
    scene = scene_of(asked, rng, seconds=(frames - 1) / fps, aspect=width / height)
    return render(scene, height=height, width=width, fps=fps, frames=frames)


def _one_each(wanted: list[Wanted], scores: Scores) -> list[Wanted]:
    """Return a sample of each prompt, length and size: one whose ceiling is known, else the first."""
    chosen: dict[tuple[str, int, int, int], Wanted] = {}
    for one in wanted:
        row = one.row
        key = row["prompt"], row["frames"], row["height"], row["width"]
        if one.asked is not None and row["id"] in scores and (key not in chosen or _known(scores[row["id"]])):
            chosen[key] = one
    return list(chosen.values())


def _known(scores: Verdict) -> Verdict:
    return {title: value for title, value in scores.items() if title.startswith(PREFIX + CODEC)}


def _measure(manifest: Manifest, pending: list[Wanted], progress: Progress) -> tuple[list[Verdict], list[str]]:
    """Score a real clip for each of these samples and keep that; a note tells of those for which there is none.

    Raises:
        GokuError: the codec is gone or damaged.
        KeyError: the checkpoint is not one of ours.
    """
    codec, where = _codec(pending[0].row), device()
    codec = codec.to(where)
    progress.start("ceiling", len(pending))
    found, lost = [], []
    for one in pending:
        try:
            verdict = _score(manifest, one, codec, where)
        except (GokuError, ValueError, RuntimeError) as error:  # a ceiling is worth less than the scores below it
            lost.append(str(error).splitlines()[0])
        else:
            rows = [{"sample": one.row["id"], "metric": title, "value": value, "implementation": OWN}
                    for title, value in verdict.items()]  # fmt: skip
            manifest.insert("sample_scores", rows)
            found.append(verdict)
        progress.advance()
    reasons = Counter(lost).most_common(1)
    return found, [f"shapes: the ceiling (codec) leaves out {len(lost)} prompts, mostly: {why}" for why, _ in reasons]


def _codec(row: Row) -> Codec:
    folder = Path(row["checkpoint"])
    if not (folder / checkpoint.COMPLETE).exists():
        raise GokuError(f"the checkpoint {folder} is gone; put it back and run again")
    tile = json.loads(row["settings"] or "{}").get("tile", 0)
    return checkpoint.read_codec(folder, checkpoint.read_config(folder), tile)


def _score(manifest: Manifest, one: Wanted, codec: Codec, where: Any) -> Verdict:
    """Judge a real clip of a sample's prompt, of its size and length, as the sample itself is judged."""
    assert one.asked is not None
    row = one.row
    codec.check_frames(row["frames"])
    shown = read_sample(manifest.path.parent / row["path"], row["sha256"])
    _, height, width, _ = as_drawn(shown).shape
    frames = real_clip(one.asked, height=height, width=width, fps=row["fps"], frames=row["frames"])
    restored = to_frames(codec.decode(codec.moments(to_unit(frames).to(where)).mean_CTHW).cpu())
    scale = shown.shape[1] // height
    verdict = judge(native(restored.repeat(scale, 1).repeat(scale, 2)), one.asked, row["fps"])
    return {f"{PREFIX}{CODEC}{name}": None if value is None else float(value) for name, value in verdict.items()}
