"""`goku doctor`: what is installed, and whether the GPU computes right."""

import itertools
import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from goku_cli.cli.console import say
from goku_cli.cli.options import AsJson
from goku_cli.errors import GokuError

if TYPE_CHECKING:
    pass


def doctor(
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Check attention kernels and the transformer on the GPU, in about a minute.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check the installation, or the GPU with --gpu.

    Missing packages and weights are listed with the features that they switch off.

    Example: goku doctor
    """
    if gpu:
        _check_gpu(as_json)
        return
    from goku_cli.checkup.checkup import check

    missing = []
    for finding in check():
        if as_json:
            sys.stdout.write(json.dumps(vars(finding)) + "\n")
        elif finding.found is not None:
            sys.stdout.write(f"ok       {finding.name}: {finding.found}\n")
        else:
            word = "MISSING" if finding.required else "absent"
            sys.stdout.write(f"{word:8} {finding.name}: switches off {finding.without}\n")
        if finding.required and finding.found is None:
            missing.append(finding.name)
    if missing:
        raise GokuError(f"missing: {', '.join(missing)}; install again with: pip install goku-cli")


def _check_gpu(as_json: bool) -> None:
    """Print a line for every kernel and property, as they are found."""
    from goku_cli.checkup.kernels import Verdict, check_kernels, check_model, device_here

    device = device_here()
    found: list[Verdict] = []
    for verdict in itertools.chain(check_kernels(device), check_model(device)):
        found.append(verdict)
        if as_json:
            sys.stdout.write(json.dumps(vars(verdict) | {"right": verdict.right}) + "\n")
            continue
        word = "ok" if verdict.right else "absent" if verdict.problem == "not installed" else "WRONG"
        told = verdict.problem or f"differs by {verdict.difference:.1e} (at most {verdict.bound:.0e})"
        took = f", {1000 * verdict.seconds:.1f} ms for 16,384 tokens" if verdict.seconds else ""
        sys.stdout.write(f"{word:8} {verdict.name}: {told}{took}\n")
        sys.stdout.flush()
    if timed := [verdict for verdict in found if verdict.seconds]:
        fastest = min(timed, key=lambda verdict: verdict.seconds)
        say(f'fastest here: {fastest.name}; a recipe takes it with attention = "{fastest.name}"')
    if wrong := [v.name for v in found if not v.right and v.problem != "not installed"]:
        raise GokuError(f"wrong on this GPU: {', '.join(wrong)}; name another kernel in the recipe's [train] attention")
