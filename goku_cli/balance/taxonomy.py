"""Classes of content: primary classes, their sub-categories, and the words by which a caption is told to be of one."""

from dataclasses import dataclass, field
from functools import cached_property
from re import compile

from goku_cli.errors import UsageError
from goku_cli.recipe import build, find, fingerprint, read_toml

DEFAULT = "default"
OTHER = "other"
WORD = compile(r"\w+")


@dataclass(frozen=True)
class Primary:
    """One primary class."""

    emphasis: float = 1.0
    """Its share of the balanced set, relative to its share of the data."""
    subcategories: dict[str, list[str]] = field(default_factory=dict)
    """Name -> words or phrases; a plural s or es is understood."""


@dataclass(frozen=True)
class Taxonomy:
    """What `recipes/taxonomy/*.toml` says."""

    max_weight: float
    """A clip is drawn at most so many times as often as the average one."""
    primary: dict[str, dict[str, object]]
    """Name -> Primary, as a table."""

    @cached_property
    def classes(self) -> dict[str, Primary]:
        """The primary classes, checked.

        Raises:
            UsageError: an unknown key, a class or sub-category without members, or a number that makes no sense.
        """
        if self.max_weight < 1:
            raise UsageError(f"max_weight must be at least 1, not {self.max_weight:g}")
        found = {name: build(Primary, table, f"primary.{name}") for name, table in self.primary.items()}
        for name, primary in found.items():
            if primary.emphasis < 0:
                raise UsageError(f"primary.{name}: emphasis must not be negative, it is {primary.emphasis:g}")
            if not primary.subcategories:
                raise UsageError(f"primary.{name} has no subcategories; add a table of them or remove it")
            for sub, words in primary.subcategories.items():
                if not isinstance(words, list) or not words or not all(isinstance(w, str) and w for w in words):
                    raise UsageError(f"primary.{name}.subcategories.{sub} must be a list of words, not {words!r}")
        if not any(primary.emphasis for primary in found.values()):
            raise UsageError("every emphasis is 0, so nothing would be drawn")
        return found

    def fingerprint(self) -> str:
        """Return what changes when a clip may get another tag."""
        return fingerprint({name: found.subcategories for name, found in self.classes.items()})

    def emphasis(self, primary: str) -> float:
        """Return the emphasis of a primary class; what is in none has 1."""
        return self.classes[primary].emphasis if primary in self.classes else 1.0

    def lexicon(self) -> "Lexicon":
        """Return the classes of each phrase, by its words in lower case."""
        found: Lexicon = {}
        for name, primary in self.classes.items():
            for sub, phrases in primary.subcategories.items():
                for phrase in phrases:
                    found.setdefault(" ".join(words_of(phrase)), []).append((name, sub))
        return found


Lexicon = dict[str, list[tuple[str, str]]]


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, without what stands between them."""
    return WORD.findall(text.lower())


def load_taxonomy(name: str) -> Taxonomy:
    """Read a taxonomy of a packaged name or a path.

    Raises:
        UsageError: no such taxonomy, or something in it that is not understood.
    """
    path = find("taxonomy", name)
    taxonomy = build(Taxonomy, read_toml(path), where=str(path))
    try:
        taxonomy.lexicon()
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    return taxonomy
