"""Motion agreement: the motion score named at the end of a caption against the motion measured in the clip."""

from collections.abc import Sequence

import numpy as np

from goku_cli.evaluate.bootstrap import mean_figure
from goku_cli.evaluate.result import Figure
from goku_cli.evaluate.sample_scores import Scores
from goku_cli.manifest.store import Row
from goku_cli.media.motion.motion import asked_motion

FEWEST = 3
"""Samples: the rank correlation of two is always 1 or -1."""


def motion_agreement(rows: Sequence[Row], scores: Scores) -> list[Figure]:
    """Return how asked and measured motion scores agree over samples whose text names one; nothing for under three.

    `video.motion_agreement` is Spearman's rank correlation, and nothing where one of both never varies;
    `video.motion_difference` the mean absolute difference in pixels.
    """
    pairs = []
    for row in rows:
        asked = asked_motion(row["text"] or row["prompt"])
        measured = scores.get(row["id"], {}).get("video.motion_score")
        if asked is not None and measured is not None:
            pairs.append((asked, measured))
    if len(pairs) < FEWEST:
        return []
    asked_N, measured_N = np.array(pairs, np.float64).T
    figures = [mean_figure("video.motion_difference", np.abs(asked_N - measured_N).tolist())]
    if np.ptp(asked_N) > 0 and np.ptp(measured_N) > 0:
        from scipy import stats

        value = float(stats.spearmanr(asked_N, measured_N).statistic)
        figures.insert(0, Figure("video.motion_agreement", value, len(pairs)))
    return figures
