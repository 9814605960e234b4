"""The door to DeepSpeed (nothing else imports it): how ranks find each other, and the engine that parts the work."""

import os
from collections.abc import Callable
from typing import Any

import deepspeed
import torch
from deepspeed.utils import groups
from torch import nn

from goku_cli.train.recipe import Recipe


def start_ranks() -> None:
    """Join the other ranks, whom the launcher named in the environment."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    else:
        # The shared-memory reduction is compiled at the first start, and a stale lock of that build waits for
        # ever; gloo alone does the same work.
        import deepspeed.ops

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("nccl" if torch.cuda.is_available() else "gloo", auto_mpi_discovery=False)


def part_early(recipe: Recipe) -> Callable[[nn.Module], None] | None:
    """Return what parts a piece of the model between the ranks when it is made; None where ranks keep it whole."""
    if recipe.parallel.zero_stage < 3:
        return None
    where = "cpu" if recipe.parallel.offload_weights else None

    def part(module: nn.Module) -> None:
        deepspeed.zero.Init(
            module, config_dict_or_path=engine_config(recipe), remote_device=where,
            zero_param_parallel_group=groups._ZERO_PARAM_INTRA_PARALLEL_GROUP,  # it refuses to make it twice
            # Its own product for linear layers has a backward pass that cannot be recomputed.
            mem_efficient_linear=False,
        )  # fmt: skip

    return part


def make_engine(model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe) -> Any:
    """Return the engine around a model whose weights `optimizer` changes."""
    return deepspeed.initialize(model=model, optimizer=optimizer, config=engine_config(recipe))[0]


def engine_config(recipe: Recipe) -> dict[str, Any]:
    """Return DeepSpeed's configuration."""
    parallel = recipe.parallel
    zero: dict[str, Any] = {"stage": parallel.zero_stage}
    host = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    if parallel.offload_optimizer:
        zero["offload_optimizer"] = host
    if parallel.offload_weights:
        zero["offload_param"] = host
    if parallel.shard_group:
        zero["zero_hpz_partition_size"] = parallel.shard_group
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": recipe.train.clip if parallel.zero_stage else 0.0,  # without ZeRO the loop clips
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "torch_autocast": {"enabled": recipe.train.bf16, "dtype": "bfloat16"},
        "steps_per_print": 10**9,
    }
