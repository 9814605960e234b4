"""Class weights: how often a clip of each class is sampled, as arithmetic on counts."""

from dataclasses import dataclass

from goku_cli.balance.taxonomy import Taxonomy
from goku_cli.errors import GokuError

Class = tuple[str, str]
"""Primary class and sub-category."""


@dataclass(frozen=True)
class ClassWeight:
    """One class of the selection."""

    primary: str
    subcategory: str
    clips: int
    weight: float
    """Of each of its clips; the mean over all clips is 1, unless caps and zeros leave no way to it."""

    @property
    def drawn(self) -> float:
        """How many of as many draws as there are clips fall on it."""
        return self.clips * self.weight


def effective(classes: list[ClassWeight]) -> float:
    """Return the effective sample size (Kish 1965): as many equally weighted clips would vary as little."""
    return sum(entry.drawn for entry in classes) ** 2 / sum(entry.clips * entry.weight**2 for entry in classes)


def class_weights(counts: dict[Class, int], taxonomy: Taxonomy) -> dict[Class, float]:
    """Return the weight of a clip of each class, given how many clips each has.

    Each primary gets its present share times its emphasis, each of its sub-categories an equal part of that; no
    weight exceeds the taxonomy's cap, and what a cap takes away is spread over the others.

    Raises:
        GokuError: the emphasis leaves nothing of what is there.
    """
    clips: dict[str, int] = {}
    subs: dict[str, int] = {}
    for (primary, _), count in counts.items():
        clips[primary] = clips.get(primary, 0) + count
        subs[primary] = subs.get(primary, 0) + 1
    wanted = {key: taxonomy.emphasis(key[0]) * clips[key[0]] / (subs[key[0]] * count) for key, count in counts.items()}
    if not any(wanted.values()):
        raise GokuError(f"an emphasis of 0 leaves nothing of {', '.join(clips)}; raise one in the taxonomy")
    return _capped(wanted, counts, taxonomy.max_weight)


def _capped(wanted: dict[Class, float], counts: dict[Class, int], cap: float) -> dict[Class, float]:
    """Scale to a mean of 1 over the clips, with no weight above the cap."""
    total, at_cap = sum(counts.values()), set[Class]()
    while True:
        free = [key for key in wanted if key not in at_cap]
        asked = sum(wanted[key] * counts[key] for key in free)
        scale = (total - cap * sum(counts[key] for key in at_cap)) / asked if asked else 0.0
        over = {key for key in free if wanted[key] * scale > cap}
        if not over:
            return {key: cap if key in at_cap else wanted[key] * scale for key in wanted}
        at_cap |= over
