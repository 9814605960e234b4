"""Commands that look and make: show, doctor, synth, shift."""

import itertools
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goku_cli.cli.console import Bar, reference_from, say, stdout, table
from goku_cli.cli.options import AsJson
from goku_cli.errors import GokuError, UsageError
from goku_cli.sizes import parse_range, parse_size

if TYPE_CHECKING:
    from goku_cli.manifest.store import Manifest, Row
    from goku_cli.model.objective import Objective
    from goku_cli.report.training import Training

TABLES = (
    "sources", "source_paths", "sidecars", "clips", "scores", "captions", "tags", "selections", "latents",
    "text_states", "losses", "samples", "sample_scores", "results", "runs", "failures",
)  # fmt: skip
ABOUT_CLIPS = ("scores", "captions", "tags", "selections", "latents")
ABNORMAL = """
SELECT clip_losses.clip, deviation, at_least, samples, text AS caption, source_path, start_us / 1e6 AS seconds
FROM clip_losses LEFT JOIN clip_files ON id = clip_losses.clip
LEFT JOIN captions ON captions.clip = clip_losses.clip AND captions.kind = 'merged'
ORDER BY at_least DESC, abs(deviation) DESC, 1
"""
SHIFT_SIZES = ("288x512", "480x864", "720x1280")
"""HEIGHTxWIDTH of the paper's three stages."""
SHIFT_FRAMES = (1, 49, 97, 241)
SHIFT_STEPS = 50
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
            metavar="[MANIFEST|RUN]", help="PATH, PATH#SELECTION, PATH#SAMPLES or a run's folder; or from the pipe."
        ),
    ] = None,
    failures: Annotated[bool, typer.Option("--failures", help="List what failed, and why.")] = False,
    clip: Annotated[str | None, typer.Option(help="Every row about one clip; the start of its id is enough.")] = None,
    sql: Annotated[str | None, typer.Option(help="Run a query; nothing can be changed.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check the invariants; exit 1 when one is broken.")] = False,
    latents: Annotated[
        int | None,
        typer.Option(min=0, help="With --verify: check every shard's sum, and encode so many windows again."),
    ] = None,
    decode: Annotated[
        Path | None, typer.Option(help="With --clip: write it beside its decoded latents, as this MP4 or PNG.")
    ] = None,
    losses: Annotated[
        int | None, typer.Option(min=1, help="List so many clips whose training losses lie farthest from the rest's.")
    ] = None,
    captions: Annotated[
        str | None,
        typer.Option(help="How captions are written: all, or one of those counters and the clips behind it."),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a report, one file that needs no other.")] = None,
    as_json: AsJson = False,
) -> None:
    """Look at a manifest: the funnel from raw files to latents, or what an option asks for. Changes nothing.

    Of a training run's folder it shows the curves, also while it goes on; --html shows previews and events too. Of a
    set of samples it shows figures and files; --html plays them.

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
            _verify(opened, latents)
        elif html is not None:
            _page(opened, name, html)
        elif failures:
            _failures(opened, as_json)
        elif captions is not None:
            _captions(opened, captions, as_json)
        elif losses is not None:
            _rows("losses", opened.query(f"{ABNORMAL} LIMIT {losses}"), as_json)
        elif clip is not None and decode is not None:
            from goku_cli.encode.beside import write_beside

            say(f"{write_beside(opened, opened.clip(clip), decode)} windows: left the clip, right its latents decoded")
            sys.stdout.write(f"{decode}\n")
        elif clip is not None:
            _clip(opened, clip, as_json)
        elif sql is not None:
            _rows("", opened.ask(sql), as_json)
        else:
            _overview(opened, name, as_json)


def doctor(
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Instead, check attention and the transformer on the GPU, about a minute.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what is installed on this machine, and what is switched off by what is not.

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


def synth(
    world: Annotated[str, typer.Argument(help="What to make: shapes.")],
    out: Annotated[Path, typer.Argument(help="The folder to write to.")],
    videos: Annotated[int, typer.Option(min=0, help="How many videos.")] = 20,
    images: Annotated[int, typer.Option(min=0, help="How many images.")] = 40,
    seed: Annotated[int, typer.Option(help="Another seed, another collection.")] = 0,
    tasks: Annotated[
        str, typer.Option(help="Only these of the world, by commas: single_object,motion; all by default.")
    ] = "",
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH of every file; empty: 480x864, and three of images.")] = "",
    radius: Annotated[
        str, typer.Option(help="Of things, FROM,TO in frame heights; empty: by task, 0.12 to 0.26.")
    ] = "",
    seconds: Annotated[float, typer.Option(help="Least length of a shot.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Make a raw collection whose truth is known: moving shapes, with planted faults and sidecar captions.

    Example: goku synth shapes videos/ --videos 20 --images 40 --seed 0
    """
    if world != "shapes":
        raise UsageError(f'unknown world "{world}"; known: shapes')
    from goku_cli.synth.shapes import make
    from goku_cli.synth.shots import World

    shown = World(
        tuple(tasks.split(",")) if tasks else World.tasks, parse_size(size) if size else None,
        parse_range(radius, "--radius", "0.2,0.25") if radius else None, seconds,
    )  # fmt: skip
    with Bar() as bar:
        bar.start("synth", videos + images)
        made = make(out, videos=videos, images=images, seed=seed, world=shown, advance=bar.advance)
    say(f"synth: {made['written']} files written, {made['skipped']} were there; defects: {made['defects']}")
    sys.stdout.write((json.dumps({"reference": str(out), **made}) if as_json else str(out)) + "\n")


def shift(
    source: Annotated[
        str | None,
        typer.Argument(metavar="[RECIPE|CHECKPOINT]", help="Whose law; the default one's when absent."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how far times move towards noise for every size, the same in training and in sampling.

    Beside it, where that puts the work: times run from 0, noise, to 1, data.

    Example: goku shift recipes/shapes.toml
    """
    objective, size, frames = _objective(source)
    from goku_cli.model.process import median_time, sampling_times

    rows = []
    sizes = list(dict.fromkeys([*SHIFT_SIZES, *size]))
    lengths = sorted({*SHIFT_FRAMES, *frames})
    for name, length in itertools.product(sizes, lengths):
        height, width = (int(pixels) for pixels in name.split("x"))
        latent = (1, 1 + (length - 1) // 4, height // 8, width // 8)
        median = median_time(objective, latent)
        middle = float(sampling_times(objective, SHIFT_STEPS, [latent])[SHIFT_STEPS // 2])
        rows.append({
            "size": name, "frames": length, "shift": objective.shift.of(latent),
            "median_training_time": median, "middle_sampling_time": middle,
        })  # fmt: skip
    if as_json:
        sys.stdout.write(json.dumps({"objective": asdict(objective), "sizes": rows}) + "\n")
        return
    columns = ["size", *("image" if length == 1 else f"{length} frames" for length in lengths)]
    for title, cell in (
        ("shift", "{shift:.2f}"),
        (
            f"time: median of training / after {SHIFT_STEPS // 2} of {SHIFT_STEPS} sampling steps",
            "{median_training_time:.2f} / {middle_sampling_time:.2f}",
        ),
    ):
        lines = [[name, *(cell.format_map(row) for row in rows if row["size"] == name)] for name in sizes]
        table(title, columns, lines, to=stdout)


def _objective(source: str | None) -> tuple["Objective", list[str], list[int]]:
    """Return the objective of a recipe or a checkpoint, with the size and the frames that it names."""
    from goku_cli.model.objective import Objective

    if source is None:
        return Objective(), [], []
    if Path(source).is_dir():
        from goku_cli.model.checkpoint import read_config, resolve
        from goku_cli.sample.generate import objective_of

        folder = resolve(Path(source))
        config = read_config(folder)
        return objective_of(config, folder), [config["data"]["size"]], [int(config["data"]["frames"])]
    from goku_cli.recipe import find
    from goku_cli.train.settings import load_recipe

    recipe = load_recipe(find(".", source))
    if recipe.kind != "flow":
        raise UsageError(f"{source} trains a VAE, which has no times; name a recipe of kind flow, e.g. shapes")
    if recipe.objective is None and recipe.init_from:
        return _objective(recipe.init_from)
    return recipe.objective or Objective(), [], []


def _verify(manifest: "Manifest", latents: int | None) -> None:
    broken = manifest.verify()
    if latents is not None:
        from goku_cli.encode.verify import verify_latents

        found = verify_latents(manifest, latents)
        broken += found.broken
        say(f"{found.shards} shards read, {found.windows} windows encoded again; "
            f"the largest difference is {found.worst:.3g}")  # fmt: skip
    for line in broken:
        sys.stdout.write(line + "\n")
    if broken:
        raise GokuError(f"{manifest.path}: {len(broken)} broken invariants")
    say(f"{manifest.path} is sound")


def _failures(manifest: "Manifest", as_json: bool) -> None:
    """List what failed, under a table of how often each stage had each cause."""
    rows = manifest.query("SELECT stage, reason, partial, item FROM failures ORDER BY ALL")
    if not as_json and len(rows) > FEW_FAILURES:
        counted = "SELECT stage, cause, partial, count(*) AS items FROM failures GROUP BY ALL"
        _rows("causes", manifest.query(f"{counted} ORDER BY items DESC, stage, cause"), as_json)
    _rows("failures", rows, as_json)


def _captions(manifest: "Manifest", name: str, as_json: bool) -> None:
    from goku_cli.report.captions import count_captions, counter

    found = count_captions(manifest)
    if name != "all":
        _rows(name, [{"clip": clip, "caption": text} for clip, text in counter(found, name).clips], as_json)
        return
    total = manifest.value("SELECT count(*) FROM captions WHERE kind = 'merged'")
    rows = [
        {"counter": one.name, "clips": len(one.clips), "share": len(one.clips) / total if total else 0.0,
         "what": one.about, "detail": one.detail, "example": one.clips[0][1][:60] if one.clips else ""}
        for one in found.values()
    ]  # fmt: skip
    _rows(f"{total} captions", rows, as_json)


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
        _rows(name, [{k: v for k, v in row.items() if k not in ("clip", "run")} for row in about[name]], False)


def _rows(title: str, rows: list["Row"], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(rows, default=str) + "\n")
    elif rows:
        table(title, list(rows[0]), [list(row.values()) for row in rows], to=stdout)
    else:
        say(f"no {title or 'rows'}")


COMMANDS: dict[str, Callable[..., None]] = {"show": show, "doctor": doctor, "synth": synth, "shift": shift}
