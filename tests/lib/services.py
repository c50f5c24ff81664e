# SPDX-License-Identifier: Apache-2.0
"""Commands of the federation as real processes, restarted when a failpoint kills them, as a service manager would."""

import atexit
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import forked_job

LIBRARY = Path(__file__).parent
STOP_SECONDS = 60.0
_MODULES = {
    "federation": "federation.cli.main",
    "coordinator": "coordinator.cli.main",
    "site-agent": "site_agent.cli.main",
}


def command_line(program: str, *arguments: str | Path) -> list[str]:
    """argv of one of the three commands, run by this interpreter."""
    code = f"from {_MODULES[program]} import main; main()"
    return [sys.executable, "-P", "-c", code, *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    """What child processes get: one thread each, tests/lib importable, nothing of the caller's federation."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FEDERATION_")}
    # A wide terminal, so that tables are not wrapped; compiled modules are kept, since start-up time counts here.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**kept, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(LIBRARY), "COLUMNS": "200", **more}


def run_command(program: str, *arguments: str | Path, code: int = 0, seconds: float = 240, **more: str) -> str:
    """Runs a command to its end and returns what it printed; it must exit with `code`."""
    words = [program, *map(str, arguments)]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        output = (out.fileno(), err.fileno())
        process = ForkedCommand(words, environment(**more), output)
        try:
            found = process.wait(seconds)
        finally:
            process.close()
        for file in (out, err):
            file.seek(0)
        printed, complained = out.read(), err.read()
    said = f"{' '.join(words)}: {printed}{complained}"
    assert found == code, f"expected exit code {code}, found {found}: {said}"
    assert "Traceback" not in complained, said
    return printed if code == 0 else printed + complained


class ForkedCommand:
    """A command that was forked from `command_server`; like `subprocess.Popen`, as far as it is used here."""

    def __init__(self, words: list[str], environment: Mapping[str, str], output: tuple[int, int]) -> None:
        self._connection, self.pid = forked_job.begin(command_server(), "cli_command", words, environment, output)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, -N if signal N ended it, None while it runs."""
        try:
            return self.wait(0.0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """The same, once it has ended."""
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            self.returncode = os.waitstatus_to_exitcode(forked_job.status_from(self._connection))
            self._connection.close()
        return self.returncode

    def terminate(self) -> None:
        """SIGTERM, if it runs."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        self._send(signal.SIGKILL)

    def close(self) -> None:
        """Ends it at once if it still runs."""
        self._connection.close()

    def _send(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def words_of(argv: Sequence[str]) -> list[str]:
    """The command and its arguments, if that is what argv runs; [] otherwise."""
    return next(([name, *argv[4:]] for name in _MODULES if list(argv[:4]) == command_line(name)), [])


@cache
def command_server() -> str:
    """Socket of the process that commands are forked from: one for this test process, and it ends with it."""
    path = Path(tempfile.mkdtemp(prefix="commands-")) / "server"
    argv = [sys.executable, "-P", "-m", "forked_job", "--serve", str(path), "cli_command"]
    process = subprocess.Popen(argv, env=environment(), stdin=subprocess.DEVNULL)
    atexit.register(lambda: (process.kill(), process.wait(), shutil.rmtree(path.parent)))

    def supervise() -> None:
        assert process.poll() is None, f"the command server ended with {process.returncode}"

    wait_for(path.is_socket, 120, "the command server", supervise)
    return str(path)


def memory_of(pid: int) -> int:
    """The largest resident memory that a living process ever had, in bytes (VmHWM of proc_pid_status(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def maps_of(pid: int) -> str:
    """Files that a living process has mapped (proc_pid_maps(5))."""
    return Path(f"/proc/{pid}/maps").read_text()


@dataclass(kw_only=True)
class Service:
    """A command that should always run.

    Attributes:
        failpoints: what it is to be killed at, one after the other, each in a process of its own.
        fired: those at which it was killed.
    """

    name: str
    argv: Sequence[str]
    log: Path
    extra: Mapping[str, str] = field(default_factory=dict)
    failpoints: list[str] = field(default_factory=list)
    fired: list[str] = field(default_factory=list)
    _process: "subprocess.Popen[bytes] | ForkedCommand | None" = None

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts it, armed with its next failpoint."""
        armed = {"FEDERATION_FAILPOINTS": f"{self.failpoints[0]}=kill"} if self.failpoints else {}
        variables, words = environment(**self.extra, **armed), words_of(self.argv)
        with self.log.open("ab") as output:
            if words:
                self._process = ForkedCommand(words, variables, (output.fileno(), output.fileno()))
                return
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=variables,
                start_new_session=True,
            )

    def supervise(self) -> None:
        """Starts it again if its failpoint killed it; any other end is an error."""
        code = self._process.poll() if self._process else None
        if code is None:
            return
        assert code == -signal.SIGKILL, f"{self.name} ended with {code}: {tail(self.log)}"
        assert self.failpoints, f"{self.name} was killed, but not by a failpoint: {tail(self.log)}"
        self.fired.append(self.failpoints.pop(0))
        self.start()

    def stop(self) -> int:
        """Asks it to end and returns its exit code; by force if it doesn't listen."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._process = None
        return code


def tail(log: Path) -> str:
    """The end of a log."""
    return log.read_text(errors="replace")[-3000:]


def wait_for(
    condition: Callable[[], Any], seconds: float, what: str, supervise: Callable[[], None], logs: Path | None = None
) -> Any:
    """Polls until a condition gives something true, and returns that; what should run is watched meanwhile.

    Args:
        logs: directory of the logs that a failure shows the ends of.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        supervise()
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s; {_tails(logs)}"
        time.sleep(0.03)
    return found


def _tails(logs: Path | None) -> str:
    return "\n".join(f"{log.name}: {tail(log)}" for log in sorted(logs.glob("*.log"))) if logs else ""


def end_jobs_below(base: Path) -> None:
    """Ends the jobs whose allocation directory, their last argument, is below `base`: nobody else's."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and _last_argument(entry).startswith(f"{base}/"):
            try:
                os.kill(int(entry.name), signal.SIGKILL)
            except ProcessLookupError:
                continue


def _last_argument(entry: Path) -> str:
    try:
        arguments = (entry / "cmdline").read_text(errors="surrogateescape").split("\0")[:-1]
    except OSError:
        return ""
    return arguments[-1] if "-m" in arguments else ""
