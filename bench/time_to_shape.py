"""Time to shape: what a small text-to-video model has learned after so many CPU seconds, one row for each lever.

    python bench/time_to_shape.py demo/demo.duckdb --seconds 120 --seeds 0 base predicts-velocity ...

A lever is a table of bench/time_to_shape.toml: what differs from recipes/demo.toml. Each is trained for the same CPU
seconds of all ranks (a short run says how long a step takes, and the rate falls to zero over the steps that follow from
it), draws the benchmark's seen and held-out prompts, and is judged by the detector. Rows go to the file of --out, a
line of JSON each, and to stdout as a Markdown table. Run nothing beside it.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import tomlkit

HERE = Path(__file__).parent
DEMO = HERE.parent / "recipes" / "demo.toml"
ENCODE = ["--size", "32x32", "--text", "words"]
PARTS = ["--part", "single_object", "--part", "motion", "--guidance", "2"]
TRIAL_STEPS = 60
ATTRIBUTES = ("color", "shape", "motion", "strict")
TAKES = "4"

Row = dict[str, Any]


def main() -> None:
    """Train and judge every lever that is named, or all of them."""
    options = read_options(sys.argv[1:])
    levers = tomllib.loads((HERE / "time_to_shape.toml").read_text())
    with tempfile.TemporaryDirectory() as folder:
        for name in options.levers or levers:
            work = Path(folder) / name
            work.mkdir()
            data = encoded(options.manifest, levers[name].get("encode", []), Path(folder))
            for seed in map(int, options.seeds.split(",")):
                row = {"lever": name, "seed": seed} | measure(levers[name], data, work, options.seconds, seed)
                with options.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    sys.stdout.write(table([json.loads(line) for line in options.out.read_text().splitlines()]))


def read_options(words: list[str]) -> argparse.Namespace:
    """Return what the command line asks for; levers may stand before and behind options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("levers", nargs="*")
    parser.add_argument("--seconds", type=float, default=120.0, help="CPU seconds of training, all ranks together")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--out", type=Path, default=Path("time_to_shape.jsonl"))
    return parser.parse_intermixed_args(words)


def encoded(manifest: Path, options: list[str], folder: Path) -> Path:
    """Return a copy of the curated manifest with latents and texts of these options, which levers share."""
    copy = folder / f"set{''.join(options)}.duckdb"
    if not copy.exists():
        shutil.copy(manifest, copy)
        goku("encode-latents", str(copy), *ENCODE, *options, "--forget-lost")
    return copy


def measure(lever: Row, data: Path, folder: Path, seconds: float, seed: int) -> Row:
    """Return what one run cost, and what its samples show."""
    _, trial = train(lever, data, folder, TRIAL_STEPS, seed)
    _, start = train(lever, data, folder, 1, seed)
    each = (trial - start) / (TRIAL_STEPS - 1)
    steps = max(1, round(seconds / each))
    checkpoint, spent = train(lever, data, folder, steps, seed)
    lines = [json.loads(line) for line in (checkpoint.parent / "metrics.jsonl").read_text().splitlines()]
    samples = goku("sample", str(checkpoint), "--bench", "shapes", *PARTS, "--count", TAKES)
    found = json.loads(goku("eval", samples, "--bench", "shapes", "--json"))["shapes"]
    scores = {
        f"{name}/{tag}": found.get(f"shapes.{name}/{tag}") for name in ATTRIBUTES for tag in ("seen", "unseen", "codec")
    }
    losses = {key: value for line in lines for key, value in line.items() if key.startswith("loss_")}
    return {
        "steps": steps, "cpu_seconds": spent - start, "samples": samples_seen(checkpoint.parent),
        **losses, **scores,
    }  # fmt: skip


def train(lever: Row, data: Path, folder: Path, steps: int, seed: int) -> tuple[Path, float]:
    """Train so many steps; return the checkpoint and the CPU seconds of everything that it took."""
    recipe: Any = tomlkit.parse(DEMO.read_text())
    for key, value in lever.items():
        if key != "encode":
            merge(recipe, key, value)
    often = {"steps": steps, "seed": seed, "save_every": steps, "eval_every": steps, "log_every": max(1, steps // 10)}
    merge(recipe, "train", often)
    path = folder / f"steps-{steps}-seed-{seed}.toml"
    path.write_text(tomlkit.dumps(recipe))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    checkpoint = goku("train", str(path), str(data), "--runs", str(folder / "runs"))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Path(checkpoint), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def merge(table: Any, key: str, value: Any) -> None:
    """Write a value into a recipe, table by table."""
    if isinstance(value, dict):
        inner = table.setdefault(key, {})
        for name, below in value.items():
            merge(inner, name, below)
    else:
        table[key] = value


def samples_seen(run: Path) -> int:
    """Return how many images and clips a run was shown."""
    import pyarrow.parquet as pq

    return sum(pq.ParquetFile(path).metadata.num_rows for path in (run / "losses").glob("*.parquet"))


def goku(*words: str) -> str:
    """Run a command of goku and return the reference that it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "goku_cli", *words], check=True, stdout=subprocess.PIPE, text=True,
        stderr=None if os.environ.get("LOUD") else subprocess.DEVNULL,
    )  # fmt: skip
    return done.stdout.strip()


def table(rows: list[Row]) -> str:
    """Return the leaderboard: the mean over a lever's seeds, the best shape first."""
    names = list(dict.fromkeys(row["lever"] for row in rows))
    columns = [f"{name}/seen" for name in ATTRIBUTES] + ["shape/unseen", "strict/unseen"]
    lines = []
    for name in names:
        runs = [row for row in rows if row["lever"] == name]
        means = [statistics.mean(row[column] for row in runs) for column in columns]
        cost = [statistics.mean(row[key] for row in runs) for key in ("cpu_seconds", "steps", "samples")]
        cells = [f"{cost[0]:.0f}", f"{cost[1]:,.0f}", f"{cost[2]:,.0f}", *(f"{mean:.2f}" for mean in means)]
        lines.append((means[1], f"| {name} | {len(runs)} | {' | '.join(cells)} |"))
    head = ["lever", "seeds", "CPU s", "steps", "samples seen", *columns]
    shown = [line for _, line in sorted(lines, reverse=True)]
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *shown]) + "\n"


if __name__ == "__main__":
    main()
