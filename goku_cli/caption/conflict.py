"""Conflicts between a caption and measurements: the shapes of the synthetic world, and the camera."""

import re

from goku_cli.caption.phrases import camera_claims
from goku_cli.media.motion.camera import NAMES, STATIC, STILL, Camera
from goku_cli.shapes.caption import Metadata, parse_caption
from goku_cli.shapes.scene import CAMERAS, PALETTE, SHAPES

CLEAR = 0.03
"""Frame heights per second above which a measured movement contradicts its opposite; twice that, another one."""
_COUNTS = ("two", "three", "four")
_WORDS = {name: name for name in (*PALETTE, *SHAPES, *_COUNTS)}
_WORDS |= {"circles": "circle", "squares": "square", "triangles": "triangle", "crosses": "cross"}
_KINDS = {"color": frozenset(PALETTE), "shape": frozenset(SHAPES), "count": frozenset(_COUNTS)}
_OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def camera_conflict(said: str, camera: Camera | None) -> str | None:
    """Return e.g. "says pan left, measured pan right", or None.

    Nothing that is said of the camera contradicts nothing, and neither does a camera that was not understood. A text
    that names both directions of an axis may be right in turn.
    """
    claims = camera_claims(said)
    if camera is None or not camera.movements:
        return None
    seen = " and ".join(camera.movements)
    for axis, (negative, positive) in NAMES.items():
        named = claims & {negative, positive}
        if len(named) == 1 and _denied(axis, 1 if positive in named else -1, camera):
            return f"says {named.pop()}, measured {seen}"
    if claims == {STATIC} and camera.strength > 2 * CLEAR and camera.movements[0] in _DIRECTIONS:
        return f"says {STATIC} camera, measured {seen}"
    return None


def _denied(axis: str, sign: int, camera: Camera) -> bool:
    """Whether the camera stands, goes the other way, or clearly does something else instead."""
    rate = sign * camera.strengths[axis]
    if camera.movements == (STATIC,):
        return camera.strength < STILL / 2
    if camera.movements[0] not in _DIRECTIONS:
        return False
    opposite = NAMES[axis][sign < 0] in camera.movements
    return (opposite and rate < -CLEAR) or (camera.strength > 2 * CLEAR and abs(rate) < STILL / 2)


_DIRECTIONS = frozenset(name for names in NAMES.values() for name in names)


def names_things(measured: str | None) -> bool:
    """Whether what was measured is a sentence of the moving-shapes world, whose camera is measured more finely."""
    return measured is not None and parse_caption(measured) is not None


def conflict(given: str | None, measured: str | None) -> str | None:
    """Return e.g. "given says red, measured blue", or None when they agree or one of them is silent.

    Only a measured sentence that names things (of the moving-shapes grammar) can contradict: a mostly grey video
    may well show a red car. What one of the two leaves unsaid is no contradiction.
    """
    seen = parse_caption(measured) if measured else None
    if given is None or measured is None or seen is None:
        return None
    said = _disagreement(given, measured)
    meant = parse_caption(given)
    if said is None and meant is not None:
        said = _movement(meant, seen) or _place(meant, seen)
    return said


def _disagreement(given: str, measured: str) -> str | None:
    for kind in _KINDS.values():
        one, other = (_named(text, kind) for text in (given, measured))
        if one and other and one != other:
            return _report(" and ".join(sorted(one)), " and ".join(sorted(other)))
    return None


def _named(text: str, kind: frozenset[str]) -> set[str]:
    return {_WORDS[word] for word in re.findall(r"[a-z]+", text.lower()) if _WORDS.get(word) in kind}


def _movement(given: Metadata, measured: Metadata) -> str | None:
    """Compare how each thing, and the camera, moves; a measured caption without movement says that all rests."""
    moves = [
        {(entry.get("color"), entry["class"]): entry.get("motion") for entry in facts["include"]}
        for facts in (given, measured)
    ]
    for thing, motion in moves[0].items():
        if motion and thing in moves[1] and moves[1][thing] != motion:
            return _report(f"moving {motion}", f"moving {moves[1][thing] or 'not at all'}")
    one, other = (facts.get("camera", CAMERAS[0]) for facts in (given, measured))
    return _report(f"camera {one}", f"camera {other}") if "camera" in given and one != other else None


def _place(given: Metadata, measured: Metadata) -> str | None:
    one, other = _relation(given), _relation(measured)
    if one is None or other is None:
        return None
    if one[0] != other[0]:  # the same pair told from the other side
        other = (other[0][::-1], _OPPOSITE[other[1]])
    return _report(one[1], other[1]) if one[0] == other[0] and one[1] != other[1] else None


def _relation(facts: Metadata) -> tuple[tuple[str, ...], str] | None:
    """Return ((thing, landmark), relation) of a sentence about places."""
    if facts["tag"] != "position":
        return None
    landmark, thing = facts["include"]
    return tuple(f"{entry['color']} {entry['class']}" for entry in (thing, landmark)), thing["position"][0]


def _report(given: str, measured: str) -> str:
    return f"given says {given}, measured {measured}"
