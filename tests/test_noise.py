"""Random numbers by key: the same for the same key, and unrelated for neighboring ones."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from goku_cli.model.objective.noise import noise, stream

keys = st.lists(st.integers(0, 2**64) | st.text(), min_size=1, max_size=4)


@given(keys)
def test_a_key_names_its_numbers(key):
    assert torch.equal(noise((3, 5), 7, *key), noise((3, 5), 7, *key))


@given(st.integers(0, 2**40), st.integers(0, 100))
def test_neighboring_streams_share_no_numbers(step, sample):
    """Philox counts blocks in its counter: a key that is written there gives a shifted copy of the next one's."""
    here = set(stream(0, step, sample).random(200).tolist())
    for other in ((step + 1, sample), (step, sample + 1)):
        assert not here & set(stream(0, *other).random(200).tolist())


def test_noise_is_standard_normal():
    x = noise((100_000,), 1, 2).numpy()
    assert abs(x.mean()) < 0.02
    assert abs(x.std() - 1) < 0.02
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 0.02
