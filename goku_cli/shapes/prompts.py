"""The fixed list of prompts on which a model of the moving-shapes world is measured."""

from typing import Any

from goku_cli.shapes.caption import parse_caption, sentence
from goku_cli.shapes.scene import CAMERAS, DIRECTIONS, HELD_OUT, RELATIONS, SEEN, SPEEDS, Pair

IMAGE_FRAMES = 1
VIDEO_FRAMES = 9
SPLITS = ("seen", "unseen", "all")


def benchmark_prompts(split: str = "all") -> list[dict[str, Any]]:
    """Prompts in a fixed order: {"prompt", "tag", "metadata", "frames" (1 or 9), "seen"}.

    Seen prompts name only pairs of color and shape that may be trained on; unseen ones name a held-out pair.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
    rows = [*_single(SEEN), *_motion(SEEN, rounds=3), *_counting(), *_position()]
    rows += _camera(SEEN[::3], rounds=2)
    seen = [_row(prompt, frames, True) for prompt, frames in rows]
    rows = [*_single(HELD_OUT), *_motion(HELD_OUT, rounds=1), *_camera(HELD_OUT, rounds=1)]
    unseen = [_row(prompt, frames, False) for prompt, frames in rows]
    return {"seen": seen, "unseen": unseen, "all": seen + unseen}[split]


def _row(prompt: str, frames: int, seen: bool) -> dict[str, Any]:
    found = parse_caption(prompt)
    assert found is not None, prompt
    return {"prompt": prompt, "tag": found["tag"], "metadata": found, "frames": frames, "seen": seen}


def _single(pairs: tuple[Pair, ...]) -> list[tuple[str, int]]:
    return [(sentence("single_object", _pair_facts(pair)), IMAGE_FRAMES) for pair in pairs]


def _motion(pairs: tuple[Pair, ...], rounds: int) -> list[tuple[str, int]]:
    # Seven is prime to both list lengths, so neighbours in the list share neither color nor shape.
    moves = [(motion, speed) for motion in DIRECTIONS for speed in SPEEDS] * rounds
    prompts = []
    for i, (motion, speed) in enumerate(moves):
        facts = {**_pair_facts(pairs[7 * i % len(pairs)]), "motion": motion, "speed": speed}
        prompts.append((sentence("motion", facts), VIDEO_FRAMES))
    return prompts


def _counting() -> list[tuple[str, int]]:
    pairs = [SEEN[(3 * i + 1) % len(SEEN)] for i in range(6)]
    return [
        (sentence("counting", {**_pair_facts(pair), "count": 2 + i % 3}), IMAGE_FRAMES) for i, pair in enumerate(pairs)
    ]


def _position() -> list[tuple[str, int]]:
    prompts = []
    for i, relation in enumerate([*RELATIONS, *RELATIONS]):
        first = SEEN[(5 * i + 2) % len(SEEN)]
        other = next(pair for pair in SEEN[i:] + SEEN[:i] if pair[0] != first[0] and pair[1] != first[1])
        facts = {**_pair_facts(first), **_pair_facts(other, "2"), "relation": relation}
        prompts.append((sentence("position", facts), IMAGE_FRAMES))
    return prompts


def _camera(pairs: tuple[Pair, ...], rounds: int) -> list[tuple[str, int]]:
    moves = [kind for kind in CAMERAS if kind != "static"] * rounds
    return [
        (sentence("camera", {**_pair_facts(pairs[i % len(pairs)]), "camera": kind}), VIDEO_FRAMES)
        for i, kind in enumerate(moves)
    ]


def _pair_facts(pair: Pair, number: str = "") -> dict[str, Any]:
    return {"color" + number: pair[0], "shape" + number: pair[1]}
