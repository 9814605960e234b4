"""One tag per clip, by the rules over its caption: the sub-category whose phrases say most about it."""

from collections.abc import Iterator, Sequence
from re import Pattern

from goku_cli.balance.taxonomy import OTHER, Taxonomy
from goku_cli.manifest.store import Manifest, Row
from goku_cli.recipe import fingerprint
from goku_cli.stage import Item, Outcome, Progress, Rows, run_stage

STAGE = "tag"
TAGGER = "rules@1"
CAPTIONED = """FROM captions JOIN selections USING (clip)
WHERE kind = 'merged' AND name = ? AND reason IS NULL"""

Patterns = Sequence[tuple[str, str, Pattern[str], int]]


def tag_by_rules(
    manifest: Manifest, selection: str, taxonomy: Taxonomy, progress: Progress | None = None
) -> Outcome:  # fmt: skip
    """Tag the kept clips whose caption or taxonomy is new."""
    patterns = taxonomy.patterns()

    def items() -> Iterator[Item]:
        for row in manifest.stream(f"SELECT clip, text {CAPTIONED} ORDER BY clip", [selection]):
            yield Item(row["clip"], (row["clip"], row["text"], patterns), fingerprint(row["text"]))

    total = manifest.value(f"SELECT count(*) {CAPTIONED}", [selection])
    params = fingerprint([TAGGER, taxonomy.fingerprint()])
    # One process: matching words costs less than carrying them to another.
    return run_stage(manifest, STAGE, params, items(), tag_clip, total=total, workers=1, progress=progress)


def tag_clip(job: tuple[str, str, Patterns]) -> Rows:
    """Tag one clip."""
    clip, text, patterns = job
    return tagged(clip, *classify(text, patterns), TAGGER)


def tagged(clip: str, primary: str, subcategory: str, confidence: float, tagger: str) -> Rows:
    """Return the row of a tag, which replaces the clip's earlier one."""
    row: Row = {"clip": clip, "primary": primary, "subcategory": subcategory, "confidence": confidence}
    return Rows(insert={"tags": [row | {"tagger": tagger}]}, replace={"tags": "clip"})


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
