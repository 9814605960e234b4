"""What a step trains on: a function of the seed, the step and the position in the data, whatever the number of ranks,
so that a resumed run sees the same data.

The manifest is locked by whoever writes it, so the launcher exports the selected rows once (`index.py`), and every rank
maps those and reads the shards beside the manifest. Every rank samples the whole step, as arrays; it reads only the
latents of its own packs.

Shapes: N rows of the index, S samples of a step.
"""

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goku_cli.errors import GokuError
from goku_cli.manifest.shards import ShardReader, checksum
from goku_cli.model.objective.noise import Key, noise, stream
from goku_cli.model.text.encoders import from_stored
from goku_cli.model.vae.codec import Statistics
from goku_cli.train.data.index import Index, TensorRef, Window

SMALLEST = 2.0**-24
"""Quantile functions of times want draws from the open interval (0, 1)."""
AGAIN = "remove that file and encode again with: goku encode-latents MANIFEST"
FLOAT_BYTES = 4
CHOICES = 5
"""Uniform draws for each sample: its time, whether its text is dropped, which text, first frame, last frame."""
LATENT_BYTES = 1 << 30
"""Latents that are kept in memory, normalized: small sets are seen hundreds of times."""
TEXTS_IN_MEMORY = 256
"""Captions repeat from step to step; a state of FLAN-T5-XL is about a megabyte."""
DROPPED = -1
"""The text of a sample that is shown without its own."""


@dataclass(frozen=True)
class SampleRef:
    """A sample of a step, before anything of it is read."""

    row: int
    tokens: int
    text: TensorRef
    """Of its text states."""
    source: str
    """Where its caption came from: the captioner's name, or `dropped`."""
    u: float
    """Uniform in (0, 1): what its time is made of."""
    key: tuple[Key, ...]
    """Of its noise: the seed, the step, and its place in the step."""
    use_first_frame: bool = True
    """Whether an image-to-video model gets its first frame."""
    use_last_frame: bool = False
    """Whether it gets the last one as well."""


@dataclass(frozen=True)
class Draws:
    """The S samples of a step, as arrays."""

    table: Index
    null_text: TensorRef
    null_tokens: int
    key: tuple[Key, ...]
    """The seed and the step."""
    row: np.ndarray
    text: np.ndarray
    """Numbers of texts in the index, or DROPPED."""
    u: np.ndarray
    use_first_frame: np.ndarray
    use_last_frame: np.ndarray

    @property
    def tokens(self) -> np.ndarray:
        """Vision tokens of each."""
        return self.table.rows["tokens"][self.row].astype(np.int64)

    @property
    def text_tokens(self) -> np.ndarray:
        """Rows of text of each."""
        own = self.table.texts["tokens"][np.maximum(self.text, 0)].astype(np.int64)
        return np.where(self.text == DROPPED, self.null_tokens, own)

    def __len__(self) -> int:
        return len(self.row)

    def __iter__(self) -> Iterator[SampleRef]:
        return (self[place] for place in range(len(self)))

    def __getitem__(self, place: int) -> SampleRef:
        """Return a sample by its place in the step."""
        if not 0 <= place < len(self):
            raise IndexError(place)
        row, text = int(self.row[place]), int(self.text[place])
        source, where = "dropped", self.null_text
        if text != DROPPED:
            source, where = self.table.names["sources"][self.table.texts["source"][text]], self.table.text(text)
        return SampleRef(
            row, int(self.table.rows["tokens"][row]), where, source, float(self.u[place]), (*self.key, place),
            bool(self.use_first_frame[place]), bool(self.use_last_frame[place]),
        )  # fmt: skip


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
    use_first_frame: bool = True
    use_last_frame: bool = False
    label: int | None = None
    """Of a class-conditional model: its caption's place among the classes, or the one after them for "any"."""


class EpochSampler:
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

    def from_on(self, position: int, count: int) -> np.ndarray:
        """Return the `count` rows from a position on, counted from the beginning of the first epoch."""
        found = []
        while count:
            epoch, place = divmod(position, len(self))
            some = self._of_epoch(epoch)[place : place + count]
            found.append(some)
            position, count = position + len(some), count - len(some)
        return np.concatenate(found) if found else self._rows[:0]

    def _of_epoch(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            rng = stream(*self._key, epoch)
            points = (np.arange(len(self)) + rng.random()) / len(self) * self._reach[-1]
            chosen = np.minimum(np.searchsorted(self._reach, points, side="right"), len(self) - 1)
            self._order, self._epoch = rng.permutation(self._rows[chosen]), epoch
        return self._order


class Latents:
    """Draws the samples of steps, and reads them from shards."""

    def __init__(
        self, index: Index, statistics: Statistics, root: Path, null_text: TensorRef, *, seed: int, image_share: float,
        text_dropout: float, image_dropout: float = 0.0, last_frame_share: float = 0.0, sample_posterior: bool = False,
        classes: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        """Read from `root`, normalized by `statistics`; with `sample_posterior` a latent is drawn from its posterior,
        and else is its mean.

        `classes` are those of a class-conditional model, by the key of their text states.
        """
        self._about = (index, statistics, root, null_text), {
            "seed": seed, "image_share": image_share, "text_dropout": text_dropout, "image_dropout": image_dropout,
            "last_frame_share": last_frame_share, "sample_posterior": sample_posterior, "classes": classes,
        }  # fmt: skip
        self.index = index
        self.statistics = statistics
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
        most = 2 * FLOAT_BYTES * max(math.prod(shape) for shape in index.names["shapes"])  # mean, deviation
        self._moments = functools.lru_cache(max(1, LATENT_BYTES // most))(lambda row: self._latent(index.window(row)))
        weights, is_image = index.rows["weight"], index.rows["image"]
        trained = ~index.rows["held_out"]
        if not trained.any():  # a selection of held-out sources alone: better than nothing
            trained[:] = True
        groups = [np.flatnonzero(kind & trained & (weights > 0)).astype(np.uint32) for kind in (is_image, ~is_image)]
        self._orders = [EpochSampler(rows, weights[rows], seed, "order", kind) for kind, rows in enumerate(groups)]
        self._image_share = image_share if all(map(len, groups)) else float(len(groups[1]) == 0)

    def __reduce__(self) -> Any:
        """Let another process have the same at the same position, and open files of its own."""
        return _again, (*self._about, self.position)

    def draw(self, step: int, tokens: int) -> Draws:
        """Return the samples that follow `position`, at least `tokens` vision tokens and less than one sample more:
        images and videos by share."""
        rows = self._next(tokens)
        of, (u, drop, said, first, last) = self.index.rows, self._chances(step, len(rows))
        text = of["first"][rows].astype(np.int64) + (said * of["texts"][rows]).astype(np.int64)
        text[(drop < self.text_dropout) | (first < self.image_dropout / 2)] = DROPPED
        use_first = first >= self.image_dropout
        return Draws(
            self.index, self.null_text, len(self.text(self.null_text)), (self.seed, step), rows, text,
            np.maximum(u, SMALLEST), use_first, use_first & (last < self.last_frame_share),
        )  # fmt: skip

    def _chances(self, step: int, count: int) -> np.ndarray:
        """Return uniform draws (CHOICES, S) in [0, 1)."""
        return stream("choices", self.seed, step).random((count, CHOICES)).T

    def _next(self, wanted: int) -> np.ndarray:
        """Return the rows (S,) of the next samples, and let `position` pass them.

        A video comes when images have had their share of all tokens: when (1 - share) image tokens are at least
        share video tokens. So each sample has a time at which it comes, by the tokens of its kind before it, and a step
        is the two orders merged by these times.
        """
        *drawn, image_tokens, video_tokens = self.position
        spent, shares = (image_tokens, video_tokens), (1 - self._image_share, self._image_share)
        count = 16
        while True:
            rows, sizes, times = [], [], []
            for order, position, before, share in zip(self._orders, drawn, spent, shares, strict=True):
                mine = order.from_on(position, count if len(order) and share < 1 else 0)
                size = self.index.rows["tokens"][mine].astype(np.int64)
                rows.append(mine)
                sizes.append(size)
                times.append(share * (before + np.cumsum(size) - size))
            reached = [share * (b + s.sum()) for share, b, s in zip(shares, spent, sizes, strict=True) if len(s)]
            # Videos first, which is who comes at equal times. Beyond what either order has reached nothing is known.
            merged = np.argsort(np.concatenate(times[::-1]), kind="stable")
            size, time = (np.concatenate(x[::-1])[merged] for x in (sizes, times))
            total = np.cumsum(size)
            end = int(np.searchsorted(total, wanted)) + 1
            if end <= len(total) and (len(reached) == 1 or time[end - 1] < min(reached)):
                break
            count *= 2
        chosen = merged[:end]
        videos = chosen < len(rows[1])
        tokens = int(size[:end][videos].sum())
        self.position = [
            drawn[0] + int((~videos).sum()), drawn[1] + int(videos.sum()),
            image_tokens + int(total[end - 1]) - tokens, video_tokens + tokens,
        ]  # fmt: skip
        return np.concatenate(rows[::-1])[chosen]

    def read(self, draw: SampleRef) -> Example:
        """Read a sample, normalized, and draw its noise.

        Raises:
            GokuError: its latent or its text states are gone, are not what was written, or hold NaN or infinity.
        """
        window = self.index.window(draw.row)
        latent, deviation = self._moments(draw.row)
        if self.sample_posterior and deviation is not None:
            latent = latent + deviation * noise(tuple(latent.shape), "posterior", *draw.key)
        x_0 = noise(tuple(latent.shape), "noise", *draw.key)
        label = self._label(draw.text)
        text = self.text(draw.text)
        about = (window.clip, window.key, draw.source, draw.use_first_frame, draw.use_last_frame, label)
        return Example(latent, text, x_0, draw.u, *about)

    def blank(self, draw: SampleRef) -> Example:
        """Return a sample like this one that holds nothing."""
        empty = torch.zeros(self.index.window(draw.row).shape)
        return Example(empty, self.text(self.null_text), empty, draw.u, "", label=self._label(self.null_text))

    def held_out(self, limit: int) -> list[Example]:
        """Return up to `limit` held-out examples, half of them videos where there are so many, each with the first of
        its captions and its own noise."""
        found = []
        of = self.index.rows
        images, videos = (self._measured(kind) for kind in (of["image"], ~of["image"]))
        some = min(len(images), max(limit - len(videos), limit // 2))
        for row in sorted((*images[:some].tolist(), *videos[: limit - some].tolist())):
            window, place = self.index.window(row), self.index.text(int(of["first"][row]))
            latent, _ = self._latent(window)
            x_0 = noise(tuple(latent.shape), "held out", window.key)
            found.append(Example(latent, self.text(place), x_0, 0.5, window.clip, label=self._label(place)))
        return sorted(found, key=lambda example: (example.latent.shape, len(example.text)))

    def _measured(self, kind: np.ndarray) -> np.ndarray:
        """Return the held-out rows of a kind; all of a handful of which none is held out."""
        held = kind & self.index.rows["held_out"]
        return np.flatnonzero(held if held.any() else kind)

    def _latent(self, window: Window) -> tuple[Tensor, Tensor | None]:
        """Return the posterior's mean and standard deviation (C, T, H, W), normalized, float32; None where the VAE has
        no variance."""
        stored = [self._shards.read(window.shard, window.key)]
        if window.logvar:
            stored.append(self._shards.read(window.shard, f"{window.key}.logvar"))
        where = f"the latent of clip {window.clip} in {window.shard}"
        if checksum(*stored) != window.crc:
            raise GokuError(f"{where} is not what was written; {AGAIN}")
        z, *logvar = (torch.from_numpy(x).float() for x in stored)
        if not all(x.isfinite().all() for x in (z, *logvar)):
            raise GokuError(f"{where} holds NaN or infinity; {AGAIN}")
        scaled = self.statistics.scale((0.5 * logvar[0]).exp()) if logvar else None
        return self.statistics.normalize(z), scaled

    def _label(self, text: TensorRef) -> int | None:
        return None if self.classes is None else self.classes.get(text.key, len(self.classes))

    def _text(self, place: TensorRef) -> Tensor:
        """Return text states (m, width); `text` is this with a memory, since captions repeat."""
        states = self._shards.read(place.shard, place.key)
        if checksum(states) != place.crc:
            raise GokuError(f"the text states {place.key} in {place.shard} are not what was written; {AGAIN}")
        return from_stored(states)


def _again(about: tuple[Any, ...], options: dict[str, Any], position: list[int]) -> Latents:
    made = Latents(*about, **options)
    made.position = list(position)
    return made
