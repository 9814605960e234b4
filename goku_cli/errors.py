"""What a user can be told: every expected failure is a `GokuError` of one line that says what to type instead."""


class GokuError(Exception):
    """Work that failed for a reason the user can act on (exit code 1)."""

    exit_code = 1


class UsageError(GokuError):
    """The command was called wrongly: a missing reference, an unknown name, a bad value (exit code 2)."""

    exit_code = 2


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM; not a `KeyboardInterrupt`, which the command-line library would answer itself."""
