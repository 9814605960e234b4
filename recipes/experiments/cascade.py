"""Experiment 4: the cascade (paper, section 4.2), 32x32 then 64x64, against 64x64 from the start, at equal FLOPs."""

from outcome import Row, keep
from shapes_world import DATA, LARGE, SEEDS, flops, make_large_data, scores, train
from versus import plot

SAME = 0.05
"""Largest difference of the arms' FLOPs."""


def run() -> None:
    """Train both arms and keep what they draw at 64x64."""
    make_large_data()
    rows: list[Row] = []
    for seed in SEEDS:
        low = train("sizes/mini.toml", DATA, seed)
        high, direct = (train(f"cascade/{name}.toml", LARGE, seed) for name in ("high", "direct"))
        rows.append({"arm": "32x32, then 64x64", "seed": seed, "flops": flops(low, high)} | scores(high))
        rows.append({"arm": "64x64 alone", "seed": seed, "flops": flops(direct)} | scores(direct))
    spent = [row["flops"] for row in rows]
    if max(spent) > (1 + SAME) * min(spent):
        raise SystemExit(f"the arms are not equal: {spent[0]:.3g} and {spent[1]:.3g} FLOPs; change cascade/direct.toml")
    keep("cascade", "Cascaded sizes against one, equal FLOPs", rows, lambda axes: plot(axes, rows), panels=2)
