"""stub"""

from collections.abc import Callable

COMMANDS: dict[str, Callable[..., None]] = {}
