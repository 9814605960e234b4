"""Recipes: TOML files read into frozen dataclasses, in which an unknown key is an error.

@dataclass(frozen=True)
class Rules:
    min_duration: float

rules = build(Rules, {"min_duraton": 4.0}, where="480p.toml")
# UsageError: 480p.toml: unknown key "min_duraton" (did you mean "min_duration"?)
"""

import dataclasses
import hashlib
import json
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from goku_cli.errors import UsageError
from goku_cli.registry import nearest

T = TypeVar("T")


def packaged(*parts: str) -> Path:
    """Return the path of a recipe that ships with goku, in a checkout as well as in an installed wheel."""
    package = Path(__file__).parent
    installed = package / "recipes"
    return (installed if installed.is_dir() else package.parent / "recipes").joinpath(*parts)


def find(kind: str, name: str) -> Path:
    """Return the path of a recipe given by its packaged name (`find("tiers", "480p")`, `find(".", "goku-2b/5-images")`)
    or by a path of its own, which comes first.

    Raises:
        UsageError: no packaged recipe of that kind has the name.
    """
    if name.endswith(".toml") or "/" in name:
        own, shipped = Path(name), packaged(kind, name.removeprefix("recipes/").removesuffix(".toml") + ".toml")
        return shipped if shipped.is_file() and not own.exists() else own
    known = sorted(path.stem for path in packaged(kind).glob("*.toml"))
    if name not in known:
        raise UsageError(f'no recipe "{name}" in {kind}{nearest(name, known)}; known: {", ".join(known)}, or PATH.toml')
    return packaged(kind, f"{name}.toml")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UsageError: it is missing or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(str(p.relative_to(packaged())) for p in packaged().rglob("*.toml")))
        raise UsageError(f"no recipe at {path}; recipes that ship with goku: {known}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise UsageError(f"{path} is not a TOML recipe: {error}") from error


def build(cls: type[T], table: dict[str, Any], where: str) -> T:
    """Build the dataclass `cls` from a TOML table, nested dataclasses included.

    Raises:
        UsageError: an unknown or missing key, or a value of the wrong type; the message names the nearest key.
    """
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise UsageError(f'{where}: unknown key "{key}"{nearest(key, fields)}')
    values = {}
    for name, field in fields.items():
        if name in table:
            values[name] = _convert(hints[name], table[name], f"{where}: {name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UsageError(f'{where}: key "{name}" is missing')
    return cls(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, types.UnionType):
        if value is None and types.NoneType in typing.get_args(hint):  # TOML has no null, but a run's JSON does
            return None
        for option in typing.get_args(hint):
            if option is not type(None):
                return _convert(option, value, where)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return build(typing.cast(type, hint), value, where)
    origin = typing.get_origin(hint)
    if origin is tuple and isinstance(value, list):
        inner = typing.get_args(hint)[0]
        return tuple(_convert(inner, item, where) for item in value)
    if hint is float and type(value) is int:
        return float(value)
    expected = origin or hint
    if expected is Any or (isinstance(value, expected) and not (expected is int and isinstance(value, bool))):
        return value
    raise UsageError(f"{where} must be {getattr(hint, '__name__', hint)}, not {value!r}")


def changes(recipe: Any) -> dict[str, Any]:
    """Return what a recipe says other than its defaults, nested: options that it does not know do not change it."""
    found = {}
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if value != default:
            found[field.name] = changes(value) if dataclasses.is_dataclass(value) else value
    return found


def fingerprint(value: Any) -> str:
    """Return 16 hexadecimal digits that name a set of parameters: equal values have equal fingerprints."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
