"""`goku bench`: samples for official benchmarks, their evaluators, and their results."""

from pathlib import Path
from typing import Annotated

import typer

from goku_cli.cli.official import OFFICIAL, TIMEOUT, Asked, Evaluator, evaluate_official
from goku_cli.cli.options import AsJson

Name = Annotated[str, typer.Argument(metavar="BENCH", help=f"Benchmark: {', '.join(OFFICIAL)}.")]
Samples = Annotated[
    str | None, typer.Argument(metavar="[MANIFEST#SAMPLES]", help="Set of samples; read from the pipe when absent.")
]
PromptList = Annotated[Path | None, typer.Option("--list", help="Your own prompt list, if samples were drawn from it.")]
Partial = Annotated[bool, typer.Option("--partial", help="Continue when samples of the benchmark are missing.")]
UNUSED = Evaluator("python")


def export(
    bench: Name,
    samples: Samples = None,
    *,
    folder: Annotated[Path, typer.Option("--to", help="Folder to write (guided-diffusion: the .npz file).")],
    prompts: PromptList = None,
    partial: Partial = False,
    as_json: AsJson = False,
) -> None:
    """Write samples in the layout that the official evaluator reads.

    Example: goku bench export vbench manifests/my.duckdb --to vbench-layout/
    """
    evaluate_official(samples, bench, Asked(export=folder, prompts=prompts, partial=partial), UNUSED, as_json=as_json)


def run(
    bench: Name,
    samples: Samples = None,
    python: Annotated[str, typer.Option(help="Interpreter in which the official evaluator is installed.")] = "python",
    tool: Annotated[Path | None, typer.Option(help="Checkout of the official repository.")] = None,
    dims: Annotated[str, typer.Option(help="Dimensions to run, as color,scene; all when empty.")] = "",
    timeout: Annotated[float, typer.Option(help="Timeout per dimension in seconds.")] = TIMEOUT,
    prompts: PromptList = None,
    partial: Partial = False,
    as_json: AsJson = False,
) -> None:
    """Run the official evaluator on samples, dimension by dimension, and store its scores.

    Example: goku bench run vbench manifests/my.duckdb --python ~/vbench/bin/python --tool ~/VBench
    """
    how = Evaluator(python, tool, tuple(filter(None, dims.split(","))), timeout)
    evaluate_official(samples, bench, Asked(official=True, prompts=prompts, partial=partial), how, as_json=as_json)


def import_(
    bench: Name,
    samples: Samples = None,
    *,
    files: Annotated[list[Path], typer.Option("--from", help="Result file of the evaluator; repeatable.")],
    prompts: PromptList = None,
    as_json: AsJson = False,
) -> None:
    """Store the scores that an official evaluator wrote elsewhere.

    Example: goku bench import vbench manifests/my.duckdb --from results_eval_results.json
    """
    evaluate_official(samples, bench, Asked(results=tuple(files), prompts=prompts), UNUSED, as_json=as_json)


def published(samples: Samples = None, as_json: AsJson = False) -> None:
    """Print and plot the scores of samples beside those of the Goku paper.

    Example: goku bench published manifests/my.duckdb
    """
    evaluate_official(samples, "", Asked(published=True), UNUSED, as_json=as_json)


COMMANDS = {"export": export, "run": run, "import": import_, "published": published}
