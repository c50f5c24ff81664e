# SPDX-License-Identifier: Apache-2.0
"""The dashboard beside a coordinator that is served: started again with pauses, ended with it, never its trouble."""

import logging
import os
import sys
from pathlib import Path

import pytest

from coordinator import dashboard_process
from coordinator.cli.dashboard import serve
from coordinator.dashboard_process import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    STEADY_SECONDS,
    DashboardProcess,
    dashboard_command,
)

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0)
SECONDS = 20.0


class Beside:
    """A process of a shell script that is looked at, at times that the test chooses; each start is a line of a file."""

    def __init__(self, directory: Path, script: str) -> None:
        self.starts, self.now = directory / "starts", 1000.0
        self.process = DashboardProcess(["/bin/sh", "-c", f"echo >> {self.starts}; {script}"], lambda: self.now)

    def look(self, after: float = 0.0) -> None:
        self.now += after
        self.process.look()

    def pid(self) -> int | None:
        child = self.process._child
        return None if child is None else child.pid

    def wait(self) -> None:
        """Returns when the child has ended."""
        assert self.process._child is not None
        self.process._child.wait(SECONDS)

    def num_starts(self) -> int:
        return len(self.starts.read_text().splitlines())


def test_it_is_started_once_while_it_runs(tmp_path: Path) -> None:
    beside = Beside(tmp_path, "exec sleep 60")
    with beside.process:
        beside.look()
        first = beside.pid()
        assert first is not None
        beside.look(after=1e6)
        assert beside.pid() == first


def test_what_ends_by_itself_is_started_again_after_growing_pauses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    beside = Beside(tmp_path, "exit 3")
    beside.look()
    for number, pause in enumerate(PAUSES, start=1):
        beside.wait()
        assert beside.num_starts() == number
        beside.look()
        assert beside.pid() is None
        beside.look(after=pause - 0.01)
        assert beside.pid() is None
        beside.look(after=0.01)
        assert beside.pid() is not None
    beside.process.stop()
    assert (PAUSES[0], PAUSES[-1]) == (FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"the dashboard ended with status 3; it is started again in {pause:.0f} s" for pause in PAUSES]


@pytest.mark.parametrize(("ran", "pause"), [(STEADY_SECONDS + 1, PAUSES[0]), (STEADY_SECONDS - 1, PAUSES[1])])
def test_one_that_ran_for_long_does_not_wait_long(tmp_path: Path, ran: float, pause: float) -> None:
    beside = Beside(tmp_path, "kill -9 $$")
    beside.look()
    beside.wait()
    beside.look()
    beside.look(after=PAUSES[0])
    beside.wait()
    beside.look(after=ran)
    beside.look(after=pause - 0.01)
    assert beside.pid() is None
    beside.look(after=0.02)
    assert beside.pid() is not None
    beside.process.stop()


def test_one_that_cannot_be_configured_stays_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    beside = Beside(tmp_path, "exit 2")
    beside.look()
    beside.wait()
    for _ in range(3):
        beside.look(after=1e6)
        assert beside.pid() is None
    assert beside.num_starts() == 1
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "the coordinator goes on without it" in record.getMessage()


def test_one_that_cannot_be_started_is_tried_again_and_ends_nobody(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    process = DashboardProcess(["/nowhere/python"], lambda: now[0])
    for _ in range(3):
        process.look()
    assert len(caplog.records) == 1
    now[0] += PAUSES[0]
    process.look()
    assert [record.getMessage().rpartition(" in ")[2] for record in caplog.records] == ["1 s", "2 s"]
    process.stop()


def test_it_ends_with_whoever_started_it(tmp_path: Path) -> None:
    beside = Beside(tmp_path, "exec sleep 600")
    with beside.process:
        beside.look()
        child = beside.process._child
    assert child is not None
    assert child.returncode == -15
    beside.look(after=1e6)
    assert beside.pid() is None, "who was stopped does not start it again"
    beside.process.stop()


def test_one_that_does_not_listen_is_ended_anyway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_process, "STOP_SECONDS", 0.05)
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    beside = Beside(tmp_path, f"trap '' TERM; echo > {ready}; exec sleep 600")
    beside.look()
    ready.read_text()  # returns when the child has written, so from now on it does not listen
    child = beside.process._child
    beside.process.stop()
    assert child is not None
    assert child.returncode == -9


def test_the_command_serves_this_directory_for_this_process(tmp_path: Path) -> None:
    interpreter, *options = dashboard_command(tmp_path)
    assert interpreter == sys.executable
    assert options[:5] == ["-P", "-m", "coordinator.cli", "dashboard", "serve"]
    found = serve.make_context("serve", options[5:]).params
    assert (found["directory"], found["parent"], found["listen"]) == (tmp_path, os.getpid(), None)
