# SPDX-License-Identifier: Apache-2.0
import logging
from pathlib import Path

import pytest

from federation.errors import ConfigError, FederationError
from site_agent.inner_loop import last_word
from site_agent.inner_loop.claim import FencedError
from site_agent.inner_loop.last_word import EXIT_FENCED, job_main


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_word, "forbid_sockets", lambda: None)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)


@pytest.mark.parametrize("arguments", [[], ["a", "b"]])
def test_one_directory_is_expected(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert job_main(lambda _: pytest.fail("nothing is done"), arguments, "x.job") == 2
    assert capsys.readouterr().err == "usage: python -m x.job DIRECTORY\n"


@pytest.mark.parametrize(
    ("error", "status"),
    [(FencedError("allocation: another's"), EXIT_FENCED), (ConfigError("no order", advice="Ask."), 1)],
)
def test_failures_have_a_status_and_a_sentence(
    error: FederationError, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Path) -> None:
        raise error

    assert job_main(fail, ["d"], "x.job") == status
    assert capsys.readouterr().err == error.diagnostics() + "\n"


def test_what_it_ended_with_is_said_last(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert job_main(str, ["a directory"], "x.job") == 0
    assert caplog.messages == ["ended: a directory"]
