"""Training under somebody else's launcher: torchrun, srun or mpirun start `goku train` once for every rank."""

import os
from collections.abc import Callable
from pathlib import Path

from goku_cli.errors import UsageError
from goku_cli.train.prepare import Run

PORT = 29_500


def place(environment: "os._Environ[str] | dict[str, str]") -> dict[str, str] | None:
    """Return the variables of torch.distributed for this process, or None when it was started alone.

    Raises:
        UsageError: it was started among others, but nothing says where they meet.
    """
    get = environment.get
    if int(get("WORLD_SIZE", "1")) > 1 and "RANK" in environment:
        names = {"RANK": "RANK", "WORLD_SIZE": "WORLD_SIZE", "LOCAL_RANK": "LOCAL_RANK"}
    elif int(get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        names = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_STEP_NUM_TASKS", "LOCAL_RANK": "SLURM_LOCALID"}
    elif int(get("OMPI_COMM_WORLD_SIZE", "1")) > 1:
        names = {
            "RANK": "OMPI_COMM_WORLD_RANK", "WORLD_SIZE": "OMPI_COMM_WORLD_SIZE",
            "LOCAL_RANK": "OMPI_COMM_WORLD_LOCAL_RANK",
        }  # fmt: skip
    else:
        return None
    found = {name: environment[theirs] for name, theirs in names.items() if theirs in environment}
    here = "127.0.0.1" if get("OMPI_COMM_WORLD_LOCAL_SIZE") == get("OMPI_COMM_WORLD_SIZE", "none") else ""
    address = get("MASTER_ADDR") or get("SLURM_LAUNCH_NODE_IPADDR") or here
    if not address or "LOCAL_RANK" not in found:
        raise UsageError("this is one rank of several, but MASTER_ADDR (and LOCAL_RANK) do not say where they meet; "
                         "export the first node's address as MASTER_ADDR")  # fmt: skip
    port = get("MASTER_PORT") or str(PORT + int(get("SLURM_JOB_ID", "0")) % 1000)
    return found | {"MASTER_ADDR": address, "MASTER_PORT": port}


def train_here(found: dict[str, str], prepare: Callable[[], Run]) -> Run | None:
    """Train as the rank that this process is. The first rank prepares the run.

    Returns the run in the first rank when it is finished, else None.
    """
    os.environ.update(found)
    from goku_cli.train.distributed.engine import start_ranks
    from goku_cli.train.distributed.topology import Ranks
    from goku_cli.train.trainer import work

    start_ranks()
    ranks = Ranks.join(1)
    run = prepare() if ranks.rank == 0 else None
    finished = bool(run and run.finished)
    folder = ranks.tell("" if finished or run is None else str(run.folder.absolute()))
    if folder:
        finished = work(Path(folder), on_signals=True)
    return run if finished else None
