"""Real ranks for tests: processes that find each other as under the launcher, and work through a list of runs."""

import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path

import torch.multiprocessing


def ranks_do(world: int, work: Callable[..., None], *arguments: object) -> None:
    """Call `work(rank, *arguments)` in `world` processes that have joined; fail when one fails."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_rank, (world, port, work, arguments), nprocs=world)


def _rank(rank: int, world: int, port: int, work: Callable[..., None], arguments: tuple[object, ...]) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "DS_ACCELERATOR": "cpu",
    }  # fmt: skip
    from goku_cli.train.distributed.engine import start_ranks

    torch.set_num_threads(1)
    start_ranks()
    try:
        work(rank, *arguments)
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # the other ranks may wait for this one
    torch.distributed.destroy_process_group()


def train_all(rank: int, runs: list[Path]) -> None:
    """Train each of these prepared runs to its end, or until it stops by itself."""
    from goku_cli.train.trainer import Trainer

    for run in runs:
        Trainer(run).train()


def train_all_parted(rank: int, runs: list[Path]) -> None:
    """The same as at full size."""
    as_parted()
    train_all(rank, runs)


def as_parted() -> None:
    """Let ZeRO 3 part every weight, as it does with those of a large model, and the kernel that is named flash-attn-2
    refuse float32, as it does on a GPU."""
    import torch

    from goku_cli.model.network.attention import KERNELS
    from goku_cli.train.distributed import engine

    whole = engine.engine_config

    def parted(recipe: object) -> dict[str, object]:
        config = whole(recipe)
        config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
        return config

    def half_only(q, k, v, queries, keys):
        if {x.dtype for x in (q, k, v)} != {torch.bfloat16}:
            raise RuntimeError("FlashAttention only supports fp16 and bf16")  # its own words
        return KERNELS["sdpa"](q, k, v, queries, keys)

    engine.engine_config = parted
    KERNELS["flash-attn-2"] = half_only
