# SPDX-License-Identifier: Apache-2.0
"""Daemons of a bed: each in the foreground with a log, known by process id and start time, ended for certain."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

TAIL_CHARACTERS: Final = 3000
_STOP_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05


class SlurmBedError(RuntimeError):
    """The bed does not do what it should; says what was expected and shows the logs' ends."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process that the bed started; `start_ticks` tells it from a later one under the same id."""

    pid: int
    start_ticks: int

    @property
    def is_alive(self) -> bool:
        with suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)  # ours where we started it: leaves no zombie
        fields = _stat(self.pid)
        return bool(fields) and fields[0] not in "ZXx" and int(fields[19]) == self.start_ticks

    def send(self, number: signal.Signals) -> None:
        if self.is_alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Daemons:
    """The daemons of one directory: `DIR/daemons.json` names them, `DIR/log/NAME.log` holds what they say.

    Args:
        directory: of the bed.
        attached: end each daemon when the process that started it ends, however that happens.
    """

    def __init__(self, directory: Path, *, attached: bool) -> None:
        self._directory = directory
        self._attached = attached

    @property
    def running(self) -> dict[str, Process]:
        """Daemons that are noted and alive."""
        return {name: process for name, process in self._noted().items() if process.is_alive}

    def start(self, name: str, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """Starts a daemon that stays in the foreground. Its readiness is the caller's to wait for."""
        prefix = ["setpriv", "--pdeathsig", "TERM"] if self._attached else []
        log = self.log_path(name)
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as output:
            child = subprocess.Popen(
                [*prefix, *argv],
                cwd=self._directory,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        # The id is given back by `is_alive`, which may run in another process: Popen must not complain of that.
        child.returncode = 0
        process = Process(pid=child.pid, start_ticks=int(_stat(child.pid)[19]))
        self._note(self._noted() | {name: process})

    def stop(self, name: str, *, seconds: float = _STOP_SECONDS) -> None:
        """Ends a daemon: TERM, and KILL when it has not gone within `seconds`. Nothing if it isn't there."""
        process = self._noted().get(name)
        if process is None:
            return
        process.send(signal.SIGTERM)
        if not becomes(lambda: not process.is_alive, seconds):
            process.send(signal.SIGKILL)
            becomes(lambda: not process.is_alive, seconds)
        self._note({other: entry for other, entry in self._noted().items() if other != name})

    def kill(self, name: str) -> None:
        """Ends a daemon as a power cut would."""
        process = self._noted()[name]
        process.send(signal.SIGKILL)
        becomes(lambda: not process.is_alive, _STOP_SECONDS)

    def log_path(self, name: str) -> Path:
        return self._directory / "log" / f"{name}.log"

    def tails(self) -> str:
        """The last lines of every log."""
        logs = sorted((self._directory / "log").glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-TAIL_CHARACTERS:]}" for log in logs)

    def _noted(self) -> dict[str, Process]:
        try:
            entries = json.loads((self._directory / "daemons.json").read_text())
        except FileNotFoundError:
            return {}
        return {name: Process(**entry) for name, entry in entries.items()}

    def _note(self, processes: Mapping[str, Process]) -> None:
        text = json.dumps({name: asdict(process) for name, process in processes.items()})
        (self._directory / "daemons.json").write_text(text)


def becomes(condition: Callable[[], object], seconds: float) -> bool:
    """Whether a condition came true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def end_all_with(variable: str, value: str, *, seconds: float = _STOP_SECONDS) -> list[str]:
    """KILLs every process in whose environment a variable has this value; returns the command lines of those found.

    Steps and jobs are no children of the bed, but each got the bed's configuration in its environment.
    """
    found = {process.pid: process for process in _with_environment(f"{variable}={value}".encode())}
    commands = [_command(pid) for pid in found]
    for process in found.values():
        process.send(signal.SIGKILL)
    becomes(lambda: not any(process.is_alive for process in found.values()), seconds)
    return commands


def _with_environment(entry: bytes) -> Iterator[Process]:
    for directory in Path("/proc").iterdir():
        if not directory.name.isdecimal() or int(directory.name) == os.getpid():
            continue
        with suppress(OSError):
            if entry in (directory / "environ").read_bytes().split(b"\0") and (fields := _stat(int(directory.name))):
                yield Process(pid=int(directory.name), start_ticks=int(fields[19]))


def _command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def _stat(pid: int) -> list[str]:
    """Fields 3 and later of /proc/<pid>/stat, [] if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text[text.rfind(")") + 2 :].split()
