"""`goku eval`: figures of a set of samples, and of every stage where the truth is known.

Counts stand beside every figure: how many were expected, and how many were scored. A sample whose file is gone or
does not decode counts as expected and not as scored, and the figure says so.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from goku_cli.errors import GokuError, UsageError
from goku_cli.evaluate import shapes, truth, video
from goku_cli.manifest.store import Manifest, Row
from goku_cli.media.frames import read_frames
from goku_cli.shapes.caption import parse_caption
from goku_cli.stage import Progress

SUITES = ("video", "shapes")

Figure = dict[str, Any]


def samples_named(manifest: Manifest, name: str | None) -> tuple[str, list[Row]]:
    """Return the name and rows of a set of samples: the one named, or the newest.

    Raises:
        UsageError: there is none.
    """
    names = [row["name"] for row in manifest.query("SELECT name FROM samples GROUP BY name ORDER BY max(run) DESC")]
    if not names or (name and name not in names):
        known = f"has {', '.join(names)}" if names else "has none; draw some with: goku sample CHECKPOINT"
        raise UsageError(f"no samples {name or ''} in {manifest.path}, which {known}".replace("  ", " "))
    name = name or names[0]
    return name, manifest.query("SELECT * FROM samples WHERE name = ? ORDER BY id", [name])


def read_sample(manifest: Manifest, row: Row) -> np.ndarray | None:
    """Return a sample's frames (T, H, W, 3), or None when its file is gone or damaged."""
    try:
        return np.stack([frame for _, frame in read_frames(manifest.path.parent / row["path"])])
    except (GokuError, OSError, ValueError):
        return None


def eval_video(manifest: Manifest, name: str, rows: list[Row], progress: Progress) -> list[Figure]:
    """Return the figures of `evaluate/video.py` over a set of samples, and the held-out loss of its checkpoint."""
    found: dict[str, list[float]] = {"decodes": [], "as asked": []}
    progress.start("eval video", len(rows))
    for row in rows:
        frames = read_sample(manifest, row)
        progress.advance()
        found["decodes"].append(float(frames is not None))
        if frames is None:
            continue
        asked = (row["frames"], row["height"], row["width"])
        found["as asked"].append(float(frames.shape[:3] == asked))
        found.setdefault("sharpness", []).append(video.sharpness(frames))
        if len(frames) > 1:
            found.setdefault("flicker", []).append(video.flicker(frames))
            found.setdefault("moves_dis", []).append(video.moves(frames, row["fps"]))
    figures = [
        {"metric": f"video.{metric}", "tag": "all", "value": float(np.mean(values)), "n": len(values)}
        for metric, values in found.items()
        if values
    ]
    return figures + _losses(Path(rows[0]["checkpoint"]))


def _losses(checkpoint: Path) -> list[Figure]:
    """Return the held-out flow loss that a checkpoint was saved with, beside the untrained model's."""
    path = checkpoint / "config.json"
    figures = json.loads(path.read_text()).get("figures", {}) if path.exists() else {}
    return [
        {"metric": f"flow.{key}", "tag": "all", "value": figures[key], "n": 1}
        for key in ("held_out_loss", "held_out_loss_untrained")
        if key in figures
    ]


def eval_shapes(manifest: Manifest, rows: list[Row], progress: Progress) -> list[Figure]:
    """Return the shapes world's figures of samples whose prompt is in its grammar."""
    progress.start("eval shapes", len(rows))

    def items() -> Iterator[tuple[np.ndarray, dict[str, Any], bool, float]]:
        for row in rows:
            progress.advance()
            wanted = json.loads(row["metadata"]) if row["metadata"] else {}
            metadata = wanted.get("metadata") or parse_caption(row["prompt"])
            frames = read_sample(manifest, row)
            if metadata is not None and frames is not None:
                yield _native(frames), metadata, wanted.get("seen", True), row["fps"]

    return shapes.score_samples(items())


def _native(frames: np.ndarray, side: int = 96) -> np.ndarray:
    """Undo the enlargement of tiny samples by whole pixels: the detector's patience is for small frames."""
    step = max(1, min(frames.shape[1:3]) // side)
    return frames[:, step // 2 :: step, step // 2 :: step]


def eval_stages(manifest: Manifest, selection: str | None) -> list[Figure]:
    """Return the figures of split, filter, caption and balance on a synthetic set; nothing where no truth is."""
    known = truth.read_truth(manifest)
    if not known:
        return []
    planted = truth.shots(known)
    clips = [clip for clip in manifest.query(truth.CLIPS) if clip["file"] in known]
    videos = [shot for shot in planted if shot["end"] > shot["start"]]
    spans = [clip for clip in clips if clip["end"] > clip["start"]]
    seen = {clip["file"] for clip in spans}
    figures = shapes.score_split(
        [s for s in videos if s["file"] in seen], [c for c in truth.cuts(known) if c["file"] in seen], spans
    )
    if selection is None:
        return figures
    base = selection.removesuffix("-balanced")
    reasons = {r["clip"]: r["reason"] for r in manifest.query("SELECT * FROM selections WHERE name = ?", [base])}
    judged = [clip | {"dropped": reasons[clip["id"]] is not None} for clip in clips if clip["id"] in reasons]
    figures += shapes.score_filter(planted, judged)
    figures += _caption_figures(manifest, planted, clips)
    return figures + _balance_figures(manifest, base)


def _caption_figures(manifest: Manifest, planted: list[Row], clips: list[Row]) -> list[Figure]:
    homes = {clip["id"]: truth.shot_of(clip, planted) for clip in clips}
    figures = []
    for kind in ("given", "measured"):
        rows = manifest.query("SELECT clip, text FROM captions WHERE kind = ?", [kind])
        pairs = [(row["text"], home["metadata"]) for row in rows if (home := homes.get(row["clip"]))]
        figures += [figure | {"tag": kind} for figure in shapes.score_captions(pairs)]
    flagged = manifest.query("SELECT clip, conflict FROM captions WHERE kind = 'merged'")
    wrong = [(r["conflict"] is not None, home["defect"] == "wrong_caption")
             for r in flagged if (home := homes.get(r["clip"]))]  # fmt: skip
    planted_wrong = [flag for flag, is_wrong in wrong if is_wrong]
    good = [flag for flag, is_wrong in wrong if not is_wrong]
    for name, flags in (("conflict_recall", planted_wrong), ("conflict_false_alarm", good)):
        if flags:
            value = float(np.mean(flags))
            figures.append({"metric": f"shapes.caption.{name}", "tag": "all", "value": value, "n": len(flags)})
    return figures


def _balance_figures(manifest: Manifest, base: str) -> list[Figure]:
    """Compare class weights before and after with equal subcategories inside each primary class."""
    weights = {}
    for name in (base, f"{base}-balanced"):
        rows = manifest.query(
            'SELECT "primary" || \'/\' || subcategory AS class, "primary", sum(weight) AS w FROM selections'
            " JOIN tags USING (clip) WHERE name = ? AND reason IS NULL GROUP BY ALL",
            [name],
        )
        weights[name] = {row["class"]: (row["primary"], row["w"]) for row in rows}
    before, after = weights[base], weights[f"{base}-balanced"]
    if not before or not after:
        return []
    total: dict[str, float] = {}
    for primary, weight in after.values():
        total[primary] = total.get(primary, 0.0) + weight
    members = {primary: sum(p == primary for p, _ in after.values()) for primary in total}
    target = {name: total[primary] / members[primary] for name, (primary, _) in after.items()}
    return shapes.score_balance(
        {name: w for name, (_, w) in before.items()}, {name: w for name, (_, w) in after.items()}, target
    )


def store(manifest: Manifest, name: str, suite: str, figures: list[Figure], expected: int) -> None:
    """Replace a suite's results for a set of samples."""
    with manifest.transaction():
        manifest.execute("DELETE FROM results WHERE name = ? AND suite = ?", [name, suite])
        manifest.insert("results", [{"name": name, "suite": suite, "expected": expected, **f} for f in figures])
