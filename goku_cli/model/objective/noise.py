"""Random numbers by key: counter based (Philox), so they depend on nothing but the key.

Not on the order of draws, the pack a sample lies in, the number of ranks, or a restart. A key is a few numbers and
words, e.g. (seed, "noise", step, clip); its SHA-256 is the generator's key, so that streams of neighboring keys have
nothing in common. (Writing the key into the counter does not do: its low word counts the blocks that were drawn,
and the stream of step s + 1 is then the stream of step s, a few numbers on.)
"""

import hashlib

import numpy as np
import torch
from torch import Tensor

Key = int | str


def stream(*key: Key) -> np.random.Generator:
    """Return the random stream of a key."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16])))


def noise(shape: tuple[int, ...], *key: Key) -> Tensor:
    """Return standard normal noise, float32, of a key."""
    return torch.from_numpy(stream(*key).standard_normal(shape, dtype="float32"))
