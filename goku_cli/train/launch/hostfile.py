"""The nodes of a hostfile: lines `HOST slots=N`, as the deepspeed launcher reads them."""

import shutil
import subprocess
from pathlib import Path

from goku_cli.errors import UsageError

CONNECT_SECONDS = 5


def read_hosts(path: Path) -> dict[str, int]:
    """Return the slots of every host.

    Raises:
        UsageError: there is no such file, or a line is not of that form.
    """
    if not path.is_file():
        raise UsageError(f"no hostfile at {path}; it has a line HOST slots=GPUS for every node")
    hosts = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        host, _, slots = text.partition(" ")
        count = slots.strip().removeprefix("slots=")
        if not count.isdigit() or not int(count):
            raise UsageError(f"{path}, line {number}: {text!r} is not of the form HOST slots=GPUS")
        hosts[host] = int(count)
    if not hosts:
        raise UsageError(f"{path} names no host; it has a line HOST slots=GPUS for every node")
    return hosts


def check_hosts(path: Path) -> None:
    """Log in to every host once, without a password, as the launcher will.

    Raises:
        UsageError: as `read_hosts`, or with the first host that cannot be reached.
    """
    hosts = read_hosts(path)
    if shutil.which("ssh") is None:
        raise UsageError("a hostfile needs ssh, which is not installed; or start goku train under torchrun or srun")
    for host in hosts:
        words = ["ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_SECONDS}", "--", host, "true"]
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            why = (done.stderr.strip().splitlines() or ["no answer"])[-1]
            raise UsageError(f"host {host} of {path} cannot be reached by ssh without a password ({why})")
