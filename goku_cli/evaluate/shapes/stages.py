"""Figures of the curation stages of a synthetic set, whose truth is known: what was made against what was planted."""

from dataclasses import replace
from typing import Any

from goku_cli.evaluate.bootstrap import mean_figure
from goku_cli.evaluate.result import Figure
from goku_cli.evaluate.shapes import scores as shapes
from goku_cli.evaluate.shapes import truth
from goku_cli.manifest.store import Manifest, Row


def eval_stages(manifest: Manifest, known: dict[str, dict[str, Any]]) -> list[Figure]:
    """Return the figures of split and, of the newest selection, of filter, caption and balance.

    Args:
        known: the truth by path of the source, as `truth.read_truth` returns it; nothing is known of an empty one.
    """
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
    selection = manifest.value("SELECT name FROM selections ORDER BY run DESC LIMIT 1")
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
        figures += [replace(figure, tag=kind) for figure in shapes.score_captions(pairs)]
    flagged = manifest.query("SELECT clip, conflict FROM captions WHERE kind = 'merged'")
    wrong = [(r["conflict"] is not None, home["defect"] == "wrong_caption")
             for r in flagged if (home := homes.get(r["clip"]))]  # fmt: skip
    planted_wrong = [flag for flag, is_wrong in wrong if is_wrong]
    good = [flag for flag, is_wrong in wrong if not is_wrong]
    for name, flags in (("conflict_recall", planted_wrong), ("conflict_false_alarm", good)):
        if flags:
            figures.append(mean_figure(f"shapes.caption.{name}", flags))
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
