"""Figures of a set that rest on published weights: by name, or as a protocol of the paper asks for them."""

from collections.abc import Sequence
from dataclasses import replace

from goku_cli.errors import UsageError
from goku_cli.evaluate.protocols import COMPARING, FAMILY, PROTOCOLS
from goku_cli.evaluate.run import Suite
from goku_cli.evaluate.sets.distribution import eval_distances
from goku_cli.evaluate.sets.reference_clips import Footage
from goku_cli.manifest.store import Manifest, Row
from goku_cli.stage import Progress


def eval_learned(
    manifest: Manifest, name: str, rows: list[Row], metrics: Sequence[str], real: list[Footage] | None,
    progress: Progress,
) -> list[Suite]:  # fmt: skip
    """Return a suite for each family of weights that `metrics` rest on; with FVD, the distances of movement too.

    Raises:
        UsageError: a metric needs real clips, or other samples.
        GokuError: weights are missing, or there are too few clips.
    """
    if real is None and (lacking := [metric for metric in metrics if metric in COMPARING]):
        raise UsageError(f"no real clips for {', '.join(lacking)}; name them with: --real MANIFEST#SELECTION or FOLDER")
    families = {FAMILY[metric] for metric in metrics}
    suites = []
    if "inception" in families:
        from goku_cli.evaluate.sets.image_metrics import eval_images
        from goku_cli.vision.inception import Inception

        ours = [metric for metric in metrics if FAMILY[metric] == "inception"]
        suites.append(eval_images(manifest, rows, real or [], ours, Inception(), progress))
    if "i3d" in families and real is not None:
        from goku_cli.evaluate.sets.fvd import eval_fvd
        from goku_cli.vision.i3d import VideoNet

        suites += [eval_fvd(manifest, rows, real, VideoNet(), progress), eval_distances(manifest, rows, real, progress)]
    if "clip" in families:
        from goku_cli.evaluate.sets.clip_score import eval_alignment

        suites.append(eval_alignment(manifest, name, rows, progress))
    if "lpips" in families:
        from goku_cli.evaluate.sets.lpips_diversity import eval_diversity

        suites.append(eval_diversity(manifest, rows, progress))
    return suites


def eval_protocol(
    manifest: Manifest, name: str, rows: list[Row], bench: str, real: list[Footage] | None, progress: Progress
) -> list[Suite]:
    """Return the figures of a protocol, as BENCH.METRIC, of as many samples as it has, and what stands beside them.

    Of fewer samples they are figures of so many, and a note says that they are not beside the paper's.

    Raises:
        UsageError, GokuError: as `eval_learned`.
    """
    protocol = PROTOCOLS[bench]
    learned, *others = eval_learned(manifest, name, rows[: protocol.samples], protocol.metrics, real, progress)
    figures = [replace(one, metric=f"{bench}.{one.metric.partition('.')[2]}") for one in learned.figures]
    notes = [note.replace(f"{learned.name}:", f"{bench}:", 1) for note in learned.notes]
    if learned.scored < protocol.samples:
        notes.append(
            f"{bench}: {learned.scored:,} of the {protocol.samples:,} samples of {protocol.table}, so nothing is put "
            "beside it; distances grow as samples get fewer"
        )
    return [Suite(bench, figures, protocol.samples, len(rows), learned.scored, notes), *others]
