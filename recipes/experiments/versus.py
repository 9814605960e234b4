"""Two arms beside each other."""

from typing import Any

import numpy as np
from outcome import Row
from shapes_world import ATTRIBUTES

LOSSES = ("loss", "loss_images", "loss_videos")


def plot(axes: Any, rows: list[Row]) -> None:
    """Draw bars: what is right, and the held-out losses."""
    for axis, names in zip(axes, (ATTRIBUTES, LOSSES), strict=True):
        places = np.arange(len(names))
        for i, row in enumerate(rows):
            axis.bar(places + 0.4 * i - 0.2, [row[name] for name in names], 0.4, label=row["arm"])
        axis.set_xticks(places, [name.replace("_", "\n") for name in names])
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("share right")
    axes[1].set_ylabel("held-out loss")
    axes[0].legend(fontsize=8)
