"""Experiment 1, the paper's Table 2 at toy size: rectified flow against DDPM, by class, at the same steps.

Handwritten digits (scikit-learn's 1,797 of 8x8 pixels, enlarged to 32x32), ten classes, three seeds. What is drawn is
made 8x8 again. Its Frechet distance to the real digits is over the 64 pixels themselves, so it is like an FID and not
one; the class is what a support vector machine sees that was fitted on the real digits.
"""

from pathlib import Path
from typing import Any

import numpy as np
from outcome import HERE, WORK, Row, goku, keep
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import SVC

from goku_cli.evaluate.sets.frechet import Normal, frechet
from goku_cli.sample.generate import Generator, SampleSettings

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ARMS = {"flow": "euler", "flow-data": "euler", "ddpm-eps": "ddim", "ddpm-v": "ddim"}
"""With the solver of each, at the same number of evaluations."""
SEEDS = (0, 1, 2)
STEPS = 25
SIDE = 32
DATA = WORK / "digits.duckdb"
NEIGHBORS = 3
"""Of precision and recall (Kynkaanniemi et al. 2019)."""


def make_data() -> None:
    """Write the digits as files with their names as captions, and encode them, once."""
    if DATA.exists():
        return
    folder = WORK / "digits"
    folder.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    for i, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        small = Image.fromarray(np.round(image * 255 / 16).astype(np.uint8))
        small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGB").save(folder / f"{i:04d}.png")
        (folder / f"{i:04d}.txt").write_text(NAMES[label])
    goku("ingest", str(folder), "--rules", "none", "-m", str(DATA))
    goku("split", str(DATA))
    goku("filter", str(DATA), "--tier", "none")
    goku("caption", f"{DATA}#none", "--captioner", "given", "--no-motion-score")
    goku("encode-latents", f"{DATA}#none", "--size", f"{SIDE}x{SIDE}", "--frames", "1", "--channels", "16")


def train(arm: str, seed: int) -> list[Path]:
    """Train an arm with a seed and return its checkpoints, the earliest first."""
    text = (HERE / "objectives" / f"{arm}.toml").read_text().replace("[train]\n", f"[train]\nseed = {seed}\n")
    recipe = WORK / f"{arm}-{seed}.toml"
    recipe.write_text(text)
    last = goku("train", str(recipe), str(DATA), "--runs", str(WORK / "runs"), "--ranks", "1")
    return sorted(Path(last).parent.glob("step-*"))


def draw(folder: Path, solver: str, labels: np.ndarray) -> np.ndarray:
    """Return digits (N, 64) from 0 to 16, drawn from a checkpoint, one for each label, without guidance."""
    generator = Generator.load(folder)
    wanted = [generator.request(NAMES[label], seed, frames=1) for seed, label in enumerate(labels)]
    settings = SampleSettings(steps=STEPS, guidance=1.0, solver=solver)
    return np.stack([shrunk(clip.frames[0]) for clip in generator.generate(wanted, settings)])


def shrunk(image: np.ndarray) -> np.ndarray:
    """Return a picture (H, W, 3) as the 64 numbers of a digit, from 0 to 16."""
    small = Image.fromarray(image).convert("L").resize((8, 8), Image.Resampling.BOX)
    return np.asarray(small, np.float64).ravel() * 16 / 255


def coverage(of: np.ndarray, among: np.ndarray) -> float:
    """Return the share of rows that lie no farther from some row of `among` than its third neighbor there does."""
    tree = NearestNeighbors(n_neighbors=NEIGHBORS + 1).fit(among)
    reach = tree.kneighbors(among)[0][:, -1]
    far = np.linalg.norm(of[:, None] - among[None], axis=2)
    return float((far <= reach).any(1).mean())


def run() -> None:
    """Train all arms with all seeds, measure every checkpoint, and keep the table."""
    make_data()
    digits = load_digits()
    # The real digits pass the same pictures as the drawn ones.
    real = np.stack([shrunk(np.asarray(Image.open(WORK / "digits" / f"{i:04d}.png"))) for i in range(len(digits.data))])
    judge = SVC().fit(real, digits.target)
    rows: list[Row] = []
    for arm, solver in ARMS.items():
        for seed in SEEDS:
            for folder in train(arm, seed):
                drawn = draw(folder, solver, digits.target)
                rows.append({
                    "objective": arm, "seed": seed, "step": int(folder.name.removeprefix("step-")),
                    "frechet": frechet(Normal.of(drawn), Normal.of(real)),
                    "right_class": float((judge.predict(drawn) == digits.target).mean()),
                    "precision": coverage(drawn, real), "recall": coverage(real, drawn),
                })  # fmt: skip
    halves = np.random.default_rng(0).permutation(len(real))
    floor = frechet(Normal.of(real[halves[::2]]), Normal.of(real[halves[1::2]]))
    rows.append({"objective": "real, half against half", "frechet": floor})
    keep("objectives", "Rectified flow against DDPM on digits, by class", rows, lambda axes: plot(axes, rows), panels=2)


def plot(axes: Any, rows: list[Row]) -> None:
    """Draw distance and right classes over the steps: the mean of the seeds, and their range."""
    for axis, measure in zip(axes, ("frechet", "right_class"), strict=True):
        for arm in ARMS:
            steps = sorted({row["step"] for row in rows if row["objective"] == arm})
            values = np.array([[r[measure] for r in rows if r["objective"] == arm and r["step"] == s] for s in steps])
            axis.plot(steps, values.mean(1), marker="o", label=arm)
            axis.fill_between(steps, values.min(1), values.max(1), alpha=0.2)
        axis.set(
            xlabel="steps", ylabel={"frechet": "Frechet distance of pixels", "right_class": "right class"}[measure]
        )
        axis.grid(alpha=0.3)
    axes[0].set_yscale("log")
    axes[0].legend()
