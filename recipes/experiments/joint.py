"""Experiment 3: images and videos together (paper, sections 3.1 and 4.3) against videos alone, at equal steps."""

from outcome import Row, keep
from shapes_world import SEEDS, make_data, scores, train
from versus import plot

ARMS = {"images and videos": "sizes/mini.toml", "videos alone": "joint/videos.toml"}


def run() -> None:
    """Train both arms and keep what their videos and images show."""
    make_data()
    rows: list[Row] = [
        {"arm": arm, "seed": seed} | scores(train(recipe, seed=seed)) for arm, recipe in ARMS.items() for seed in SEEDS
    ]
    keep("joint", "Joint training against videos alone, equal steps", rows, lambda axes: plot(axes, rows), panels=2)
