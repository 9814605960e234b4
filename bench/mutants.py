"""Which small mistakes would no test notice? python bench/mutants.py [--count 150] [--seed 0] [--room model ...]

Makes mutants of the source, each one small mistake, puts one at a time into a copy of the package, and runs the test
files nearest to it, quickest tests first, until one fails that passes without it: the mutant is killed, as by a test
that hangs. What survives is printed.
Results are kept in a file of JSON lines, so that a run goes on where it ended; --again runs the survivors once more.

Near is what imports a module directly, then what imports it through others. Every test file runs in a process that is
forked from one that has torch loaded, which takes a third of the time.
"""

import argparse
import ast
import contextlib
import copy
import hashlib
import importlib
import itertools
import json
import multiprocessing
import os
import py_compile
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rich.progress import track

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("model", "train", "sample", "evaluate")
HEAVY = (
    "torch", "torch._dynamo", "diffusers", "transformers", "open_clip", "scipy.stats", "pyarrow", "pandas", "duckdb",
    "cv2", "av", "typer", "hypothesis", "pytest",
)  # fmt: skip
"""What most tests import, of which none imports the package."""
EXCLUDED = {
    "goku_cli/model/network/attention.py:SHORT": "where one of two equal ways becomes the faster one",
    "goku_cli/model/sampling/guidance.py:BATCH_TOKENS": "a bound for memory",
    "goku_cli/model/sampling/guidance.py:KEY_BYTES": "a bound for memory",
    "goku_cli/model/sampling/guidance.py:_Branches._with_text_keys: 2 * config.layers -> 2 / config.layers": (
        "what is compared with a bound for memory"
    ),
    "goku_cli/evaluate/sets/distribution.py:distances: frechet(Normal.of(left_ND), Normal.of(right_ND)) -> "
    "frechet(Normal.of(right_ND), Normal.of(left_ND))": "a distance is the same both ways",
    "goku_cli/evaluate/sets/fvd.py:BATCH: 8 -> 9": "clips at once: a bound for memory",
    "goku_cli/sample/generate.py:_mode: 1 -> -1": "the channels of a latent, which has as many tokens with any",
    "goku_cli/train/distributed/sharded_init.py:_Given._widened: 1 -> -1": "a matrix's second dimension is its last",
    "goku_cli/train/data/sampler.py:LATENT_BYTES": "a bound for memory",
    "goku_cli/train/data/sampler.py:TEXTS_IN_MEMORY": "a bound for memory",
    "goku_cli/train/data/index.py:READ_ROWS": "a bound for memory",
}
"""Places, or single mutants, that do the same, and why."""
TOLD = {"say", "_tell", "event", "describe", "flush", "print", "beat", "set_num_threads"}
"""Calls that tell somebody something or make something faster, and may be left out."""
NO_TESTS = 5
"""What pytest ends with when none was left to run."""
COMMANDS = {"evaluate": "eval"}
"""Of rooms that are named otherwise."""
EITHER_WAY = {"max", "min", "maximum", "minimum"}
"""Functions whose arguments may change places."""

COMPARISONS = {
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}  # fmt: skip
ARITHMETIC = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
}  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """How long it is asked whether a mutant is noticed."""

    files: int = 3
    """Most test files that a mutant is shown to."""
    seconds: float = 40.0
    """Of each of them: its quickest tests, as far as they are known, are run for so long."""
    longest: float = 150.0
    """Seconds of a test file, after which nothing is known. A single test has half of them; one that hangs fails."""


@dataclass(frozen=True)
class Mutant:
    """One mistake in one file."""

    path: str
    line: int
    column: int
    where: str
    """The function, method or constant that it is in."""
    start: int
    """Bytes of the file from here on ..."""
    end: int
    """... to here are replaced."""
    before: str
    after: str

    @property
    def name(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.before} -> {self.after}"

    @property
    def reason(self) -> str:
        """Why it is excluded; nothing when it is not."""
        place = f"{self.path}:{self.where}"
        return EXCLUDED.get(place) or EXCLUDED.get(f"{place}: {self.before} -> {self.after}", "")

    def applied(self, source: bytes) -> bytes:
        """Return the file with the mistake, in parentheses where it is an expression."""
        after = self.after if self.after == "pass" or self.after.startswith("return") else f"({self.after})"
        return source[: self.start] + after.encode() + source[self.end :]


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what could stand in a node's place by mistake."""
    match node:
        case ast.Compare():
            for i, op in enumerate(node.ops):
                for other in COMPARISONS[type(op)]:
                    yield changed(node, ops=[*node.ops[:i], other(), *node.ops[i + 1 :]])
        case ast.BinOp() if type(node.op) in ARITHMETIC and not is_text(node.left) and not is_text(node.right):
            yield changed(node, op=ARITHMETIC[type(node.op)]())
        case ast.BoolOp():
            yield changed(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            yield ast.Constant(node.value + 1)
            if node.value:
                yield ast.Constant(-node.value)
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.Return(value=ast.expr()) if not (isinstance(node.value, ast.Constant) and node.value.value is None):
            yield ast.Return(ast.Constant(None))
            if isinstance(node.value, ast.Call) and node.value.args and not isinstance(node.value.args[0], ast.Starred):
                yield ast.Return(node.value.args[0])
        case ast.AugAssign() | ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.Call() if ast.unparse(node.func).split(".")[-1] not in EITHER_WAY:
            for i, (a, b) in enumerate(itertools.pairwise(node.args)):
                if not isinstance(a, ast.Starred) and not isinstance(b, ast.Starred) and ast.dump(a) != ast.dump(b):
                    yield changed(node, args=[*node.args[:i], b, a, *node.args[i + 2 :]])


def changed(node: ast.AST, **fields: object) -> ast.AST:
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def nodes(node: ast.AST, where: str = "") -> Iterator[tuple[ast.AST, str]]:
    """Yield what may be changed, and where it is: no texts, errors, types, decorators, nor what is only told."""
    if is_left_out(node):
        return
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        where = f"{where}.{node.name}".lstrip(".")
    elif isinstance(node, ast.Assign | ast.AnnAssign) and not where:
        where = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
    yield node, where
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns", "decorator_list", "bases"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from nodes(child, where)


def is_left_out(node: ast.AST) -> bool:
    match node:
        case ast.Raise() | ast.Assert() | ast.JoinedStr() | ast.FunctionDef(name="__repr__"):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Compare(left=ast.Name(id="__name__"))):
            return True
        case ast.Expr(value=ast.Call(func=called)):
            said = re.split(r"\W+", ast.unparse(called))
            return said[-1] in TOLD or "progress" in said or "bar" in said
    return False


def mutants(path: Path) -> list[Mutant]:
    """Return all mutants of a file."""
    source = path.read_bytes()
    starts = [0, *itertools.accumulate(len(line) for line in source.splitlines(keepends=True))]
    found = []
    for node, where in nodes(ast.parse(source)):
        for other in changes(node):
            start = starts[node.lineno - 1] + node.col_offset
            end = starts[node.end_lineno - 1] + node.end_col_offset
            before = " ".join(source[start:end].decode().split())
            place = str(path.relative_to(ROOT)), node.lineno, node.col_offset, where, start, end
            found.append(Mutant(*place, before, ast.unparse(other)))
    return found


def chosen(rooms: list[str], count: int, seed: int) -> tuple[list[Mutant], list[Mutant]]:
    """Return mutants by lot, from each room in turn, and those that would be among them but are excluded."""
    drawn = []
    for room in rooms:
        every = [one for path in sorted((ROOT / "goku_cli" / room).rglob("*.py")) for one in mutants(path)]
        random.Random(f"{seed} {room}").shuffle(every)
        drawn.append(every)
    wanted: list[Mutant] = []
    excluded: list[Mutant] = []
    for one in itertools.chain.from_iterable(itertools.zip_longest(*drawn)):
        if one is not None and len(wanted) < count:
            (excluded if one.reason else wanted).append(one)
    return wanted, excluded


@cache
def imports() -> dict[str, set[str]]:
    """Return which modules of the package and of the tests each of them imports or names in a table."""
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in (ROOT / "goku_cli").rglob("*.py")}
    files |= {path.stem: path for path in (ROOT / "tests").glob("*.py")}
    found = {}
    for name, path in files.items():
        named = set(re.findall(r'"(goku_cli(?:\.\w+)+)', path.read_text()))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        if '["goku"' in path.read_text():
            named.add("goku_cli.cli.app")  # the program is run
        found[name] = named & files.keys()
    return found


@cache
def distances(test: str) -> dict[str, int]:
    """Return how many imports away from a test each module is."""
    found, edge = {test: 0}, [test]
    while edge:
        edge = [name for near in edge for name in imports()[near]]
        edge = [name for name in dict.fromkeys(edge) if name not in found]
        found |= dict.fromkeys(edge, max(found.values()) + 1)
    return found


@cache
def nearest(path: str) -> list[str]:
    """Return the test files that are nearest to a file, and those one import farther; first who names most of it."""
    module = path.removesuffix(".py").replace("/", ".")
    room, stem = module.split(".")[-2:]
    made = [node.name for node in ast.parse((ROOT / path).read_bytes()).body if hasattr(node, "name")]
    spoken = re.compile(rf'\b({"|".join([stem, *made])})\b|"{COMMANDS.get(room, room)}"')
    ranked = []
    for file in (ROOT / "tests").glob("test_*.py"):
        if module in (far := distances(file.stem)):
            said = spoken.findall(file.read_text())
            ranked.append((far[module], file.stem != f"test_{stem}", -len(set(said)), -len(said), file.name))
    ranked.sort()
    return [name for far, *_, name in ranked if far <= ranked[0][0] + 1]


class Bench:
    """A copy of the package, and the tests on it."""

    def __init__(self, folder: Path, known: "Known", limits: Limits) -> None:
        self.folder = folder
        self.limits = limits
        self.known = known
        shutil.copytree(ROOT / "goku_cli", folder / "goku_cli", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "recipes").symlink_to(ROOT / "recipes")
        for path in (folder / "goku_cli").rglob("*.py"):  # by content, not by time and size
            py_compile.compile(str(path), invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)

    def try_out(self, mutant: Mutant) -> dict:
        """Return what became of a mutant."""
        begun = time.monotonic()
        shown: list[str] = []
        files = nearest(mutant.path)[: self.limits.files]
        killer = next((killer for file in files if (killer := self.killer(file, mutant, shown))), "")
        spent = round(time.monotonic() - begun, 1)
        return {"mutant": mutant.name, **asdict(mutant), "killed_by": killer, "shown_to": shown, "seconds": spent}

    def killer(self, file: str, mutant: Mutant, shown: list[str]) -> str:
        """Return the test of a file that fails for a mutant alone; note the file when none does."""
        target = self.folder / mutant.path
        source = target.read_bytes()
        target.write_bytes(mutant.applied(source))
        passed, last = self.run(f"tests/{file}")
        target.write_bytes(source)
        if passed:
            shown.append(file)
        return last if passed is False and self.passes(last) else ""

    def passes(self, test: str) -> bool:
        """Return whether a test passes without a mutant, which takes a run of it the first time."""
        key = f"{test} {fingerprint(test)}"
        if key not in self.known.passes:
            options = () if "::" in test else ("--collect-only",)  # no test began: a module cannot be imported
            self.known.passes[key] = self.run(test, *options)[0] is True
        return self.known.passes[key]

    def run(self, tests: str, *options: str) -> tuple[bool | None, str]:
        """Return whether tests pass, and the one that began last; None when they take too long or there are none."""
        told = [(*key.rpartition(" ")[::2], passes) for key, passes in self.known.passes.items()]
        fail = {test for test, content, passes in told if not passes and content == fingerprint(test)}
        quickest = Quickest(self.folder / "began", self.known.seconds, self.limits.seconds, fail - {tests})
        quickest.file.write_text("")
        process = multiprocessing.get_context("fork").Process(
            target=run_pytest,
            args=(self.folder, tests, quickest, (f"--timeout={self.limits.longest / 2:.0f}", *options)),
        )
        process.start()
        process.join(self.limits.longest)
        passed = None if process.exitcode in (None, NO_TESTS) else process.exitcode == 0
        self.end(process.pid)
        process.join()
        began = [line.rsplit(" ", 1) for line in quickest.file.read_text().splitlines()]
        times = [(test, float(end) - float(start)) for (test, start), (_, end) in itertools.pairwise(began)]
        if passed is None and began:
            times.append((began[-1][0], self.limits.longest))
        # The last of those that fail may have failed by taking long.
        self.known.seconds |= dict(times[:-1] if passed is False else times)
        return passed, next((test for test, _ in reversed(began) if test), tests)

    def end(self, group: int) -> None:
        """End a test's process group, and what left it: only what runs here has this folder in its environment."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        for of in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if f"PYTHONPATH={self.folder}\0".encode() in of.read_bytes():
                    os.kill(int(of.parent.name), signal.SIGKILL)


def fingerprint(test: str) -> str:
    """Return what names the content of a test's file."""
    return hashlib.sha256((ROOT / test.partition("::")[0]).read_bytes()).hexdigest()[:8]


@dataclass
class Known:
    """What is known of tests without a mutant."""

    passes: dict[str, bool]
    seconds: dict[str, float]


@dataclass
class Quickest:
    """A plugin of pytest that runs the quickest tests first, and writes when each began."""

    file: Path
    seconds: dict[str, float]
    most: float
    fail: set[str]
    """Those that fail anyway; they would end the run of their file before the others had their turn."""

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [item for item in items if item.nodeid not in self.fail]
        took = {item: self.seconds.get(item.nodeid, 0.0) for item in items}
        items.sort(key=took.__getitem__)
        while len(items) > 1 and sum(took[item] for item in items) > self.most:
            items.pop()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.note(nodeid)

    def pytest_sessionfinish(self) -> None:
        self.note("")

    def note(self, test: str) -> None:
        with self.file.open("a") as file:
            file.write(f"{test} {time.monotonic()}\n")


def run_pytest(folder: Path, tests: str, quickest: Quickest, options: tuple[str, ...]) -> None:
    """Be a process that runs tests on a copy of the package."""
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    os.environ |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    import pytest

    os.chdir(ROOT)
    how = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", *options]
    os._exit(int(pytest.main([*how, tests], plugins=[quickest])))


BENCH: list[Bench] = []
"""One in each worker process."""


def begin(folder: Path, known: Known, limits: Limits) -> None:
    """Be a worker process, with everything loaded that tests import."""
    for name in HEAVY:
        importlib.import_module(name)
    assert not any(name.partition(".")[0] == "goku_cli" for name in sys.modules)
    BENCH.append(Bench(folder / str(os.getpid()), known, limits))


def try_out(mutant: Mutant) -> tuple[dict, Known]:
    """Return what became of a mutant in this worker process, and what it knows of tests."""
    return BENCH[0].try_out(mutant), BENCH[0].known


def read_log(log: Path) -> tuple[dict[str, dict], Known]:
    """Return what became of mutants, and what is known of tests."""
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    known = Known({}, {})
    for line in lines:
        known.passes |= line.get("passes", {})
        known.seconds |= line.get("took", {})
    return {line["mutant"]: line for line in lines}, known


def main() -> None:
    options = read_options()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    results, known = read_log(options.log)
    wanted, excluded = chosen(options.room or list(ROOMS), options.count, options.seed)
    todo = [one for one in wanted if one.name not in results or (options.again and not results[one.name]["killed_by"])]
    with options.log.open("a") as log:
        for result, found in tried(todo, known, options):
            results[result["mutant"]] = result
            new = {"passes": dict(found.passes.items() - known.passes.items()),
                   "took": dict(found.seconds.items() - known.seconds.items())}  # fmt: skip
            log.write(json.dumps(result | new) + "\n")
            log.flush()
            known = Known(known.passes | found.passes, known.seconds | found.seconds)
    for one in excluded:
        print(f"excluded ({one.reason}): {one.name}")
    tell([results[one.name] for one in wanted if one.name in results], known)
    print(f"{len(excluded)} excluded, {sum(one.name not in results for one in wanted)} not run yet")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--room", action="append", choices=ROOMS, help="may be given several times; all without")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--log", type=Path, default=ROOT / "mutants.jsonl")
    parser.add_argument("--again", action="store_true", help="run those that survived once more")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no mutant after so long")
    for name, value in asdict(Limits()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    return parser.parse_args()


def tried(todo: list[Mutant], known: Known, options: argparse.Namespace) -> Iterator[tuple[dict, Known]]:
    """Yield what became of mutants, as many at once as there are jobs."""
    deadline = time.monotonic() + 60 * options.minutes
    limits = Limits(options.files, options.seconds, options.longest)
    context = multiprocessing.get_context("fork")
    with (
        tempfile.TemporaryDirectory(prefix="mutants-") as folder,
        ProcessPoolExecutor(options.jobs, context, begin, (Path(folder), known, limits)) as pool,
    ):
        waiting = iter(todo)
        running = {pool.submit(try_out, one) for one in itertools.islice(waiting, options.jobs)}
        for _ in track(todo, "mutants", disable=not sys.stderr.isatty()):
            done = next(as_completed(running))
            running.remove(done)
            yield done.result()
            if time.monotonic() < deadline and (following := next(waiting, None)):
                running.add(pool.submit(try_out, following))
            if not running:
                return


def tell(results: list[dict], known: Known) -> None:
    """Print the survivors and the figures, by room."""
    for result in results:
        if not result["killed_by"]:
            print(f"survived {', '.join(result['shown_to']) or 'without a test'}: {result['mutant']}")
    rooms = [result["path"].split("/")[1] for result in results]
    for room in (*dict.fromkeys(rooms), ""):
        some = [bool(result["killed_by"]) for result, of in zip(results, rooms, strict=True) if room in ("", of)]
        if some:
            print(f"{room or 'all':10} {sum(some):4} of {len(some)} killed, {sum(some) / len(some):.0%}")
    for test in sorted(name for name, passes in known.passes.items() if not passes):
        print(f"{test.rpartition(' ')[0]} fails or takes too long without a mutant, and kills none")


if __name__ == "__main__":
    main()
