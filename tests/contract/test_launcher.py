# SPDX-License-Identifier: Apache-2.0
"""What every launcher promises, tried on each: submit, query, find, cancel; and what it never does, guess."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from federation.errors import LaunchFailedError
from site_agent.launcher.api import JobPresence, Launcher
from site_agent.launcher.local import LocalLauncher

pytestmark = pytest.mark.processes

JOB = """
import os, pathlib, signal, sys, threading
directory = pathlib.Path(sys.argv[1])
stop = threading.Event()
signal.signal(signal.SIGTERM, (lambda *_: None) if (directory / "stubborn").exists() else (lambda *_: stop.set()))
(directory / "started").write_text(str(os.getpid()))
while not stop.is_set() and not (directory / "finish").exists():
    stop.wait(0.01)
(directory / "ended").write_text("by request" if stop.is_set() else "by itself")
"""


@pytest.fixture(params=["local", "local without network"])
def launcher(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Launcher:
    """A launcher whose jobs run the program above."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "contract_job.py").write_text(JOB)
    monkeypatch.setenv("PYTHONPATH", str(modules))
    return LocalLauncher(module="contract_job", isolate_network="without" in request.param)


@pytest.fixture
def allocation(tmp_path: Path) -> Path:
    path = tmp_path / "allocation"
    path.mkdir()
    return path


@pytest.fixture
def submit(launcher: Launcher, allocation: Path) -> Iterator[Callable[[], str]]:
    """Submits and waits until the job runs; ends it when the test does."""
    handles = []

    def submit_once() -> str:
        handles.append(launcher.submit(allocation, "run-a1", 1))
        wait_for(lambda: (allocation / "started").exists())
        return handles[-1]

    yield submit_once
    for handle in handles:
        launcher.cancel(handle, force=True)
        wait_for(lambda handle=handle: launcher.query(handle) is JobPresence.ENDED)


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def test_a_submitted_job_runs_until_it_ends(launcher: Launcher, allocation: Path, submit: Callable[[], str]) -> None:
    handle = submit()
    assert launcher.query(handle) is JobPresence.RUNNING
    (allocation / "finish").touch()
    wait_for(lambda: launcher.query(handle) is JobPresence.ENDED)
    assert (allocation / "ended").read_text() == "by itself"
    assert launcher.query(handle) is JobPresence.ENDED


def test_cancel_asks_the_job_to_finish(launcher: Launcher, allocation: Path, submit: Callable[[], str]) -> None:
    handle = submit()
    launcher.cancel(handle)
    wait_for(lambda: launcher.query(handle) is JobPresence.ENDED)
    assert (allocation / "ended").read_text() == "by request"
    launcher.cancel(handle)
    launcher.cancel(handle, force=True)


def test_force_ends_a_job_that_does_not_listen(launcher: Launcher, allocation: Path, submit: Callable[[], str]) -> None:
    (allocation / "stubborn").touch()
    handle = submit()
    launcher.cancel(handle)
    assert launcher.query(handle) is JobPresence.RUNNING
    launcher.cancel(handle, force=True)
    wait_for(lambda: launcher.query(handle) is JobPresence.ENDED)
    assert not (allocation / "ended").exists()


def test_a_job_whose_handle_was_lost_is_found(
    launcher: Launcher, allocation: Path, tmp_path: Path, submit: Callable[[], str]
) -> None:
    assert launcher.find(allocation, "run-a1") is None
    handle = submit()
    assert launcher.find(allocation, "run-a1") == handle
    assert launcher.find(tmp_path / "other", "run-a2") is None
    (allocation / "finish").touch()
    wait_for(lambda: launcher.query(handle) is JobPresence.ENDED)
    assert launcher.find(allocation, "run-a1") is None


def test_another_instance_knows_the_job_by_its_handle(
    launcher: Launcher, allocation: Path, submit: Callable[[], str]
) -> None:
    handle = submit()
    other = type(launcher)()
    assert other.query(handle) is JobPresence.RUNNING
    other.cancel(handle)
    wait_for(lambda: other.query(handle) is JobPresence.ENDED)


@pytest.mark.parametrize("handle", ["", "nonsense", "local:", "slurm:1:2:3:4", "local:a:b:c:d", "local:x:y:1:²"])
def test_a_handle_that_means_nothing_here_is_unknown(launcher: Launcher, handle: str) -> None:
    assert launcher.query(handle) is JobPresence.UNKNOWN
    launcher.cancel(handle)


def test_an_allocation_that_is_not_there(launcher: Launcher, tmp_path: Path) -> None:
    with pytest.raises(LaunchFailedError, match="expected the allocation directory"):
        launcher.submit(tmp_path / "nowhere", "run-a1", 1)
