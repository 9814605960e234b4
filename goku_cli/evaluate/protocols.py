"""Figures of whole sets that rest on published weights, and the protocols under which the paper gives such figures.

Light: the command line reads these names before anything heavy is imported.
"""

from dataclasses import dataclass

FAMILY = {
    "fid": "inception", "sfid": "inception", "inception_score": "inception", "precision": "inception",
    "recall": "inception", "fvd": "i3d", "clip_score": "clip", "lpips_diversity": "lpips",
}  # fmt: skip
"""Whose weights a metric rests on; it is known as FAMILY.METRIC, for example `inception.fid`."""
COMPARING = ("fid", "sfid", "precision", "recall", "fvd")
"""Those that need real clips."""


@dataclass(frozen=True)
class Protocol:
    """Metrics that are measured together, of so many samples."""

    metrics: tuple[str, ...]
    samples: int
    table: str
    """Of the paper."""


PROTOCOLS = {
    "ucf101": Protocol(("fvd",), 13_320, "Table 6"),
    "imagenet256": Protocol(("fid", "sfid", "inception_score", "precision", "recall"), 50_000, "Table 2"),
}
"""Inception score on UCF-101 is by C3D, whose weights nobody keeps up; Inception-v3's would be another figure."""


def apart(metrics: list[str]) -> tuple[list[str], list[str]]:
    """Part names of metrics into those of this table and the others, which score one clip each."""
    return [name for name in metrics if name in FAMILY], [name for name in metrics if name not in FAMILY]
