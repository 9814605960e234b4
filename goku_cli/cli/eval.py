"""`goku eval`: scores of samples, of latents and of every stage."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goku_cli.cli.console import Bar, Session, emit, renamed, say, stdout, table, working
from goku_cli.cli.official import OFFICIAL, TIMEOUT, Asked, Evaluator, compare_published, evaluate_official
from goku_cli.cli.options import AsJson, Workers
from goku_cli.errors import GokuError, UsageError
from goku_cli.evaluate.protocols import COMPARING, FAMILY, PROTOCOLS, apart

if TYPE_CHECKING:
    from goku_cli.evaluate.compare import Comparison
    from goku_cli.evaluate.run import Suite
    from goku_cli.evaluate.sets.reference_clips import Footage
    from goku_cli.manifest.store import Manifest

BENCHES = ("video", "shapes", "vae", *PROTOCOLS)


def evaluate(
    samples: Annotated[
        str | None,
        typer.Argument(metavar="[MANIFEST#SAMPLES]", help="Set of samples; read from the pipe when absent."),
    ] = None,
    bench: Annotated[
        str,
        typer.Option(
            help="video: metrics of any clip; shapes: attributes, and every stage against its ground truth; "
            "vae: what decoded latents of held-out clips lose; ucf101, imagenet256: with --real, the paper's Tables 6 "
            "and 2, by weights on disk."
        ),
    ] = "video",
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="Clip metric, or your own as MODULE:FUNCTION; repeatable. Default: all built-in ones. "
            f"By weights on disk: {', '.join(FAMILY)}."
        ),
    ] = None,
    real: Annotated[
        str | None,
        typer.Option(
            metavar="MANIFEST[#SELECTION]|FOLDER",
            help="Reference clips, images or samples for distribution distances; without --metric, one "
            "that needs no weights.",
        ),
    ] = None,
    compare: Annotated[
        str | None, typer.Option(metavar="MANIFEST[#SAMPLES]", help="Second scored set, for a paired comparison.")
    ] = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC=VALUE", help="Exit with 1 if lower; with --compare, the difference."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write an HTML page with scores and the best and worst samples.")
    ] = None,
    selftest: Annotated[
        bool, typer.Option("--selftest", help="Validate the metrics on deliberately degraded clips; needs no manifest.")
    ] = False,
    export: Annotated[Path | None, typer.Option(hidden=True)] = None,
    official: Annotated[bool, typer.Option("--official", hidden=True)] = False,
    python: Annotated[str, typer.Option(hidden=True)] = "python",
    tool: Annotated[Path | None, typer.Option(hidden=True)] = None,
    dims: Annotated[str, typer.Option(hidden=True)] = "",
    timeout: Annotated[float, typer.Option(hidden=True)] = TIMEOUT,
    results: Annotated[list[Path] | None, typer.Option("--import", hidden=True)] = None,
    published: Annotated[bool, typer.Option("--published", hidden=True)] = False,
    prompts: Annotated[Path | None, typer.Option("--list", hidden=True)] = None,
    partial: Annotated[bool, typer.Option("--partial", hidden=True)] = False,
    workers: Workers = 0,
    as_json: AsJson = False,
) -> None:
    """Score samples, latents or a whole pipeline.

    Metrics need no downloaded weights unless one is named that rests on some. Scores are stored in the manifest.

    Example: goku eval manifests/my.duckdb --bench shapes
    """
    if asked := Asked(export, official, tuple(results or ()), published, prompts, partial):
        renamed("eval --export, --official, --import, --published", "goku bench export|run|import|published")
        how = Evaluator(python, tool, tuple(filter(None, dims.split(","))), timeout)
        evaluate_official(samples, bench, asked, how, as_json=as_json)
        return
    if bench in OFFICIAL:
        raise UsageError(f"{bench} is scored by its own evaluator: goku bench export|run|import {bench}")
    if bench not in BENCHES:
        raise UsageError(f'unknown benchmark "{bench}"; known: {", ".join(BENCHES)}')
    floors = [_floor(text) for text in fail_under or []]
    if selftest:
        if learned := apart(metric or [])[0]:
            raise UsageError(f"--selftest tries metrics of single clips; leave out {', '.join(learned)}")
        _selftest(metric or [], as_json)
        return
    of_samples = {"--metric": metric, "--real": real, "--compare": compare, "--html": html}
    if bench == "vae" and (given := [option for option, value in of_samples.items() if value]):
        raise UsageError(f"--bench vae looks at latents and not at samples; leave out {', '.join(given)}")
    if bench in PROTOCOLS and metric:
        raise UsageError(f"--bench {bench} is {', '.join(PROTOCOLS[bench].metrics)}; leave out --metric")
    arguments = {"bench": bench, "metrics": metric or [], "real": real, "compare": compare}
    with working("eval", samples, arguments=arguments, as_json=as_json) as session:
        if bench == "vae":
            name, suites = _vae(session)
        else:
            name, suites = _samples(session, bench, metric or [], real, workers)
        coverage = _keep(session, name, suites)
        if bench in PROTOCOLS and suites[0].scored == PROTOCOLS[bench].samples:
            compare_published(session, name)
        compared = _compare(session, name, compare) if compare else None
        if html:
            _page(session, name, coverage, metric or [], compared, html)
    _hold(suites, compared, floors)


def _samples(
    session: Session, bench: str, metrics: list[str], real: str | None, workers: int
) -> tuple[str, list["Suite"]]:
    """Score a set of samples, and with `real` say how far it is from real clips."""
    from goku_cli.evaluate import run
    from goku_cli.evaluate.sets.distribution import eval_distances
    from goku_cli.evaluate.sets.pretrained_metrics import eval_learned, eval_protocol

    opened = session.manifest
    name, rows = run.samples_named(opened, session.name)
    session.output = f"{opened.path}#{name}"
    footage = None if real is None else _footage(opened, real)
    if bench in PROTOCOLS:
        return name, eval_protocol(opened, name, rows, bench, footage, session.bar)
    learned, others = apart(metrics)
    # First, because weights may be missing.
    suites = eval_learned(opened, name, rows, learned, footage, session.bar)
    if others or bench == "shapes" or not learned:
        suites += run.eval_samples(
            opened, name, rows, metrics=others, bench_shapes=bench == "shapes", workers=workers, progress=session.bar
        )
    if footage is not None and not set(learned) & set(COMPARING):
        suites.append(eval_distances(opened, rows, footage, session.bar))
    return name, suites


def _footage(opened: "Manifest", real: str) -> "list[Footage]":
    """Return what `--real` names: a folder of files, or what a manifest has."""
    from goku_cli.evaluate.sets.reference_clips import of_folder, of_manifest

    if (folder := Path(real).expanduser()).is_dir():
        return of_folder(folder)
    with _other(opened, real) as (manifest, name):
        return of_manifest(manifest, name)


def _vae(session: Session) -> tuple[str, list["Suite"]]:
    """Decode latents of held-out clips again."""
    from goku_cli.evaluate.reconstruction import eval_vae

    encoder, suite = eval_vae(session.manifest, session.bar)
    return encoder, [suite]


def _keep(session: Session, name: str, suites: list["Suite"]) -> list[str]:
    """Store suites of figures and show them; return a line of what each rests on."""
    from dataclasses import asdict

    from goku_cli.evaluate.result import store
    from goku_cli.manifest.figures import pivot

    for suite in suites:
        store(session.manifest, name, suite.name, suite.figures, expected=suite.expected, found=suite.found)
        if suite.figures:
            columns, lines = pivot([asdict(figure) for figure in suite.figures])
            table(f"{suite.name}: {name}, {suite.coverage}", columns, lines)
        for note in suite.notes:
            say(note)
        session.counts[suite.name] = {f"{f.metric}/{f.tag}": f.value for f in suite.figures}
    return [line for suite in suites for line in (f"{suite.name}: {suite.coverage}", *suite.notes)]


def _compare(session: Session, name: str, reference: str) -> "Comparison":
    """Show a set beside another, pair by pair."""
    from dataclasses import asdict

    from goku_cli.evaluate.compare import compare

    with _other(session.manifest, reference) as (other, other_name):
        found = compare(session.manifest, name, other, other_name)
    table(found.line, *found.table)
    session.counts["compare"] = asdict(found)
    return found


def _page(
    session: Session, name: str, coverage: list[str], metrics: list[str], compared: "Comparison | None", path: Path
) -> None:
    from goku_cli.evaluate.clips.metrics import title
    from goku_cli.report.page import write_scores
    from goku_cli.report.scores import gather_scores

    beside = (compared.line, *compared.table) if compared else None
    write_scores(gather_scores(session.manifest, name, coverage, [title(one) for one in metrics], beside), path)
    say(f"eval: wrote {path}")


def _hold(suites: list["Suite"], compared: "Comparison | None", floors: list[tuple[str, float]]) -> None:
    """Hold figures, or differences, against their floors; what was measured is kept and printed by then."""
    known = {f"{figure.metric}/{figure.tag}": figure.value for suite in suites for figure in suite.figures}
    if compared is not None:
        known = {f"{one.metric}/all": one.difference for one in compared.differences}
    wrong = []
    for name, least in floors:
        full = name if "/" in name else f"{name}/all"
        if full not in known:
            wrong.append(f"there is no figure {full}")
        elif not known[full] >= least:
            wrong.append(f"{full} is {known[full]:.4g}, below {least:g}")
    if wrong:
        raise GokuError(f"--fail-under: {'; '.join(wrong)}")


def _floor(text: str) -> tuple[str, float]:
    name, separator, value = text.rpartition("=")
    try:
        if separator and name:
            return name, float(value)
    except ValueError:
        pass
    raise UsageError(f"--fail-under takes METRIC=VALUE, e.g. shapes.strict=0.5 or shapes.strict/unseen=0.3, not {text}")


@contextmanager
def _other(opened: "Manifest", reference: str) -> "Iterator[tuple[Manifest, str | None]]":
    """Open a second reference, to read; it may well be of the manifest that is open."""
    from goku_cli.manifest.store import Manifest, parse_reference

    path, name = parse_reference(reference)
    if path.exists() and path.samefile(opened.path):
        yield opened, name
        return
    with Manifest(path, read_only=True) as manifest:
        yield manifest, name


def _selftest(metrics: list[str], as_json: bool) -> None:
    """Show what metrics say of spoiled clips; fail when one does not say what it must."""
    from goku_cli.evaluate.clips.metrics import METRICS
    from goku_cli.evaluate.selftest import selftest

    with Bar() as bar:
        found = selftest([*METRICS, *metrics], bar)
    if as_json:
        rows: dict[str, Any] = {
            str(line[0]): dict(zip(found.columns[1:], line[1:], strict=True)) for line in found.lines
        }
        emit("selftest", {"metrics": rows, "wrong": found.wrong}, as_json)
    else:
        table("Metrics by how the clips were spoiled", found.columns, found.lines, to=stdout)
    if found.wrong:
        raise GokuError(f"selftest: {'; '.join(found.wrong)}")
