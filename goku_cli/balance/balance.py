"""Balance: weights that make sub-categories equal inside their primary class, and primaries what they should be.

The rows of the selection stay; only how often each is drawn changes, so balancing costs no data and no copies.
"""

from dataclasses import dataclass

from goku_cli.balance.tags import tag_clips
from goku_cli.balance.taxonomy import Taxonomy
from goku_cli.errors import GokuError
from goku_cli.manifest.selections import replace_selection
from goku_cli.manifest.store import Manifest
from goku_cli.stage import Outcome, Progress

SUFFIX = "-balanced"


@dataclass(frozen=True)
class ClassWeight:
    """One class of the selection."""

    primary: str
    subcategory: str
    clips: int
    weight: float
    """Of each of its clips; the mean over all clips is 1."""


@dataclass(frozen=True)
class Balanced:
    """What balancing did."""

    name: str
    classes: list[ClassWeight]
    changed: bool
    outcome: Outcome

    @property
    def clips(self) -> int:
        """Clips in the balanced selection."""
        return sum(entry.clips for entry in self.classes)

    @property
    def effective(self) -> float:
        """The effective sample size (Kish): as many equally weighted clips would vary as little."""
        total = sum(entry.clips * entry.weight for entry in self.classes)
        return total**2 / sum(entry.clips * entry.weight**2 for entry in self.classes)


def balance(
    manifest: Manifest, selection: str, taxonomy: Taxonomy, progress: Progress | None = None
) -> Balanced:  # fmt: skip
    """Tag the kept clips of a selection and write the selection NAME-balanced with their weights.

    Raises:
        GokuError: no kept clip has a caption.
    """
    selection = selection.removesuffix(SUFFIX)
    outcome = tag_clips(manifest, selection, taxonomy, progress)
    rows = manifest.query(
        'SELECT "primary", subcategory, count(*) AS clips FROM tags JOIN selections USING (clip) '
        "WHERE name = ? AND reason IS NULL GROUP BY ALL ORDER BY ALL",
        [selection],
    )
    if not rows:
        raise GokuError(
            f"no clip of selection {selection} has a caption; run: goku caption {manifest.path}#{selection}"
        )
    counts = {(row["primary"], row["subcategory"]): row["clips"] for row in rows}
    weights = class_weights(counts, taxonomy)
    classes = [ClassWeight(*key, counts[key], weights[key]) for key in counts]
    changed = _write(manifest, selection, classes)
    return Balanced(selection + SUFFIX, classes, changed, outcome)


def class_weights(counts: dict[tuple[str, str], int], taxonomy: Taxonomy) -> dict[tuple[str, str], float]:
    """Return the weight of a clip of each (primary, sub-category), given how many clips each has.

    Each primary gets its present share times its emphasis, each of its sub-categories an equal part of that; no
    weight exceeds the taxonomy's cap, and what a cap takes away is spread over the others.
    """
    clips: dict[str, int] = {}
    subs: dict[str, int] = {}
    for (primary, _), count in counts.items():
        clips[primary] = clips.get(primary, 0) + count
        subs[primary] = subs.get(primary, 0) + 1
    wanted = {key: taxonomy.emphasis(key[0]) * clips[key[0]] / (subs[key[0]] * count) for key, count in counts.items()}
    return _capped(wanted, counts, taxonomy.max_weight)


def _capped(
    wanted: dict[tuple[str, str], float], counts: dict[tuple[str, str], int], cap: float
) -> dict[tuple[str, str], float]:
    """Scale to a mean of 1 over the clips, with no weight above the cap."""
    total, at_cap = sum(counts.values()), set[tuple[str, str]]()
    while True:
        free = [key for key in wanted if key not in at_cap]
        left = total - cap * sum(counts[key] for key in at_cap)
        scale = left / sum(wanted[key] * counts[key] for key in free)
        over = {key for key in free if wanted[key] * scale > cap}
        if not over:
            return {key: cap if key in at_cap else wanted[key] * scale for key in wanted}
        at_cap |= over


def _write(manifest: Manifest, selection: str, classes: list[ClassWeight]) -> bool:
    manifest.execute(
        'CREATE OR REPLACE TEMP TABLE class_weights ("primary" TEXT, subcategory TEXT, weight DOUBLE, run BIGINT)'
    )
    rows = [{"primary": entry.primary, "subcategory": entry.subcategory, "weight": entry.weight} for entry in classes]
    manifest.insert("class_weights", rows)
    kept = f"SELECT clip FROM selections WHERE name = '{_quoted(selection)}' AND reason IS NULL"
    return replace_selection(
        manifest,
        selection + SUFFIX,
        "SELECT clip, coalesce(class_weights.weight, 0) AS weight, "
        "CASE WHEN class_weights.weight IS NULL THEN 'no caption' END AS reason "
        f'FROM ({kept}) LEFT JOIN tags USING (clip) LEFT JOIN class_weights USING ("primary", subcategory)',
    )


def _quoted(name: str) -> str:
    return name.replace("'", "''")
