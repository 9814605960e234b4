"""`goku train`: a run of a recipe on the latents of a selection."""

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goku_cli.cli import plan as planning
from goku_cli.cli.console import Bar, emit, reference_from, renamed, say
from goku_cli.cli.options import AsJson, Reference
from goku_cli.errors import GokuError, Held, Interrupted

if TYPE_CHECKING:
    from goku_cli.train.prepare import Run


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="TOML file, or the name of a packaged recipe.")],
    manifest: Reference = None,
    runs: Annotated[Path, typer.Option(help="Parent folder of all runs.")] = Path("runs"),
    named: Annotated[
        Path | None,
        typer.Option("--continue", help="Run folder to continue with this recipe and these data, if they fit."),
    ] = None,
    ranks: Annotated[
        int, typer.Option(help="Processes per node; 0: one per GPU, or one per core up to 4 without a GPU.")
    ] = 0,
    hostfile: Annotated[
        Path | None, typer.Option(help="Hostfile with one line HOST slots=GPUS per node; needs ssh.")
    ] = None,
    port: Annotated[int, typer.Option(help="Rendezvous port; 0: a free one.")] = 0,
    plan: Annotated[bool, typer.Option("--plan", hidden=True)] = False,
    gpu: Annotated[str, typer.Option(hidden=True)] = planning.GPU,
    gpus: Annotated[int, typer.Option(hidden=True)] = planning.GPUS,
    mfu: Annotated[float, typer.Option(hidden=True)] = planning.MFU,
    price: Annotated[float, typer.Option(hidden=True)] = planning.PRICE,
    size: Annotated[str, typer.Option(hidden=True)] = planning.SIZE,
    frames: Annotated[int, typer.Option(hidden=True)] = planning.FRAMES,
    as_json: AsJson = False,
) -> None:
    """Train a model from a recipe with DeepSpeed.

    On GPUs or, without one, on CPU cores.

    The run's folder is named by what it learns, so the same command goes on where it stopped, also with other
    max_tokens, recompute, save_every and the like. Ctrl-C saves first.
    Under torchrun, srun or mpirun it is itself one of the ranks. Prints the checkpoint's folder.

    Example: goku train recipes/shapes.toml manifests/my.duckdb
    """
    from goku_cli.recipe import find
    from goku_cli.train.recipe import load_recipe

    path = find(".", recipe)
    settings = load_recipe(path)  # before torch is loaded: a typing error is answered at once
    if plan:
        renamed("train --plan", "goku plan RECIPE")
        planning.plan(recipe, manifest, gpu, gpus, mfu, price, size, frames, as_json)
        return
    from goku_cli.manifest.store import Manifest, parse_reference
    from goku_cli.train.launch import external
    from goku_cli.train.launch.launcher import Launch, attention_kernel, check_compiler, default_ranks, launch
    from goku_cli.train.prepare import Run, prepare

    kernel = attention_kernel(settings.train)
    check_compiler(settings.train)
    file, name = parse_reference(reference_from(manifest))
    started = time.monotonic()
    arguments: dict[str, object] = {"recipe": str(path), "ranks": ranks}

    def prepared() -> Run:
        with Manifest(file) as opened:
            run = prepare(opened, opened.selection(name), settings, path.stem, runs, named)
        if run.remark:
            say(f"train: {run.remark}")
        say(f"train: {run.folder} on {run.clips} clips, attention by {kernel}")
        return run

    found = external.place(os.environ)
    if found is not None:
        run = external.train_here(found, prepared)
        if run is None:
            return  # another rank prints
    else:
        how = Launch(ranks or (0 if hostfile else default_ranks()), hostfile, port)
        how.check()
        run = prepared()
        say(f"train: {how.ranks or 'as the hostfile says'} rank(s), log in {run.folder}/launch.log")
        try:
            with Bar() as bar:
                launch(run, how, bar=bar, say=say)
        except (GokuError, Interrupted) as error:
            status = "interrupted" if isinstance(error, Interrupted) else f"failed: {error}"
            with contextlib.suppress(Exception):  # the first error is the one to report
                _note_run(run, file, arguments, status, {}, time.monotonic() - started)
            raise
    _tell_run(run, file, arguments, time.monotonic() - started, as_json)


def _tell_run(run: "Run", file: Path, arguments: dict[str, object], seconds: float, as_json: bool) -> None:
    """Write a finished run into its manifest, say its figures, and print its checkpoint."""
    from goku_cli.train.forecast.accuracy import compared
    from goku_cli.train.launch.launcher import last_figures
    from goku_cli.train.launch.monitor import balance

    checkpoint = run.finished
    assert checkpoint is not None
    figures = last_figures(checkpoint)
    for told in filter(None, (balance(run.folder), compared(run.folder))):
        say(f"train: {told}")
    try:
        _note_run(run, file, arguments, "ok", {"steps": run.recipe.train.steps, **figures}, seconds)
    except Held as held:  # no failure after days of training: the checkpoint is there, and what reads it goes on
        say(f"train: {held}: the checkpoint is complete; the same command stores its metrics in the manifest")
    if "held_out_loss" in figures:
        untrained = figures.get("held_out_loss_untrained", float("nan"))
        say(f"train: held-out loss {figures['held_out_loss']:.4f}, untrained {untrained:.4f}")
    emit(str(checkpoint), {"command": "train", "seconds": round(seconds, 3), **figures}, as_json)


def _note_run(
    run: "Run", file: Path, arguments: dict[str, object], status: str, counts: dict[str, object], seconds: float
) -> None:
    """Write into its manifest how a run ended, and the losses of its samples up to the last checkpoint."""
    from goku_cli.manifest.store import Manifest
    from goku_cli.train.logs.sample_losses import take_in

    with Manifest(file) as opened:
        opened.begin_run("train", arguments)
        take_in(opened, run.folder)
        opened.end_run(status, counts, seconds, str(run.folder.absolute()))
