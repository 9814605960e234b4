"""The `goku` program: its commands, and what becomes of an error."""

import inspect
import os
import signal
import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import Annotated

import typer

from goku_cli.cli import (
    balance,
    bench,
    caption,
    convert,
    doctor,
    encode_latents,
    eval,
    filter,
    ingest,
    latents,
    losses,
    plan,
    play,
    sample,
    shift,
    show,
    split,
    synth,
    train,
)
from goku_cli.cli.console import calm_libraries, say
from goku_cli.errors import GokuError, Interrupted

HELP = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(
    name="goku",
    help="From raw videos and images to a trained generator, one Unix command at a time.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=HELP,
)
_state = {"debug": False}


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"goku {version('goku-cli')}\n")
        raise typer.Exit


@app.callback(
    epilog="\b\nExample: goku ingest videos/ -m manifests/my.duckdb | goku split | goku filter --tier 480p | goku show"
)
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    _state["debug"] = debug


def _add(to: typer.Typer, function: object, name: str, panel: str | None = None) -> None:
    text, _, example = (inspect.getdoc(function) or "").partition("Example:")
    # \b keeps the example on a line of its own, unwrapped, so that it can be pasted.
    epilog = f"\b\nExample:{example}" if example else None
    to.command(name, help=text, epilog=epilog, rich_help_panel=panel, no_args_is_help=False)(function)  # type: ignore[type-var]


def _add_group(commands: Mapping[str, object], name: str, text: str, example: str, panel: str) -> None:
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, context_settings=HELP)
    for command, function in commands.items():
        _add(group, function, command)
    app.add_typer(group, name=name, help=text, epilog=f"\b\nExample: {example}", rich_help_panel=panel)


PANELS = {
    "Curation": {
        "ingest": ingest.ingest, "split": split.split, "filter": filter.filter_, "caption": caption.caption,
        "balance": balance.balance,
    },
    "Model": {
        "encode-latents": encode_latents.encode_latents, "plan": plan.plan, "train": train.train,
        "convert": convert.convert, "sample": sample.sample, "play": play.play, "eval": eval.evaluate,
    },
    "Looking and making": {
        "show": show.show, "losses": losses.losses, "doctor": doctor.doctor, "synth": synth.synth,
        "shift": shift.shift,
    },
}  # fmt: skip
for _panel, _commands in PANELS.items():
    for _name, _function in _commands.items():
        _add(app, _function, _name, _panel)
_add_group(
    latents.COMMANDS, "latents", "Export, import, merge and verify encoded latents.",
    "goku latents export manifests/my.duckdb --to tars/", "Model",
)  # fmt: skip
_add_group(
    bench.COMMANDS, "bench", "Official benchmarks: layouts, evaluators, results.",
    "goku bench run vbench manifests/my.duckdb --tool ~/VBench", "Model",
)  # fmt: skip


def main() -> None:
    """Run the program; a user's error is one line on stderr and an exit code, never a traceback."""
    calm_libraries()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    try:
        app()
    except GokuError as error:
        if _state["debug"]:
            raise
        _fail(command, str(error), error.exit_code)
    except Interrupted:
        _fail(command, "interrupted; run the same command again to go on", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if _state["debug"]:
            raise
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f" ({os.path.basename(place.tb_frame.f_code.co_filename)}:{place.tb_lineno})" if place else ""
        _fail(
            command,
            f"{type(error).__name__}: {error}{where}; run goku --debug {command} ... for the traceback",
            1,
        )


def _interrupt(signum: int, frame: object) -> None:
    raise Interrupted


def _fail(command: str, text: str, code: int) -> None:
    say(f"goku {command}: {' '.join(text.split())}".replace(" :", ":"))
    sys.exit(code)
