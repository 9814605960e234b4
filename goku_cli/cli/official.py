"""Official benchmarks: layouts of samples, evaluators, their results, the paper's tables."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goku_cli.benches.protocol import BENCHES
from goku_cli.cli.console import Session, say, table, working
from goku_cli.errors import GokuError, UsageError
from goku_cli.manifest.beside import beside as beside_manifest
from goku_cli.registry import nearest

if TYPE_CHECKING:
    from goku_cli.evaluate.benchmarks.coverage import Coverage
    from goku_cli.evaluate.benchmarks.official_results import Scored

GUIDED = "guided-diffusion"
"""Not a list of prompts: any images, in one file for the evaluator of the paper's Table 2."""
OFFICIAL = (*BENCHES, GUIDED)
TIMEOUT = 6 * 3600.0


@dataclass(frozen=True)
class Evaluator:
    """Where the official evaluator is, and what of it to run."""

    python: str
    tool: Path | None = None
    dims: tuple[str, ...] = ()
    timeout: float = TIMEOUT


@dataclass(frozen=True)
class Asked:
    """What is to be done with a set of samples."""

    export: Path | None = None
    official: bool = False
    results: tuple[Path, ...] = ()
    """Files of the official tool."""
    published: bool = False
    prompts: Path | None = None
    """The user's own copy of the benchmark's list."""
    partial: bool = False

    def __bool__(self) -> bool:
        """Whether anything is asked for."""
        return self.export is not None or self.official or bool(self.results) or self.published


def evaluate_official(reference: str | None, bench: str, asked: Asked, how: Evaluator, *, as_json: bool) -> None:
    """Do what is asked for, in the order export, evaluation, import, comparison.

    Raises:
        UsageError: the benchmark has no official evaluator.
        GokuError: what the steps raise.
    """
    from goku_cli.evaluate.run import samples_named

    if asked.export is not None or asked.official or asked.results:
        check_bench(bench)
    arguments = {"bench": bench} | {key: str(value) for key, value in (vars(asked) | vars(how)).items()}
    with working("eval", reference, arguments=arguments, as_json=as_json) as session:
        name, _ = samples_named(session.manifest, session.name)
        session.output = f"{session.manifest.path}#{name}"
        if asked.export is not None:
            export_layout(session, name, bench, asked.export, prompts=asked.prompts, partial=asked.partial)
        if asked.official:
            run_official(session, name, bench, how, prompts=asked.prompts, partial=asked.partial)
        if asked.results:
            import_results(session, name, bench, list(asked.results), prompts=asked.prompts)
        if asked.published:
            compare_published(session, name)


def check_bench(bench: str) -> None:
    """Refuse what has no official evaluator.

    Raises:
        UsageError: it has none.
    """
    if bench not in OFFICIAL:
        hint = f"{nearest(bench, list(OFFICIAL))}; known: {', '.join(OFFICIAL)}"
        raise UsageError(f'no official evaluator for "{bench}"{hint}')


def export_layout(
    session: Session, name: str, bench: str, folder: Path, *, prompts: Path | None, partial: bool
) -> None:
    """Write a set's samples as the official evaluator reads them into `folder` (guided-diffusion: into one .npz).

    Raises:
        UsageError, GokuError: samples are missing and `partial` is off, or they are not what the evaluator reads.
    """
    from goku_cli.evaluate.benchmarks.layouts import write_layout, write_npz

    if bench == GUIDED:
        rows = session.manifest.query("SELECT path FROM samples WHERE name = ? AND frames = 1 ORDER BY id", [name])
        count = write_npz([session.manifest.path.parent / row["path"] for row in rows], folder)
    else:
        count = write_layout(bench, _covered(session, name, bench, prompts, partial).takes, folder)
    session.counts["exported"] = count
    say(f"{count:,} {'images' if bench == GUIDED else 'files'} of {bench} in {folder}")


def run_official(
    session: Session, name: str, bench: str, how: Evaluator, *, prompts: Path | None, partial: bool
) -> None:  # fmt: skip
    """Run the official evaluator on a set's samples, part by part, and keep what it found.

    Layout, logs and results lie beside the manifest, in MANIFEST.official/NAME/BENCH.

    Raises:
        UsageError, GokuError: samples or the evaluator are missing; or a part failed, after the others were kept.
    """
    from goku_cli.evaluate.benchmarks.evaluators import Setup, parts
    from goku_cli.evaluate.benchmarks.layouts import fingerprint
    from goku_cli.evaluate.benchmarks.official import interpreter, run_parts, tool_version

    if bench == GUIDED:
        raise UsageError(f"{GUIDED} is not run from here: goku bench export {GUIDED} --to FILE.npz, its evaluator.py, "
                         f"and goku bench import {GUIDED} --from LOG")  # fmt: skip
    covered = _covered(session, name, bench, prompts, partial)
    python, tool = interpreter(how.python), how.tool.absolute() if how.tool else None
    version = tool_version(bench, python, tool)
    home = beside_manifest(session.manifest.path, "official").absolute() / name / bench
    _lay(session, name, bench, covered, home)
    (home / "results").mkdir(exist_ok=True)
    wanted = parts(bench, Setup(python, tool, home / "layout", home / "results", how.dims))
    done, failed = run_parts(wanted, fingerprint(covered.takes), home / "logs", how.timeout, say)
    if done:
        _keep(session, name, bench, [part.result for part in done], version, prompts)
    if failed:
        gone = f"{len(failed)} of {len(wanted)} parts of {bench} failed ({', '.join(failed)})"
        raise GokuError(f"{gone}; the same command runs only them again")


def import_results(session: Session, name: str, bench: str, files: list[Path], *, prompts: Path | None) -> None:
    """Keep what official evaluators wrote elsewhere.

    Raises:
        GokuError: a file is gone, or is not a result of this benchmark's tool.
    """
    from goku_cli.evaluate.benchmarks.official_results import read_guided
    from goku_cli.evaluate.benchmarks.totals import keep

    if bench != GUIDED:
        _keep(session, name, bench, files, bench, prompts)
        return
    images = session.manifest.value("SELECT count(*) FROM samples WHERE name = ? AND frames = 1", [name])
    found = [scored for file in files for scored in read_guided(file, images)]
    _show(session, name, bench, *keep(session.manifest, name, bench, found))


def compare_published(session: Session, name: str) -> None:
    """Print a set's figures beside the paper's, and draw them as SVG files beside the manifest.

    Figures of a protocol that were measured on fewer samples than it asks for are left out.

    Raises:
        UsageError: the set has no figure that the paper has.
    """
    from goku_cli.evaluate.benchmarks.plot import write_bars
    from goku_cli.evaluate.benchmarks.published import beside, conditions
    from goku_cli.evaluate.benchmarks.totals import kept
    from goku_cli.evaluate.protocols import PROTOCOLS

    figures = [scored.figure for bench in (*BENCHES, GUIDED) for scored in kept(session.manifest, name, bench)]
    for bench, protocol in PROTOCOLS.items():
        figures += [s.figure for s in kept(session.manifest, name, bench) if s.figure.n == protocol.samples]
    found = beside(figures, name)
    if not found:
        raise UsageError(f"{name} has no figure that the paper has; get some with: goku bench run vbench")
    ours = conditions(session.manifest, name)
    for comparison in found:
        table(comparison.title, *comparison.lines())
        path = beside_manifest(session.manifest.path, f"{name}.{comparison.key}.svg")
        write_bars(comparison, path)
        say(f"published: {comparison.conditions}\n{name}: {ours}\nbars: {path}")


def _covered(session: Session, name: str, bench: str, prompts: Path | None, partial: bool) -> "Coverage":
    from goku_cli.benches.prompts import bench_prompts
    from goku_cli.evaluate.benchmarks.coverage import covered

    found = covered(session.manifest, name, bench, bench_prompts(bench, prompts), prompts)
    if not partial:
        found.check()
    elif found.missing:
        say(f"{sum(found.missing.values()):,} of {found.expected:,} samples of {bench} are missing")
    return found


def _lay(session: Session, name: str, bench: str, covered: "Coverage", home: Path) -> None:
    import shutil

    from goku_cli.evaluate.benchmarks.layouts import fingerprint, write_layout

    note, layout = home / "layout.samples", home / "layout"
    wanted = fingerprint(covered.takes)
    known = note.read_text() if note.exists() else wanted
    if known != wanted:
        say(f"samples of {name} have changed; what was known of them by {bench} is dropped")
        session.manifest.execute("DELETE FROM results WHERE name = ? AND suite = ?", [name, bench])
    if known != wanted or not layout.exists():
        shutil.rmtree(layout, ignore_errors=True)
        write_layout(bench, covered.takes, layout)
        note.write_text(wanted)


def _keep(session: Session, name: str, bench: str, files: list[Path], tool: str, prompts: Path | None) -> None:
    from goku_cli.benches.prompts import bench_prompts
    from goku_cli.evaluate.benchmarks.official_results import read_results
    from goku_cli.evaluate.benchmarks.totals import keep

    read = read_results(bench, files, bench_prompts(bench, prompts), tool)
    _show(session, name, bench, *keep(session.manifest, name, bench, read))


def _show(session: Session, name: str, bench: str, scored: "list[Scored]", note: str) -> None:
    lines: list[list[Any]] = [
        [s.figure.metric, s.figure.tag, s.figure.value, s.figure.n, s.found, s.expected] for s in scored
    ]
    table(f"{bench}: {name}", ["metric", "tag", "value", "scored", "found", "expected"], lines)
    if note:
        say(note)
    session.counts[bench] = {f"{s.figure.metric}/{s.figure.tag}": s.figure.value for s in scored}
