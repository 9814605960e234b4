"""The `goku` program: its commands, and what becomes of an error."""

import inspect
import os
import signal
import sys
from typing import Annotated

import typer

from goku_cli.cli import curate, drawing, look, model, scoring
from goku_cli.cli.console import calm_libraries, say
from goku_cli.errors import GokuError, Interrupted

app = typer.Typer(
    name="goku",
    help="From raw videos and images to a trained generator, one Unix command at a time.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_state = {"debug": False}


@app.callback(
    epilog="\b\nExample: goku ingest videos/ -m manifests/my.duckdb | goku split | goku filter --tier 480p | goku show"
)
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    _state["debug"] = debug


def _add(function: object, name: str, panel: str) -> None:
    text, _, example = (inspect.getdoc(function) or "").partition("Example:")
    # \b keeps the example on a line of its own, unwrapped, so that it can be pasted.
    epilog = f"\b\nExample:{example}" if example else None
    app.command(name, help=text, epilog=epilog, rich_help_panel=panel, no_args_is_help=False)(function)  # type: ignore[type-var]


for _name, _function in curate.COMMANDS.items():
    _add(_function, _name, "Curation")
for _name, _function in (model.COMMANDS | drawing.COMMANDS | scoring.COMMANDS).items():
    _add(_function, _name, "Model")
for _name, _function in look.COMMANDS.items():
    _add(_function, _name, "Looking and making")


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
