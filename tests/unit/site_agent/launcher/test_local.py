# SPDX-License-Identifier: Apache-2.0
"""Jobs as processes: clean environment, handles that survive reboots and recycled ids, a life after the agent's."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from federation.no_network import network_namespace_prefix
from site_agent.launcher.api import JobPresence
from site_agent.launcher.local import LOG_FILE, LocalLauncher, job_environment

SHOW = """
import json, os, pathlib, socket, sys
from federation.no_network import forbid_sockets
facts = {"env": dict(os.environ), "cwd": os.getcwd(), "path": sys.path, "session": os.getsid(0) == os.getpid(),
         "guard": forbid_sockets(), "interfaces": [name for _, name in socket.if_nameindex()]}
print("said by the job", flush=True)
partial = pathlib.Path(sys.argv[1]) / "partial"
partial.write_text(json.dumps(facts))
partial.rename(partial.with_name("facts.json"))
"""

SLEEP = """
import pathlib, sys, time
(pathlib.Path(sys.argv[1]) / "started").touch()
time.sleep(600)
"""


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    path = tmp_path / "modules"
    path.mkdir()
    (path / "show_job.py").write_text(SHOW)
    (path / "sleep_job.py").write_text(SLEEP)
    return path


@pytest.fixture
def allocation(tmp_path: Path) -> Path:
    path = tmp_path / "allocation"
    path.mkdir()
    return path


AGENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/home/me",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "HF_TOKEN": "secret",
    "SSH_AUTH_SOCK": "/run/agent",
    "FEDERATION_FAILPOINTS": "agent.before-sign=kill",
}


def test_the_environment_is_an_allow_list() -> None:
    assert job_environment(AGENT) == {"PATH": "/usr/bin:/bin", "HOME": "/home/me"}


def test_failpoints_reach_a_job_only_when_asked() -> None:
    asked = AGENT | {"FEDERATION_JOB_FAILPOINTS": "1"}
    assert job_environment(asked)["FEDERATION_FAILPOINTS"] == "agent.before-sign=kill"
    own = AGENT | {"FEDERATION_JOB_FAILPOINTS": "job.mid-window=kill"}
    assert job_environment(own)["FEDERATION_FAILPOINTS"] == "job.mid-window=kill"
    assert "FEDERATION_JOB_FAILPOINTS" not in job_environment(own)


def facts_of(modules: Path, allocation: Path, **options: bool) -> dict[str, object]:
    environment = AGENT | {"PYTHONPATH": str(modules)}
    launcher = LocalLauncher(module="show_job", environment=environment, **options)
    (allocation / "json.py").write_text("raise SystemExit('imported from the allocation directory')")
    handle = launcher.submit(allocation, "run-a1", 1)
    wait_for(lambda: launcher.query(handle) is JobPresence.ENDED)
    assert (allocation / LOG_FILE).read_text() == "said by the job\n"
    facts: dict[str, object] = json.loads((allocation / "facts.json").read_text())
    return facts


@pytest.mark.processes
def test_a_job_has_its_own_session_and_sees_no_secret(modules: Path, allocation: Path) -> None:
    facts = facts_of(modules, allocation)
    assert facts["session"] is True
    assert facts["cwd"] == str(allocation)
    assert "secret" not in str(facts["env"])
    assert str(allocation) not in facts["path"]  # type: ignore[operator]
    assert facts["guard"] is False


@pytest.mark.processes
def test_a_job_without_network(modules: Path, allocation: Path) -> None:
    facts = facts_of(modules, allocation, isolate_network=True)
    assert facts["guard"] is True
    if network_namespace_prefix():
        assert facts["interfaces"] == ["lo"]


@pytest.fixture
def sleeping(modules: Path, allocation: Path, monkeypatch: pytest.MonkeyPatch) -> "tuple[LocalLauncher, list[str]]":
    """A launcher and the parts of the handle of a job that runs."""
    monkeypatch.setenv("PYTHONPATH", str(modules))
    launcher = LocalLauncher(module="sleep_job")
    handle = launcher.submit(allocation, "run-a1", 1)
    wait_for(lambda: (allocation / "started").exists())
    return launcher, handle.split(":")


@pytest.mark.processes
def test_a_handle_means_one_process_of_one_boot_of_one_host(sleeping: "tuple[LocalLauncher, list[str]]") -> None:
    launcher, parts = sleeping
    kind, host, boot, pid, start = parts
    try:
        assert launcher.query(":".join(parts)) is JobPresence.RUNNING
        for other, presence in (
            ([kind, host, boot, pid, str(int(start) + 1)], JobPresence.ENDED),
            ([kind, host, "another-boot", pid, start], JobPresence.ENDED),
            ([kind, "another-host", boot, pid, start], JobPresence.UNKNOWN),
        ):
            assert launcher.query(":".join(other)) is presence
            launcher.cancel(":".join(other), force=True)
        assert launcher.query(":".join(parts)) is JobPresence.RUNNING
    finally:
        launcher.cancel(":".join(parts), force=True)
    wait_for(lambda: launcher.query(":".join(parts)) is JobPresence.ENDED)


@pytest.mark.processes
def test_an_ended_job_that_nobody_has_collected_is_ended(sleeping: "tuple[LocalLauncher, list[str]]") -> None:
    launcher, parts = sleeping
    os.kill(int(parts[3]), signal.SIGKILL)
    other = LocalLauncher()
    wait_for(lambda: other.query(":".join(parts)) is JobPresence.ENDED)
    assert Path(f"/proc/{parts[3]}").exists(), "a zombie, since its parent has not asked"
    assert launcher.query(":".join(parts)) is JobPresence.ENDED
    assert not Path(f"/proc/{parts[3]}").exists()


@pytest.mark.processes
def test_a_job_outlives_its_agent(modules: Path, allocation: Path) -> None:
    agent = (
        "import sys; from pathlib import Path; from site_agent.launcher.local import LocalLauncher;"
        "print(LocalLauncher(module='sleep_job').submit(Path(sys.argv[1]), 'run-a1', 1), flush=True);"
        "sys.stdin.read()"
    )
    environment = os.environ | {"PYTHONPATH": str(modules)}
    process = subprocess.Popen(
        [sys.executable, "-c", agent, str(allocation)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    handle = process.stdout.readline().strip()
    wait_for(lambda: (allocation / "started").exists())
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    launcher = LocalLauncher(module="sleep_job")
    assert launcher.query(handle) is JobPresence.RUNNING
    assert launcher.find(allocation, "run-a1") == handle
    launcher.cancel(handle)
    wait_for(lambda: launcher.query(handle) is JobPresence.ENDED)
