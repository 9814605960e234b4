"""Limits as SQL: one expression that names the first limit a row breaks, with its figure, or is NULL.

Thresholds are applied by the database to figures that were measured once, so changing one decodes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bound:
    """One limit on a figure, both ends inclusive."""

    label: str
    expression: str
    """SQL that yields the figure; a NULL breaks the limit."""
    low: float | None = None
    high: float | None = None
    unit: str = ""
    slack: float = 0.0
    """How far a figure may miss the limit: 24000/1001 was measured from time stamps that were rounded."""

    def text(self) -> str:
        """Return the limit as people write it, such as `0.3 to 20` or `at least 480 px`."""
        unit = f" {self.unit}" if self.unit else ""
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}{unit}"
        if self.low is None and self.high is None:
            return "none"
        return f"at least {self.low:g}{unit}" if self.low is not None else f"at most {self.high:g}{unit}"


def first_broken(bounds: Sequence[Bound]) -> str:
    """Return SQL that yields e.g. 'duration 3.2 s < 4 s' for the first broken limit, or NULL."""
    cases = [case for bound in bounds for case in _cases(bound)]
    return f"CASE {' '.join(cases)} ELSE NULL END" if cases else "NULL"


def rule_of(reason: str) -> str:
    """Return SQL for the label of a reason: what stands before the figure or the bracket."""
    return f"regexp_extract({reason}, '^(.+?) ([-0-9(]|was )', 1)"


def _cases(bound: Bound) -> list[str]:
    label, unit = quoted(bound.label), quoted(f" {bound.unit}" if bound.unit else "")
    cases = [f"WHEN {bound.expression} IS NULL THEN {label} || ' was not measured'"]
    for sign, limit, slack in (("<", bound.low, -bound.slack), (">", bound.high, bound.slack)):
        if limit is not None:
            figure = f"printf('%.4g', CAST({bound.expression} AS DOUBLE))"
            text = f"{label} || ' ' || {figure} || {unit} || ' {sign} {limit:g}' || {unit}"
            cases.append(f"WHEN {bound.expression} {sign} {limit + slack!r} THEN {text}")
    return cases


def quoted(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
