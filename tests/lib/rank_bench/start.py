# SPDX-License-Identifier: Apache-2.0
"""Ranks of a program as torchrun would start them, each a process whose end and errors are its own.

They are forked from a process that has imported torch already: on a busy machine that import takes longer than all
that is tested here.
"""

import multiprocessing
import os
import runpy
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from ports import free_port

LIB = Path(__file__).parent.parent
ROOT = LIB.parent.parent

PRELOADED = (
    *("site_agent.trainer.llama", "site_agent.inner_loop.session", "federation.golden.check"),
    *(f"federation.kernels.{name}" for name in ("bf16", "blocks", "elementwise", "fp32", "scaled_int", "sparse")),
    *("torch.distributed.fsdp", "torch.distributed.launcher.api"),
)
"""What takes long to import and starts no threads."""


def environment(**changes: str) -> dict[str, str]:
    """This process's environment for programs of the tests, one thread each."""
    paths = [str(LIB), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    fixed = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": os.pathsep.join(paths)}
    return {**os.environ, **fixed, **changes}


def start_program(command: Sequence[str], log: Path, variables: Mapping[str, str]) -> BaseProcess:
    """`python -m command...` with all that it says in a file, forked."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    log.parent.mkdir(parents=True, exist_ok=True)
    process = context.Process(target=_run, args=(list(command), environment(**variables), str(log)))
    process.start()
    return process


def _run(command: list[str], variables: Mapping[str, str], log: str) -> None:
    import torch

    os.environ.clear()
    os.environ.update(variables)
    torch.set_num_threads(1)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv[:] = command
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)


def start_ranks(
    size: int, command: Sequence[str], logs: Path, special: Mapping[int, Mapping[str, str]] | None = None
) -> list[BaseProcess]:
    """The ranks of `python -m command...`.

    Args:
        logs: directory for what each rank says.
        special: variables of single ranks.
    """
    port, started = str(free_port()), []
    for rank in range(size):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1"}
        own = dict((special or {}).get(rank, {}))
        started.append(start_program(command, logs / f"rank{rank}.err", {**place, "MASTER_PORT": port, **own}))
    return started


def wait_all(processes: Sequence[BaseProcess], seconds: float = 120) -> list[int]:
    """Exit statuses; kills what is left after the time, whose status is that of SIGKILL."""
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.1, deadline - time.monotonic()))
    for process in processes:
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode or 0 for process in processes]


def words_of(logs: Path) -> str:
    """What the ranks said at the end."""
    return "\n".join(path.read_text()[-3000:] for path in sorted(logs.glob("rank*.err")))


def run_ranks(size: int, command: Sequence[str], logs: Path) -> None:
    """Runs the ranks to their end; fails with their words if one fails."""
    codes = wait_all(start_ranks(size, command, logs))
    assert codes == [0] * size, f"{codes}\n{words_of(logs)}"


def wait_for(condition: Callable[[], bool], seconds: float = 100) -> None:
    """Until the condition holds; fails if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "condition not reached in time"
        time.sleep(0.02)
