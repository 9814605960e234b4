"""Balance: weights that make sub-categories equal inside their primary class, and primaries what they should be.

The rows of the selection stay; only how often each is drawn changes, so balancing costs no data and no copies. With a
size, clips are left out instead, at random and in proportion to their weights. DuckDB does the work, in the
statements that `--explain` prints.
"""

from dataclasses import dataclass

from goku_cli.balance.taxonomy import Taxonomy
from goku_cli.balance.weights import Class, ClassWeight, class_weights, effective
from goku_cli.errors import GokuError
from goku_cli.manifest.bounds import quoted
from goku_cli.manifest.selections import replace_selection
from goku_cli.manifest.store import Manifest

SUFFIX = "-balanced"
TAGGED = """CREATE OR REPLACE TEMP TABLE tagged AS
SELECT clip, "primary", subcategory
FROM (SELECT clip FROM selections WHERE name = {name} AND reason IS NULL) LEFT JOIN tags USING (clip)"""
COUNTED = """SELECT "primary", subcategory, count(*) AS clips
FROM tagged WHERE "primary" IS NOT NULL GROUP BY ALL ORDER BY ALL"""
WEIGHED = """SELECT clip, coalesce(given.weight, 0) AS weight,
    CASE WHEN given.weight IS NULL THEN 'no tag' WHEN given.weight = 0 THEN 'emphasis 0' END AS reason
FROM tagged LEFT JOIN (VALUES
    {values}
) AS given ("primary", subcategory, weight) USING ("primary", subcategory)"""
# The largest of n keys u^(1/w) are a weighted sample without replacement (Efraimidis and Spirakis 2006).
DRAWN = """SELECT clip, (reason IS NULL AND place <= {size})::DOUBLE AS weight,
    CASE WHEN reason IS NULL AND place > {size} THEN 'left out of the {size} drawn' ELSE reason END AS reason
FROM (SELECT *, row_number() OVER (ORDER BY reason IS NOT NULL,
    -ln((md5_number_upper(clip || '/{seed}') + 1.0) / 18446744073709551617.0) / nullif(weight, 0), clip) AS place
    FROM ({weighed}))"""


@dataclass(frozen=True)
class Balanced:
    """What balancing did."""

    name: str
    classes: list[ClassWeight]
    untagged: int
    """Kept clips that have no tag and are left out."""
    changed: bool

    @property
    def clips(self) -> int:
        """Clips that can be drawn."""
        return sum(entry.clips for entry in self.classes if entry.weight > 0)

    @property
    def effective(self) -> float:
        """As many equally weighted clips would vary as little."""
        return effective(self.classes)

    @property
    def moved(self) -> float:
        """Share of the draws that went from large classes to small ones (total variation distance)."""
        clips, drawn = sum(entry.clips for entry in self.classes), sum(entry.drawn for entry in self.classes)
        return sum(abs(entry.clips / clips - entry.drawn / drawn) for entry in self.classes) / 2


def balance(manifest: Manifest, selection: str, taxonomy: Taxonomy, size: int | None = None, seed: int = 0) -> Balanced:
    """Write the selection NAME-balanced: the tagged clips of a selection with weights, or `size` of them.

    Raises:
        GokuError: no kept clip has a tag, or the emphasis leaves nothing.
    """
    counts = count(manifest, selection)
    weights = class_weights(counts, taxonomy)
    changed = replace_selection(manifest, selection + SUFFIX, query(weights, size, seed))
    classes = [ClassWeight(*key, counts[key], weights[key]) for key in counts]
    untagged = manifest.value('SELECT count(*) FROM tagged WHERE "primary" IS NULL')
    return Balanced(selection + SUFFIX, classes, untagged, changed)


def count(manifest: Manifest, selection: str) -> dict[Class, int]:
    """Make the temporary table `tagged`, and return how many clips each class has.

    Raises:
        GokuError: no kept clip has a tag.
    """
    manifest.execute(TAGGED.format(name=quoted(selection)))
    counts = {(row["primary"], row["subcategory"]): row["clips"] for row in manifest.query(COUNTED)}
    if not counts:
        path = f"{manifest.path}#{selection}"
        raise GokuError(f"no clip of selection {selection} has a caption or a tag; run: goku caption {path}")
    return counts


def query(weights: dict[Class, float], size: int | None, seed: int) -> str:
    """Return SQL that yields (clip, weight, reason) from `tagged`."""
    rows = [f"({quoted(key[0])}, {quoted(key[1])}, {weight!r}::DOUBLE)" for key, weight in weights.items()]
    weighed = WEIGHED.format(values=",\n    ".join(rows))
    return weighed if size is None else DRAWN.format(size=size, seed=seed, weighed=weighed)


def explain(manifest: Manifest, selection: str, taxonomy: Taxonomy, size: int | None, seed: int) -> list[str]:
    """Return the statements that `balance` would run, the last one being what it would write."""
    weights = class_weights(count(manifest, selection), taxonomy)
    return [TAGGED.format(name=quoted(selection)), COUNTED, query(weights, size, seed)]
