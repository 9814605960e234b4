"""Where a rank finds its place when somebody else's launcher started it, and nodes of a hostfile."""

import pytest

from goku_cli.errors import UsageError
from goku_cli.train.launch.external import place
from goku_cli.train.launch.hostfile import read_hosts

SLURM = {"SLURM_STEP_NUM_TASKS": "16", "SLURM_PROCID": "9", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "4321"}
MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "3"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, None),  # a batch script, not a step of srun
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, None),
        (
            {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "5"},
            {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "5"},
        ),
        (
            {**SLURM, "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1"},
            {"RANK": "9", "WORLD_SIZE": "16", "LOCAL_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29821"},
        ),
        (
            {**MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "4"},
            {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"},
        ),
    ],
)
def test_the_place_of_a_rank(environment, expected):
    assert place(environment) == expected


@pytest.mark.parametrize("environment", [{**MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, SLURM])
def test_ranks_must_know_where_they_meet(environment):
    with pytest.raises(UsageError, match="export the first node's address as MASTER_ADDR"):
        place(environment)


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "names no host"), ("a slots=x", "line 1"), ("# all\na slots=8\nb", "line 3: 'b'"), ("a slots=0", "line 1")],
)
def test_a_hostfile_that_cannot_be_read_is_refused(tmp_path, text, says):
    (tmp_path / "hosts").write_text(text)
    with pytest.raises(UsageError, match=says):
        read_hosts(tmp_path / "hosts")


def test_hosts_and_their_slots(tmp_path):
    (tmp_path / "hosts").write_text("# two nodes\nnode-1 slots=8\n\nnode-2 slots=4  # half of it\n")
    assert read_hosts(tmp_path / "hosts") == {"node-1": 8, "node-2": 4}
