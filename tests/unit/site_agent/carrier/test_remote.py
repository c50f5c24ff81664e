# SPDX-License-Identifier: Apache-2.0
"""What a carrier takes for an address, an option, a listing and a complaint; and how long it rests."""

from pathlib import Path

import pytest

from federation.errors import (
    ConfigError,
    DiskFullError,
    FederationError,
    LimitExceededError,
    LoginRefusedError,
    ObjectNotFoundError,
    PeerUnavailableError,
    StorageError,
    StorageUnavailableError,
)
from federation.mailbox.layout import message_name
from site_agent.carrier import remote, rsync, sftp
from site_agent.carrier.complaints import complaint_of
from site_agent.carrier.login_rest import MAX_LOGIN_WAIT_SECONDS
from site_agent.carrier.over_ssh import MAX_BATCH_FILES, batches
from site_agent.carrier.process import Finished, Programs
from site_agent.carrier.remote import Listed, RemoteAddress, RemoteMailbox
from site_agent.carrier.routes import MAX_WAIT_SECONDS, BackOff
from site_agent.carrier.ssh import SshSession, SshSettings

DIGEST, MESSAGE = "0a" * 32, message_name(7, b"x")


@pytest.mark.parametrize(
    ("text", "user", "host", "port", "path"),
    [
        ("host:/a/b", "", "host", 0, "/a/b"),
        ("me@host:/a//b/", "me", "host", 0, "/a/b"),
        ("me@h.example.org:8822:/a b/[c]", "me", "h.example.org", 8822, "/a b/[c]"),
        ("me@[::1]:22:/a", "me", "[::1]", 22, "/a"),
    ],
)
def test_an_address(text: str, user: str, host: str, port: int, path: str) -> None:
    found = RemoteAddress.parse(text)
    assert found == RemoteAddress(user=user, host=host, port=port, path=path)
    assert RemoteAddress.parse(str(found)) == found
    assert found.ssh_host == host.strip("[]")
    assert found.mailbox == f"{path}/spool/mailbox/coordinator"


@pytest.mark.parametrize(
    "text", ["", "host", "host:a/b", "-oProxyCommand=x:/a", "a b:/a", "h:/a\nb", "h:99999:/a", "h:/a/../b", "u@-h:/a"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError, match="--remote"):
        RemoteAddress.parse(text)


def session(tmp_path: Path, *options: str, identity: str = "") -> SshSession:
    address = RemoteAddress.parse("me@[::1]:8822:/a")
    settings = SshSettings(address=address, identity=identity, options=options)
    return SshSession(settings, Programs(tmp_path), tmp_path)


def test_what_ssh_is_told_first_cannot_be_told_otherwise(tmp_path: Path) -> None:
    session(tmp_path, "ProxyJump=gate", "Compression yes", identity="/keys/100%")
    login = (tmp_path / "login").read_text().splitlines()
    assert (
        login.index("StrictHostKeyChecking yes") < login.index("ProxyJump gate") < login.index("Include ~/.ssh/config")
    )
    assert {"BatchMode yes", "Port 8822", 'User "me"', "Compression yes", 'IdentityFile "/keys/100%%"'} <= set(login)
    through = (tmp_path / "through").read_text().splitlines()
    # Whatever the operator's proxy is: without the connection there is none.
    assert through.index("ProxyCommand exit 1") < through.index("ProxyJump gate")


@pytest.mark.parametrize(
    "option",
    ["StrictHostKeyChecking=no", "batchmode no", "ControlPath=/x", "Include /x", "a\nb=c", "-o", "Match=all", "Word="],
)
def test_options_that_are_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(ConfigError, match="--ssh-option"):
        session(tmp_path, option)


RSYNC = f"""drwxr-xr-x        4096 2026/11/22 16:12:09 .
drwxr-xr-x        4096 2026/11/22 16:12:09 in
drwxr-xr-x        4096 2026/11/22 16:12:09 out
-rw-r--r--           6 2026/11/22 16:12:09 out/{MESSAGE}
lrwxrwxrwx           6 2026/11/22 16:12:09 out/000000000008-0123456789abcdef.msg -> /etc/passwd
-rw-r--r--           6 2026/11/22 16:12:09 out/x/{MESSAGE}
-rw-r--r--         100 2026/11/22 16:12:09 out/ack
drwxr-xr-x        4096 2026/11/22 16:12:09 out/blobs
-rw-r--r--        1234 2026/11/22 16:12:09 out/blobs/{DIGEST}
-rw-r--r--        1234 2026/11/22 16:12:09 out/blobs/../../{DIGEST}
-rw-r--r--        1234 2026/11/22 16:12:09 elsewhere/{DIGEST}
rsync says something
"""
SFTP = f"""sftp> cd "/a/spool/mailbox/coordinator"
sftp> -ls -lan out
drwxr-xr-x    ? root     root         4096 Nov 22 16:12 out/.
-rw-r--r--    ? root     root            6 Nov 22 16:12 out/{MESSAGE}
lrwxrwxrwx    ? root     root            6 Nov 22 16:12 out/000000000008-0123456789abcdef.msg
-rw-r--r--    ? root     root            6 Nov 22 16:12 out/../{MESSAGE}
-rw-r--r--    ? root     root          100 Nov 22  2025 out/ack
sftp> -ls -lan out/blobs
drwxr-xr-x    ? root     root         4096 Nov 22 16:12 out/blobs/.
-rw-r--r--    ? root     root         1234 Nov 22 16:12 out/blobs/{DIGEST}
-rw-r--r--    ? ro ot    root         1234 Nov 22 16:12 out/blobs/{"0b" * 32}
-rw-r--r--    ? root     root          -34 Nov 22 16:12 out/blobs/{"0c" * 32}
sftp> -ls -lan in
drwxr-xr-x    ? root     root         4096 Nov 22 16:12 in/.
sftp> -ls -lan in/blobs
"""


@pytest.mark.parametrize("found", [rsync._parsed(RSYNC), sftp._parsed(SFTP)], ids=["rsync", "sftp"])
def test_only_what_a_mailbox_may_hold_is_seen_in_a_listing(found: RemoteMailbox) -> None:
    expected = Listed(messages={MESSAGE: 6}, blobs={DIGEST: 1234}, acknowledgement=100, is_there=True, has_blobs=True)
    assert found.out == expected
    assert found.into == Listed(is_there=True)


def test_a_listing_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_LISTED", 2)
    listed = Listed()
    for number in (1, 2):
        listed.add("", message_name(number, b""), 1)
    with pytest.raises(LimitExceededError):
        listed.add("blobs", DIGEST, 1)


@pytest.mark.parametrize(
    ("code", "words", "kind"),
    [
        (255, "Connection closed", PeerUnavailableError),
        (12, "rsync: connection unexpectedly closed", PeerUnavailableError),
        (11, "write failed: No space left on device (28)", DiskFullError),
        (11, "Disk quota exceeded (122)", DiskFullError),
        (23, "change_dir failed: No such file or directory", ObjectNotFoundError),
        (1, "Couldn't canonicalize: No such file", ObjectNotFoundError),
        (23, "Stale file handle (116)", StorageUnavailableError),
        (1, "remote open: Permission denied", StorageError),
        (1, "write remote: Failure", StorageError),
        (1, "", StorageError),
    ],
)
def test_what_a_program_complains_about(code: int, words: str, kind: type[FederationError]) -> None:
    address = RemoteAddress.parse("host:/a")
    found = complaint_of(address, Finished(code=code, output="", complaint=words), "to send files")
    assert type(found) is kind
    assert "host:/a: expected to send files" in str(found)
    assert words in str(found)


def test_a_login_that_is_refused_is_tried_seldom() -> None:
    back_off = BackOff()
    assert back_off.seconds == 0
    waits = []
    for error in [PeerUnavailableError("x")] * 9 + [LoginRefusedError("x")] * 7:
        back_off.failed(error)
        waits.append(back_off.seconds)
    assert waits[:4] == [5, 10, 20, 40]
    assert waits[8] == MAX_WAIT_SECONDS
    assert waits[9:12] == [60, 120, 240]
    assert waits[-1] == MAX_LOGIN_WAIT_SECONDS
    back_off.succeeded()
    assert back_off.seconds == 0


def test_batches_are_bounded_in_number_and_bytes() -> None:
    gibibyte = 1024**3
    found = list(batches({"a": 1, "b": 2, "c": gibibyte, "d": 3}))
    assert found == [{"a": 1, "b": 2}, {"c": gibibyte}, {"d": 3}]
    assert [len(batch) for batch in batches({str(n): 0 for n in range(MAX_BATCH_FILES + 1)})] == [MAX_BATCH_FILES, 1]
    assert list(batches({})) == []
