"""Say what a clip of the moving-shapes world shows, and judge it against what was asked for. No weights.

The graded attributes are kept apart, so that a model that has learned colors but not yet shapes gets credit
for colors alone. GenEval's own rule is "at least n of them", which coloured noise can satisfy; `strict`
therefore asks for exactly the named things, well formed, and nothing else.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from goku_cli.shapes.blobs import HAZE, Blob, Look, look, shrink
from goku_cli.shapes.caption import Metadata, sentence
from goku_cli.shapes.drift import Drift, measure_drift
from goku_cli.shapes.scene import DIRECTIONS, RELATIONS, SPEEDS, Thing, direction_of, relation_of, speed_of

ATTRIBUTES = ("color", "shape", "count", "position", "motion", "speed", "camera")

FRAME_SHARE = 0.75
"""An attribute of the picture holds for a clip when it holds in this share of the frames."""
MOVING = SPEEDS["slowly"] / 2
"""Heights per second below which a thing rests."""

_FPS = 8.0
_DOMINANT = 0.5
_WOBBLE = 0.04
_OVERLAP = 0.75
_PURITY = 0.8
_EXPLAINED = 0.75
_RADIUS = (0.06, 0.28)

Wanted = list[dict[str, Any]]
Track = list[Blob | None]


def judge(frames: np.ndarray, metadata: Metadata, fps: float = 8.0) -> dict[str, bool | None]:
    """Compare a clip, uint8 RGB (T, H, W, 3), with GenEval-style metadata.

    Gives each of ATTRIBUTES as True, False or None (not asked for), and "strict": every attribute, the exact
    number of well-formed things of plausible size, and no more than a quarter of the colored mass left over.
    """
    frames, fps = _thin(frames, fps)
    looks = [look(frame) for frame in frames]
    wanted = [entry for entry in metadata["include"] for _ in range(entry["count"])]
    matches = [_match(seen, wanted) for seen in looks]
    entries = metadata["include"]
    verdict: dict[str, bool | None] = dict.fromkeys(ATTRIBUTES)
    verdict["shape"] = _most(_same(match, wanted, "shape", len(entries)) for match in matches)
    if all("color" in entry for entry in entries):
        verdict["color"] = _most(_same(match, wanted, "color", len(entries)) for match in matches)
    if metadata["tag"] == "counting":
        verdict["count"] = _most(len(seen.blobs) == len(wanted) for seen in looks)
    if any("position" in entry for entry in entries):
        verdict["position"] = _most(_placed(match, wanted) for match in matches)
    tracks = [[match.get(index) for match in matches] for index in range(len(wanted))]
    if any("motion" in entry for entry in entries):
        verdict["motion"] = all(_moves(track, entry, fps) for track, entry in zip(tracks, wanted, strict=True))
    if any("speed" in entry for entry in entries):
        verdict["speed"] = all(_paced(track, entry, fps) for track, entry in zip(tracks, wanted, strict=True))
    if "camera" in metadata:
        drift = _drift(frames, looks, fps)
        verdict["camera"] = drift is not None and drift.kind == metadata["camera"]
    gate = _most(_well_formed(seen, match, wanted) for seen, match in zip(looks, matches, strict=True))
    verdict["strict"] = gate and all(verdict[name] is not False for name in ATTRIBUTES)
    return verdict


def describe(frames: np.ndarray, fps: float = 8.0) -> dict[str, Any]:
    """What a clip, uint8 RGB (T, H, W, 3), shows: {"things": [...], "camera", "frames", "explained"}.

    Each thing has color, shape, radius, x, y (at the first frame), vx, vy in heights and seconds, with the
    camera's own movement taken out. "camera" is one of scene.CAMERAS or None when it cannot be said;
    "explained" is the median share of the colored mass that the things account for.
    """
    count_in = len(frames)
    frames, fps = _thin(frames, fps)
    looks = [look(frame) for frame in frames]
    number = Counter(len(seen.blobs) for seen in looks).most_common(1)[0][0]
    drift = _drift(frames, looks, fps) if len(frames) > 1 else Drift()
    aspect = frames.shape[2] / frames.shape[1]
    things = [_thing(track, fps, drift or Drift(), aspect) for track in _follow(looks, number)]
    return {
        "things": [asdict(thing) for thing in things],
        "camera": None if drift is None else drift.kind,
        "frames": count_in,
        "explained": float(np.median([seen.explained for seen in looks])),
    }


def caption_of(description: dict[str, Any]) -> str | None:
    """The sentence of the grammar that says most of a description, or None when none fits it."""
    things = [Thing(**thing) for thing in description["things"]]
    kinds = {(thing.color, thing.shape) for thing in things}
    moving = [thing for thing in things if math.hypot(thing.vx, thing.vy) > MOVING]
    facts: dict[str, Any] = {"count": len(things), "camera": description["camera"]}
    for number, thing in zip(("", "2"), things, strict=False):
        facts["color" + number], facts["shape" + number] = thing.color, thing.shape
        facts["motion" + number] = direction_of(thing.vx, thing.vy)
        facts["speed" + number] = speed_of(thing.vx, thing.vy)
    if facts["camera"] is None or description["explained"] < _EXPLAINED:
        return None
    if facts["camera"] != "static":
        return sentence("camera", facts) if len(things) == 1 and not moving else None
    if moving:
        task = {1: "motion", 2: "two_motion"}.get(len(things))
        return sentence(task, facts) if task and len(moving) == len(things) == len(kinds) else None
    if len(things) == 1:
        return sentence("single_object", facts)
    if len(kinds) == 1 and len(things) in (2, 3, 4):
        return sentence("counting", facts)
    if len(things) != 2:
        return None
    facts["relation"] = relation_of(*things)
    return sentence("position" if facts["relation"] else "color_attr", facts)


def _thin(frames: np.ndarray, fps: float) -> tuple[np.ndarray, float]:
    # Eight looks a second suffice for every speed here, and keep the ground's steps above the noise.
    step = max(1, round(fps / _FPS))
    return frames[::step], fps / step


def _drift(frames: np.ndarray, looks: Sequence[Look], fps: float) -> Drift | None:
    return measure_drift([shrink(frame) for frame in frames], [seen.alpha for seen in looks], fps)


def _match(seen: Look, wanted: Wanted) -> dict[int, Blob]:
    """Pair wanted things with the largest blobs, by color before shape: {index of the wanted thing: blob}."""
    blobs = seen.blobs[: len(wanted)]
    total = float(np.where(seen.alpha > HAZE, seen.alpha, 0).sum()) / seen.alpha.shape[0] ** 2
    if not blobs or sum(blob.mass for blob in blobs) < _DOMINANT * total:
        return {}
    cost = [
        [(blob.color != entry.get("color", blob.color)) + 1 - blob.overlaps[entry["class"]] for blob in blobs]
        for entry in wanted
    ]
    rows, columns = linear_sum_assignment(np.array(cost))
    return {int(row): blobs[column] for row, column in zip(rows, columns, strict=True)}


def _same(match: dict[int, Blob], wanted: Wanted, name: str, least: int) -> bool:
    key = {"shape": "class"}.get(name, name)
    return len(match) >= least and all(getattr(blob, name) == wanted[i][key] for i, blob in match.items())


def _placed(match: dict[int, Blob], wanted: Wanted) -> bool:
    if len(match) < len(wanted) or not _same(match, wanted, "color", len(wanted)):
        return False
    for index, entry in enumerate(wanted):
        if "position" in entry:
            relation, landmark = entry["position"]
            offset = (match[index].x - match[landmark].x, match[index].y - match[landmark].y)
            along = offset[0] * RELATIONS[relation][0] + offset[1] * RELATIONS[relation][1]
            if along <= 0 or along < math.hypot(*offset) * math.sqrt(0.5):
                return False
    return True


def _velocity(track: Track, fps: float) -> tuple[float, float] | None:
    """The line through a track, in heights per second; None when it is full of holes or jumps about."""
    times = np.array([i / fps for i, blob in enumerate(track) if blob])
    if len(times) < max(3, FRAME_SHARE * len(track)):
        return None
    places = np.array([(blob.x, blob.y) for blob in track if blob])
    line = np.polyfit(times, places, 1)
    rest = places - (times[:, None] * line[0] + line[1])
    if math.sqrt((rest**2).sum(axis=1).mean()) > _WOBBLE:
        return None
    return float(line[0, 0]), float(line[0, 1])


def _moves(track: Track, entry: dict[str, Any], fps: float) -> bool:
    velocity = _velocity(track, fps)
    if velocity is None:
        return False
    along = velocity[0] * DIRECTIONS[entry["motion"]][0] + velocity[1] * DIRECTIONS[entry["motion"]][1]
    return along > MOVING and along > 0.85 * math.hypot(*velocity)


def _paced(track: Track, entry: dict[str, Any], fps: float) -> bool:
    velocity = _velocity(track, fps)
    if velocity is None or not MOVING < math.hypot(*velocity) < 2 * SPEEDS["quickly"]:
        return False
    return speed_of(*velocity) == entry["speed"]


def _well_formed(seen: Look, match: dict[int, Blob], wanted: Wanted) -> bool:
    return (
        len(seen.blobs) == len(wanted) == len(match)
        and seen.explained >= _EXPLAINED
        and all(
            blob.shape == wanted[i]["class"]
            and blob.color == wanted[i].get("color", blob.color)
            and blob.overlap >= _OVERLAP
            and blob.purity >= _PURITY
            and _RADIUS[0] <= blob.radius <= _RADIUS[1]
            for i, blob in match.items()
        )
    )


def _most(verdicts: Any) -> bool:
    return float(np.mean(list(verdicts))) >= FRAME_SHARE


def _follow(looks: Sequence[Look], number: int) -> list[Track]:
    """Tracks of the `number` things that most frames show; frames that show another number are holes."""
    tracks: list[Track] = [[] for _ in range(number)]
    last: list[Blob] = []
    for seen in looks:
        if len(seen.blobs) != number or not number:
            for track in tracks:
                track.append(None)
            continue
        blobs = list(seen.blobs)
        if last:
            far = [[math.hypot(a.x - b.x, a.y - b.y) + (a.color != b.color) for b in blobs] for a in last]
            blobs = [blobs[column] for column in linear_sum_assignment(np.array(far))[1]]
        for track, blob in zip(tracks, blobs, strict=True):
            track.append(blob)
        last = blobs
    return tracks


def _thing(track: Track, fps: float, drift: Drift, aspect: float) -> Thing:
    blobs = [blob for blob in track if blob]
    color = Counter(blob.color for blob in blobs).most_common(1)[0][0]
    shape = Counter(blob.shape for blob in blobs).most_common(1)[0][0]
    radius = float(np.median([blob.radius for blob in blobs]))
    vx, vy = _velocity(track, fps) or (0.0, 0.0)
    x = float(np.mean([blob.x for blob in blobs])) - aspect / 2
    y = float(np.mean([blob.y for blob in blobs])) - 0.5
    vx, vy = vx + drift.pan - drift.zoom * x, vy + drift.tilt - drift.zoom * y
    return Thing(color, shape, radius, blobs[0].x, blobs[0].y, vx, vy)
