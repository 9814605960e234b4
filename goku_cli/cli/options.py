"""Options that several commands share, so that they read the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

Reference = Annotated[
    str | None,
    typer.Argument(metavar="[MANIFEST]", help="PATH or PATH#SELECTION; read from the pipe when absent."),
]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Work on a copy with this name, in the manifest's folder."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print a machine-readable summary instead of the reference.")]
ForgetLost = Annotated[
    bool, typer.Option("--forget-lost", help="Go on when all shards of a folder are gone: make them again.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with code 1 when any item failed.")]
Workers = Annotated[
    int, typer.Option("--workers", "-j", help="Worker processes; 0: one per core; 1: none but this, for debugging.")
]
TIMEOUT = 3600.0
Timeout = Annotated[float, typer.Option(help="Seconds after which one item is given up.")]
