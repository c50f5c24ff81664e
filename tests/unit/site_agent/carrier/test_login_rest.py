# SPDX-License-Identifier: Apache-2.0
"""A refused login is remembered from one call of a carrier to the next, and no longer than it should be."""

from pathlib import Path

import pytest

from federation.durable.real import RealFileSystem
from federation.errors import LoginRefusedError, PeerUnavailableError
from site_agent.carrier.login_rest import MAX_LOGIN_WAIT_SECONDS, LoginRest, credential_of
from site_agent.carrier.routes import RemoteRoute

REFUSED = LoginRefusedError("host: waiting for a human: the login was refused: Permission denied")


class Clock:
    """Unix seconds, set by the test."""

    now = 1e9

    def __call__(self) -> float:
        return self.now


class Mailboxes:
    """In place of `RemoteMailboxes`: counts attempts, and fails as it is told."""

    error: Exception | None = None
    num_attempts = 0

    def carry(self) -> int:
        self.num_attempts += 1
        if self.error is not None:
            raise self.error
        return 3


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mailboxes() -> Mailboxes:
    return Mailboxes()


def once(base: Path, mailboxes: Mailboxes, clock: Clock, credential: str = "key") -> int:
    """A process of its own: it knows only what lies on the disk."""
    rest = LoginRest(base, "alpha", credential, clock)
    return RemoteRoute("alpha", base, mailboxes, rest).carry_once()  # type: ignore[arg-type]


def refused_once(base: Path, mailboxes: Mailboxes, clock: Clock, credential: str = "key") -> str:
    with pytest.raises(LoginRefusedError) as found:
        once(base, mailboxes, clock, credential)
    return found.value.diagnostics()


def test_cron_does_not_hammer(tmp_path: Path, mailboxes: Mailboxes, clock: Clock) -> None:
    mailboxes.error, tried = REFUSED, []
    for minute in range(180):
        before = mailboxes.num_attempts
        said = refused_once(tmp_path, mailboxes, clock)
        assert "Permission denied" in said
        if mailboxes.num_attempts > before:
            tried.append(minute)
        clock.now += 60.0
    assert tried == [0, 1, 3, 7, 15, 31, 61, 91, 121, 151]


def test_what_is_said_in_between_names_the_way_out(tmp_path: Path, mailboxes: Mailboxes, clock: Clock) -> None:
    mailboxes.error = REFUSED
    refused_once(tmp_path, mailboxes, clock)
    said = refused_once(tmp_path, mailboxes, clock)
    assert "no login is tried for 60 seconds, since the last login was refused" in said
    file = tmp_path / "mailbox/alpha/login-rest.json"
    assert str(file) in said
    file.unlink()
    mailboxes.error = None
    assert once(tmp_path, mailboxes, clock) == 3


def test_another_credential_is_tried_at_once_and_success_forgets(
    tmp_path: Path, mailboxes: Mailboxes, clock: Clock
) -> None:
    mailboxes.error = REFUSED
    refused_once(tmp_path, mailboxes, clock)
    mailboxes.error = None
    assert once(tmp_path, mailboxes, clock, "renewed") == 3
    assert RealFileSystem(tmp_path).list("mailbox/alpha") == []
    assert once(tmp_path, mailboxes, clock) == 3


def test_after_anything_else_crons_interval_is_pause_enough(tmp_path: Path, mailboxes: Mailboxes, clock: Clock) -> None:
    mailboxes.error = PeerUnavailableError("nobody answers")
    for _ in range(3):
        with pytest.raises(PeerUnavailableError):
            once(tmp_path, mailboxes, clock)
    assert mailboxes.num_attempts == 3


@pytest.mark.parametrize("jump", [-10.0, -1e8, MAX_LOGIN_WAIT_SECONDS + 1])
def test_a_clock_that_was_set_is_no_reason_to_wait_for_years(
    tmp_path: Path, mailboxes: Mailboxes, clock: Clock, jump: float
) -> None:
    mailboxes.error = REFUSED
    refused_once(tmp_path, mailboxes, clock)
    clock.now += jump
    refused_once(tmp_path, mailboxes, clock)
    assert mailboxes.num_attempts == (1 if jump == -10.0 else 2)


def test_a_file_that_cannot_be_read_is_none(tmp_path: Path, mailboxes: Mailboxes, clock: Clock) -> None:
    RealFileSystem(tmp_path).write("mailbox/alpha/login-rest.json", b"nonsense")
    assert once(tmp_path, mailboxes, clock) == 3


def test_a_credential_is_another_one_after_each_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    identity = tmp_path / "key"
    seen = {credential_of("a@b", "", ()), credential_of("a@c", "", ()), credential_of("a@b", "", ("Port=2",))}
    (tmp_path / ".ssh").mkdir()
    for file in (identity, tmp_path / "key-cert.pub", tmp_path / ".ssh/known_hosts", tmp_path / ".ssh/config"):
        seen.add(credential_of("a@b", str(identity), ()))
        file.write_text(file.name)
        seen.add(credential_of("a@b", str(identity), ()))
    assert len(seen) == 3 + 5
    assert credential_of("a@b", str(identity), ()) in seen
