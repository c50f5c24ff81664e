# SPDX-License-Identifier: Apache-2.0
"""Jobs as processes of the agent's own user on this machine.

A job has a session of its own and a clean environment, and outlives the agent that started it. Its handle holds host,
boot, process id and the process's start time, so that a recycled id or a reboot is never taken for the job.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Self

from federation.errors import LaunchFailedError
from federation.no_network import NO_NETWORK_VARIABLE, network_namespace_prefix
from site_agent.launcher.api import JobPresence, Launcher
from site_agent.site_config import REFERENCE_MODULE

FAILPOINTS_VARIABLE: Final = "FEDERATION_FAILPOINTS"
JOB_FAILPOINTS_VARIABLE: Final = "FEDERATION_JOB_FAILPOINTS"
"""What this variable of the agent holds is the job's list of failpoints; "1" hands the agent's own list on."""

PASSED_ON: Final = frozenset(
    {
        "CUDA_VISIBLE_DEVICES",
        "HIP_VISIBLE_DEVICES",
        "HOME",
        "LANG",
        "LC_ALL",
        "LD_LIBRARY_PATH",
        "LOGNAME",
        "MKL_NUM_THREADS",
        "OMP_NUM_THREADS",
        "PATH",
        "PYTHONPATH",
        "ROCR_VISIBLE_DEVICES",
        "TMPDIR",
        "TZ",
        "USER",
        "VIRTUAL_ENV",
        NO_NETWORK_VARIABLE,
    }
)
"""Variables that a job inherits; no other reaches it, so no token or key of the operator's shell does."""

LOG_FILE: Final = "job.log"
"""Name of the job's output inside its allocation directory."""

_ENDED_STATES: Final = frozenset("ZXx")
"""States of /proc/<pid>/stat in which a process runs no more but its entry is still there."""


@dataclass(frozen=True, kw_only=True)
class _Handle:
    """Where and when a process was started. `start_ticks` counts from the boot (field 22 of /proc/<pid>/stat)."""

    host: str
    boot: str
    pid: int
    start_ticks: int

    def __str__(self) -> str:
        return f"local:{self.host}:{self.boot}:{self.pid}:{self.start_ticks}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The handle that `str` wrote, else None."""
        kind, *parts = text.split(":")
        if kind != "local" or len(parts) != 4 or not (parts[2].isdecimal() and parts[3].isdecimal()):
            return None
        return cls(host=parts[0], boot=parts[1], pid=int(parts[2]), start_ticks=int(parts[3]))


class LocalLauncher(Launcher):
    """Starts `python -m MODULE ALLOCATION_DIR`.

    Args:
        module: the trainer's job module, as site.toml resolves it; its one argument is the allocation directory.
        isolate_network: run jobs in an empty network namespace where the user may make one, and with the guard of
            `federation.no_network` in any case.
        environment: taken instead of this process's environment; filtered like it.
    """

    def __init__(
        self,
        *,
        module: str = REFERENCE_MODULE,
        isolate_network: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._module = module
        self._isolate_network = isolate_network
        self._environment = environment
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def submit(self, allocation_dir: Path, name: str, fencing: int, begin_after_seconds: int = 0) -> str:
        directory = allocation_dir.absolute()
        if not directory.is_dir():
            raise LaunchFailedError(f"job {name}: expected the allocation directory {directory}, found none")
        self._reap()
        try:
            child = self._start(directory)
        except OSError as error:
            raise LaunchFailedError(f"job {name}: expected to start {self._module}, found: {error}") from error
        self._children[child.pid] = child
        handle = _handle_of(child.pid)
        if handle is None:
            raise LaunchFailedError(f"job {name}: expected process {child.pid} in /proc, found none")
        return str(handle)

    def query(self, handle: str) -> JobPresence:
        self._reap()
        job = _Handle.parse(handle)
        if job is None or job.host != _host():
            return JobPresence.UNKNOWN
        return JobPresence.RUNNING if _is_alive(job) else JobPresence.ENDED

    def cancel(self, handle: str, *, force: bool = False) -> None:
        job = _Handle.parse(handle)
        if job is None or job.host != _host() or not _is_alive(job):
            return
        with suppress(ProcessLookupError):
            if force:
                os.killpg(job.pid, signal.SIGKILL)  # the whole session: helpers of the job too
            else:
                os.kill(job.pid, signal.SIGTERM)

    def find(self, allocation_dir: Path, name: str) -> str | None:
        command = self._command(allocation_dir.absolute())
        self._reap()
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and _arguments(entry)[-len(command) :] == command:
                handle = _handle_of(int(entry.name))
                if handle is not None and _is_alive(handle):
                    return str(handle)
        return None

    def _command(self, directory: Path) -> list[str]:
        # -P: the working directory is writable by the job, so it must not be a place to import modules from.
        return [sys.executable, "-P", "-m", self._module, str(directory)]

    def _start(self, directory: Path) -> "subprocess.Popen[bytes]":
        prefix = network_namespace_prefix() if self._isolate_network else []
        environment = os.environ if self._environment is None else self._environment
        log = os.open(directory / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            return subprocess.Popen(
                [*prefix, *self._command(directory)],
                cwd=directory,
                env=job_environment(environment, isolate_network=self._isolate_network),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)

    def _reap(self) -> None:
        """Collects the exit status of jobs that this process started: no zombies."""
        self._children = {pid: child for pid, child in self._children.items() if child.poll() is None}


def job_environment(environment: Mapping[str, str], *, isolate_network: bool = False) -> dict[str, str]:
    """The environment that a job gets out of the agent's."""
    passed = {name: value for name, value in environment.items() if name in PASSED_ON}
    failpoints = environment.get(JOB_FAILPOINTS_VARIABLE, "")
    if failpoints == "1":
        failpoints = environment.get(FAILPOINTS_VARIABLE, "")
    if failpoints:
        passed[FAILPOINTS_VARIABLE] = failpoints
    if isolate_network:
        passed[NO_NETWORK_VARIABLE] = "1"
    return passed


def _host() -> str:
    return socket.gethostname().replace(":", "-")


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _handle_of(pid: int) -> _Handle | None:
    stat = _stat(pid)
    return _Handle(host=_host(), boot=_boot(), pid=pid, start_ticks=int(stat[19])) if stat else None


def _is_alive(job: _Handle) -> bool:
    stat = _stat(job.pid)
    same = job.boot == _boot() and bool(stat) and int(stat[19]) == job.start_ticks
    return same and stat[0] not in _ENDED_STATES


def _stat(pid: int) -> Sequence[str]:
    """Fields 3 and later of /proc/<pid>/stat, [] if there is no such process (proc_pid_stat(5))."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    # Field 2, the command in parentheses, may hold spaces and parentheses itself.
    return text[text.rfind(")") + 2 :].split()


def _arguments(entry: Path) -> list[str]:
    try:
        return (entry / "cmdline").read_text(errors="surrogateescape").split("\0")[:-1]
    except OSError:
        return []
