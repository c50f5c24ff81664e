# SPDX-License-Identifier: Apache-2.0
"""`site-agent carrier --remote` against a real sshd on loopback: by rsync, by sftp, where only sftp is allowed."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import ssh_server
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from services import Service, command_line, run_command, wait_for
from ssh_server import SshServer

from federation import signing
from federation.blobs.store import BlobStore
from federation.durable.real import RealFileSystem
from federation.leaves import Reason
from federation.mailbox.mailbox import Mailbox
from federation.messages import RoundDeclined
from site_agent import layout

WHY_NOT = ssh_server.why_not()
pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-"),
]

KEYS = {name: Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n, name in enumerate(("alpha", "coordinator"))}
KINDS = (("rsync", False), ("sftp", False), ("sftp", True))


class Side:
    """One end of the mailbox, in a real directory."""

    def __init__(self, directory: Path, base: str, me: str, peer: str) -> None:
        self.directory, self.base, self.peer = directory, base, peer
        self.fs = RealFileSystem(directory)
        self.blobs = BlobStore(self.fs, f"{base}-blobs")
        self.box = Mailbox(self.fs, base, self.blobs, me, peer, "consortium", KEYS[me])
        self.now_us = 1

    def post(self, number: int, *blobs: bytes) -> list[str]:
        digests = [self.blobs.put(blob) for blob in blobs]
        self.box.post(RoundDeclined(run="demo", round=number, reason=Reason.OPERATOR, sentence=""), blobs=digests)
        return digests

    def act(self) -> list[int]:
        """Acts upon what is ready; returns the numbers of the bodies."""
        self.now_us += 1_000_000
        found = [r for r in self.box.collect(signing.public_bytes(KEYS[self.peer]), self.now_us) if r.ready]
        for received in found:
            self.box.done(received.sequence)
        self.box.acknowledge()
        self.box.prune()
        return [r.message.body.round for r in found if isinstance(r.message.body, RoundDeclined)]

    def path(self, name: str) -> Path:
        return self.directory / self.base / name

    def files(self, folder: str) -> list[str]:
        return self.fs.list(f"{self.base}/{folder}")


class World:
    """A site there, a coordinator here, and a server between them."""

    def __init__(self, base: Path, via: str, sftp_only: bool) -> None:
        self.base, self.via = base, via
        # A name that a shell, sftp and rsync would each take apart in its own way.
        self.site = Side(base / "the site's [dir] $HOME", layout.MAILBOX, "alpha", "coordinator")
        self.coordinator = Side(base / "coordinator", "mailbox/alpha", "coordinator", "alpha")
        self.coordinator.fs.write("keys/coordinator.pem", b"")
        self.server = SshServer(directory=base / "sshd", sftp_only=sftp_only)

    def arguments(self, *more: str, **changed: str) -> list[str]:
        identity = changed.get("identity", str(self.server.identity))
        known = changed.get("known_hosts", str(self.server.known_hosts))
        path = changed.get("path", str(self.site.directory))
        remote = f"{self.server.address}:{path}"
        options = ["--identity", identity, "--ssh-option", f"UserKnownHostsFile={known}"]
        return [
            "--remote",
            remote,
            "--site",
            "alpha",
            "--via",
            self.via,
            *options,
            *more,
            str(self.base / "coordinator"),
        ]

    def carry(self, *more: str, code: int = 0, **changed: str) -> str:
        return run_command("site-agent", "carrier", *self.arguments("--once", *more, **changed), code=code)

    def num_carried(self) -> int:
        return int(json.loads(self.carry("--json"))["files"])


@pytest.fixture(params=KINDS, ids=["rsync", "sftp", "sftp only"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, *request.param)
    with world.server:
        yield world


@pytest.fixture
def by_sftp(tmp_path: Path) -> Iterator[World]:
    """For what happens before rsync or sftp come in."""
    world = World(tmp_path, "sftp", sftp_only=True)
    with world.server:
        yield world


def test_a_whole_exchange_both_ways(world: World) -> None:
    site, coordinator = world.site, world.coordinator
    (shared,) = site.post(1, b"site's blob" * 1000)
    site.post(2)
    coordinator.post(3, b"first", b"", b"x" * (2 * 1024 * 1024 + 5))
    # The site's acknowledgement is there from its first pass on.
    site.box.acknowledge()
    assert world.num_carried() >= 7
    assert coordinator.act() == [1, 2]
    assert site.act() == [3]
    assert coordinator.blobs.read(shared) == b"site's blob" * 1000
    world.carry()
    assert site.act() == coordinator.act() == []
    assert site.box.outstanding == coordinator.box.outstanding == ()
    world.carry()
    # What its writer deleted is gone at the reader, and nothing else is left anywhere.
    for side in (site, coordinator):
        side.act()
        assert side.files("in/blobs") == side.files("out/blobs") == []
        assert sorted(side.files("in")) == sorted(side.files("out")) == ["ack", "blobs"]
        assert side.box.rejected == []
    assert coordinator.files("carrier") in ([], [".carrier-partial"])
    assert world.num_carried() == 1  # the acknowledgement: nothing remembers over two runs that it was sent
    assert world.server.num_logins == 4


def test_one_login_serves_every_look(world: World) -> None:
    site, coordinator = world.site, world.coordinator
    service = Service(
        name="carrier",
        argv=command_line("site-agent", "carrier", *world.arguments("--poll-seconds", "0.05")),
        log=world.base / "carrier.log",
    )
    service.start()
    try:
        for number in range(1, 4):
            site.post(number)
            coordinator.post(10 + number)
            wait_for(lambda n=number: coordinator.act() == [n], 60, "a message", service.supervise, world.base)  # type: ignore[misc]
            wait_for(lambda n=number: site.act() == [10 + n], 60, "a message", service.supervise, world.base)  # type: ignore[misc]
    finally:
        assert service.stop() == 0
    assert world.server.num_logins == 1
    assert "this goes on" in service.log.read_text()


def test_killed_in_the_middle_it_goes_on_from_there(world: World) -> None:
    """Of a large blob each way, at a limited rate: what has come is kept, and nobody acts upon half of it."""
    blob = os.urandom(1024 * 1024) * 6
    (up,) = world.site.post(1, blob + b"up")
    (down,) = world.coordinator.post(2, blob + b"down")

    def staged() -> int:
        return sum(p.stat().st_size for p in world.coordinator.path("carrier").rglob("*") if p.is_file())

    def sent() -> int:
        there = world.site.path("in/blobs")
        return sum(p.stat().st_size for p in there.rglob("*") if p.is_file())

    for coming, finishes in ((staged, world.coordinator), (sent, world.site)):
        argv = command_line("site-agent", "carrier", *world.arguments("--bandwidth-limit", "3000000"))
        service = Service(name="carrier", argv=argv, log=world.base / "carrier.log")
        service.start()
        try:
            wait_for(lambda c=coming: c() > 1024 * 1024, 120, "a part of it", service.supervise, world.base)  # type: ignore[misc]
        finally:
            kill_all_of(service)
        assert 0 < coming() <= len(blob) + 10
        assert finishes.act() == []
        if coming is staged:
            assert world.coordinator.files("in/blobs") == []
    world.carry()
    assert world.coordinator.act() == [1]
    assert world.site.act() == [2]
    assert world.coordinator.blobs.read(up) == blob + b"up"
    assert world.site.blobs.read(down) == blob + b"down"


def kill_all_of(service: Service) -> None:
    """SIGKILL to the carrier; what it had started is told by the broken connection, or finishes by itself."""
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(service.pid)], capture_output=True, text=True).stdout
    for pid in [str(service.pid), *children.split()]:
        subprocess.run(["kill", "-KILL", pid], check=False, capture_output=True)
    service.stop()


def test_a_lost_connection_is_made_again(world: World) -> None:
    argv = command_line("site-agent", "carrier", *world.arguments("--poll-seconds", "0.05"))
    service = Service(name="carrier", argv=argv, log=world.base / "carrier.log")
    service.start()
    try:
        world.site.post(1)
        wait_for(lambda: world.coordinator.act() == [1], 60, "a message", service.supervise, world.base)
        world.server.stop()
        wait_for(lambda: "it is tried again" in service.log.read_text(), 60, "a word", service.supervise)
        world.server.start()
        world.site.post(2)
        wait_for(lambda: world.coordinator.act() == [2], 60, "a message", service.supervise, world.base)
    finally:
        assert service.stop() == 0


def test_a_wrong_host_key_waits_for_a_human(by_sftp: World) -> None:
    other = by_sftp.base / "other_hosts"
    ssh_server.make_key(by_sftp.base / "other")
    kind, key = (by_sftp.base / "other.pub").read_text().split()[:2]
    other.write_text(f"[127.0.0.1]:{by_sftp.server.port} {kind} {key}\n")
    said = by_sftp.carry(code=77, known_hosts=str(other))
    assert "waiting for a human" in said
    assert "known_hosts" in said
    assert by_sftp.server.num_logins == 0


def test_a_refused_key_waits_for_a_human_without_hammering(by_sftp: World) -> None:
    ssh_server.make_key(by_sftp.base / "stranger")
    stranger = str(by_sftp.base / "stranger")
    before = by_sftp.server.num_attempts
    said = by_sftp.carry(code=77, identity=stranger)
    assert "waiting for a human" in said
    assert "Permission denied" in said
    assert "Renew the certificate" in said
    assert by_sftp.server.num_attempts == before + 1
    again = by_sftp.carry(code=77, identity=stranger)
    assert "no login is tried for" in again
    assert "Permission denied" in again
    assert by_sftp.server.num_attempts == before + 1, "cron comes every minute"
    by_sftp.site.post(1)
    by_sftp.carry()
    assert by_sftp.coordinator.act() == [1], "another key is tried at once"
    before, logins = by_sftp.server.num_attempts - 1, by_sftp.server.num_logins
    argv = command_line("site-agent", "carrier", *by_sftp.arguments("--poll-seconds", "0.05", identity=stranger))
    service = Service(name="carrier", argv=argv, log=by_sftp.base / "carrier.log")
    service.start()
    try:
        wait_for(lambda: "next attempt is in 60 seconds" in service.log.read_text(), 60, "a word", service.supervise)
    finally:
        assert service.stop() == 0
    assert by_sftp.server.num_attempts == before + 2
    assert by_sftp.server.num_logins == logins


@pytest.mark.parametrize("is_valid", [True, False])
def test_a_certificate_that_has_expired_is_not_tried(by_sftp: World, is_valid: bool) -> None:
    authority, identity = by_sftp.server.directory / "authority", by_sftp.base / "certified"
    ssh_server.make_key(identity)
    user = by_sftp.server.address.split("@")[0]
    valid = "-5m:+5m" if is_valid else "20200101:20200102"
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "me", "-n", user, "-V", valid, f"{identity}.pub"]
    subprocess.run(sign, check=True)
    by_sftp.site.box.acknowledge()
    before = by_sftp.server.num_attempts
    if is_valid:
        by_sftp.carry(identity=str(identity))
        assert by_sftp.server.num_logins == 1
    else:
        said = by_sftp.carry(code=77, identity=str(identity))
        assert "-cert.pub expired" in said
        assert by_sftp.server.num_attempts == before


def test_nobody_answers(by_sftp: World) -> None:
    by_sftp.server.stop()
    assert "Connection refused" in by_sftp.carry(code=1)


def test_a_missing_site_directory_is_named(world: World) -> None:
    said = world.carry(code=1, path=str(world.base / "nowhere"))
    assert str(world.base / "nowhere") in said
    assert not (world.base / "nowhere").exists()


def test_a_mailbox_that_appears_late(world: World) -> None:
    shutil.rmtree(world.site.path("out"), ignore_errors=True)
    world.site.path(".").mkdir(parents=True, exist_ok=True)
    assert "found none yet" in world.carry(code=1)
    Side(world.site.directory, layout.MAILBOX, "alpha", "coordinator").post(1)
    world.carry()
    assert world.coordinator.act() == [1]


def test_what_cannot_be_written_there_is_said_and_tried_again(world: World) -> None:
    """A read-only directory; and one in the way of the acknowledgement, since no permission stops root."""
    world.site.post(1)
    (world.site.path("in") / "ack" / "deeper").mkdir(parents=True)
    world.site.path("in").chmod(0o500)
    world.carry()
    assert world.coordinator.act() == [1]
    assert "expected to send files" in world.carry(code=1)
    world.site.path("in").chmod(0o700)
    (world.site.path("in") / "ack" / "deeper").rmdir()
    (world.site.path("in") / "ack").rmdir()
    world.carry()
    world.site.act()
    assert world.site.box.outstanding == ()


def test_a_hostile_site_gets_nothing_in_but_its_mailbox(world: World) -> None:
    """Links, directories, pipes and strange names there: none of them makes the carrier read or write elsewhere."""
    site, coordinator = world.site, world.coordinator
    site.post(1)
    secret = world.base / "secret"
    secret.write_bytes(b"of the other machine")
    out = site.path("out")
    (out / "blobs").mkdir(exist_ok=True)
    (out / "blobs" / ("0" * 64)).symlink_to(secret)
    (out / "000000000002-0123456789abcdef.msg").symlink_to(secret)
    (out / "blobs" / ("1" * 64)).mkdir()
    (out / "blobs" / ("2" * 64)).write_bytes(b"not what its name says")
    for name in ("../../escaped", "-rf", "a b", "new\nline", ".hidden", "000000000003-0123456789abcdef.msg;id"):
        (out / name.replace("/", "%")).write_bytes(b"x")
    os.mkfifo(out / "000000000004-0123456789abcdef.msg")
    world.carry()
    assert coordinator.act() == [1]
    assert all(name.startswith("000000000001-") or name in ("ack", "blobs") for name in coordinator.files("in"))
    assert coordinator.files("in/blobs") == []
    assert not list(world.base.rglob("escaped*"))
    links = [path for path in coordinator.directory.rglob("*") if path.is_symlink()]
    assert links == []


def test_more_than_a_message_may_hold_is_not_taken(world: World) -> None:
    out = world.site.path("out")
    world.site.box.acknowledge()
    (out / "000000000001-0123456789abcdef.msg").write_bytes(bytes(9 * 1024 * 1024))
    assert "bytes at most" in world.carry(code=1)
    assert world.coordinator.files("in") == []
