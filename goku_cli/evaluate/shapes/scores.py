"""Figures of every stage on the moving-shapes world: plain rows and their truth in, figures out.

Times are seconds; "file" is any name that the truth and the rows share. A figure over nothing is left out rather than
called zero.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from goku_cli.evaluate.bootstrap import mean_figure
from goku_cli.evaluate.result import Figure
from goku_cli.shapes.caption import Metadata, parse_caption
from goku_cli.shapes.detect import ATTRIBUTES, judge
from goku_cli.shapes.scene import CAMERAS, DIRECTIONS, PALETTE, RELATIONS, SHAPES, SPEEDS

Row = dict[str, Any]

HARD_CUT_FRAMES = 2
"""A boundary this close to a hard cut has found it."""
DEFECTIVE_SHARE = 0.5
"""A clip that lies in a defective shot with this share of its length is defective itself."""

PREFIX = "shapes."
MISMATCHED, CODEC = "mismatched.", "codec."
"""What stands between prefix and attribute where a sample is judged by another's prompt, a real clip by a sample's."""

PARTS = ("all", "seen", "unseen")
"""Tags that stand before those of single tasks."""

_FLIPPED = {"right of": "left of", "below": "above"}


def controls(asked: Sequence[Metadata | None]) -> list[Metadata | None]:
    """Return for each prompt an earlier, different one of its task, or None: what a mismatched sample is judged by."""
    earlier: defaultdict[str, list[Metadata]] = defaultdict(list)
    found: list[Metadata | None] = []
    for one in asked:
        others = [] if one is None else [x for x in earlier[one["tag"]] if x["include"] != one["include"]]
        found.append(others[-1] if others else None)
        if one is not None:  # one other prompt of each task is enough memory: the newest that differs
            earlier[one["tag"]] = [*others[-1:], one]
    return found


def score_sample(frames: np.ndarray, asked: Metadata, other: Metadata | None, fps: float) -> dict[str, float | None]:
    """Judge a generated clip, uint8 RGB (T, H, W, 3), by its prompt and by another's.

    Returns "shapes.<attribute>" and "shapes.strict", and the same as "shapes.mismatched.<attribute>".
    """
    verdicts = {"": judge(frames, asked, fps)} | ({MISMATCHED: judge(frames, other, fps)} if other else {})
    return {
        f"shapes.{control}{name}": None if value is None else float(value)
        for control, verdict in verdicts.items()
        for name, value in verdict.items()
    }


def sample_figures(scored: Iterable[tuple[Metadata, bool, Mapping[str, float | None]]]) -> list[Figure]:
    """Return the figures of judged samples: (metadata, seen pairs only, what `score_sample` returned).

    "shapes.<attribute>" and "shapes.strict", tagged "seen", "unseen", "all" and by task. Two controls stand
    beside them: "mismatched" judges each clip by an earlier, different prompt of its task, and "chance" is
    what a guesser would score that draws a well-formed scene of the right task. A third, the ceiling, is that of
    `evaluate/shapes/ceiling.py`, of which scores are left out here.
    """
    found: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for asked, seen, scores in scored:
        for title, value in scores.items():
            name = title.removeprefix(PREFIX)
            if name.startswith(CODEC):
                continue
            mismatched = name.startswith(MISMATCHED)
            tags = ("mismatched",) if mismatched else ("seen" if seen else "unseen", "all", asked["tag"])
            _collect(found, {name.removeprefix(MISMATCHED): value}, tags)
        _collect(found, chance_of(asked), ("chance",))
    order = sorted(found, key=lambda key: PARTS.index(key[1]) if key[1] in PARTS else len(PARTS))
    return [mean_figure(f"{PREFIX}{name}", found[name, tag], tag) for name, tag in order]


def chance_of(asked: Metadata) -> dict[str, float | None]:
    """The odds that a scene of the same task, drawn evenly, meets each attribute that is asked for."""
    entries = asked["include"]
    colored = all("color" in entry for entry in entries)
    moving = sum("motion" in entry for entry in entries)
    odds: dict[str, float | None] = dict.fromkeys(ATTRIBUTES)
    odds["shape"] = 1 / math.comb(len(SHAPES), len(entries))
    if colored:
        odds["color"] = 1 / math.comb(len(PALETTE), len(entries))
    if asked["tag"] == "counting":
        odds["count"] = 1 / 3
    if any("position" in entry for entry in entries):
        odds["position"] = 1 / len(RELATIONS)
    if moving:
        odds["motion"] = 1 / math.perm(len(DIRECTIONS), moving)
    if any("speed" in entry for entry in entries):
        odds["speed"] = 1 / len(SPEEDS)
    if "camera" in asked:
        odds["camera"] = 1 / (len(CAMERAS) - 1)
    # The right colors and the right shapes must also sit on the same things.
    bound = math.factorial(len(entries)) if colored else 1
    odds["strict"] = math.prod(value for value in odds.values() if value is not None) / bound
    return odds


def score_split(
    truth_shots: Sequence[Row], cuts_truth: Sequence[Row], clips: Sequence[Row], *, fps: float = 24.0
) -> list[Figure]:
    """Boundaries between a file's clips against its planted cuts.

    Shots are {"file", "start", "end"}, cuts {"file", "kind" ("hard" or "fade"), "start", "end"}, clips
    {"file", "start", "end"}. A boundary is the gap, often empty, from one clip's end to the next one's start.
    It finds a hard cut within two frames; any number of boundaries inside one fade are one hit. Of the time
    that clips share with shots, "purity" is the part in each clip's main shot; "coverage" is the part of all
    shots that lies in clips.
    """
    slack = HARD_CUT_FRAMES / fps + 1e-6
    hits: list[tuple[str, bool]] = []
    right = wrong = 0
    for file in sorted({shot["file"] for shot in truth_shots}):
        cuts = [cut for cut in cuts_truth if cut["file"] == file]
        gaps = _gaps([clip for clip in clips if clip["file"] == file])
        for cut in cuts:
            near = [gap for gap in gaps if gap[0] <= cut["end"] + slack and gap[1] >= cut["start"] - slack]
            used = near if cut["kind"] == "fade" else near[:1]
            gaps = [gap for gap in gaps if gap not in used]
            hits.append((cut["kind"], bool(near)))
            right += bool(near)
        wrong += len(gaps)
    figures = _precision_recall("shapes.split", right, right + wrong, len(hits))
    for kind in sorted({kind for kind, _ in hits}):
        figures.append(mean_figure("shapes.split.recall", [hit for name, hit in hits if name == kind], kind))
    return figures + _tiling(truth_shots, clips)


def score_filter(truth_shots: Sequence[Row], clips: Sequence[Row]) -> list[Figure]:
    """Dropped clips against planted defects; a dropped clip that is truly defective is a hit.

    Shots are {"file", "start", "end", "defect", "twin"?}, clips {"file", "start", "end", "dropped"}. A wrong
    caption is no defect of the picture. Of a near duplicate and its twin either may be dropped. Recall is
    also given per kind of defect, and "false_alarm" is the share of good clips that were dropped.
    """
    kinds = _planted(truth_shots, clips)
    dropped = [bool(clip["dropped"]) for clip in clips]
    right = sum(drop for drop, kind in zip(dropped, kinds, strict=True) if kind)
    figures = _precision_recall("shapes.filter", right, sum(dropped), sum(kind is not None for kind in kinds))
    for name in sorted({kind for kind in kinds if kind}):
        caught = [drop for drop, kind in zip(dropped, kinds, strict=True) if kind == name]
        figures.append(mean_figure("shapes.filter.recall", caught, name))
    if good := [drop for drop, kind in zip(dropped, kinds, strict=True) if kind is None]:
        figures.append(mean_figure("shapes.filter.false_alarm", good))
    return figures


def score_captions(pairs: Iterable[tuple[str, Metadata]]) -> list[Figure]:
    """What captions say against what is shown: pairs are (caption text, metadata of the truth).

    "shapes.caption.<attribute>" over the captions whose truth has the attribute; a text outside the grammar
    is wrong in all of them. "shapes.caption.parsed" is the share inside the grammar.
    """
    found: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for text, truth in pairs:
        said = parse_caption(text)
        found["parsed", "all"].append(said is not None)
        says = {} if said is None else _statements(said)
        for name, statement in _statements(truth).items():
            found[name, "all"].append(says.get(name) == statement)
    return [mean_figure(f"shapes.caption.{name}", values, tag) for (name, tag), values in found.items()]


def score_balance(before: Mapping[str, float], after: Mapping[str, float], target: Mapping[str, float]) -> list[Figure]:
    """Distance of class weights from a target, before and after balancing; each is normalised to sum to one.

    "shapes.balance.tv" is total variation, half the sum of |p - q|; "shapes.balance.kl" is KL(p || target) in
    nats, infinite where a class has weight that the target rules out. n is the number of classes.
    """
    classes = sorted({*before, *after, *target})
    q = _shares(target, classes)
    figures = []
    for tag, weights in (("before", before), ("after", after)):
        p = _shares(weights, classes)
        held = p > 0
        with np.errstate(divide="ignore"):
            kl = float((p[held] * np.log(p[held] / q[held])).sum())
        for name, value in (("tv", float(abs(p - q).sum() / 2)), ("kl", kl)):
            figures.append(Figure(f"shapes.balance.{name}", value, len(classes), tag))
    return figures


def _collect(found: defaultdict[tuple[str, str], list[float]], verdict: Mapping[str, Any], tags: Iterable[str]) -> None:
    for name, value in verdict.items():
        if value is not None:
            for tag in tags:
                found[name, tag].append(float(value))


def _precision_recall(metric: str, right: int, claimed: int, true: int) -> list[Figure]:
    rows = [("precision", right, claimed), ("recall", right, true), ("f1", 2 * right, claimed + true)]
    return [Figure(f"{metric}.{name}", over / under, under) for name, over, under in rows if under]


def _gaps(clips: Sequence[Row]) -> list[tuple[float, float]]:
    ordered = sorted(clips, key=lambda clip: clip["start"])
    return [(before["end"], after["start"]) for before, after in pairwise(ordered)]


def _overlap(a: Row, b: Row) -> float:
    """Seconds that two spans of one file share; 0 for spans of different files."""
    if a["file"] != b["file"]:
        return 0.0
    return max(0.0, min(a["end"], b["end"]) - max(a["start"], b["start"]))


def _tiling(shots: Sequence[Row], clips: Sequence[Row]) -> list[Figure]:
    clips = [clip for clip in clips if clip["end"] > clip["start"]]
    shot_time = sum(shot["end"] - shot["start"] for shot in shots)
    shared = [[_overlap(shot, clip) for shot in shots] for clip in clips]
    # Fades belong to no shot, so purity compares shots with shots: the main one with all that the clip holds.
    held = sum(map(sum, shared))
    figures = []
    if held:
        pure = sum(max(row) for row in shared) / held
        figures.append(Figure("shapes.split.purity", pure, len(clips)))
    if shot_time:
        covered = held / shot_time
        figures.append(Figure("shapes.split.coverage", covered, len(shots)))
    return figures


def _planted(shots: Sequence[Row], clips: Sequence[Row]) -> list[str | None]:
    """The planted defect of each clip, or None."""
    homes = [_home(clip, shots) for clip in clips]
    kinds = [None if home is None or home["defect"] == "wrong_caption" else home["defect"] for home in homes]
    for shot in shots:
        if shot["defect"] != "near_duplicate" or not shot.get("twin"):
            continue
        copies = [i for i, home in enumerate(homes) if home is shot]
        twins = [i for i, clip in enumerate(clips) if kinds[i] is None and _lies_in(clip, shot["twin"])]
        if any(clips[i]["dropped"] for i in twins) and not any(clips[i]["dropped"] for i in copies):
            for i in copies:
                kinds[i] = None
            for i in twins:
                kinds[i] = "near_duplicate"
    return kinds


def _home(clip: Row, shots: Sequence[Row]) -> Row | None:
    return next((shot for shot in shots if shot["defect"] and _lies_in(clip, shot)), None)


def _lies_in(clip: Row, shot: Row) -> bool:
    if clip["file"] != shot["file"]:
        return False
    if shot["end"] <= shot["start"]:  # an image, the only shot of its file
        return True
    return _overlap(clip, shot) >= DEFECTIVE_SHARE * (clip["end"] - clip["start"])


def _statements(metadata: Metadata) -> dict[str, Any]:
    """What metadata asserts, attribute by attribute, whatever the order in which things are named."""
    entries = metadata["include"]
    says: dict[str, Any] = {"shape": Counter(entry["class"] for entry in entries)}
    if all("color" in entry for entry in entries):
        says["color"] = Counter(entry["color"] for entry in entries)
    if metadata["tag"] == "counting":
        says["count"] = entries[0]["count"]
    for name in ("motion", "speed"):
        if any(name in entry for entry in entries):
            says[name] = Counter(entry.get(name) for entry in entries)
    for entry in entries:
        if "position" in entry:
            relation, landmark = entry["position"]
            first, second = entry["class"], entries[landmark]["class"]
            flipped = relation in _FLIPPED
            says["position"] = (second, _FLIPPED[relation], first) if flipped else (first, relation, second)
    if "camera" in metadata:
        says["camera"] = metadata["camera"]
    return says


def _shares(weights: Mapping[str, float], classes: Sequence[str]) -> np.ndarray:
    values = np.array([weights.get(name, 0.0) for name in classes], float)
    return values / values.sum()
