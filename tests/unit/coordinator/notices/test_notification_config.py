# SPDX-License-Identifier: Apache-2.0
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from notice_world import saying

from coordinator.cli.notify import notify
from coordinator.network_config import NETWORK_FILE, CoordinatorConfig, load_coordinator_config
from coordinator.notices.config import AlertsSection, url_fault
from coordinator.notices.formats import PlatformKind
from coordinator.notices.notice import Severity
from coordinator.notices.notifier import thresholds_of
from coordinator.notices.targets import Target, load_targets
from coordinator.notices.thresholds import DEFAULTS
from federation.errors import ConfigError

SLACK = '[[notifications]]\nkind = "slack"\nurl = "https://hooks.example.org/services/SECRET"\n'


def load(directory: Path, text: str) -> CoordinatorConfig:
    (directory / NETWORK_FILE).write_text(text)
    return load_coordinator_config(directory)


def targets(directory: Path, text: str) -> tuple[Target, ...]:
    return load_targets(directory, load(directory, text).notifications)


def secret(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text)
    path.chmod(mode)


def test_the_documented_thresholds_are_the_defaults() -> None:
    assert thresholds_of(AlertsSection()) == DEFAULTS


def test_a_place_is_read(tmp_path: Path) -> None:
    (target,) = targets(tmp_path, SLACK + 'min_severity = "info"\nruns = ["demo"]\n')
    assert target.kind is PlatformKind.SLACK
    assert target.name == "slack-1"
    assert target.min_severity is Severity.INFO
    assert target.label == "slack-1 (slack, hooks.example.org)"
    assert "SECRET" not in repr(target)


def test_secrets_may_stay_in_files_that_nobody_else_can_read(tmp_path: Path) -> None:
    secret(tmp_path / "hook", "https://hooks.example.org/x\n")
    secret(tmp_path / "token", "syt_abc\n")
    text = (
        '[[notifications]]\nkind = "discord"\nurl_file = "hook"\n'
        '[[notifications]]\nkind = "matrix"\nurl = "https://m.example.org"\n'
        'room = "!r:example.org"\ntoken_file = "token"\n'
    )
    hook, matrix = targets(tmp_path, text)
    assert hook.url == "https://hooks.example.org/x"
    assert (matrix.token, matrix.room) == ("syt_abc", "!r:example.org")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    secret(tmp_path / "hook", "https://hooks.example.org/x", mode)
    with pytest.raises(ConfigError, match=f"found mode {mode:04o}") as caught:
        targets(tmp_path, '[[notifications]]\nkind = "slack"\nurl_file = "hook"\n')
    assert "chmod 600" in caught.value.advice


@pytest.mark.parametrize(
    "text", ["", " \n", "two words", "x" * 5000, "é", "https://a b", "ftp://a.example", "http://a.example/x", "a\x00b"]
)
def test_a_file_that_holds_no_address_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    secret(tmp_path / "hook", text)
    with pytest.raises(ConfigError) as caught:
        targets(tmp_path, '[[notifications]]\nkind = "slack"\nurl_file = "hook"\n')
    assert "a.example" not in str(caught.value)


def test_what_is_no_file_is_refused_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("pipe", "missing", "."):
        with pytest.raises(ConfigError, match="expected a file with an address"):
            targets(tmp_path, f'[[notifications]]\nkind = "slack"\nurl_file = "{name}"\n')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('kind = "slack"', r"notifications\[1\]: expected either url or url_file, found neither \(line 1\)"),
        ('kind = "slack"\nurl = "https://a"\nurl_file = "b"', "found both"),
        ('kind = "irc"\nurl = "https://a"', r"notifications\[1\].kind: expected .*'json', found \"irc\" \(line 2\)"),
        ('kind = "slack"\nurl = "http://hooks.example.org/SECRET"', r"url: expected https.* found http:// to another"),
        ('kind = "slack"\nurl = "https://user:SECRET@a.example/"', "user or password"),
        ('kind = "slack"\nurl = "https://a.example/#SECRET"', "behind #"),
        ('kind = "slack"\nurl = "file:///etc/SECRET"', "no address"),
        ('kind = "slack"\nurl = "https://a.example/\\nSECRET"', "no address"),
        ('kind = "slack"\nurl = "https://a"\nroom = "!a:b"', "room: expected nothing where kind is not matrix"),
        ('kind = "slack"\nurl = "https://a"\ntoken_file = "t"', "token_file: expected nothing where kind is slack"),
        ('kind = "matrix"\nurl = "https://a"\nroom = "!a:b"', "token_file: expected a file with an access token"),
        ('kind = "matrix"\nurl = "https://a"\nroom = "#a:b"\ntoken_file = "t"', "which begins with !, found an alias"),
        ('kind = "matrix"\nurl = "https://a?x=1"\nroom = "!a:b"\ntoken_file = "t"', "url"),
        ('kind = "json"\nurl = "https://a"\nname = "Not A Name"', r"notifications\[1\].name: expected lower-case"),
        ('kind = "json"\nurl = "https://a"\nproxy = "socks5://a:1"', "proxy: expected http://HOST:PORT"),
        ('kind = "json"\nurl = "https://a"\nmin_severity = "all"', "min_severity"),
        ('kind = "json"\nurl = "https://a"\nruns = ["No"]', "runs"),
        ('kind = "json"\nurll = "https://a"', "did you mean url"),
    ],
)
def test_a_mistake_is_one_sentence_that_shows_no_secret(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        load(tmp_path, f"[[notifications]]\n{text}\n")
    assert "SECRET" not in caught.value.diagnostics()


def test_names_are_each_ones_own_and_the_number_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="more than once"):
        load(tmp_path, (SLACK + 'name = "ops"\n') * 2)
    with pytest.raises(ConfigError, match="at most 20"):
        load(tmp_path, SLACK * 21)


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://localhost:1/x", ""),
        ("http://127.0.0.9/x", ""),
        ("http://[::1]:8/x", ""),
        ("http://127.0.0.1.example.org/x", "http:// to another machine"),
        ("http://10.0.0.1/x", "http:// to another machine"),
        ("https://a.example/x?thread_id=1", ""),
        ("https://a.example:99999/", "no address"),
        ("https://", "no address"),
        ("https:\\\\a.example", "no address"),
    ],
)
def test_plain_http_goes_to_this_machine_alone(url: str, fault: str) -> None:
    assert url_fault(url) == fault


def test_a_place_gets_what_it_asked_for(tmp_path: Path) -> None:
    (some,) = targets(tmp_path, SLACK + 'runs = ["other"]\n')
    (all_of_them,) = targets(tmp_path, SLACK)
    assert all_of_them.wants(saying(severity=Severity.WARNING))
    assert not all_of_them.wants(saying(severity=Severity.INFO))
    assert not some.wants(saying())
    assert some.wants(saying(run=""))


def test_the_command_wants_a_coordinators_directory_with_a_place(tmp_path: Path) -> None:
    for words in ("coordinator init", "[[notifications]]"):
        result = CliRunner().invoke(notify, ["test", str(tmp_path)])
        assert isinstance(result.exception, ConfigError)
        assert words in result.exception.diagnostics()
        (tmp_path / "keys").mkdir(exist_ok=True)
        (tmp_path / "keys/coordinator.pem").write_text("")
