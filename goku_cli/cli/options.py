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
    typer.Option("-o", "--output", help="Write to a copy of the manifest with this name, in the same folder."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print a machine-readable summary instead of the reference.")]
ForgetLost = Annotated[
    bool, typer.Option("--forget-lost", help="Continue when all shards of a folder are missing, and encode them again.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with code 1 when any item failed.")]
Workers = Annotated[
    int, typer.Option("--workers", "-j", help="Worker processes; 0: one per core; 1: none but this, for debugging.")
]
TIMEOUT = 3600.0
Timeout = Annotated[float, typer.Option(help="Timeout per item in seconds.")]
