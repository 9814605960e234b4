"""`goku play`: a page in the browser that draws from a checkpoint."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goku_cli.cli.console import emit, reference_from, say
from goku_cli.cli.sample import training_manifest
from goku_cli.errors import UsageError
from goku_cli.sample.settings import OFFLOADS, Machine, SampleSettings

if TYPE_CHECKING:
    pass

SAMPLE = SampleSettings()
MACHINE = Machine()
HOST = "127.0.0.1"


def play(
    checkpoint: Annotated[
        str | None,
        typer.Argument(metavar="[CHECKPOINT]", help="Checkpoint or run folder; read from the pipe when absent."),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option("-m", "--manifest", help="Manifest that records the samples; default: the training manifest."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any other makes the page reachable from other machines.")
    ] = HOST,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
    weights: Annotated[str, typer.Option(help="Weights: ema, raw, or another EMA such as ema-0.99.")] = SAMPLE.weights,
    offload: Annotated[str, typer.Option(help=f"Offloading to host memory: {', '.join(OFFLOADS)}.")] = MACHINE.offload,
) -> None:
    """Sample from a checkpoint in the browser, until Ctrl-C.

    The page is served on this machine alone. Samples are stored as goku sample stores them, in sets named
    play-...; prints the page's address.

    Example: goku play runs/shapes-1a2b3c4d --port 7861
    """
    Machine(offload=offload)
    if not find_spec("gradio"):
        raise UsageError("the page needs gradio, which is not installed; pip install '.[play]' in a checkout")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported
    from goku_cli.manifest.store import Manifest
    from goku_cli.model.weights.checkpoint import resolve
    from goku_cli.sample.generate import Generator
    from goku_cli.sample.page import serve
    from goku_cli.sample.play import Player

    folder = resolve(Path(reference_from(checkpoint)))
    path = manifest or training_manifest(folder)
    Manifest(path, create=manifest is not None).close()
    player = Player(Generator.load(folder, weights, offload=offload), folder, path, weights)
    if host != HOST:
        say(f"play: everybody who reaches port {port} of {host} can draw, and see what was drawn; there is no password")

    def ready(address: str) -> None:
        say(f"play: samples go to {player.samples} and {path}; Ctrl-C ends")
        emit(address, {}, False)

    serve(player, host, port, ready)
    say("play: ended")
