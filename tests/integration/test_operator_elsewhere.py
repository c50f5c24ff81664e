# SPDX-License-Identifier: Apache-2.0
"""An operator on another machine: what a command says when the coordinator does not answer, or refuses."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from courier_world import wait_until
from network_bench import Bench, Who, membership_of, subject_of

from coordinator.operator_client import OPERATOR_ID, OPERATOR_KEY, connect, goes_over_network
from coordinator.rpc.operator_courier import Watching, party_of
from federation import signing
from federation.certificates import save_tls_key
from federation.durable.real import RealFileSystem
from federation.errors import AccessDeniedError, ConfigError, DeadlineExceededError, PeerUnavailableError
from federation.messages import Query, QueryKind
from federation.roster import root_fingerprint
from federation.rpc import credentials
from federation.rpc.credentials import Endpoint

QUERY = Query(id="q1", kind=QueryKind.RUNS)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench(directory=tmp_path / "coordinator") as found:
        yield found


@pytest.fixture
def alice(tmp_path: Path, bench: Bench) -> RealFileSystem:
    fs, membership = RealFileSystem(tmp_path / "alice"), bench.membership
    signing.save_private_key(fs, OPERATOR_KEY, bench.consortium.key("operator/alice"))
    save_tls_key(fs, credentials.TLS_KEY, bench.consortium.tls_key("operator/alice"))
    fs.write(OPERATOR_ID, b"alice")
    fs.write(credentials.ROOT_FILE, root_fingerprint(membership.roster).encode())
    fs.write(credentials.roster_path(1), membership.rosters[0])
    fs.write(credentials.CERTIFICATE, bench.certificate(subject_of(Who.OPERATOR)))
    credentials.write_endpoint(fs, Endpoint.parse(bench.server.address))
    return fs


def test_nobody_answers(alice: RealFileSystem) -> None:
    credentials.write_endpoint(alice, Endpoint.parse("127.0.0.1:1"))
    client, hold = connect(alice.root, None)
    with hold, pytest.raises(DeadlineExceededError) as caught:
        client.query(QUERY, 0.5)
    assert "nothing was changed" in str(caught.value)
    assert "nothing listens there" in caught.value.advice


def test_the_coordinator_takes_calls_and_does_not_reply(alice: RealFileSystem, bench: Bench) -> None:
    client, hold = connect(alice.root, None)
    with hold, pytest.raises(DeadlineExceededError) as caught:
        client.query(QUERY, 1.0)
    assert caught.value.advice.endswith("answers calls, but not this request yet; ask again later.")
    assert bench.fs.list("mailbox/alice/in") != []


def test_an_operator_who_was_struck_off_hears_it_at_once(alice: RealFileSystem, bench: Bench) -> None:
    bench.change(membership_of(bench.consortium, without=("alice",)))
    client, hold = connect(alice.root, None)
    start = time.monotonic()
    with hold, pytest.raises(AccessDeniedError):
        client.query(QUERY, 60.0)
    assert time.monotonic() - start < 30


def test_an_operator_whom_the_roster_here_does_not_name_asks_for_a_newer_one(
    alice: RealFileSystem, bench: Bench
) -> None:
    first = membership_of(bench.consortium, without=("alice",))
    second = replace(bench.membership.roster, version=2)
    rosters = (first.rosters[0], bench.consortium.document(second))
    bench.change(replace(bench.membership, roster=second, rosters=rosters))
    alice.write(credentials.roster_path(1), first.rosters[0])
    client, hold = connect(alice.root, None)
    with hold:
        assert client.operator == "alice"
    assert alice.exists(credentials.roster_path(2))


def test_who_enrolled_and_is_not_signed_yet_hears_who_has_to_act(alice: RealFileSystem, bench: Bench) -> None:
    first = membership_of(bench.consortium, without=("alice",))
    bench.change(first)
    bench.fs.write("enrolment/requests/alice.req", party_of(alice).request)
    alice.write(credentials.roster_path(1), first.rosters[0])
    with pytest.raises(ConfigError, match="not in roster version 1") as caught:
        connect(alice.root, None)
    assert "coordinator site requests" in caught.value.advice
    assert ".req" not in caught.value.advice


def test_a_named_directory_goes_before_the_network(alice: RealFileSystem, tmp_path: Path) -> None:
    assert goes_over_network(alice.root, None)
    assert not goes_over_network(alice.root, tmp_path)
    alice.remove(credentials.ENDPOINT)
    assert not goes_over_network(alice.root, None)
    with pytest.raises(ConfigError, match="expected one coordinator directory"):
        connect(alice.root, None)


def test_watching_shows_each_change(alice: RealFileSystem, bench: Bench) -> None:
    documents = iter(range(10**6))
    bench.drive(lambda subject: f'{{"run": "{subject}", "state": "running", "number": {next(documents)}}}')
    watching = Watching(alice, "r1", 0.2, 30.0)
    try:
        first = watching.look()
        assert first["run"] == "r1"
        wait_until(lambda: watching.look()["number"] > first["number"], "another document")
    finally:
        watching.close()


def test_watching_says_when_the_coordinator_goes_away_and_goes_on_when_it_is_back(
    alice: RealFileSystem, bench: Bench
) -> None:
    bench.drive()
    watching = Watching(alice, "r1", 0.2, 30.0)
    try:
        assert watching.look() == {"subject": "r1"}
        bench.server.stop()
        wait_until(lambda: _is_lost(watching), "word that it is gone")
        bench.restart()
        wait_until(lambda: not _is_lost(watching), "word from it again")
    finally:
        watching.close()


def _is_lost(watching: Watching) -> bool:
    try:
        watching.look()
    except PeerUnavailableError:
        return True
    return False


def test_watching_where_nobody_answers(alice: RealFileSystem) -> None:
    credentials.write_endpoint(alice, Endpoint.parse("127.0.0.1:1"))
    watching = Watching(alice, "r1", 0.2, 30.0)
    with pytest.raises(PeerUnavailableError, match="nothing listens there"):
        watching.look()
    watching.close()
