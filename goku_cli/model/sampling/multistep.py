"""Solvers that remember the step before: UniPC and DPM-Solver++(2M), by diffusers' scheduler.

diffusers writes a flow by its noise level sigma = 1 - t, and the velocity the other way. A scheduler has one row of
sigmas, so rows of x with the same times share one.
"""

from collections.abc import Callable, Iterator

import torch
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from torch import Tensor

Field = Callable[[Tensor, Tensor], Tensor]


def unipc(field: Field, x_0: Tensor, times: Tensor) -> Iterator[Tensor]:
    """UniPC of order 2 (Zhao et al. 2023), one evaluation a step; yield x after every step."""
    return _multistep(field, x_0, times, corrected=True)


def dpm_plus_plus(field: Field, x_0: Tensor, times: Tensor) -> Iterator[Tensor]:
    """DPM-Solver++(2M) (Lu et al. 2022), one evaluation a step; yield x after every step.

    It is UniPC's predictor with B_2(h), without the corrector; diffusers' own scheduler of that name takes no sigmas.
    """
    return _multistep(field, x_0, times, corrected=False)


def _multistep(field: Field, x_0: Tensor, times: Tensor, *, corrected: bool) -> Iterator[Tensor]:
    """Integrate x (N, C) over times (S + 1, N, 1), or (S + 1, 1) and (S + 1,) for all rows alike."""
    columns = times.reshape(len(times), -1)
    distinct, group_N = columns.unique(dim=1, return_inverse=True)
    schedulers = [_scheduler(column, corrected) for column in distinct.T]
    group_N = group_N.expand(len(x_0)).to(x_0.device)
    rows = [(group_N == i).nonzero().squeeze(1) for i in range(len(schedulers))]
    x = x_0
    for step, t in enumerate(times[:-1]):
        # The first sigma is 1 - 1e-6 there, as its logarithm of signal to noise must be finite.
        v, x_last, x = field(x, t), x, torch.empty_like(x)
        for scheduler, index in zip(schedulers, rows, strict=True):
            stepped = scheduler.step(-v[index], scheduler.timesteps[step], x_last[index], return_dict=False)
            x[index] = stepped[0]
        yield x


def _scheduler(times: Tensor, corrected: bool) -> UniPCMultistepScheduler:
    steps = len(times) - 1
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, solver_order=2,
        disable_corrector=[] if corrected else list(range(steps)),
    )  # fmt: skip
    scheduler.set_timesteps(sigmas=(1 - times[:-1]).double().cpu().numpy())  # it adds the last sigma, 0
    scheduler.set_begin_index(0)
    return scheduler
