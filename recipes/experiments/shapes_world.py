"""What the experiments on the shapes world share: the data at two sizes, runs, and what their samples show."""

import json
from pathlib import Path

from outcome import HERE, WORK, Row, goku

from goku_cli.model import checkpoint

DATA = WORK / "shapes.duckdb"
LARGE = WORK / "large.duckdb"
TAKES = "4"
"""Samples of each of the benchmark's prompts."""
ATTRIBUTES = ("color", "shape", "motion", "strict")


def make_data() -> None:
    """Make the set of 48x80, once, as `./just demo` does."""
    if DATA.exists():
        return
    goku("synth", "shapes", str(WORK / "raw"), "--videos", "40", "--images", "600", "--seed", "0")
    goku("ingest", str(WORK / "raw"), "-m", str(DATA))
    goku("split", str(DATA))
    goku("filter", str(DATA), "--tier", "shapes")
    goku("caption", f"{DATA}#shapes")
    goku("balance", f"{DATA}#shapes", "--taxonomy", "shapes")
    goku("encode-latents", f"{DATA}#shapes-balanced", "--channels", "16")  # as the figures in README.md were measured


def make_large_data() -> None:
    """Make the same set at 96x160, with the same VAE, once."""
    make_data()
    if LARGE.exists():
        return
    (vae,) = WORK.glob("shapes.latents/linear-*")
    goku("encode-latents", str(DATA), "-o", str(LARGE), "--size", "96x160", "--vae", str(vae))


def train(recipe: str, data: Path = DATA) -> Path:
    """Train a recipe of this folder on one rank, and return its checkpoint; one that is finished is not begun again."""
    return Path(goku("train", str(HERE / recipe), str(data), "--runs", str(WORK / "runs"), "--ranks", "1"))


def flops(*folders: Path) -> float:
    """Return the operations of training these checkpoints, by the model's own arithmetic."""
    total = 0.0
    for folder in folders:
        lines = (folder.parent / "metrics.jsonl").read_text().splitlines()
        rates = [row for row in map(json.loads, lines) if "flops_per_second" in row]
        mean = sum(row["flops_per_second"] / row["steps_per_second"] for row in rates) / len(rates)
        total += mean * int(folder.name.removeprefix("step-"))
    return total


def scores(folder: Path) -> Row:
    """Draw the shapes benchmark and return the share of right attributes, and the held-out loss."""
    samples = goku("sample", str(folder), "--bench", "shapes", "--count", TAKES)
    found = json.loads(goku("eval", samples, "--bench", "shapes", "--json"))["shapes"]
    losses = checkpoint.read_config(folder)["figures"]
    row: Row = {name: found[f"shapes.{name}/all"] for name in ATTRIBUTES}
    kinds = {f"loss_{kind}": losses[f"held_out_loss_{kind}"] for kind in ("images", "videos")}
    return row | {"loss": losses["held_out_loss"]} | kinds
