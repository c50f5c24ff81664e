# SPDX-License-Identifier: Apache-2.0
"""Failpoints: nothing without being asked, exactly what was asked otherwise."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from federation.durable import failpoints
from federation.durable.failpoints import FAILPOINTS, InjectedFailureError, failpoint, install, parse, uninstall
from federation.errors import ConfigError


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(failpoints.ENVIRONMENT_VARIABLE, raising=False)
    uninstall()
    yield
    uninstall()


def test_nothing_happens_without_being_asked() -> None:
    for name in FAILPOINTS:
        failpoint(name)


def test_an_unregistered_name_is_a_bug() -> None:
    with pytest.raises(KeyError, match="not registered"):
        failpoint("coordinator.after-lunch")


def test_registry_is_written_for_people() -> None:
    for name, sentence in FAILPOINTS.items():
        assert re.fullmatch(r"(coordinator|agent|job)\.[a-z-]+", name)
        assert len(sentence.split()) >= 5


def test_callback_sees_every_hit_until_uninstalled() -> None:
    seen: list[str] = []
    install(seen.append)
    failpoint("agent.after-sign")
    failpoint("job.after-encode")
    uninstall()
    failpoint("agent.after-sign")
    assert seen == ["agent.after-sign", "job.after-encode"]


def test_raise_at_the_third_hit_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(failpoints.ENVIRONMENT_VARIABLE, "job.mid-window=raise@3, agent.after-sign=raise")
    for _ in range(2):
        failpoint("job.mid-window")
    with pytest.raises(InjectedFailureError, match=r"job\.mid-window: some inner steps"):
        failpoint("job.mid-window")
    failpoint("job.mid-window")
    with pytest.raises(InjectedFailureError):
        failpoint("agent.after-sign")


def test_kill_is_sigkill_of_the_own_process() -> None:
    program = (
        "from federation.durable import failpoint\n"
        "for number in range(5):\n"
        "    print(number, flush=True)\n"
        "    failpoint('coordinator.after-seal')\n"
    )
    environment = {failpoints.ENVIRONMENT_VARIABLE: "coordinator.after-seal=kill@2"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "0\n1\n")


def test_parse() -> None:
    assert parse("") == {}
    assert parse("job.after-claim=kill,agent.after-sign=raise@12") == {
        "job.after-claim": ("kill", 1),
        "agent.after-sign": ("raise", 12),
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nobody.knows=kill", "registered failpoint"),
        ("job.after-claim", "kill or raise"),
        ("job.after-claim=sleep", "kill or raise"),
        ("job.after-claim=kill@0", "hit number"),
        ("job.after-claim=kill@-1", "hit number"),
        ("job.after-claim=kill@x", "hit number"),
    ],
)
def test_a_wrong_variable_is_the_operators_error(monkeypatch: pytest.MonkeyPatch, text: str, sentence: str) -> None:
    monkeypatch.setenv(failpoints.ENVIRONMENT_VARIABLE, text)
    with pytest.raises(ConfigError, match=f"{failpoints.ENVIRONMENT_VARIABLE}.*{sentence}"):
        failpoint("job.after-claim")
