# SPDX-License-Identifier: Apache-2.0
"""Starts the ranks of a program as torchrun would, each a process whose end and errors are its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LIB = Path(__file__).parent.parent
ROOT = LIB.parent.parent


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def environment(**changes: str) -> dict[str, str]:
    """This process's environment for programs of the tests, one thread each."""
    paths = [str(LIB), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    fixed = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": os.pathsep.join(paths)}
    return {**os.environ, **fixed, **changes}


def start_ranks(
    size: int, command: Sequence[str], logs: Path, special: Mapping[int, Mapping[str, str]] | None = None
) -> list[subprocess.Popen[bytes]]:
    """The ranks of `python -m command...`.

    Args:
        logs: directory for the standard error of each rank.
        special: variables of single ranks.
    """
    logs.mkdir(parents=True, exist_ok=True)
    port, started = str(free_port()), []
    for rank in range(size):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1"}
        own = dict((special or {}).get(rank, {}))
        with (logs / f"rank{rank}.err").open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env=environment(**place, MASTER_PORT=port, **own),
                stderr=errors,
                stdout=errors,
            )
        started.append(process)
    return started


def wait_all(processes: Sequence[subprocess.Popen[bytes]], seconds: float = 120) -> list[int]:
    """Exit statuses; kills what is left after the time, and fails."""
    deadline = time.monotonic() + seconds
    try:
        return [process.wait(max(0.1, deadline - time.monotonic())) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def run_ranks(size: int, command: Sequence[str], logs: Path) -> None:
    """Runs the ranks to their end; fails with their words if one fails."""
    codes = wait_all(start_ranks(size, command, logs))
    words = "\n".join(path.read_text()[-3000:] for path in sorted(logs.glob("rank*.err")))
    assert codes == [0] * size, f"{codes}\n{words}"


def wait_for(condition: Callable[[], bool], seconds: float = 100) -> None:
    """Until the condition holds; fails if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "condition not reached in time"
        time.sleep(0.02)
