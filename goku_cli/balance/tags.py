"""One tag per clip, by the rules over its caption: the sub-category whose phrases say most about it."""

from collections.abc import Iterator

from goku_cli.balance.taxonomy import OTHER, Lexicon, Taxonomy, words_of
from goku_cli.manifest.store import Manifest, Row
from goku_cli.recipe import fingerprint
from goku_cli.stage import Item, Outcome, Progress, Rows, run_stage

STAGE = "tag"
TAGGER = "rules@2"
CAPTIONED = """FROM captions JOIN selections USING (clip)
WHERE kind = 'merged' AND name = ? AND reason IS NULL"""
PLURALS = ("", "s", "es")


def tag_by_rules(
    manifest: Manifest, selection: str, taxonomy: Taxonomy, progress: Progress | None = None
) -> Outcome:  # fmt: skip
    """Tag the kept clips whose caption or taxonomy is new."""
    lexicon = taxonomy.lexicon()

    def items() -> Iterator[Item]:
        for row in manifest.stream(f"SELECT clip, text {CAPTIONED} ORDER BY clip", [selection]):
            yield Item(row["clip"], (row["clip"], row["text"], lexicon), fingerprint(row["text"]))

    total = manifest.value(f"SELECT count(*) {CAPTIONED}", [selection])
    params = fingerprint([TAGGER, taxonomy.fingerprint()])
    # One process: matching words costs less than carrying them to another.
    return run_stage(manifest, STAGE, params, items(), tag_clip, total=total, workers=1, progress=progress)


def tag_clip(job: tuple[str, str, Lexicon]) -> Rows:
    """Tag one clip."""
    clip, text, lexicon = job
    return tagged(clip, *classify(text, lexicon), TAGGER)


def tagged(clip: str, primary: str, subcategory: str, confidence: float, tagger: str) -> Rows:
    """Return the row of a tag, which replaces the clip's earlier one."""
    row: Row = {"clip": clip, "primary": primary, "subcategory": subcategory, "confidence": confidence}
    return Rows(insert={"tags": [row | {"tagger": tagger}]}, replace={"tags": "clip"})


def classify(text: str, lexicon: Lexicon) -> tuple[str, str, float]:
    """Return (primary, sub-category, confidence) of a caption; other, other, 0 when no phrase is in it.

    A phrase counts once, as many points as it has words; among equals the one named first in the text wins, because
    captions begin with what matters. Confidence is the winner's share of all points.
    """
    points: dict[tuple[str, str], int] = {}
    places: dict[tuple[str, str], int] = {}
    for phrase, place in _phrases(text, lexicon).items():
        for key in lexicon[phrase]:
            points[key] = points.get(key, 0) + phrase.count(" ") + 1
            places[key] = min(places.get(key, place), place)
    if not points:
        return OTHER, OTHER, 0.0
    best = min(points, key=lambda key: (-points[key], places[key]))
    return *best, points[best] / sum(points.values())


def _phrases(text: str, lexicon: Lexicon) -> dict[str, int]:
    """Return the known phrases in a text, also in the plural, with the place of the first of each."""
    words, found = words_of(text), dict[str, int]()
    longest = max(phrase.count(" ") + 1 for phrase in lexicon)
    for place in range(len(words)):
        for count in range(1, longest + 1):
            said = " ".join(words[place : place + count])
            for ending in PLURALS:
                if said.endswith(ending) and (phrase := said.removesuffix(ending)) in lexicon:
                    found.setdefault(phrase, place)
    return found
