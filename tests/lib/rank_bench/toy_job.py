# SPDX-License-Identifier: Apache-2.0
"""`python -m rank_bench.toy_job ALLOCATION`: the toy trainer as a job on any number of ranks, alike on each of them.

Variables give a rank its mishap: `FULL_DISK=KIND@N` lets the N-th write of that kind and all later ones find no room;
`DIVERGES_AT=N` spoils its copy of fragment 0 before inner step N + 1, and lets it work in place; with `KEEPS_AT=N` it
cannot, as while a training checkpoint is written.
"""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from job_bench.toy import WIDE, ToyTrainer

from federation.durable import posix, sequences
from federation.durable.posix import translated
from site_agent.inner_loop.last_word import end_process, job_main
from site_agent.inner_loop.rank_allocations import open_allocation
from site_agent.inner_loop.session import ask_on_signals

KINDS: dict[str, list[tuple[type, str, str]]] = {
    "part": [(posix.PosixRandomFile, "write_at", "training/")],
    "record": [(sequences.SequencedFileSystem, "write", "training/")],
    "payload": [(sequences._TemporaryWriter, "write", "")],
    "publish": [(sequences._TemporaryWriter, "publish", "")],
    "report": [(sequences.SequencedFileSystem, name, "report.json") for name in ("place", "write")],
}
"""What writes: class, method, and how the path begins."""


def fill_disk(kind: str, first: int) -> None:
    """From the n-th write of a kind on there is no room."""
    num_writes = [0]
    for owner, name, begin in KINDS[kind]:
        setattr(owner, name, _without_room(getattr(owner, name), begin, num_writes, first))


def _without_room(write: Callable[..., Any], begin: str, num_writes: list[int], first: int) -> Callable[..., Any]:
    def wrapped(self: Any, *arguments: Any, **options: Any) -> Any:
        path = getattr(self, "_path", None) or (arguments[0] if isinstance(arguments[0], str) else "")
        num_writes[0] += path.startswith(begin)
        if path.startswith(begin) and num_writes[0] >= first:
            with translated(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, *arguments, **options)

    return wrapped


def model_of(member: Any) -> Any:
    """The committed model of a rank, behind rank 0's loop or another's."""
    return getattr(member, "_loop", member)._exchange.model


def run(directory: Path) -> str:
    """Trains in one allocation until it ends."""
    if kind := os.environ.get("FULL_DISK"):
        fill_disk(kind.partition("@")[0], int(kind.partition("@")[2]))
    diverges_at = int(os.environ.get("DIVERGES_AT", "-1"))
    keeps_at = int(os.environ.get("KEEPS_AT", "-1"))
    allocation = open_allocation(directory)
    with allocation.reporting_failures():
        manifest = allocation.read_manifest()
        allocation.check_machine()
        trainer = ToyTrainer("a", WIDE)
        loop = allocation.member(manifest, trainer, None)
        loop.begin(ask_on_signals())
        while (rate := loop.prepare()) is not None:
            if loop.num_steps == diverges_at:
                model_of(loop).theta[0] = model_of(loop).theta[0] + 1
                model_of(loop).spares.is_lent = False
            if loop.num_steps == keeps_at:
                model_of(loop)._is_ours[0] = False
            loop.complete(*trainer.take(rate))
    assert loop.ended is not None
    allocation.close(loop.ended)
    return loop.ended.sentence


if __name__ == "__main__":
    end_process(job_main(run, sys.argv[1:], "rank_bench.toy_job"))
