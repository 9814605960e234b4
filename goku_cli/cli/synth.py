"""`goku synth`: a raw collection whose truth is known."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goku_cli.cli.console import Bar, say
from goku_cli.cli.options import AsJson
from goku_cli.errors import UsageError
from goku_cli.sizes import parse_range, parse_size

if TYPE_CHECKING:
    pass


def synth(
    world: Annotated[str, typer.Argument(help="Dataset to generate: shapes.")],
    out: Annotated[Path, typer.Argument(help="Output folder.")],
    videos: Annotated[int, typer.Option(min=0, help="Number of videos.")] = 20,
    images: Annotated[int, typer.Option(min=0, help="Number of images.")] = 40,
    seed: Annotated[int, typer.Option(help="Random seed of the dataset.")] = 0,
    tasks: Annotated[
        str, typer.Option(help="Tasks to generate, comma-separated: single_object,motion; default: all.")
    ] = "",
    size: Annotated[
        str, typer.Option(help="HEIGHTxWIDTH of every file; default: 480x864, and three sizes of images.")
    ] = "",
    radius: Annotated[
        str, typer.Option(help="Radius of shapes, FROM,TO in frame heights; default: by task, 0.12 to 0.26.")
    ] = "",
    seconds: Annotated[float, typer.Option(help="Minimum length of a shot in seconds.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Generate raw videos and images with known ground truth.

    Moving shapes, with planted defects and sidecar captions.

    Example: goku synth shapes videos/ --videos 20 --images 40 --seed 0
    """
    if world != "shapes":
        raise UsageError(f'unknown world "{world}"; known: shapes')
    from goku_cli.synth.shapes import make
    from goku_cli.synth.shots import World

    shown = World(
        tuple(tasks.split(",")) if tasks else World.tasks, parse_size(size) if size else None,
        parse_range(radius, "--radius", "0.2,0.25") if radius else None, seconds,
    )  # fmt: skip
    with Bar() as bar:
        bar.start("synth", videos + images)
        made = make(out, videos=videos, images=images, seed=seed, world=shown, advance=bar.advance)
    say(f"synth: {made['written']} files written, {made['skipped']} were there; defects: {made['defects']}")
    sys.stdout.write((json.dumps({"reference": str(out), **made}) if as_json else str(out)) + "\n")
