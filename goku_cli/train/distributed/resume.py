"""Resuming: the newest checkpoint that is complete and verified."""

import os
import shutil
from pathlib import Path

import torch

from goku_cli.errors import GokuError
from goku_cli.model.weights import checkpoint
from goku_cli.train.distributed.topology import Ranks, device
from goku_cli.train.logs.run_log import STOP, RunLog


def newest_whole(run: Path, ranks: Ranks, journal: RunLog) -> Path | None:
    """Return the newest checkpoint of which every byte is what was written; all ranks ask, and share the reading.

    What an interrupted save left is removed, and a damaged checkpoint gets another name.
    """
    ranks.wait()
    if ranks.rank == 0:
        for torn in run.glob(".step-*"):
            shutil.rmtree(torn)
        (run / STOP).unlink(missing_ok=True)
    ranks.wait()
    while found := ranks.tell(str(next(reversed(checkpoint.checkpoints(run)), ""))):
        folder = Path(found)
        problem = _damage(folder, ranks, journal)
        if not problem:
            return folder
        if ranks.rank == 0:
            journal.event(0, f"{problem}; going on from the checkpoint before it")
            os.replace(folder, folder.with_name(f"damaged-{folder.name}"))
        ranks.wait()
    return None


def _damage(folder: Path, ranks: Ranks, journal: RunLog) -> str:
    """Return what is wrong with a checkpoint."""
    problem = ""
    try:
        checkpoint.verify(folder, ranks.rank, ranks.world)
    except GokuError as error:
        problem = str(error)
        if ranks.rank:  # the first rank's is told by the caller
            journal.event(0, problem)
    bad = ranks.total(torch.tensor(float(bool(problem)), device=device()))
    return problem or (f"{folder} is damaged" if bad else "")
