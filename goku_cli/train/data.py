"""What a step trains on: a function of the seed, the step and the position in the data, whatever the number of ranks,
so that a resumed run sees the same data.

The manifest is locked by whoever writes it, so the launcher exports the chosen rows once as Parquet, and every
rank reads that and the shards beside the manifest. A step is drawn on every rank alike, from the rows; only the
samples of its own packs are then read.
"""

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from goku_cli.errors import GokuError
from goku_cli.manifest.shards import ShardReader, checksum
from goku_cli.model.codec import Statistics
from goku_cli.model.noise import Key, noise, stream
from goku_cli.model.packing import token_count
from goku_cli.model.text import from_stored

SMALLEST = 2.0**-24
"""Quantile functions of times want draws from the open interval (0, 1)."""
AGAIN = "remove that file and encode again with: goku encode-latents MANIFEST"
FLOAT_BYTES = 4
CHOICES = 5
"""Uniform draws for each sample: its time, whether its text is dropped, which text, first frame, last frame."""
LATENT_BYTES = 1 << 30
"""Latents that are kept in memory, normalized: small sets are seen hundreds of times."""
ROWS_IN_MEMORY = 100_000
"""To take one row out of a table of columns costs more than to compute its noise."""
TEXTS_IN_MEMORY = 256
"""Captions repeat from step to step; a state of FLAN-T5-XL is about a megabyte."""


class Place(NamedTuple):
    """Where text states lie."""

    shard: str
    key: str
    crc: int
    """`manifest.shards.checksum` of them."""


@dataclass(frozen=True)
class Draw:
    """A sample of a step, before anything of it is read."""

    row: int
    tokens: int
    text: Place
    """Of its text states."""
    text_tokens: int
    source: str
    """Where its caption came from: the captioner's name, or `dropped`."""
    u: float
    """Uniform in (0, 1): what its time is made of."""
    key: tuple[Key, ...]
    """Of its noise: the seed, the step, and its place in the step."""
    given: bool = True
    """Whether an image-to-video model gets its first frame."""
    led: bool = False
    """Whether it gets the last one as well."""


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
    key: str = ""
    """Of the latent."""
    source: str = ""
    given: bool = True
    led: bool = False
    label: int | None = None
    """Of a class-conditional model: its caption's place among the classes, or the one after them for "any"."""


class Order:
    """The rows of one kind, epoch after epoch: in every epoch each as often as its weight says, in an order of its own.

    Systematic sampling (Madow 1949): of n rows, n points at equal distances on the cumulated weights choose n. So equal
    weights see every row once an epoch, and a weight of 1.5 means once or twice, in the mean 1.5 times.
    """

    def __init__(self, rows: np.ndarray, weights: np.ndarray, *key: Key) -> None:
        self._rows = rows
        self._reach = weights.cumsum()
        self._key = key
        self._epoch = -1
        self._order = rows

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, position: int) -> int:
        """Return the row at a position, counted from the beginning of the first epoch."""
        epoch, place = divmod(position, len(self._rows))
        if epoch != self._epoch:
            rng = stream(*self._key, epoch)
            points = (np.arange(len(self)) + rng.random()) / len(self) * self._reach[-1]
            chosen = np.minimum(np.searchsorted(self._reach, points, side="right"), len(self) - 1)
            self._order, self._epoch = rng.permutation(self._rows[chosen]), epoch
        return int(self._order[place])


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
        held, is_image = table["held_out"].to_numpy(bool), table["frames"].to_numpy() == 1
        # A handful of clips of a kind, of which none is held out: measure on what there is.
        measured = np.logical_or.reduce([kind & (held | ~held[kind].any()) for kind in (is_image, ~is_image)])
        return cls(table[~held].reset_index(drop=True), table[measured].reset_index(drop=True), statistics)


class Latents:
    """Draws the samples of steps, and reads them from shards."""

    def __init__(
        self, index: Index, root: Path, null_text: Place, *, seed: int, image_share: float,
        text_dropout: float, image_dropout: float = 0.0, last_frame_share: float = 0.0, sample_posterior: bool = False,
        classes: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        """Read from `root`; with `sample_posterior` a latent is drawn from its posterior, and else is its mean.

        `classes` are those of a class-conditional model, by the key of their text states.
        """
        self.index = index
        self.sample_posterior = sample_posterior
        self.null_text = null_text
        self.seed = seed
        self.text_dropout = text_dropout
        self.image_dropout = image_dropout
        self.last_frame_share = last_frame_share
        self.classes = classes
        self.position = [0, 0, 0, 0]
        """Images and videos that were drawn so far, and their tokens: what is owed to either carries over to the next
        step, since a clip may be as large as one."""
        self._shards = ShardReader(root)
        self.text = functools.lru_cache(TEXTS_IN_MEMORY)(self._text)
        self._row = functools.lru_cache(ROWS_IN_MEMORY)(lambda row: index.train.iloc[row].to_dict())
        most = 2 * FLOAT_BYTES * max(math.prod(map(int, shape)) for shape in index.train["shape"])  # mean, deviation
        self._moments = functools.lru_cache(max(1, LATENT_BYTES // most))(lambda row: self._latent(self._row(row)))
        is_image = index.train["frames"].to_numpy() == 1
        weights = index.train["weight"].to_numpy(float)
        groups = [np.flatnonzero(kind & (weights > 0)) for kind in (is_image, ~is_image)]
        self._orders = [Order(rows, weights[rows], seed, "order", kind) for kind, rows in enumerate(groups)]
        self._image_share = image_share if all(map(len, groups)) else float(len(groups[1]) == 0)
        self._tokens = np.array([token_count(shape) for shape in index.train["shape"]])

    def draw(self, step: int, tokens: int) -> list[Draw]:
        """Return the samples that follow `position`, at least `tokens` vision tokens and less than one sample more:
        images and videos by share."""
        rows: list[int] = []
        *drawn, image_tokens, video_tokens = self.position
        wanted = image_tokens + video_tokens + tokens
        while image_tokens + video_tokens < wanted:
            video = self._image_share < 1 and image_tokens >= self._image_share * (image_tokens + video_tokens)
            row = self._orders[video].row(drawn[video])
            drawn[video] += 1
            image_tokens += 0 if video else int(self._tokens[row])
            video_tokens += int(self._tokens[row]) if video else 0
            rows.append(row)
        self.position = [*drawn, image_tokens, video_tokens]
        chances = stream("choices", self.seed, step).random((len(rows), CHOICES)).tolist()
        return [self._draw(row, step, place, *chances[place]) for place, row in enumerate(rows)]

    def _draw(
        self, row: int, step: int, place: int, u: float, drop: float, said: float, given: float, led: float
    ) -> Draw:
        """Return the sample at a place in a step, as uniform draws in [0, 1) decide."""
        entry = self._row(row)
        choice = int(said * len(entry["text_keys"]))
        text = _place(entry, choice)
        if drop < self.text_dropout or given < self.image_dropout / 2:
            text, length, source = self.null_text, len(self.text(self.null_text)), "dropped"
        else:
            length, source = int(entry["text_tokens"][choice]), entry["text_sources"][choice]
        is_given = given >= self.image_dropout
        is_led = is_given and led < self.last_frame_share
        key = (self.seed, step, place)
        return Draw(row, int(self._tokens[row]), text, length, source, max(u, SMALLEST), key, is_given, is_led)

    def read(self, draw: Draw) -> Example:
        """Read a sample, normalized, and draw its noise.

        Raises:
            GokuError: its latent or its text states are gone, are not what was written, or hold NaN or infinity.
        """
        entry = self._row(draw.row)
        latent, deviation = self._moments(draw.row)
        if self.sample_posterior and deviation is not None:
            latent = latent + deviation * noise(tuple(latent.shape), "posterior", *draw.key)
        x_0 = noise(tuple(latent.shape), "noise", *draw.key)
        label = self._label(draw.text)
        text = self.text(draw.text)
        about = (entry["clip"], entry["key"], draw.source, draw.given, draw.led, label)
        return Example(latent, text, x_0, draw.u, *about)

    def blank(self, draw: Draw) -> Example:
        """Return a sample like this one that holds nothing."""
        empty = torch.zeros(tuple(self._row(draw.row)["shape"]))
        return Example(empty, self.text(self.null_text), empty, draw.u, "", label=self._label(self.null_text))

    def held_out(self, limit: int) -> list[Example]:
        """Return up to `limit` held-out examples, half of them videos where there are so many, each with the first of
        its captions and its own noise."""
        found = []
        is_image = self.index.held_out["frames"].to_numpy() == 1
        images, videos = np.flatnonzero(is_image), np.flatnonzero(~is_image)
        some = min(len(images), max(limit - len(videos), limit // 2))
        for i in sorted((*images[:some], *videos[: limit - some])):
            entry: Any = self.index.held_out.iloc[i]
            latent, _ = self._latent(entry)
            x_0 = noise(tuple(latent.shape), "held out", entry["key"])
            place = _place(entry, 0)
            found.append(Example(latent, self.text(place), x_0, 0.5, entry["clip"], label=self._label(place)))
        return sorted(found, key=lambda example: (example.latent.shape, len(example.text)))

    def _latent(self, entry: Any) -> tuple[Tensor, Tensor | None]:
        """Return the posterior's mean and standard deviation (C, T, H, W), normalized, float32; None where the VAE has
        no variance."""
        stored = [self._shards.read(entry["shard"], entry["key"])]
        if entry["logvar"]:
            stored.append(self._shards.read(entry["shard"], f"{entry['key']}.logvar"))
        where = f"the latent of clip {entry['clip']} in {entry['shard']}"
        if checksum(*stored) != entry["crc"]:
            raise GokuError(f"{where} is not what was written; {AGAIN}")
        z, *logvar = (torch.from_numpy(x).float() for x in stored)
        if not all(x.isfinite().all() for x in (z, *logvar)):
            raise GokuError(f"{where} holds NaN or infinity; {AGAIN}")
        statistics = self.index.statistics
        return statistics.normalize(z), statistics.scale((0.5 * logvar[0]).exp()) if logvar else None

    def _label(self, text: Place) -> int | None:
        return None if self.classes is None else self.classes.get(text.key, len(self.classes))

    def _text(self, place: Place) -> Tensor:
        """Return text states (m, width); `text` is this with a memory, since captions repeat."""
        states = self._shards.read(place.shard, place.key)
        if checksum(states) != place.crc:
            raise GokuError(f"the text states {place.key} in {place.shard} are not what was written; {AGAIN}")
        return from_stored(states)


def _place(entry: Any, choice: int) -> Place:
    return Place(entry["text_shards"][choice], entry["text_keys"][choice], int(entry["text_crcs"][choice]))
