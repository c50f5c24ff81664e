# SPDX-License-Identifier: Apache-2.0
"""Who holds a directory: a process that is never taken for another one, and what can be told of it from here."""

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_MACHINE_ID: Final = Path("/etc/machine-id")


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A process, so that neither a recycled id nor a reboot is taken for it.

    Attributes:
        start_ticks: when it started, counted from the boot.
        machine: id of the installed system, "" where there is none: hosts of one name are common.
        pid_namespace: in which `pid` means something; "" of a release that did not say.
        clock: names the clock of `boot_seconds`, which processes of one boot share.
        since_us: when it took the directory, by its own clock, for people alone.
        stale_seconds: its counter rises several times in so long; 0: it has none.
        token: of this hold, so that a process can tell two of its own apart.
    """

    host: str
    boot: str
    pid: int
    start_ticks: int
    released: bool = False
    machine: str = ""
    pid_namespace: str = ""
    clock: str = ""
    since_us: int = 0
    stale_seconds: float = 0.0
    token: str = ""


def this_process() -> Owner:
    """The calling process."""
    pid = os.getpid()
    boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    return Owner(
        host=socket.gethostname(),
        boot=boot,
        pid=pid,
        start_ticks=_status_of(pid)[1],
        machine=_machine(),
        pid_namespace=_namespace("pid"),
        clock=f"{boot}-{_namespace('time')}",
        since_us=time.time_ns() // 1000,
    )


def boot_seconds() -> float:
    """Seconds since this machine's boot, sleep included; the same for all processes of a boot (of a time namespace)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def certainly_gone(owner: Owner, me: Owner) -> bool:
    """Whether an owner can be seen from here to run no more; of another machine's process that cannot be told."""
    if owner.boot == me.boot:
        return _same_processes(owner, me) and _status_of(owner.pid)[1] != owner.start_ticks
    return owner.host == me.host and owner.machine != "" and owner.machine == me.machine


def certainly_runs(owner: Owner, me: Owner) -> bool:
    """Whether an owner can be seen from here to run: neither stopped (T, t) nor stuck in a system call (D)."""
    if owner.boot != me.boot or not _same_processes(owner, me):
        return False
    state, start_ticks = _status_of(owner.pid)
    return start_ticks == owner.start_ticks and state in ("R", "S", "I")


def _same_processes(owner: Owner, me: Owner) -> bool:
    """Whether a process id of the one means the same to the other."""
    return owner.host == me.host if not owner.pid_namespace else owner.pid_namespace == me.pid_namespace


def _namespace(kind: str) -> str:
    try:
        return str((_PROC / "self/ns" / kind).stat().st_ino)
    except OSError:  # a kernel without them has one for all
        return "0"


def _machine() -> str:
    try:
        return _MACHINE_ID.read_text().strip()[:64]
    except OSError:
        return ""


def _status_of(pid: int) -> tuple[str, int]:
    """State and start time, fields 3 and 22 of proc_pid_stat(5); -1 if there is none, zombies run no more."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return "", -1
    parts = text[text.rfind(")") + 2 :].split()
    return parts[0], -1 if parts[0] in ("Z", "X", "x") else int(parts[19])
