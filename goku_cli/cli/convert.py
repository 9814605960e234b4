"""`goku convert`: published Wan 2.1 weights to a checkpoint and back."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goku_cli.cli.console import emit, reference_from, say
from goku_cli.cli.options import AsJson
from goku_cli.sample.settings import SampleSettings

if TYPE_CHECKING:
    pass

SAMPLE = SampleSettings()


def convert(
    source: Annotated[
        str | None,
        typer.Argument(metavar="[FOLDER]", help="Wan 2.1 weights or a checkpoint; read from the pipe when absent."),
    ] = None,
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="Output folder; it must not exist.")],
    parts: Annotated[
        Path | None,
        typer.Option(help="Diffusers pipeline with VAE and text encoder, if FOLDER is the transformer alone."),
    ] = None,
    weights: Annotated[str, typer.Option(help="Weights of a checkpoint: ema, raw, or another EMA.")] = SAMPLE.weights,
    ema_length: Annotated[
        float | None, typer.Option(help="EMA length to reconstruct, of a run with ema_lengths (post-hoc EMA).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Convert Wan 2.1 weights to a checkpoint, or back.

    Published weights in FOLDER become a checkpoint; a checkpoint of Wan's form becomes folders for diffusers. Tensors
    keep their bits. Prints the folder that was written.

    Example: goku convert Wan2.1-T2V-1.3B-Diffusers -o weights/wan-1.3b
    """
    from goku_cli.convert.convert import convert as run

    started = time.monotonic()
    told = run(Path(reference_from(source)), output, parts=parts, weights=weights, ema_length=ema_length)
    say(f"convert: {told}")
    emit(str(output), {"command": "convert", "seconds": round(time.monotonic() - started, 3)}, as_json)
