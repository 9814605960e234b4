"""`goku split`: sources into clips."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goku_cli.cli.console import say, working
from goku_cli.cli.options import TIMEOUT, AsJson, Output, Reference, Strict, Timeout, Workers
from goku_cli.split.settings import SplitSettings, WriteSettings

if TYPE_CHECKING:
    pass

SPLIT = SplitSettings()
WRITE = WriteSettings()


def split(
    manifest: Reference = None,
    detector: Annotated[
        str,
        typer.Option(help="Shot detector: adaptive, content, hash, histogram, threshold, or module:function."),
    ] = SPLIT.detector,
    threshold: Annotated[
        float | None, typer.Option(help="Threshold of the detector; default: its own.")
    ] = SPLIT.threshold,
    frame_skip: Annotated[
        int, typer.Option(min=0, help="Frames that the detector skips after each one; cuts remain frame-exact.")
    ] = SPLIT.frame_skip,
    similarity: Annotated[
        str, typer.Option(help="Image feature of the second pass: layout, dinov2, or module:function.")
    ] = SPLIT.similarity,
    min_similarity: Annotated[
        float | None,
        typer.Option(help="Minimum similarity of frames a second apart; default: the feature's own."),
    ] = SPLIT.min_similarity,
    min_seconds: Annotated[
        float, typer.Option(help="Minimum clip length in seconds; shorter ones are dropped.")
    ] = SPLIT.min_seconds,
    max_seconds: Annotated[
        float, typer.Option(help="Maximum clip length in seconds; longer ones are divided evenly.")
    ] = SPLIT.max_seconds,
    write_clips: Annotated[
        Path | None, typer.Option(help="Also cut every clip to an H.264 file in this folder.")
    ] = None,
    crf: Annotated[
        int, typer.Option(min=0, max=51, help="x264 CRF of those files: lower is better quality.")
    ] = WRITE.crf,
    preset: Annotated[str, typer.Option(help="x264 preset of those files.")] = WRITE.preset,
    output: Output = None,
    workers: Workers = 0,
    timeout: Timeout = TIMEOUT,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Split sources into clips at shot boundaries.

    Then between frames a second apart that are too unlike, then by length.
    Clips are ranges of time; nothing is copied unless --write-clips asks for it. No clip holds a frame of a fade or
    a dissolve, or a place that does not decode.

    Example: goku split manifests/my.duckdb --max-seconds 8
    """
    from goku_cli.split.split import split as split_sources
    from goku_cli.split.write import write_clips as cut_files

    settings = SplitSettings(
        detector=detector, threshold=threshold, frame_skip=frame_skip, similarity=similarity,
        min_similarity=min_similarity, min_seconds=min_seconds, max_seconds=max_seconds,
    )  # fmt: skip
    encoding = WriteSettings(crf=crf, preset=preset)
    arguments = {**vars(settings), "write_clips": write_clips, **vars(encoding)}
    with working("split", manifest, arguments=arguments, output=output, as_json=as_json) as session:
        outcome = split_sources(session.manifest, settings, workers=workers, timeout=timeout, progress=session.bar)
        session.count(outcome, "split")
        session.counts["clips"] = session.manifest.value("SELECT count(*) FROM clips")
        say(f"  {session.counts['clips']} clips in the manifest")
        outcome.check("split", strict)
        if write_clips is not None:
            cut = cut_files(
                session.manifest, write_clips, encoding, workers=workers, timeout=timeout, progress=session.bar
            )
            session.count(cut, "write-clips")
            cut.check("write-clips", strict)
