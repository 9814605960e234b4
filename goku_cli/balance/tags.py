"""One tag per clip, from its caption: the sub-category whose phrases say most about it."""

from collections.abc import Sequence
from re import Pattern

from goku_cli.balance.taxonomy import OTHER, Taxonomy
from goku_cli.manifest.store import Manifest
from goku_cli.recipe import fingerprint
from goku_cli.stage import Item, Outcome, Progress, Rows, run_stage

STAGE = "tag"
TAGGER = "rules@1"

Patterns = Sequence[tuple[str, str, Pattern[str], int]]


def tag_clips(
    manifest: Manifest, selection: str, taxonomy: Taxonomy, progress: Progress | None = None
) -> Outcome:  # fmt: skip
    """Tag the kept clips whose caption or taxonomy is new."""
    rows = manifest.query(
        "SELECT clip, text FROM captions JOIN selections USING (clip) "
        "WHERE kind = 'merged' AND name = ? AND reason IS NULL ORDER BY clip",
        [selection],
    )
    patterns = taxonomy.patterns()
    items = [Item(row["clip"], (row["clip"], row["text"], patterns), fingerprint(row["text"])) for row in rows]
    params = fingerprint([TAGGER, {name: vars(found) for name, found in taxonomy.classes.items()}])
    # One process: matching words costs less than carrying them to another.
    return run_stage(manifest, STAGE, params, items, tag_clip, total=len(items), workers=1, progress=progress)


def tag_clip(job: tuple[str, str, Patterns]) -> Rows:
    """Tag one clip."""
    clip, text, patterns = job
    primary, subcategory, confidence = classify(text, patterns)
    row = {
        "clip": clip, "primary": primary, "subcategory": subcategory, "confidence": confidence, "tagger": TAGGER,
    }  # fmt: skip
    return Rows(insert={"tags": [row]}, replace={"tags": "clip"})


def classify(text: str, patterns: Patterns) -> tuple[str, str, float]:
    """Return (primary, sub-category, confidence) of a caption; other, other, 0 when no phrase is in it.

    A phrase counts as many points as it has words; among equals the one named first in the text wins, because
    captions begin with what matters. Confidence is the winner's share of all points.
    """
    points: dict[tuple[str, str], int] = {}
    places: dict[tuple[str, str], int] = {}
    for primary, sub, pattern, words in patterns:
        if match := pattern.search(text):
            key = primary, sub
            points[key] = points.get(key, 0) + words
            places[key] = min(places.get(key, len(text)), match.start())
    if not points:
        return OTHER, OTHER, 0.0
    best = min(points, key=lambda key: (-points[key], places[key]))
    return *best, points[best] / sum(points.values())
