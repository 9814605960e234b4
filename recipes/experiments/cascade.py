"""Experiment 4: the cascade (paper, section 4.2), 48x80 then 96x160, against 96x160 from the start, at equal FLOPs."""

from outcome import Row, keep
from shapes_world import DATA, LARGE, flops, make_large_data, scores, train
from versus import plot

SAME = 0.05
"""Largest difference of the arms' FLOPs."""


def run() -> None:
    """Train both arms and keep what they draw at 96x160."""
    make_large_data()
    low, high = train("sizes/tiny.toml", DATA), train("cascade/high.toml", LARGE)
    direct = train("cascade/direct.toml", LARGE)
    rows: list[Row] = [
        {"arm": "48x80, then 96x160", "flops": flops(low, high)} | scores(high),
        {"arm": "96x160 alone", "flops": flops(direct)} | scores(direct),
    ]
    spent = [row["flops"] for row in rows]
    if max(spent) > (1 + SAME) * min(spent):
        raise SystemExit(f"the arms are not equal: {spent[0]:.3g} and {spent[1]:.3g} FLOPs; change cascade/direct.toml")
    keep("cascade", "Cascaded sizes against one, equal FLOPs", rows, lambda axes: plot(axes, rows), panels=2)
