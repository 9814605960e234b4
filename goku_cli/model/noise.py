"""Random numbers by key: counter based (Philox), so they depend on nothing but the key.

Not on the order of draws, the pack a sample lies in, the number of ranks, or a restart.
"""

import numpy as np
import torch
from torch import Tensor


def stream(seed: int, *key: int) -> np.random.Generator:
    """Return the random stream of a key of at most four numbers."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[*key, *[0] * (4 - len(key))]))


def noise(shape: tuple[int, ...], seed: int, *key: int) -> Tensor:
    """Return standard normal noise, float32, of a key."""
    return torch.from_numpy(stream(seed, *key).standard_normal(shape, dtype="float32"))
