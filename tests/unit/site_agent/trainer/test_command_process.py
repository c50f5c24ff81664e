# SPDX-License-Identifier: Apache-2.0
"""Running an executable: its environment, signals handed on, an end for certain, nothing left behind."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from federation.errors import FederationError
from site_agent.trainer.command_process import CommandEnd, command_environment, run_command

ORDER = Path("/somewhere/work_order.json")


def shell(directory: Path, script: str, meanwhile: Callable[[], str | None] = lambda: None) -> CommandEnd:
    return run_command(["/bin/sh", "-c", script], directory, {"PATH": "/usr/bin:/bin"}, meanwhile, lambda: 0.3)


@pytest.mark.parametrize(
    ("name", "passed"),
    [
        ("PATH", True),
        ("SLURM_JOB_ID", True),
        ("CUDA_VISIBLE_DEVICES", True),
        ("NCCL_SOCKET_IFNAME", True),
        ("OMP_NUM_THREADS", True),
        ("SLURM_JWT", False),
        ("APPTAINER_DOCKER_PASSWORD", False),
        ("HF_TOKEN", False),
        ("AWS_SECRET_ACCESS_KEY", False),
        ("RANK", False),
        ("WORLD_SIZE", False),
        ("TORCHELASTIC_RUN_ID", False),
        ("FEDERATION_FAILPOINTS", False),
        ("FEDERATION_ALLOCATION", False),
        ("FEDERATION_NO_NETWORK", True),
        ("SSH_AUTH_SOCK", False),
    ],
)
def test_what_of_the_environment_is_handed_on(name: str, passed: bool) -> None:
    found = command_environment({name: "value"}, ORDER)
    assert found.pop("FEDERATION_WORK_ORDER") == str(ORDER)
    assert found == ({name: "value"} if passed else {})


def test_it_runs_in_its_directory_and_tells_how_it_ended(tmp_path: Path) -> None:
    assert shell(tmp_path, "pwd > here; exit 0") == CommandEnd(code=0)
    assert (tmp_path / "here").read_text().strip() == str(tmp_path)
    assert shell(tmp_path, "exit 0").describe() == "exit status 0"


def test_a_signal_that_killed_it_is_told(tmp_path: Path) -> None:
    end = shell(tmp_path, "kill -SEGV $$")
    assert end.describe() == "killed by SIGSEGV"


def test_an_executable_that_cannot_be_started(tmp_path: Path) -> None:
    assert run_command(["/nowhere/at/all"], tmp_path, {}, lambda: None).code == 127


def asks_once(ready: Path) -> Callable[[], str | None]:
    return lambda: "sigterm" if ready.exists() else None


def test_asked_to_end_it_gets_sigterm_and_may_end_well(tmp_path: Path) -> None:
    script = "trap 'exit 0' TERM; touch ready; while true; do sleep 0.05; done"
    assert shell(tmp_path, script, asks_once(tmp_path / "ready")) == CommandEnd(code=0, word="sigterm")


def test_one_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    script = "trap '' TERM; touch ready; while true; do sleep 0.05; done"
    assert shell(tmp_path, script, asks_once(tmp_path / "ready")) == CommandEnd(code=-9, word="sigterm")


def test_one_that_died_of_the_signal_for_all_was_asked_to_end(tmp_path: Path) -> None:
    script = "touch ready; kill -TERM $$"
    calls: list[int] = []

    def late() -> str | None:
        calls.append(1)
        return "sigterm" if (tmp_path / "ready").exists() and len(calls) > 2 else None

    assert shell(tmp_path, script, late) == CommandEnd(code=-15, word="sigterm")


def test_an_error_meanwhile_kills_it(tmp_path: Path) -> None:
    def fail() -> str | None:
        if (tmp_path / "ready").exists():
            raise FederationError("another execution owns the allocation")
        return None

    with pytest.raises(FederationError):
        shell(tmp_path, "echo $$ > pid; touch ready; sleep 100", fail)
    assert gone(int((tmp_path / "pid").read_text()))


def test_what_it_left_running_is_killed(tmp_path: Path) -> None:
    end = shell(tmp_path, "sleep 100 & echo $! > pid; exit 0")
    assert end == CommandEnd(code=0)
    assert gone(int((tmp_path / "pid").read_text()))


def gone(pid: int) -> bool:
    """Within some seconds: the kernel takes a moment to end what was killed."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


def test_what_it_prints_goes_to_this_process(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_command([sys.executable, "-c", "print('said')"], tmp_path, {}, lambda: None)
    assert "said" in capfd.readouterr().err
