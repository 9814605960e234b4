"""`goku show`: what a manifest, a run or a set of samples holds."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goku_cli.cli.console import reference_from, renamed, say, stdout, table, write_rows
from goku_cli.cli.latents import report_broken
from goku_cli.cli.losses import OUTLIERS
from goku_cli.cli.options import AsJson
from goku_cli.errors import UsageError

if TYPE_CHECKING:
    from goku_cli.manifest.store import Manifest
    from goku_cli.report.training import Training

TABLES = (
    "sources", "source_paths", "sidecars", "clips", "scores", "captions", "tags", "selections", "latents",
    "text_states", "losses", "samples", "sample_scores", "results", "runs", "failures",
)  # fmt: skip
ABOUT_CLIPS = ("scores", "captions", "tags", "selections", "latents")
NEWEST_EVENTS = 10
FEW_FAILURES = 10
"""More are counted by cause first."""
LISTED_SAMPLES = 20
OF_A_SAMPLE = ("prompt", "seed", "frames", "height", "width", "path")
"""Columns that are printed."""


def show(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[MANIFEST|RUN]", help="PATH, PATH#SELECTION, PATH#SAMPLES or a run folder; default: the pipe."
        ),
    ] = None,
    failures: Annotated[bool, typer.Option("--failures", help="List failed items and their causes.")] = False,
    clip: Annotated[
        str | None, typer.Option(help="Show every row about one clip, by its id or a prefix of it.")
    ] = None,
    sql: Annotated[str | None, typer.Option(help="Run a read-only SQL query.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the manifest's invariants; exit with 1 when one is broken.")
    ] = False,
    latents: Annotated[
        int | None,
        typer.Option(min=0, help="With --verify: check every shard's checksums, and encode this many windows again."),
    ] = None,
    decode: Annotated[
        Path | None, typer.Option(help="With --clip: write the clip beside its decoded latents, as this MP4 or PNG.")
    ] = None,
    losses: Annotated[int | None, typer.Option(min=1, hidden=True)] = None,
    captions: Annotated[
        str | None,
        typer.Option(help="Caption statistics: all, or the clips behind one of its counters."),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a self-contained HTML report.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a manifest, a training run or a set of samples.

    Of a manifest the funnel from raw files to latents, of a run's folder the curves, also while it trains, of samples
    their scores and files; --html writes a page with pictures. Nothing is changed.

    Example: goku show manifests/my.duckdb --sql "SELECT metric, avg(value) FROM scores GROUP BY metric"
    """
    from goku_cli.manifest.store import Manifest, parse_reference

    reference = reference_from(source)
    if Path(reference).is_dir():
        if failures or clip or sql or verify or losses or decode or captions or latents is not None:
            raise UsageError(f"{reference} is a run's folder; --html and --json go with it, the rest with a manifest")
        _run(Path(reference), html, as_json)
        return
    if (latents is not None and not verify) or (decode is not None and clip is None):
        raise UsageError("--latents goes with --verify, and --decode with --clip ID")
    path, name = parse_reference(reference)
    with Manifest(path, read_only=True) as opened:
        if verify:
            report_broken(opened, latents)
        elif html is not None:
            _page(opened, name, html)
        elif failures:
            _failures(opened, as_json)
        elif captions is not None:
            _captions(opened, captions, as_json)
        elif losses is not None:
            renamed("show --losses", "goku losses MANIFEST")
            write_rows("losses", opened.query(f"{OUTLIERS} LIMIT {losses}"), as_json)
        elif clip is not None and decode is not None:
            from goku_cli.encode.beside import write_beside

            say(f"{write_beside(opened, opened.clip(clip), decode)} windows: left the clip, right its latents decoded")
            sys.stdout.write(f"{decode}\n")
        elif clip is not None:
            _clip(opened, clip, as_json)
        elif sql is not None:
            write_rows("", opened.ask(sql), as_json)
        else:
            _overview(opened, name, as_json)


def _failures(manifest: "Manifest", as_json: bool) -> None:
    """List what failed, under a table of how often each stage had each cause."""
    rows = manifest.query("SELECT stage, reason, partial, item FROM failures ORDER BY ALL")
    if not as_json and len(rows) > FEW_FAILURES:
        counted = "SELECT stage, cause, partial, count(*) AS items FROM failures GROUP BY ALL"
        write_rows("causes", manifest.query(f"{counted} ORDER BY items DESC, stage, cause"), as_json)
    write_rows("failures", rows, as_json)


def _captions(manifest: "Manifest", name: str, as_json: bool) -> None:
    from goku_cli.report.captions import count_captions, counter

    found = count_captions(manifest)
    if name != "all":
        write_rows(name, [{"clip": clip, "caption": text} for clip, text in counter(found, name).clips], as_json)
        return
    total = manifest.value("SELECT count(*) FROM captions WHERE kind = 'merged'")
    rows = [
        {"counter": one.name, "clips": len(one.clips), "share": len(one.clips) / total if total else 0.0,
         "what": one.about, "detail": one.detail, "example": one.clips[0][1][:60] if one.clips else ""}
        for one in found.values()
    ]  # fmt: skip
    write_rows(f"{total} captions", rows, as_json)


def _page(manifest: "Manifest", name: str | None, path: Path) -> None:
    from goku_cli.report.page import write_report, write_scores
    from goku_cli.report.samples import is_set
    from goku_cli.report.scores import gather_samples

    if name is not None and is_set(manifest, name):
        write_scores(gather_samples(manifest, name), path)
    else:
        write_report(manifest, name, path)
    sys.stdout.write(f"{path}\n")


def _overview(manifest: "Manifest", name: str | None, as_json: bool) -> None:
    from goku_cli.report.funnel import base_selection, funnel
    from goku_cli.report.samples import is_set

    if name is not None and is_set(manifest, name):
        _samples(manifest, name, as_json)
        return
    steps = funnel(manifest, base_selection(manifest, name))
    counts = {name: manifest.value(f"SELECT count(*) FROM {name}") for name in TABLES}
    if as_json:
        told = {"funnel": [vars(step) for step in steps], "tables": counts}
        sys.stdout.write(json.dumps(told) + "\n")
        return
    lines = [[step.label if step.kind == "left" else f"  - {step.label}", step.count, step.unit] for step in steps]
    table(str(manifest.path), ["", "count", ""], lines, to=stdout)
    table("tables", ["table", "rows"], [[name, count] for name, count in counts.items() if count], to=stdout)


def _samples(manifest: "Manifest", name: str, as_json: bool) -> None:
    from goku_cli.report.results import results_of
    from goku_cli.report.samples import samples_of

    rows = [{column: row[column] for column in OF_A_SAMPLE} for row in samples_of(manifest, name)]
    results = results_of(manifest, name)
    if as_json:
        suites = {one.suite: [dict(zip(one.columns, line, strict=True)) for line in one.lines] for one in results}
        sys.stdout.write(json.dumps({"samples": rows, "results": suites}) + "\n")
        return
    for one in results:
        table(f"{one.suite}: {name}", one.columns, one.lines, to=stdout)
    shown = rows[:LISTED_SAMPLES]
    table(f"{name}, {len(shown)} of {len(rows)}", [*OF_A_SAMPLE], [list(row.values()) for row in shown], to=stdout)
    say(f"see them move with: goku show {manifest.path}#{name} --html samples.html")


def _run(folder: Path, html: Path | None, as_json: bool) -> None:
    from goku_cli.report.training import read_training

    run = read_training(folder)
    if html is not None:
        from goku_cli.report.page import write_training

        write_training(run, html)
        sys.stdout.write(f"{html}\n")
    elif as_json:
        figures = {figure.name: {"value": figure.value, "step": figure.step} for figure in run.figures}
        events = [vars(event) for event in run.events]
        told = {"run": str(run.folder), "step": run.step, "steps": run.steps, "figures": figures, "events": events}
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        _figures(run)


def _figures(run: "Training") -> None:
    title = f"{run.folder}: step {run.step} of {run.steps}"
    lines = [[figure.name, figure.value, figure.step, figure.course] for figure in run.figures]
    table(title, ["", "newest", "step", "so far"], lines, to=stdout)
    if run.events:
        events = run.events[-NEWEST_EVENTS:]
        title = f"events, the newest {len(events)} of {len(run.events)}"
        lines = [[event.step, event.when, event.rank, event.text] for event in events]
        table(title, ["step", "when", "rank", "what"], lines, to=stdout)


def _clip(manifest: "Manifest", start: str, as_json: bool) -> None:
    found = manifest.clip(start)
    about = {"clips": [found]} | {
        name: manifest.query(f"SELECT * FROM {name} WHERE clip = ? ORDER BY ALL", [found["id"]]) for name in ABOUT_CLIPS
    }
    if as_json:
        sys.stdout.write(json.dumps(about, default=str) + "\n")
        return
    table("clip", ["", ""], [[key, value] for key, value in found.items()], to=stdout)
    for name in ABOUT_CLIPS:
        write_rows(name, [{k: v for k, v in row.items() if k not in ("clip", "run")} for row in about[name]], False)
