# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from federation.cli.errors import EXIT_INTERRUPTED, exit_code_of, run_cli
from federation.errors import BadSignatureError, ConfigError, FederationError


def _command(act: Callable[[], object]) -> click.Command:
    return click.Command("work", callback=act)


def _raise(error: BaseException) -> Callable[[], object]:
    def act() -> object:
        raise error

    return act


@pytest.fixture(autouse=True)
def _arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["work"])


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError("expected a, found b", advice="Write a."), 2, "error: expected a, found b\nWrite a.\n"),
        (BadSignatureError("expected x, found y"), 1, "error: expected x, found y\n"),
        (FederationError("plain"), 1, "error: plain\n"),
        (click.ClickException("not so"), 1, "Error: not so\n"),
        (click.Abort(), EXIT_INTERRUPTED, "error: interrupted\n"),
        (KeyboardInterrupt(), EXIT_INTERRUPTED, "error: interrupted\n"),
        (PermissionError(13, "Permission denied", "root.json"), 1, "error: root.json: Permission denied\n"),
        (OSError("odd"), 1, "error: odd\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_peoples_mistakes_are_sentences(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, text: str
) -> None:
    assert exit_code_of(_command(_raise(error))) == code
    captured = capsys.readouterr()
    assert captured.err.lstrip("\n") == text
    assert captured.out == ""


def test_our_own_bugs_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_code_of(_command(lambda: 1 // 0))


def test_wrong_usage_is_exit_2(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["work", "--what"])
    assert exit_code_of(_command(lambda: None)) == 2
    assert "No such option" in capsys.readouterr().err


def test_run_cli_exits() -> None:
    for act, code in ((lambda: None, 0), (lambda: click.get_current_context().exit(3), 3)):
        with pytest.raises(SystemExit) as caught:
            run_cli(_command(act))
        assert caught.value.code == code


def test_a_closed_pipe_is_silent(tmp_path: Path) -> None:
    script = (
        "import click\nfrom federation.cli.errors import run_cli\n"
        "@click.command()\ndef work():\n    for _ in range(100000): click.echo('x' * 50)\n"
        "run_cli(work)\n"
    )
    reader, writer = os.pipe()
    with open(tmp_path / "err", "wb") as err:
        process = subprocess.Popen([sys.executable, "-c", script], stdout=writer, stderr=err)
        os.close(writer)
        os.read(reader, 10)
        os.close(reader)
        assert process.wait(timeout=60) == 1
    assert (tmp_path / "err").read_text() == ""
