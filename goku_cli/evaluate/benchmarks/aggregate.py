"""Benchmark totals from their parts: VBench's three scores, GenEval's and DPG's means, from their sources.

VBench: `scripts/constant.py` and `scripts/cal_final_score.py` of Vchitect/VBench (Apache-2.0). There, a dimension that
was not measured counts as 0 before it is normalized; here there is no total without all sixteen.
"""

from collections.abc import Mapping
from statistics import fmean

QUALITY = {
    "subject_consistency": (0.1462, 1.0, 1.0),
    "background_consistency": (0.2615, 1.0, 1.0),
    "temporal_flickering": (0.6293, 1.0, 1.0),
    "motion_smoothness": (0.706, 0.9975, 1.0),
    "dynamic_degree": (0.0, 1.0, 0.5),
    "aesthetic_quality": (0.0, 1.0, 1.0),
    "imaging_quality": (0.0, 1.0, 1.0),
}
"""Least and greatest value, and weight, of the dimensions that need no prompt."""
SEMANTIC = {
    "object_class": (0.0, 1.0, 1.0),
    "multiple_objects": (0.0, 1.0, 1.0),
    "human_action": (0.0, 1.0, 1.0),
    "color": (0.0, 1.0, 1.0),
    "spatial_relationship": (0.0, 1.0, 1.0),
    "scene": (0.0, 0.8222, 1.0),
    "appearance_style": (0.0009, 0.2855, 1.0),
    "temporal_style": (0.0, 0.364, 1.0),
    "overall_consistency": (0.0, 0.364, 1.0),
}
"""The same of those that compare with the prompt."""
DIMENSIONS = (*QUALITY, *SEMANTIC)
QUALITY_WEIGHT, SEMANTIC_WEIGHT = 4.0, 1.0
TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
"""Of GenEval."""


def vbench_scores(values: Mapping[str, float]) -> dict[str, float]:
    """Return {"quality", "semantic", "total"} in [0, 1] of VBench's 16 dimensions, raw values in [0, 1].

    A score of which a dimension is missing is left out.
    """
    found = {}
    for name, table in (("quality", QUALITY), ("semantic", SEMANTIC)):
        if all(dimension in values for dimension in table):
            summed = sum(weight * (values[d] - low) / (high - low) for d, (low, high, weight) in table.items())
            found[name] = summed / sum(weight for _, _, weight in table.values())
    if len(found) == 2:
        total = QUALITY_WEIGHT * found["quality"] + SEMANTIC_WEIGHT * found["semantic"]
        found["total"] = total / (QUALITY_WEIGHT + SEMANTIC_WEIGHT)
    return found


def outside(values: Mapping[str, float]) -> list[str]:
    """Return the dimensions whose values VBench normalizes to less than 0 or more than 1; nothing is cut off there."""
    table = QUALITY | SEMANTIC
    return [dimension for dimension, value in values.items() if not table[dimension][0] <= value <= table[dimension][1]]


def geneval_overall(tasks: Mapping[str, float]) -> float | None:
    """Return the mean of GenEval's six tasks, each the share of its images that are right; None when one is missing."""
    return fmean(tasks[task] for task in TASKS) if all(task in tasks for task in TASKS) else None


def dpg_score(images: list[float]) -> float:
    """Return 100 times the mean of images' shares of questions answered with yes (`compute_dpg_bench.py` of ELLA)."""
    return 100 * fmean(images)
