"""The command that scores: eval."""

from collections.abc import Callable
from typing import Annotated

import typer

from goku_cli.cli.console import table, working
from goku_cli.cli.options import AsJson
from goku_cli.errors import UsageError


def evaluate(
    samples: Annotated[
        str | None,
        typer.Argument(metavar="[MANIFEST#SAMPLES]", help="A set of samples; from the pipe when absent."),
    ] = None,
    bench: Annotated[
        str,
        typer.Option(help="video: figures of any clip; shapes: attributes, and every stage against its truth."),
    ] = "video",
    as_json: AsJson = False,
) -> None:
    """Score samples without any downloaded weights; the figures go to the table `results`.

    Example: goku eval manifests/my.duckdb --bench shapes
    """
    from goku_cli.evaluate import run
    from goku_cli.manifest.figures import pivot

    if bench not in run.SUITES:
        raise UsageError(f'unknown benchmark "{bench}"; known: {", ".join(run.SUITES)}')
    with working("eval", samples, arguments={"bench": bench}, as_json=as_json) as session:
        opened = session.manifest
        name, rows = run.samples_named(opened, session.name)
        figures = {"video": run.eval_video(opened, name, rows, session.bar)}
        if bench == "shapes":
            figures["shapes"] = run.eval_shapes(opened, rows, session.bar)
            selections = opened.query("SELECT name FROM selections ORDER BY run DESC LIMIT 1")
            selection = selections[0]["name"] if selections else None
            figures["stages"] = run.eval_stages(opened, selection)
        for suite, found in figures.items():
            run.store(opened, name, suite, found, len(rows))
            if found:
                table(f"{suite}: {name}", *pivot(found))
            session.counts[suite] = {f"{f['metric']}/{f['tag']}": f["value"] for f in found}
        session.output = f"{opened.path}#{name}"


COMMANDS: dict[str, Callable[..., None]] = {"eval": evaluate}
