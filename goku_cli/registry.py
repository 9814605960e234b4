"""Names in tables: `"dis" -> "goku_cli.filter.motion:dis_flow"`, imported only when asked for.

Heavy parts (models, detectors, encoders) are named by strings so that help opens at once and a user's own
`my_package.scorers:sharpness` works by the same string as ours.
"""

import difflib
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from goku_cli.errors import UsageError


def nearest(name: str, known: Mapping[str, object] | list[str]) -> str:
    """Return ` (did you mean "x"?)` for the known name closest to `name`, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""


def load(name: str, table: Mapping[str, str], what: str) -> Callable[..., Any]:
    """Import and return what `name` stands for: a key of `table`, or a `module:attribute` of the user's own.

    Raises:
        UsageError: no such name, module or attribute.
    """
    target = table.get(name, name)
    module, separator, attribute = target.partition(":")
    if not separator:
        raise UsageError(f'unknown {what} "{name}"{nearest(name, table)}; known: {", ".join(sorted(table))}')
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        raise UsageError(f'{what} "{name}" cannot be loaded from {target}: {error}') from error
