"""What a step trains on: a pure function of (seed, step, rank), so that a resumed run sees the same data.

The manifest is locked by whoever writes it, so the launcher exports the chosen rows once as Parquet, and every
rank reads that and the shards beside the manifest.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from goku_cli.manifest.shards import ShardReader
from goku_cli.model.noise import stream
from goku_cli.model.packing import token_count

HELD_OUT_SHARE = 20
"""One clip in this many is never trained on; which ones follows from their ids."""

Example = tuple[Tensor, Tensor]
"""A latent (C, T, H, W) and text states (m, text width)."""


@dataclass(frozen=True)
class Index:
    """The exported rows, one per latent window, split into training and held-out clips."""

    train: pd.DataFrame
    held_out: pd.DataFrame

    @classmethod
    def read(cls, path: Path) -> "Index":
        """Read `data.parquet`."""
        table = pd.read_parquet(path)
        held = table["clip"].map(lambda clip: int(clip[:8], 16) % HELD_OUT_SHARE == 0)
        if held.all() or not held.any():  # a handful of clips: measure on what there is
            return cls(table, table)
        return cls(table[~held].reset_index(drop=True), table[held].reset_index(drop=True))


class Latents:
    """Draws packs' worth of examples from shards."""

    def __init__(self, index: Index, root: Path, null_text: tuple[str, str], image_share: float) -> None:
        self.index = index
        self.null_text = null_text
        self._shards = ShardReader(root)
        self._texts: dict[tuple[str, str], Tensor] = {}
        is_image = index.train["frames"].to_numpy() == 1
        weights = index.train["weight"].to_numpy(float)
        self._groups = [np.flatnonzero(is_image & (weights > 0)), np.flatnonzero(~is_image & (weights > 0))]
        self._odds = [weights[group] / weights[group].sum() if len(group) else None for group in self._groups]
        self._image_share = image_share if all(map(len, self._groups)) else float(len(self._groups[1]) == 0)
        self._tokens = np.array([token_count(shape) for shape in index.train["shape"]])

    def draw(self, rng: np.random.Generator, tokens: int, text_dropout: float) -> list[Example]:
        """Return examples of about `tokens` vision tokens, images and videos by share, by weight within each.

        Sorted by length, so that equally long samples are attended to in one call on a CPU.
        """
        examples, spent = [], [0, 0]
        while sum(spent) < tokens:
            video = self._image_share < 1 and spent[0] >= self._image_share * sum(spent)
            row = int(rng.choice(self._groups[video], p=self._odds[video]))
            spent[video] += int(self._tokens[row])
            examples.append(self._example(self.index.train, row, rng, text_dropout))
        return sorted(examples, key=lambda example: (example[0].shape[1:], len(example[1])))

    def held_out(self, limit: int) -> list[Example]:
        """Return the first `limit` held-out examples with their own captions."""
        rng = stream(0)
        found = [
            self._example(self.index.held_out, row, rng, 0.0) for row in range(min(limit, len(self.index.held_out)))
        ]
        return sorted(found, key=lambda example: (example[0].shape[1:], len(example[1])))

    def _example(self, table: pd.DataFrame, row: int, rng: np.random.Generator, text_dropout: float) -> Example:
        entry: Any = table.iloc[row]
        latent = torch.from_numpy(self._shards.read(entry["shard"], entry["key"]))
        texts = list(zip(entry["text_shards"], entry["text_keys"], strict=True))
        text = self.null_text if rng.random() < text_dropout else texts[int(rng.integers(len(texts)))]
        return latent, self.text(text)

    def text(self, place: tuple[str, str]) -> Tensor:
        """Return text states by (shard, key), kept in memory: captions repeat."""
        if place not in self._texts:
            self._texts[place] = torch.from_numpy(self._shards.read(*place))
        return self._texts[place]
