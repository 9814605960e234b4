"""`goku plan`: memory, time and cost of a run that is not started."""

from typing import Annotated

import typer

from goku_cli.cli.console import emit, table
from goku_cli.cli.options import AsJson
from goku_cli.errors import UsageError

GPU, GPUS, MFU, PRICE = "h100", 8, 0.35, 0.0
SIZE, FRAMES = "480x864", 97


def plan(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="TOML file, or the name of a packaged recipe.")],
    manifest: Annotated[
        str | None, typer.Argument(metavar="[MANIFEST]", help="PATH or PATH#SELECTION whose latents are counted.")
    ] = None,
    gpu: Annotated[str, typer.Option(help="Kind of GPU: rtx-4090, a100-80gb, h100, ...")] = GPU,
    gpus: Annotated[int, typer.Option(help="Number of GPUs.")] = GPUS,
    mfu: Annotated[float, typer.Option(help="Model FLOPs utilization: the share of their peak reached.")] = MFU,
    price: Annotated[float, typer.Option(help="Dollars for one GPU and hour.")] = PRICE,
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH of clips, without MANIFEST.")] = SIZE,
    frames: Annotated[int, typer.Option(help="Frames of a clip, 4k+1, without MANIFEST; 1: images alone.")] = FRAMES,
    as_json: AsJson = False,
) -> None:
    """Forecast memory, time and cost of a run. Nothing is started, and no GPU is needed.

    Exits with 1 and a suggestion when the run does not fit. Prints RECIPE.

    Example: goku plan goku-2b/3-joint-480p --gpu h100 --gpus 64
    """
    from goku_cli.manifest.store import Manifest, parse_reference
    from goku_cli.recipe import find
    from goku_cli.train.forecast.forecast import Machine
    from goku_cli.train.forecast.suggestions import check_fits
    from goku_cli.train.forecast.workload import plan_of_manifest, plan_of_sizes
    from goku_cli.train.recipe import load_recipe

    path = find(".", recipe)
    settings = load_recipe(path)
    if settings.kind != "flow":
        raise UsageError(f'a plan is for kind = "flow"; {path} trains a VAE')
    machine = Machine(gpu, gpus, mfu, price)
    if manifest is None:
        planned = plan_of_sizes(settings, machine, size, frames)
    else:
        file, name = parse_reference(manifest)
        with Manifest(file) as opened:
            planned = plan_of_manifest(settings, machine, opened, opened.selection(name))
    forecast = planned.forecast()
    table(str(path), ["what", "forecast"], forecast.rows())
    check_fits(planned, forecast)
    emit(str(path), {"command": "plan", **forecast.figures()}, as_json)
