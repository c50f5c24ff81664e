# SPDX-License-Identifier: Apache-2.0
"""What expires at a site: countdown, warnings, and the point from which only a person can go on."""

import json
import logging
import os
import shutil
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from federation.certificates import generate_tls_key, make_issuer, pem
from federation.config import parse_toml
from federation.durable.simulated import SimulatedFileSystem
from federation.errors import ConfigError
from federation.rpc import credentials
from site_agent.cli.credentials import credential_facts, credential_lines
from site_agent.credential_settings import CredentialEntry
from site_agent.credentials_watch import (
    CHANNEL,
    LOOK_SECONDS,
    Credential,
    CredentialsWatch,
    Standing,
    countdown,
    countdowns,
    read_expiry,
)

NOW = 1_800_000_000.0
HOUR, DAY = 3600.0, 86_400.0
KEYS = Credential(name="LUMI-O keys", expires_at=NOW, warn_seconds=DAY, what_to_do="Make new ones.")
SSH_KEYGEN = shutil.which("ssh-keygen")


@pytest.mark.parametrize(
    ("left", "standing", "line"),
    [
        (3 * DAY, Standing.FINE, "LUMI-O keys: 3 days left"),
        (DAY, Standing.EXPIRING, "LUMI-O keys: 24 hours left. Make new ones."),
        (1.0, Standing.EXPIRING, "LUMI-O keys: 1 second left. Make new ones."),
        (0.0, Standing.WAITING_FOR_HUMAN, "WAITS FOR A HUMAN: LUMI-O keys expired 0 seconds ago. Make new ones."),
        (-5 * HOUR, Standing.WAITING_FOR_HUMAN, "WAITS FOR A HUMAN: LUMI-O keys expired 5 hours ago. Make new ones."),
        (float("inf"), Standing.FINE, "LUMI-O keys: never expires"),
    ],
)
def test_a_countdown_says_what_is_left_and_what_to_do(left: float, standing: Standing, line: str) -> None:
    found = countdown(replace(KEYS, expires_at=NOW + left), NOW)
    assert (found.standing, found.line) == (standing, line)
    assert found.seconds_left == (None if left == float("inf") else left)
    assert bool(found.what_to_do) == (standing is not Standing.FINE)


def test_what_cannot_be_read_waits_for_a_human() -> None:
    found = countdown(replace(KEYS, expires_at=None, problem="cannot be read: x"), NOW)
    assert found.line == "WAITS FOR A HUMAN: LUMI-O keys cannot be read: x. Make new ones."


def test_what_renews_itself_waits_for_nobody() -> None:
    found = countdown(replace(KEYS, expires_at=NOW - DAY, renews_itself=True), NOW)
    assert found.standing is Standing.EXPIRING


# --- files that tell when ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expires_at"),
    [
        ("2027-01-15T08:00:00Z\n", NOW),
        ("2027-01-15T09:00:00+01:00", NOW),
        ("1800000000\n", NOW),
    ],
)
def test_a_file_with_a_date(tmp_path: Path, text: str, expires_at: float) -> None:
    (tmp_path / "expires").write_text(text)
    assert read_expiry(tmp_path / "expires") == expires_at


@pytest.mark.parametrize(
    "text", ["", "tomorrow", "2027-01-15", "2027-01-15T08:00:00", "\xff", "x-cert-v01@openssh.com y"]
)
def test_a_file_that_tells_no_date(tmp_path: Path, text: str) -> None:
    (tmp_path / "expires").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError):
        read_expiry(tmp_path / "expires")


def test_a_pipe_does_not_hold_up_the_agent(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "expires")
    with pytest.raises(ValueError):
        read_expiry(tmp_path / "expires")


@pytest.mark.skipif(SSH_KEYGEN is None, reason="needs ssh-keygen (Debian's package openssh-client)")
@pytest.mark.parametrize(("validity", "expires_at"), [("-1h:20270115080000Z", NOW), ("always:forever", float("inf"))])
def test_a_certificate_of_ssh(tmp_path: Path, validity: str, expires_at: float) -> None:
    """As a centre's SSH certificate authority signs it; `ssh-keygen -L` shows the same."""
    assert SSH_KEYGEN is not None
    for name in ("authority", "user"):
        line = [SSH_KEYGEN, "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(line, check=True)
    line = [SSH_KEYGEN, "-q", "-s", str(tmp_path / "authority"), "-I", "me", "-n", "me", "-V", validity]
    done = subprocess.run([*line, str(tmp_path / "user.pub")], capture_output=True, text=True, check=False)
    if done.returncode and "Z" in validity:  # before OpenSSH 9 there are local times alone
        line[line.index(validity)] = validity.replace("Z", "")
        subprocess.run([*line, str(tmp_path / "user.pub")], check=True, env={**os.environ, "TZ": "UTC"})
    assert read_expiry(tmp_path / "user-cert.pub") == expires_at


def test_a_certificate_of_x509(tmp_path: Path) -> None:
    made = make_issuer("a store", generate_tls_key(), NOW - DAY, days=2)
    (tmp_path / "store.pem").write_bytes(pem(made))
    assert read_expiry(tmp_path / "store.pem") == made.not_valid_after_utc.timestamp()


# --- site.toml --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('name = "a"\nwhat_to_do = "b"', "one of expires_at and expires_file"),
        ('name = "a"\nwhat_to_do = "b"\nexpires_file = "c"\nexpires_at = 2027-01-15T08:00:00Z', "one of"),
        ('name = "a"\nwhat_to_do = "b"\nexpires_at = 2027-01-15T08:00:00', "expires_at"),
        ('name = "a\\n"\nwhat_to_do = "b"\nexpires_file = "c"', "name"),
        ('name = "a"\nwhat_to_do = ""\nexpires_file = "c"', "what_to_do"),
        ('name = "a"\nwhat_to_do = "b"\nexpires_file = "c"\nsecret = "d"', "secret"),
    ],
)
def test_an_entry_with_a_mistake(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse_toml(text, "site.toml", CredentialEntry)


def entry(**more: object) -> CredentialEntry:
    return CredentialEntry.model_validate({"name": "SSH", "what_to_do": "Log in with your token.", **more})


# --- an agent ---------------------------------------------------------------------------------------------------------


def test_a_site_counts_down_what_it_has(tmp_path: Path) -> None:
    declared = (entry(expires_at=datetime.fromtimestamp(NOW + 2 * HOUR, UTC)), entry(name="S3", expires_file="gone"))
    found = countdowns(SimulatedFileSystem(), tmp_path, declared, NOW, dials=False)
    assert [(f.name, f.standing) for f in found] == [
        ("roster", Standing.WAITING_FOR_HUMAN),
        ("SSH", Standing.EXPIRING),
        ("S3", Standing.WAITING_FOR_HUMAN),
    ]
    assert "No such file" in found[2].sentence


@pytest.mark.parametrize(
    ("channel", "renewal", "standing", "advice"),
    [
        (None, None, Standing.WAITING_FOR_HUMAN, "Ask an operator"),
        (20.0, 300.0, Standing.FINE, ""),
        (5.0, 300.0, Standing.EXPIRING, "renewed by itself"),
        (-5.0, 300.0, Standing.EXPIRING, "renewed by itself"),
        (-5.0, -1.0, Standing.WAITING_FOR_HUMAN, "Ask an operator"),
    ],
)
def test_the_channels_certificate(
    tmp_path: Path, channel: float | None, renewal: float | None, standing: Standing, advice: str
) -> None:
    fs, now = SimulatedFileSystem(), time.time()
    for path, days in ((credentials.CERTIFICATE, channel), (credentials.RENEWAL, renewal)):
        if days is not None:
            fs.write(path, pem(make_issuer("x", generate_tls_key(), now + (days - 1000) * DAY, days=1000)))
    found = countdowns(fs, tmp_path, (), now, dials=True)[0]
    assert (found.name, found.standing) == (CHANNEL, standing)
    assert advice in found.what_to_do


def test_the_log_hears_of_each_change_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "expires"
    path.write_text(str(int(NOW + 30 * HOUR)))
    watch = CredentialsWatch(SimulatedFileSystem(), tmp_path, (entry(expires_file="expires"),))

    def said(now: float) -> list[str]:
        caplog.clear()
        watch.look(now, now, dials=False)
        return [record.getMessage() for record in caplog.records if record.getMessage().find("SSH") >= 0]

    assert said(NOW) == []
    assert said(NOW + 7 * HOUR) == ["SSH: 23 hours left. Log in with your token."]
    assert said(NOW + 8 * HOUR) == []
    assert said(NOW + 31 * HOUR) == ["WAITS FOR A HUMAN: SSH expired 60 minutes ago. Log in with your token."]
    assert said(NOW + 32 * HOUR) == []
    path.write_text(str(int(NOW + 80 * HOUR)))
    assert said(NOW + 32 * HOUR + LOOK_SECONDS / 2) == []  # looked at a moment ago
    assert said(NOW + 33 * HOUR) == ["SSH: 47 hours left"]


def test_what_expires_stands_in_the_status_with_the_most_urgent_first() -> None:
    shown = [countdown(replace(KEYS, name=name, expires_at=NOW + left), NOW) for name, left in STATUS.items()]
    assert [line.partition(" ")[0] for line in credential_lines(shown)] == ["WAITS", "soon:", "later:"]
    assert [fact["standing"] for fact in credential_facts(shown)] == ["fine", "fine", "waiting-for-human", "expiring"]
    assert json.loads(json.dumps(credential_facts(shown)))[2]["seconds_left"] == -HOUR


STATUS = {CHANNEL: 20 * DAY, "later": 5 * DAY, "over": -HOUR, "soon": HOUR}
