"""When a step is skipped: by each sample's own drift since the last step that was computed in full."""

import pytest
import torch

from goku_cli.model.network.packing import Sequences
from goku_cli.model.network.step_cache import StepCache

SAMPLES = Sequences.of([3, 1])


def outputs(cache, steps):
    """What comes of evaluations in which the first block adds these numbers to two samples, and the rest 7, 8, ..."""
    for count, added in enumerate(steps):
        added_ND = SAMPLES.spread(torch.tensor(added)[:, None])
        rest = 7.0 + count
        yield cache.through(torch.zeros(4, 1), SAMPLES, lambda x, y=added_ND: x + y, lambda x, y=rest: x + y)


def skipped(threshold, steps):
    cache, found = StepCache(threshold), []
    for _ in outputs(cache, steps):
        found.append(cache.skipped - sum(found))
    assert cache.evaluations == len(steps)
    return found


@pytest.mark.parametrize("steps", [[[1.0, 1.0], [1.0, 1.3]], [[100.0, 1.0], [100.0, 1.3]], [[1.0, 1.0], [1.3, 1.0]]])
def test_one_sample_that_drifts_is_enough_to_compute_a_step(steps):
    """In the mean over samples, even of its square, the change is below 0.25."""
    assert skipped(0.25, steps) == [0, 0]
    assert skipped(0.31, steps) == [0, 1]


def test_drift_is_measured_from_the_last_step_that_was_computed():
    slowly = [[x, x] for x in (1.0, 1.06, 1.12, 1.18, 1.24)]
    assert skipped(0.1, slowly) == [0, 1, 0, 1, 0]


def test_drift_is_relative_to_what_was_added_then():
    assert skipped(0.6, [[1.0, 1.0], [0.5, 0.5]]) == [0, 1]
    assert skipped(0.6, [[0.5, 0.5], [1.0, 1.0]]) == [0, 0]


def test_a_skipped_step_adds_what_the_other_blocks_added_last():
    steps = [[1.0, 1.0], [1.05, 1.0], [2.0, 2.0], [2.1, 2.0]]
    found = [x.flatten().tolist() for x in outputs(StepCache(0.1), steps)]
    rest = (7.0, 7.0, 9.0, 9.0)
    assert found == [pytest.approx([a + r] * 3 + [b + r]) for (a, b), r in zip(steps, rest, strict=True)]
