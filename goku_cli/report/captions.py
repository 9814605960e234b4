"""Caption statistics: counters over the captions that training would read, each with the clips behind it."""

import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from goku_cli.chat.refusal import is_refusal
from goku_cli.errors import Cause, UsageError
from goku_cli.manifest.store import Manifest
from goku_cli.media.motion.motion import without_motion_score
from goku_cli.registry import nearest

DEVIATIONS = 3.5
"""Robust deviations of a caption's words from the median, on a logarithmic scale, from which it is an outlier (Iglewicz
and Hoaglin 1993)."""
MAD_OF_NORMAL = 0.6745
LEAST_SPREAD = 0.1
"""Of logarithms: captions of one length are not all outliers but one."""
OPENING = 4
"""Words that make an opening."""
LEAST_FOR_LANGUAGE = 20
"""Characters below which a language is not guessed."""

Text = tuple[str, str]
"""clip and caption"""


@dataclass
class Counted:
    """What one counter found."""

    name: str
    about: str
    clips: list[Text] = field(default_factory=list)
    detail: str = ""


def count_captions(manifest: Manifest) -> dict[str, Counted]:
    """Return every counter of the merged captions, and of the clips that no model would describe."""
    rows = manifest.query("SELECT clip, text FROM captions WHERE kind = 'merged' ORDER BY clip")
    texts = [(row["clip"], without_motion_score(row["text"])) for row in rows]
    found = [count(texts) for count in COUNTERS] if texts else []
    refused = manifest.query(
        "SELECT item AS clip, reason AS text FROM failures WHERE stage = 'caption' AND cause = ? ORDER BY ALL",
        [Cause.REFUSED],
    )
    given_up = Counted("refused", "no model described them", [(row["clip"], row["text"]) for row in refused])
    return {one.name: one for one in [*found, given_up]}


def counter(found: dict[str, Counted], name: str) -> Counted:
    """Return one counter.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in found:
        raise UsageError(f'no counter "{name}"{nearest(name, list(found))}; known: all, {", ".join(found)}')
    return found[name]


def _lengths(texts: Sequence[Text]) -> tuple[float, float]:
    """Return the least and the most words that are no outliers."""
    logs = [math.log(max(1, len(text.split()))) for _, text in texts]
    middle = statistics.median(logs)
    spread = max(statistics.median(abs(x - middle) for x in logs) / MAD_OF_NORMAL, LEAST_SPREAD)
    return math.exp(middle - DEVIATIONS * spread), math.exp(middle + DEVIATIONS * spread)


def _short(texts: Sequence[Text]) -> Counted:
    least, _ = _lengths(texts)
    short = [one for one in texts if len(one[1].split()) < least]
    return Counted("short", f"fewer than {least:.0f} words, far below the others", short)


def _long(texts: Sequence[Text]) -> Counted:
    _, most = _lengths(texts)
    long = [one for one in texts if len(one[1].split()) > most]
    return Counted("long", f"more than {most:.0f} words, far above the others", long)


def _same(texts: Sequence[Text], key: Callable[[str], str]) -> list[Text]:
    groups = defaultdict(list)
    for clip, text in texts:
        groups[key(text)].append((clip, text))
    several = sorted((group for group in groups.values() if len(group) > 1), key=len, reverse=True)
    return [one for group in several for one in group]


def _repeated(texts: Sequence[Text]) -> Counted:
    same = _same(texts, lambda text: " ".join(text.lower().split()))
    return Counted("repeated", "the same text as another clip's, the commonest first", same)


def _alike(texts: Sequence[Text]) -> Counted:
    repeated = set(_repeated(texts).clips)
    rest = [one for one in texts if one not in repeated]
    alike = _same(rest, lambda text: " ".join(sorted(re.findall(r"[^\W\d_]+", text.lower()))))
    return Counted("alike", "the words of another clip's in another order, with other numbers or marks", alike)


def _openings(texts: Sequence[Text]) -> Counted:
    def opening(text: str) -> str:
        return " ".join(text.lower().split()[:OPENING])

    ((commonest, _),) = Counter(opening(text) for _, text in texts).most_common(1)
    begin = [one for one in texts if opening(one[1]) == commonest]
    return Counted("opening", "begin with the commonest words", begin, commonest)


def _refusing(texts: Sequence[Text]) -> Counted:
    return Counted(
        "refusing", "read as a refusal although they were kept", [one for one in texts if is_refusal(one[1])]
    )


def _languages(texts: Sequence[Text]) -> Counted:
    import py3langid

    guessed = {text: py3langid.classify(text)[0] for _, text in texts if len(text) >= LEAST_FOR_LANGUAGE}
    about = "not in the commonest language, by a guess"
    if not guessed:
        return Counted("language", about)
    by_language = Counter(guessed[text] for _, text in texts if text in guessed)
    ((main, _),) = by_language.most_common(1)
    others = [one for one in texts if guessed.get(one[1], main) != main]
    shares = ", ".join(f"{language} {count / len(texts):.1%}" for language, count in by_language.most_common(4))
    return Counted("language", about, others, shares)


COUNTERS: tuple[Callable[[Sequence[Text]], Counted], ...] = (
    _short, _long, _repeated, _alike, _openings, _refusing, _languages,
)  # fmt: skip
