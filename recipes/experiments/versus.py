"""Two arms beside each other, of several seeds."""

from typing import Any

import numpy as np
from outcome import Row, mean_and_range
from shapes_world import ATTRIBUTES

LOSSES = ("loss", "loss_images", "loss_videos")


def plot(axes: Any, rows: list[Row]) -> None:
    """Draw bars: what is right, and the held-out losses; the seeds' mean, and their range as a line."""
    for axis, names in zip(axes, (ATTRIBUTES, LOSSES), strict=True):
        places = np.arange(len(names))
        for i, arm in enumerate(dict.fromkeys(row["arm"] for row in rows)):
            mean, least, most = np.array([mean_and_range(rows, "arm", arm, name) for name in names]).T
            axis.bar(places + 0.4 * i - 0.2, mean, 0.4, label=arm, yerr=(mean - least, most - mean), capsize=3)
        axis.set_xticks(places, [name.replace("_", "\n") for name in names])
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("share right")
    axes[1].set_ylabel("held-out loss")
    axes[0].legend(fontsize=8)
