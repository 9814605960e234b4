"""The caption grammar of the moving-shapes world: one table of templates that is read in both directions.

Between a scene, its caption and its metadata stand the *facts*: a flat dict from slot name to value, such as
{"color": "red", "shape": "circle", "motion": "left", "speed": "slowly"}. Metadata is GenEval's JSON schema
(djghosh13/geneval, evaluation_metadata.jsonl) with "motion" and "speed" beside "class", and "camera" beside
"include".
"""

import re
from typing import Any

from goku_cli.shapes.scene import (
    CAMERAS,
    DIRECTIONS,
    PALETTE,
    SHAPES,
    SPEEDS,
    Scene,
    direction_of,
    relation_of,
    speed_of,
)

Facts = dict[str, Any]
Metadata = dict[str, Any]

FORMS = ("short", "paraphrase")

TEMPLATES: dict[str, tuple[str, str]] = {
    "single_object": ("a {color} {shape}", "an image of a {color} {shape}"),
    "colors": ("a {shape} colored {color}", "a {shape} whose color is {color}"),
    "two_object": ("a {shape} and a {shape2}", "both a {shape} and a {shape2}"),
    "color_attr": (
        "a {color} {shape} and a {color2} {shape2}",
        "both a {color} {shape} and a {color2} {shape2}",
    ),
    "counting": ("{count} {color} {plural}", "exactly {count} {color} {plural}"),
    "position": (
        "a {color} {shape} {relation} a {color2} {shape2}",
        "a {color} {shape} placed {place} a {color2} {shape2}",
    ),
    "motion": ("a {color} {shape} moving {motion} {speed}", "a {color} {shape} {speed} moves {motion}"),
    "camera": ("a {color} {shape}, camera {camera}", "the camera {camera} over a {color} {shape}"),
    "two_motion": (
        "a {color} {shape} moving {motion} and a {color2} {shape2} moving {motion2}",
        "a {color} {shape} moves {motion} while a {color2} {shape2} moves {motion2}",
    ),
}
"""(short, paraphrase) of every task; a digit after a slot's name says which thing it speaks of."""

_RELATION = {"left of": "to the left of", "right of": "to the right of", "above": "above", "below": "below"}
_PLACE = {
    "left of": "on the left of",
    "right of": "on the right of",
    "above": "higher than",
    "below": "lower than",
}
_WORDS: dict[str, dict[Any, str]] = {
    "color": {name: name for name in PALETTE},
    "shape": {name: name for name in SHAPES},
    "plural": {name: name + ("es" if name.endswith("s") else "s") for name in SHAPES},
    "count": {2: "two", 3: "three", 4: "four"},
    "relation": _RELATION,
    "place": _PLACE,
    "motion": {name: name for name in DIRECTIONS},
    "speed": {name: name for name in SPEEDS},
    "camera": {kind: kind.replace(" ", "s ", 1) for kind in CAMERAS if kind != "static"},
}
_SAME_FACT = {"plural": "shape", "place": "relation"}


def caption(scene: Scene, form: str = "short") -> str:
    """The sentence that describes a scene, in one of FORMS."""
    return sentence(scene.task, scene_facts(scene), form)


def metadata(scene: Scene, form: str = "short") -> Metadata:
    """GenEval-style metadata of a scene; "prompt" is its caption in the given form."""
    facts = scene_facts(scene)
    return _metadata(scene.task, facts, sentence(scene.task, facts, form))


def parse_caption(text: str) -> Metadata | None:
    """The metadata that a sentence of the grammar asks for, or None when the text is no such sentence.

    A suffix after a full stop, such as " motion score: 3.", is ignored; "prompt" keeps the
    text as it was given.
    """
    words = " ".join(text.split(".", 1)[0].lower().split())
    for task, patterns in _PATTERNS.items():
        for pattern in patterns:
            if match := pattern.fullmatch(words):
                facts = {_fact(slot): _value(slot, word) for slot, word in match.groupdict().items()}
                return _metadata(task, facts, text)
    return None


def sentence(task: str, facts: Facts, form: str = "short") -> str:
    """Fill the template of a task. Facts that the template does not name are left out."""
    template = TEMPLATES[task][FORMS.index(form)]
    return _SLOT.sub(lambda slot: _WORDS[slot[1]][facts[_fact(slot[1] + slot[2])]], template)


def scene_facts(scene: Scene) -> Facts:
    """Everything that a caption may say of a scene, by slot name."""
    facts: Facts = {"count": len(scene.things)}
    for number, thing in zip(("", "2"), scene.things, strict=False):
        facts["color" + number], facts["shape" + number] = thing.color, thing.shape
        facts["motion" + number] = direction_of(thing.vx, thing.vy)
        facts["speed" + number] = speed_of(thing.vx, thing.vy)
    if scene.task == "position":
        facts["relation"] = relation_of(*scene.things)
    facts["camera"] = scene.camera.kind
    return facts


def _metadata(task: str, facts: Facts, prompt: str) -> Metadata:
    first = {"class": facts["shape"], "count": facts.get("count", 1) if task == "counting" else 1}
    include = [first]
    if task in ("two_object", "color_attr", "position", "two_motion"):
        include.append({"class": facts["shape2"], "count": 1})
    if task != "two_object":
        for entry, number in zip(include, ("", "2"), strict=False):
            entry["color"] = facts["color" + number]
    if task in ("motion", "two_motion"):
        for entry, number in zip(include, ("", "2"), strict=False):
            entry["motion"] = facts["motion" + number]
    if task == "motion":
        first["speed"] = facts["speed"]
    if task == "position":
        # GenEval lists the landmark first and points back to it: [the relation, the landmark's index].
        first["position"] = [facts["relation"], 0]
        include.reverse()
    found: Metadata = {"tag": task, "include": include}
    if task == "camera":
        found["camera"] = facts["camera"]
    return {**found, "prompt": prompt}


def _fact(slot: str) -> str:
    return _SAME_FACT.get(slot, slot)


def _value(slot: str, word: str) -> Any:
    return next(value for value, name in _WORDS[slot.rstrip("2")].items() if name == word)


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(_SLOT.sub(lambda slot: f"(?P<{slot[1]}{slot[2]}>{'|'.join(_WORDS[slot[1]].values())})", template))


_SLOT = re.compile(r"\{([a-z]+)(2?)\}")
_PATTERNS = {task: [_pattern(template) for template in forms] for task, forms in TEMPLATES.items()}
