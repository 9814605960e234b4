"""What a step trains on: a function of (seed, step) alone, whatever the number of ranks, so that a resumed run sees
the same data.

The manifest is locked by whoever writes it, so the launcher exports the chosen rows once as Parquet, and every
rank reads that and the shards beside the manifest. A step is drawn on every rank alike, from the rows; only the
samples of its own packs are then read.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from goku_cli.errors import GokuError
from goku_cli.manifest.shards import ShardReader
from goku_cli.model.codec import Statistics
from goku_cli.model.noise import Key, noise, stream
from goku_cli.model.packing import token_count

HELD_OUT_SHARE = 20
"""One clip in this many is never trained on; which ones follows from their ids."""
SMALLEST = 2.0**-24
"""Quantile functions of times want draws from the open interval (0, 1)."""


@dataclass(frozen=True)
class Draw:
    """A sample of a step, before anything of it is read."""

    row: int
    tokens: int
    text: tuple[str, str]
    """Shard and key of its text states."""
    text_tokens: int
    u: float
    """Uniform in (0, 1): what its time is made of."""
    key: tuple[Key, ...]
    """Of its noise."""


@dataclass(frozen=True)
class Example:
    """A sample in memory."""

    latent: Tensor
    """(C, T, H, W)"""
    text: Tensor
    """(m, text width)"""
    x_0: Tensor
    """Noise like the latent."""
    u: float
    clip: str


@dataclass(frozen=True)
class Index:
    """The exported rows, one per latent window, split into training and held-out clips."""

    train: pd.DataFrame
    held_out: pd.DataFrame
    statistics: Statistics
    """By which every latent is normalized; frozen with the run."""

    @classmethod
    def read(cls, path: Path) -> "Index":
        """Read `data.parquet`, and from `recipe.json` beside it the statistics."""
        table = pd.read_parquet(path)
        frozen = json.loads(path.with_name("recipe.json").read_text())["data"]["statistics"]
        statistics = Statistics(tuple(frozen["mean"]), tuple(frozen["std"]))
        held = table["clip"].map(lambda clip: int(clip[:8], 16) % HELD_OUT_SHARE == 0)
        if held.all() or not held.any():  # a handful of clips: measure on what there is
            return cls(table, table, statistics)
        return cls(table[~held].reset_index(drop=True), table[held].reset_index(drop=True), statistics)


class Latents:
    """Draws the samples of steps, and reads them from shards."""

    def __init__(
        self, index: Index, root: Path, null_text: tuple[str, str], *, seed: int, image_share: float,
        text_dropout: float, sample_posterior: bool = False,
    ) -> None:  # fmt: skip
        """Read from `root`; with `sample_posterior` a latent is drawn from its posterior, and else is its mean."""
        self.index = index
        self.sample_posterior = sample_posterior
        self.null_text = null_text
        self.seed = seed
        self.text_dropout = text_dropout
        self._shards = ShardReader(root)
        self._texts: dict[tuple[str, str], Tensor] = {}
        is_image = index.train["frames"].to_numpy() == 1
        weights = index.train["weight"].to_numpy(float)
        self._groups = [np.flatnonzero(is_image & (weights > 0)), np.flatnonzero(~is_image & (weights > 0))]
        self._reach = [weights[group].cumsum() for group in self._groups]
        self._image_share = image_share if all(map(len, self._groups)) else float(len(self._groups[1]) == 0)
        self._tokens = np.array([token_count(shape) for shape in index.train["shape"]])

    def draw(self, step: int, tokens: int) -> list[Draw]:
        """Return a step's samples, about `tokens` vision tokens: images and videos by share, by weight within each."""
        rng = stream(self.seed, "rows", step)
        rows: list[int] = []
        spent = [0, 0]
        while sum(spent) < tokens:
            video = self._image_share < 1 and spent[0] >= self._image_share * sum(spent)
            reach = self._reach[video]  # a draw is one search among millions of rows, not a pass over them
            place = int(np.searchsorted(reach, rng.random() * reach[-1], side="right"))
            row = int(self._groups[video][min(place, len(reach) - 1)])
            spent[video] += int(self._tokens[row])
            rows.append(row)
        seen: Counter[int] = Counter()
        draws = []
        for row in rows:
            draws.append(self._draw(row, step, seen[row]))
            seen[row] += 1
        return draws

    def _draw(self, row: int, step: int, again: int) -> Draw:
        entry: Any = self.index.train.iloc[row]
        key = (self.seed, entry["key"], step, again)
        rng = stream("choices", *key)
        u, drop, choice = max(rng.random(), SMALLEST), rng.random(), int(rng.integers(len(entry["text_keys"])))
        text = (entry["text_shards"][choice], entry["text_keys"][choice])
        if drop < self.text_dropout:
            text, length = self.null_text, len(self.text(self.null_text))
        else:
            length = int(entry["text_tokens"][choice])
        return Draw(row, int(self._tokens[row]), text, length, u, ("noise", *key))

    def read(self, draw: Draw) -> Example:
        """Read a sample, normalized, and draw its noise.

        Raises:
            GokuError: its latent holds NaN or infinity.
        """
        entry: Any = self.index.train.iloc[draw.row]
        latent = self._latent(entry, ("posterior", *draw.key[1:]) if self.sample_posterior else None)
        x_0 = noise(tuple(latent.shape), *draw.key)
        return Example(latent, self.text(draw.text), x_0, draw.u, entry["clip"])

    def held_out(self, limit: int) -> list[Example]:
        """Return the first `limit` held-out examples, each with the first of its captions and its own noise."""
        found = []
        for i in range(min(limit, len(self.index.held_out))):
            entry: Any = self.index.held_out.iloc[i]
            latent = self._latent(entry, None)
            x_0 = noise(tuple(latent.shape), "held out", entry["key"])
            text = self.text((entry["text_shards"][0], entry["text_keys"][0]))
            found.append(Example(latent, text, x_0, 0.5, entry["clip"]))
        return sorted(found, key=lambda example: (example.latent.shape, len(example.text)))

    def _latent(self, entry: Any, noise_key: tuple[Key, ...] | None) -> Tensor:
        """Return the posterior's mean (C, T, H, W) or, with a key of noise, a sample of it; normalized, float32."""
        z = torch.from_numpy(self._shards.read(entry["shard"], entry["key"])).float()
        if noise_key is not None and entry["logvar"]:
            logvar = torch.from_numpy(self._shards.read(entry["shard"], f"{entry['key']}.logvar")).float()
            z = z + (0.5 * logvar).exp() * noise(tuple(z.shape), *noise_key)
        if not z.isfinite().all():
            raise GokuError(f"the latent of clip {entry['clip']} in {entry['shard']} holds NaN or infinity; remove "
                            "that file and encode again with: goku encode-latents MANIFEST")  # fmt: skip
        return self.index.statistics.normalize(z)

    def text(self, place: tuple[str, str]) -> Tensor:
        """Return text states by (shard, key), kept in memory: captions repeat."""
        if place not in self._texts:
            self._texts[place] = torch.from_numpy(self._shards.read(*place))
        return self._texts[place]
