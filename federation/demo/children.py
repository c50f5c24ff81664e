# SPDX-License-Identifier: Apache-2.0
"""Processes of the demo: started with a log file each, watched, and ended by their own process id."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from federation.durable.real import RealFileSystem
from federation.errors import JobFailedError

STOP_SECONDS: Final = 30.0
_TAIL_CHARS: Final = 2000
_MODULES: Final = {
    "federation": "federation.cli.main",
    "coordinator": "coordinator.cli.main",
    "site-agent": "site_agent.cli.main",
}


def command_line(program: str, *arguments: str | Path) -> list[str]:
    """argv of one of the three commands, run by this very interpreter."""
    code = f"from {_MODULES[program]} import main; main()"
    return [sys.executable, "-P", "-c", code, *map(str, arguments)]


@dataclass(kw_only=True)
class Child:
    """A running process and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


@dataclass
class Children:
    """All processes that this demo started; leaving the `with` block ends those that still run."""

    logs: Path
    environment: Mapping[str, str]
    _running: list[Child] = field(default_factory=list)

    def start(self, name: str, argv: Sequence[str], **extra: str) -> Child:
        """Starts a process in a session of its own; its output goes to `<logs>/<name>.log`."""
        RealFileSystem(self.logs.parent).mkdir(self.logs.name)
        log = self.logs / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**self.environment, **extra},
                start_new_session=True,
            )
        child = Child(name=name, process=process, log=log)
        self._running.append(child)
        return child

    def run(self, program: str, *arguments: str | Path) -> str:
        """Runs one command to its end and returns what it printed.

        Raises:
            JobFailedError: it failed; the message ends with what it said.
        """
        return self._run(program, command_line(program, *arguments), arguments)

    def run_module(self, module: str, *arguments: str | Path) -> str:
        """As `run`, for `python -m MODULE`: something of another package that is no command of people."""
        return self._run(module, [sys.executable, "-P", "-m", module, *map(str, arguments)], arguments)

    def _run(self, program: str, argv: Sequence[str], arguments: Sequence[str | Path]) -> str:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=dict(self.environment),
            check=False,
        )
        if done.returncode:
            words = " ".join(str(a) for a in arguments)
            said = (done.stderr or done.stdout).strip()[-_TAIL_CHARS:]
            raise JobFailedError(f"{program} {words}: expected exit code 0, found {done.returncode}: {said}")
        return done.stdout

    def check(self) -> None:
        """Raises JobFailedError if a process that should run has ended."""
        for child in self._running:
            code = child.process.poll()
            if code is not None:
                raise JobFailedError(
                    f"{child.name} ended with code {code} while it was needed; it said: {tail(child.log)}",
                    advice=f"Its whole log is {child.log}.",
                )

    def wait(self, child: Child) -> None:
        """Waits for a process that ends by itself.

        Raises:
            JobFailedError: it failed.
        """
        code = child.process.wait()
        self._running.remove(child)
        if code:
            raise JobFailedError(f"{child.name}: expected exit code 0, found {code}; it said: {tail(child.log)}")

    def stop(self, *children: Child) -> None:
        """Asks processes to end, and ends them by force where they do not."""
        for child in children:
            child.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for child in children:
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            if child in self._running:
                self._running.remove(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(*reversed(self._running))


def tail(log: Path) -> str:
    """The end of a log file."""
    return log.read_text(errors="replace").strip()[-_TAIL_CHARS:] or "nothing"


def environment() -> dict[str, str]:
    """What child processes get: one thread each, no network where the guard is asked for, nothing of the hub."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith("FEDERATION_")}
    return {**keep, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
