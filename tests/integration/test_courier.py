# SPDX-License-Identifier: Apache-2.0
"""A party's courier against the real server: everything arrives once, whatever is killed, moved or restored."""

import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from connect_proxy import ConnectProxy
from courier_world import MAILBOX, PIECE, QUICK, SITE, CourierWorld, Side, noise, wait_until, world
from network_bench import DAY, Who, revoke, subject_of

from coordinator.network_config import LimitsSection
from coordinator.rpc.courier_desk import PeerMailbox
from federation.blobs.partial import num_pieces_of
from federation.errors import (
    AccessDeniedError,
    CertificateError,
    ConfigError,
    PeerUnavailableError,
    PolicyRefusedError,
    ProtocolError,
    ProtocolVersionError,
    RevokedError,
    RolledBackError,
)
from federation.mailbox.carrier import carry_both
from federation.mailbox.ends import InEnd
from federation.roster import root_fingerprint
from federation.rpc import credentials, once
from federation.rpc.credentials import Certificates, Endpoint
from federation.rpc.thread import CourierThread
from federation.testing.rosters import MemoryConsortium


@pytest.fixture
def met(tmp_path: Path) -> Iterator[CourierWorld]:
    with world(tmp_path) as found:
        yield found


def connected(courier: CourierThread) -> bool:
    return courier.current_status().connected


def until_failed(courier: CourierThread, error: type[Exception]) -> str:
    """Waits for this failure, and returns the sentence that the site's operator sees."""
    wait_until(lambda: isinstance(courier.failure, error), f"{error.__name__}, found {courier.failure!r}")
    status = courier.current_status()
    assert not status.connected
    assert status.error == error.__name__
    return f"{status.sentence} {status.advice}"


# --- everything arrives -----------------------------------------------------------------------------------------------


def test_one_exchange_brings_everything_both_ways(met: CourierWorld) -> None:
    up, down = noise(3 * PIECE + 5, 1), noise(2 * PIECE, 2)
    met.ours.post("q1", up)
    met.ours.post("q2")
    (digest, empty) = met.theirs.post("a1", down, b"")
    greeting = met.sync()
    assert greeting.protocol_version == 1
    assert abs(greeting.clock_ahead_seconds) < 5
    assert (met.ours.listen(), met.theirs.listen()) == (["a1"], ["q1", "q2"])
    assert met.ours.blobs.read(digest) == down
    assert met.ours.blobs.read(empty) == b""
    met.sync()  # acknowledgements
    met.pump()
    met.sync()
    for side in (met.ours, met.theirs):
        assert side.fs.list(f"{side.base}/in/blobs") == side.fs.list(f"{side.base}/out/blobs") == []
        assert side.mailbox.outstanding == ()


def test_a_running_courier_brings_what_is_posted_later(met: CourierWorld) -> None:
    with met.courier() as courier:
        wait_until(lambda: connected(courier), "a connection")
        courier.arrived.clear()
        met.theirs.post("a1", noise(PIECE + 1))
        met.bench.server.wake()
        assert courier.arrived.wait(30)
        met.ours.post("q1", noise(2 * PIECE, 1))
        courier.wake()
        met.settle(["a1"], ["q1"])
        status = courier.current_status()
        assert (status.bytes_up, status.bytes_down) == (2 * PIECE, PIECE + 1)
        assert time.time() - status.last_contact_us / 1e6 < 30


@pytest.mark.parametrize("limit", [PIECE // 2, 4 * PIECE])
def test_the_upload_limit_holds_and_can_be_lifted_on_the_way(met: CourierWorld, limit: int) -> None:
    """Three pieces at the limit's pace, then the rest at once."""
    met.ours.post("large", noise(12 * PIECE))
    with met.courier() as courier:
        courier.limit_upload(limit)
        wait_until(lambda: courier.current_status().bytes_up >= PIECE, "the first piece")
        start = time.monotonic()
        wait_until(lambda: courier.current_status().bytes_up >= 4 * PIECE, "three more")
        assert time.monotonic() - start >= 0.9 * 3 * PIECE / limit - 0.06
        assert courier.current_status().max_upload_bytes_per_second == limit
        courier.limit_upload(0)
        met.settle([], ["large"])
    assert courier.current_status().bytes_up < 14 * PIECE, "what had arrived was sent again"


def test_more_messages_than_fit_one_call(met: CourierWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.rpc.mirror.PUSH_BYTES", 1000)
    names = [f"q{number}" for number in range(40)]
    for name in names:
        met.ours.post(name)
        met.theirs.post(name)
    met.sync()
    assert met.ours.listen() == met.theirs.listen() == names


def test_a_removed_file_is_brought_again(met: CourierWorld) -> None:
    met.ours.post("q1")
    with met.courier() as courier:
        there = f"{met.theirs.base}/in"
        name = wait_until(lambda: [n for n in met.bench.fs.list(there) if n.endswith(".msg")], "the message")[0]
        met.bench.fs.remove(f"{there}/{name}")
        wait_until(lambda: met.bench.fs.exists(f"{there}/{name}"), "the message again")
        met.settle([], ["q1"])
        assert connected(courier)


# --- either end dies --------------------------------------------------------------------------------------------------


def dying(monkeypatch: pytest.MonkeyPatch, owner: type, at: int) -> list[int]:
    """`put_pieces` fails from the piece number `at` on, perhaps in the middle of a message."""
    put, seen = owner.put_pieces, []  # type: ignore[attr-defined]

    def put_pieces(self: Any, digest: str, num_bytes: int, first: int, data: bytes) -> bool:
        found = False
        for piece in range(first, first + num_pieces_of(len(data))):
            if len(seen) == at:
                raise RuntimeError("killed here")
            seen.append(piece)
            start = (piece - first) * PIECE
            found = put(self, digest, num_bytes, piece, data[start : start + PIECE])
        return found

    monkeypatch.setattr(owner, "put_pieces", put_pieces)
    return seen


@pytest.mark.parametrize("at", range(5))
def test_the_site_is_killed_at_each_piece(met: CourierWorld, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    (digest,) = met.theirs.post("a1", noise(4 * PIECE + 9))
    with monkeypatch.context() as patched:
        dying(patched, InEnd, at)
        patched.setattr(InEnd, "flush", lambda self: None)  # a killed process tidies nothing up
        patched.setattr(InEnd, "close", lambda self: None)
        with pytest.raises(RuntimeError, match="killed here"):
            met.sync()
    met.ours.reopen()
    met.sync()
    assert met.ours.listen() == ["a1"]
    assert met.ours.blobs.read(digest) == noise(4 * PIECE + 9)


@pytest.mark.parametrize("at", range(5))
def test_the_coordinator_is_killed_at_each_piece(met: CourierWorld, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    met.ours.post("q1", noise(4 * PIECE + 9))
    with monkeypatch.context() as patched:
        seen = dying(patched, PeerMailbox, at)
        with met.courier() as courier:
            wait_until(lambda: courier.current_status().failures >= 1, "a failure")
            assert len(seen) == at
            patched.undo()
            met.restart_server()
            met.settle([], ["q1"])
            assert met.theirs.blobs.digests() != []


def test_what_arrived_before_a_clean_end_is_not_brought_again(
    met: CourierWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    met.theirs.post("a1", noise(6 * PIECE))
    with monkeypatch.context() as patched:
        first = dying(patched, InEnd, 4)
        with pytest.raises(RuntimeError):
            met.sync()
    again = dying(monkeypatch, InEnd, 100)
    met.sync()
    assert sorted(first + again) == list(range(6))
    assert met.ours.listen() == ["a1"]


def test_a_coordinator_that_is_away_for_long(met: CourierWorld) -> None:
    address = met.bench.server.address
    with met.courier() as courier:
        wait_until(lambda: connected(courier), "a connection")
        met.bench.server.stop()
        met.ours.post("q1", noise(PIECE))
        wait_until(lambda: "nothing listens there" in courier.current_status().sentence, "the reason")
        since = courier.current_status().since_us
        wait_until(lambda: courier.current_status().failures > 5, "attempts")
        assert courier.current_status().since_us == since
        met.theirs.post("a1")
        met.start_server(address)
        met.settle(["a1"], ["q1"])
        assert courier.current_status().sentence == ""


def test_a_coordinator_that_moved(met: CourierWorld) -> None:
    with met.courier() as courier:
        wait_until(lambda: connected(courier), "a connection")
        met.bench.server.stop()
        until_failed(courier, PeerUnavailableError)
        met.start_server("127.0.0.1:0")
        met.ours.post("q1")
        credentials.write_endpoint(met.site, Endpoint.parse(met.bench.server.address))
        met.settle([], ["q1"])


def test_a_site_whose_share_is_full_is_told_so(tmp_path: Path) -> None:
    """Room for one of two blobs: the second waits, in words, until the first was acted upon."""
    with world(tmp_path, limits=LimitsSection(max_pending_bytes=3 * PIECE)) as met, met.courier() as courier:
        met.ours.post("q1", noise(2 * PIECE, 1))
        met.ours.post("q2", noise(2 * PIECE, 2))
        words = wait_until(lambda: courier.current_status().held_up, "that it is held up")
        assert courier.current_status().connected
        assert "blobs up: " in words
        met.settle([], ["q1", "q2"])
        wait_until(lambda: not courier.current_status().held_up, "that nothing is held up any more")


# --- histories that do not fit ----------------------------------------------------------------------------------------


def exchanged(met: CourierWorld, number: int) -> None:
    """Message `number` goes each way and is acknowledged."""
    met.ours.post(f"q{number}")
    met.theirs.post(f"a{number}")
    for _ in range(3):
        met.sync()
        met.pump()


def restored(side: Side, base: Path, backup: Path) -> None:
    """Puts a mailbox back to what it was."""
    shutil.rmtree(base)
    shutil.copytree(backup, base)
    side.reopen()


def test_a_coordinator_restored_from_an_old_backup(met: CourierWorld) -> None:
    exchanged(met, 1)
    there, backup = met.base / "coordinator" / "mailbox", met.base / "backup"
    shutil.copytree(there, backup)
    for number in (2, 3):
        exchanged(met, number)
    met.bench.server.stop()
    restored(met.theirs, there, backup)
    met.start_server(met.bench.server.address)
    met.ours.post("q4")
    with met.courier() as courier:
        words = until_failed(courier, RolledBackError)
        assert "backup" in words
        assert [n for n in met.site.list(f"{MAILBOX}/out") if n.endswith(".msg")] != []  # q4 waits
        assert met.ours.listen() == ["a1", "a2", "a3"]


def test_a_coordinator_that_lost_what_it_had_not_told(met: CourierWorld) -> None:
    """Its newest state is brought back while the courier keeps trying: it goes on by itself."""
    exchanged(met, 1)
    there, old, new = met.base / "coordinator" / "mailbox", met.base / "old", met.base / "new"
    shutil.copytree(there, old)
    exchanged(met, 2)
    shutil.copytree(there, new)
    met.bench.server.stop()
    restored(met.theirs, there, old)
    met.start_server(met.bench.server.address)
    with met.courier() as courier:
        until_failed(courier, RolledBackError)
        met.bench.server.stop()
        restored(met.theirs, there, new)
        met.start_server(met.bench.server.address)
        met.ours.post("q3")
        met.settle(["a1", "a2"], ["q1", "q2", "q3"])


def test_a_site_restored_from_an_old_backup(met: CourierWorld) -> None:
    exchanged(met, 1)
    here, backup = met.base / SITE / MAILBOX, met.base / "backup"
    shutil.copytree(here, backup)
    exchanged(met, 2)
    restored(met.ours, here, backup)
    with pytest.raises(RolledBackError):
        met.sync()


def test_a_peer_of_another_protocol(met: CourierWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.rpc.mirror.PROTOCOL_VERSIONS", (7, 9))
    with pytest.raises(ProtocolVersionError):
        met.sync()


def test_a_coordinator_of_another_consortium(met: CourierWorld) -> None:
    """Same keys, same issuer, another name: nothing of it is believed."""
    met.bench.change(replace(met.bench.membership, consortium="other"))
    with pytest.raises((ProtocolError, AccessDeniedError, CertificateError)):
        met.sync()


# --- certificates -----------------------------------------------------------------------------------------------------


def test_a_certificate_is_renewed_without_a_restart(met: CourierWorld) -> None:
    met.certify(days=25.0)
    with met.courier() as courier:
        wait_until(lambda: connected(courier), "a connection")
        before, since = Certificates.read(met.site).channel, courier.status.since_us
        met.now = lambda: time.time() + 16 * DAY  # 9 days are left
        renewed = wait_until(lambda: Certificates.read(met.site).channel != before, "another certificate")
        assert renewed
        wait_until(lambda: connected(courier) and courier.status.since_us > since, "a connection with it")
        met.ours.post("q1")
        met.settle([], ["q1"])
        left = Certificates.read(met.site).days_left(time.time())
        assert left is not None
        assert left > 29
        assert courier.current_status().renewal_failed == ""


def test_an_expired_certificate_is_replaced_through_the_one_for_renewal(met: CourierWorld) -> None:
    met.certify(made_at=time.time() - 31 * DAY)
    met.ours.post("q1")
    with met.courier():
        met.settle([], ["q1"])
    left = Certificates.read(met.site).days_left(time.time())
    assert left is not None
    assert left > 29


def test_an_expired_certificate_without_the_one_for_renewal(met: CourierWorld) -> None:
    met.certify(made_at=time.time() - 31 * DAY)
    met.site.remove(credentials.RENEWAL)
    with met.courier() as courier:
        assert "Ask an operator" in until_failed(courier, CertificateError)


def test_a_certificate_of_another_issuer(met: CourierWorld) -> None:
    met.site.write(credentials.CERTIFICATE, met.bench.certificate(subject_of(Who.SITE), seed="other"))
    with met.courier() as courier:
        words = until_failed(courier, PeerUnavailableError)
        assert "does not accept this certificate" in words


def test_a_server_of_another_issuer_is_not_believed(met: CourierWorld) -> None:
    stranger = MemoryConsortium(seed="other", sites=(SITE,))
    roster = stranger.roster(now_us=time.time_ns() // 1000)
    met.site.write(credentials.roster_path(1), stranger.document(roster))
    met.site.write(credentials.ROOT_FILE, root_fingerprint(roster).encode())
    with pytest.raises(PeerUnavailableError, match="not this consortium's coordinator"):
        met.sync()


def test_a_site_that_is_revoked_while_connected(met: CourierWorld) -> None:
    with met.courier() as courier:
        wait_until(lambda: connected(courier), "a connection")
        met.bench.change(revoke(met.bench.membership, SITE))
        until_failed(courier, RevokedError)
        met.ours.post("q1")
        met.bench.change(replace(met.bench.membership, revoked={}))
        met.settle([], ["q1"])


def test_rosters_that_were_missed_are_fetched(met: CourierWorld) -> None:
    consortium, membership = met.bench.consortium, met.bench.membership
    documents, roster = [*membership.rosters], membership.roster
    for version in (2, 3):
        roster = replace(roster, version=version)
        documents.append(consortium.document(roster))
    met.bench.change(replace(membership, roster=roster, rosters=tuple(documents)))
    with met.courier() as courier:
        wait_until(lambda: met.site.exists(credentials.roster_path(3)), "the newest roster")
        assert courier.arrived.wait(10)
    assert credentials.require_rosters(met.site, time.time_ns() // 1000).current.version == 3


# --- ways out ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_exceptions")
def test_through_an_http_connect_proxy(met: CourierWorld) -> None:
    met.ours.post("q1", noise(PIECE))
    with ConnectProxy() as proxy:
        once.sync(met.station(http_proxy=proxy.url), 60.0)
        assert proxy.asked == [f"CONNECT {met.bench.server.address} HTTP/1.1"]
        assert len(proxy.relayed) > PIECE
        assert met.theirs.listen() == ["q1"]
        assert b"federation.v1" not in proxy.relayed  # the method's name, a header of HTTP/2


@pytest.mark.usefixtures("no_exceptions")
def test_a_proxy_that_refuses(met: CourierWorld) -> None:
    with ConnectProxy(refuse=True) as proxy, pytest.raises(PeerUnavailableError, match="proxy"):
        once.sync(met.station(http_proxy=proxy.url), 60.0)


def test_a_proxy_of_the_environment_is_not_used(met: CourierWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    with ConnectProxy() as proxy:
        for name in ("https_proxy", "http_proxy", "grpc_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        met.sync()
        assert proxy.asked == []


def test_a_proxy_of_another_kind(met: CourierWorld) -> None:
    with pytest.raises(ConfigError, match="http_proxy"):
        once.sync(met.station(http_proxy="socks5://127.0.0.1:1080"), 60.0)


def test_a_process_without_any_network(met: CourierWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDERATION_NO_NETWORK", "1")
    with pytest.raises(PolicyRefusedError):
        met.sync()


@pytest.mark.parametrize(
    ("greeting", "words"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak gRPC over TLS"), (b"", "nothing answers there in time")],
)
def test_a_port_where_something_else_listens(met: CourierWorld, greeting: bytes, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted: list[socket.socket] = []

        def greet() -> None:
            with contextlib.suppress(OSError):
                while True:
                    accepted.append(listener.accept()[0])
                    accepted[-1].sendall(greeting)

        threading.Thread(target=greet, daemon=True).start()
        credentials.write_endpoint(met.site, Endpoint.parse(f"127.0.0.1:{listener.getsockname()[1]}"))
        with pytest.raises(PeerUnavailableError, match=words):
            once.probe(met.station(), 2.0)
        for connection in accepted:
            connection.close()


def test_both_couriers_at_once_lose_and_repeat_nothing(met: CourierWorld) -> None:
    names = [f"q{number}" for number in range(20)]
    with met.courier() as courier:
        for number, name in enumerate(names):
            met.ours.post(name, noise(PIECE // 2, number))
            met.theirs.post(name)
            courier.wake()
            carry_both(met.site, MAILBOX, met.bench.fs, met.theirs.base)
            met.pump()
        met.settle(names, names)


def test_stopping_leaves_no_thread(met: CourierWorld) -> None:
    def couriers() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("courier-files")]

    for pace in (QUICK, replace(QUICK, pull=50.0)):
        with met.courier(pace) as courier:
            wait_until(lambda found=courier: connected(found), "a connection")  # type: ignore[misc]
        assert couriers() == []
