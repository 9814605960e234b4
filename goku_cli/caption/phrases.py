"""Camera movements named in a text: "the camera pans slowly to the left" -> {"pan left"}.

Careful rather than complete: a pan may stand on a stove, and a man may pan for gold. A movement counts when the camera,
the shot or the view makes it, or when the words can mean nothing else.
"""

import re

from goku_cli.media.motion.camera import NAMES, STATIC

_SUBJECT = r"(?:camera(?:work)?|shot|view(?:point)?|perspective|lens|footage|video|scene|frame|clip)"
_ADVERBS = r"(?:[a-z]+ly|then|and|also|back|a little|a bit|to|towards?|the|further|smoothly)"
_STRONG = {"pan": r"pan(?:s|ning|ned)?", "tilt": r"(?:tilt|pan)(?:s|ning|ned|ing|ed)?", "zoom": r"zoom(?:s|ing|ed)?"}
"""Verbs that cameras make; the subject may stand a few words before."""
_WEAK = {
    "pan": r"(?:truck(?:s|ing|ed)?|move[sd]?|moving|slid(?:es|ing)|sweep(?:s|ing)|swept)",
    "tilt": r"(?:move[sd]?|moving|pedestals?|cran(?:es|ing))",
    "zoom": r"(?:doll(?:y|ies|ying|ied)|push(?:es|ing|ed)?|pull(?:s|ing|ed)?|move[sd]?|moving)",
    "roll": r"(?:roll(?:s|ing|ed)?|rotat(?:e|es|ing|ed)|spin(?:s|ning)?|turn(?:s|ing)?)",
}
"""Verbs that anything makes ("the camera shows a man moving left"); the subject must stand right before."""
_BETWEEN = r"(?: (?!of\b|shows?\b|with\b|in\b|where\b|which\b|that\b|as\b|while\b|when\b)[a-z]+){0,4}?"
_AUXILIARY = r"(?: (?:is|starts?|begins?|continues?|keeps|then|also|and|to|[a-z]+ly)){0,4}?"
_WAYS = {
    "pan": {"pan left": r"left(?:wards?)?", "pan right": r"right(?:wards?)?"},
    "tilt": {"tilt up": r"(?:up(?:wards?)?)", "tilt down": r"(?:down(?:wards?)?)"},
    "zoom": {"zoom in": r"(?:in(?:wards?)?|forwards?|closer)", "zoom out": r"(?:out(?:wards?)?|back(?:wards?)?|away)"},
    "roll": {
        "roll clockwise": r"clockwise",
        "roll counter-clockwise": r"(?:counter|anti)[- ]?clockwise",
    },
}
_CERTAIN = {
    "pan": r"(?:(?:slow|fast|quick|gentle|smooth|camera|motion:|movement:) pan|panning)",
    "tilt": r"(?:(?:slow|fast|quick|gentle|smooth|camera|motion:|movement:) tilt|(?<!head )tilting)",
    "zoom": r"(?:zoom(?:s|ing|ed)?|camera dolly|dolly(?:ing)?)",
}
"""What can mean nothing but a camera, with a direction right after it."""
_STILL = re.compile(
    r"\b(?:static|stationary|fixed|motionless|locked[- ]off) (?:camera|shot|viewpoint|perspective)\b"
    r"|\bstill camera\b|\bno camera (?:movement|motion)\b|\bwithout (?:any )?camera (?:movement|motion)\b"
    rf"|\b{_SUBJECT} (?:is|remains|stays|stands|holds|keeps)(?: [a-z]+){{0,2}}? "
    r"(?:static|still|stationary|fixed|motionless|unmoving)\b"
)
_NEGATED = re.compile(r"\b(?:not|never|no|without|nor|cannot|[a-z]+n't)(?: [a-z]+){0,2} ?$")
_PEOPLE = re.compile(
    r"\b(?:he|she|they|who|man|woman|person|people|boy|girl|hand|finger|user|player)(?: (?!and\b)[a-z]+)? ?$"
)
_ORIGIN = re.compile(r"\bfrom (?:the )?(?:far )?(?:left|right|top|bottom|up|down)(?: side)?\b")


def camera_claims(text: str) -> set[str]:
    """Return what the text says the camera does, by the names of `media.camera`; often nothing.

    "static" stands for a camera that is said to stand still. A text that names both directions of an axis, one after
    the other, claims both.
    """
    found: set[str] = set()
    for sentence in re.split(r"[.;!?]\s", text.lower().replace("’", "'")):
        plain = _ORIGIN.sub("", sentence)
        found.update(name for name, pattern in _MOVES if _claimed(pattern, plain))
        if _STILL.search(plain):
            found.add(STATIC)
    return found


def _claimed(pattern: re.Pattern[str], sentence: str) -> bool:
    for match in pattern.finditer(sentence):
        before = sentence[: match.start("move")]
        if not _NEGATED.search(before) and not _PEOPLE.search(before):
            return True
    return False


def _moves() -> list[tuple[str, re.Pattern[str]]]:
    found = []
    for axis in NAMES:
        makers = [rf"\b{_SUBJECT}{_AUXILIARY} (?P<move>{_WEAK[axis]})"]
        if axis in _STRONG:
            makers += [rf"\b{_SUBJECT}{_BETWEEN} (?P<move>{_STRONG[axis]})", rf"(?<![a-z])(?P<move>{_CERTAIN[axis]})"]
        for name, way in _WAYS[axis].items():
            found += [(name, re.compile(rf"{maker}(?:[ ,-]+{_ADVERBS}){{0,4}}?[ -]+{way}\b")) for maker in makers]
    return found


_MOVES = _moves()
