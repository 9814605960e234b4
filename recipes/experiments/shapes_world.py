"""What the experiments on the shapes world share: the data at two sizes, runs, and what their samples show."""

import json
import re
from pathlib import Path

from outcome import HERE, WORK, Row, goku

from goku_cli.model.weights import checkpoint

DATA = WORK / "shapes.duckdb"
LARGE = WORK / "large.duckdb"
SEEDS = (0, 1, 2)
RADII = (0.22, 0.26)
"""Of things, in heights."""
PARTS = ("--part", "single_object", "--part", "motion", "--guidance", "2")
TAKES = "4"
"""Samples of each of the benchmark's prompts."""
ATTRIBUTES = ("color", "shape", "motion", "strict")


def make_data() -> None:
    """Make the set of 32x32, once, as `./just demo` does."""
    if DATA.exists():
        return
    world = [
        "--tasks",
        "single_object,motion",
        "--size",
        "480x480",
        "--radius",
        "{},{}".format(*RADII),
        "--seconds",
        "1.2",
    ]
    goku("synth", "shapes", str(WORK / "raw"), "--videos", "40", "--images", "1200", "--seed", "0", *world)
    goku("ingest", str(WORK / "raw"), "-m", str(DATA))
    goku("split", str(DATA))
    goku("filter", str(DATA), "--tier", "shapes")
    goku("caption", f"{DATA}#shapes", "--no-motion-score")
    goku("balance", f"{DATA}#shapes", "--taxonomy", "shapes")
    goku("encode-latents", f"{DATA}#shapes-balanced", "--size", "32x32", "--text", "words")


def make_large_data() -> None:
    """Make the same set at 64x64, with the same VAE, once."""
    make_data()
    if LARGE.exists():
        return
    (vae,) = WORK.glob("shapes.latents/linear-*")
    goku("encode-latents", str(DATA), "-o", str(LARGE), "--size", "64x64", "--text", "words", "--vae", str(vae))


def train(recipe: str, data: Path = DATA, seed: int = 0) -> Path:
    """Train a recipe of this folder on one rank, and return its checkpoint; one that is finished is not begun again.

    Seeds but 0 have a recipe of their own, which begins with the run of that seed if it begins with one of these.
    """
    path = HERE / recipe
    if seed:
        text = path.read_text().replace("[train]\n", f"[train]\nseed = {seed}\n")
        text = re.sub(r'^init_from = "(.*)"$', rf'init_from = "\1-seed-{seed}"', text, flags=re.MULTILINE)
        path = WORK / f"{path.stem}-seed-{seed}.toml"
        path.write_text(text)
    return Path(goku("train", str(path), str(data), "--runs", str(WORK / "runs"), "--ranks", "1"))


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
    samples = goku("sample", str(folder), "--bench", "shapes", *PARTS, "--count", TAKES)
    found = json.loads(goku("eval", samples, "--bench", "shapes", "--json"))["shapes"]
    losses = checkpoint.read_config(folder)["figures"]
    row: Row = {name: found[f"shapes.{name}/all"] for name in ATTRIBUTES}
    kinds = {f"loss_{kind}": losses[f"held_out_loss_{kind}"] for kind in ("images", "videos")}
    return row | {"loss": losses["held_out_loss"]} | kinds
