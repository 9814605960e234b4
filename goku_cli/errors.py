"""Errors shown to a user: every expected failure is a `GokuError`, one line that says what to type instead."""

from enum import StrEnum


class GokuError(Exception):
    """Work that failed for a reason the user can act on (exit code 1)."""

    exit_code = 1


class UsageError(GokuError):
    """The command was called wrongly: a missing reference, an unknown name, a bad value (exit code 2)."""

    exit_code = 2


class Held(GokuError):
    """Another command works on the same manifest."""


class Cause(StrEnum):
    """Why an item failed, or was read only in part: a closed list, so that failures can be counted."""

    VANISHED = "vanished"
    NOT_REGULAR = "not a regular file"
    PERMISSION = "permission"
    NAME = "name"
    EMPTY = "empty file"
    NOT_MEDIA = "not media"
    UNREADABLE = "unreadable"
    NO_VIDEO = "no video stream"
    NO_DECODER = "no decoder"
    TRUNCATED = "truncated"
    DAMAGED = "damaged"
    TOO_LARGE = "too large"
    CHANGED = "changed"
    SIDECAR = "sidecar"
    NETWORK = "network"
    UNSUITABLE = "unsuitable"
    """Readable, but not what the stage needs."""
    TIMEOUT = "timeout"
    REFUSED = "refused"
    """A model said that it would rather not."""
    ANSWER = "no usable answer"
    """What a model or its server said is no caption."""
    UNASKED = "not asked"
    """The server was given up, or what may be spent is spent."""
    MEMORY = "memory"
    CRASHED = "crashed"
    INTERNAL = "internal"
    """A fault of ours, or of a library, that none of the others names."""


class Fault(GokuError):
    """What is wrong with one item, of a cause from the closed list."""

    def __init__(self, cause: Cause, detail: str = "") -> None:
        super().__init__(f"{cause}: {detail}" if detail else str(cause))
        self.cause = cause


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM; not a `KeyboardInterrupt`, which the command-line library would answer itself."""
