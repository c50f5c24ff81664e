# SPDX-License-Identifier: Apache-2.0
"""Every call x every role x every kind of certificate, against a real server: generated from the services themselves.

A call that is added to a service, and neither to the table of access nor to the requests below, fails here.
"""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from network_bench import Bench, Certificate, Who, collect, outcome, request_of, revoke, subject_of

from coordinator.rpc.access import ACCESS
from federation.certificates import CertRole
from federation.errors import AccessDeniedError, FederationError, PeerUnavailableError, RevokedError
from federation.merkle import blob_digest
from federation.v1 import courier_pb2 as pb

DATA = b"one short blob"
DIGEST = bytes.fromhex(blob_digest(DATA))
DESCRIPTORS = (
    *pb.DESCRIPTOR.services_by_name.values(),
    *health_pb2.DESCRIPTOR.services_by_name.values(),
)
METHODS = {f"/{service.full_name}/{method.name}": method for service in DESCRIPTORS for method in service.methods}

REQUESTS: dict[str, Message] = {
    "/federation.v1.Courier/Negotiate": pb.NegotiateRequest(protocol_versions=[1]),
    "/federation.v1.Courier/Pull": pb.PullRequest(),
    "/federation.v1.Courier/Push": pb.PushRequest(first_offered=1, next_sequence=1, acknowledgement=b"x"),
    "/federation.v1.Courier/StatBlob": pb.StatBlobRequest(digest=DIGEST, num_bytes=len(DATA)),
    "/federation.v1.Courier/PutBlob": pb.PutBlobRequest(digest=DIGEST, num_bytes=len(DATA), data=DATA),
    "/federation.v1.Courier/GetBlob": pb.GetBlobRequest(digest=DIGEST, num_pieces=1),
    "/federation.v1.Enrolment/Enroll": pb.EnrollRequest(),
    "/federation.v1.Control/Status": pb.StatusRequest(),
    "/federation.v1.Control/Watch": pb.WatchRequest(run="run-1"),
    "/grpc.health.v1.Health/Check": health_pb2.HealthCheckRequest(),
    "/grpc.health.v1.Health/Watch": health_pb2.HealthCheckRequest(),
}
"""One for each call that succeeds for whoever may make it."""


@dataclass
class World:
    """Two servers: in one everybody is a member, in the other everybody was revoked or left the roster."""

    members: Bench
    revoked: Bench
    channels: dict[tuple[Who, Certificate], grpc.aio.Channel]

    def channel(self, who: Who, which: Certificate) -> grpc.aio.Channel:
        if (who, which) not in self.channels:
            bench = self.revoked if which is Certificate.REVOKED else self.members
            self.channels[who, which] = bench.channel_of(who, which)
        return self.channels[who, which]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with (
        Bench(directory=tmp_path_factory.mktemp("m")) as members,
        Bench(directory=tmp_path_factory.mktemp("r")) as gone,
    ):
        for bench in (members, gone):
            bench.drive()
            for who in Who:
                bench.fs.write(f"mailbox/{subject_of(who).id}/out/blobs/{DIGEST.hex()}", DATA)
        left = replace(gone.membership, roster=replace(gone.membership.roster, operators=()))
        for site in left.sites:
            left = revoke(left, site)
        gone.change(left)
        yield World(members, gone, {})


def call(world: World, method: str, who: Who, which: Certificate) -> Any:
    request = REQUESTS[method]
    if isinstance(request, pb.EnrollRequest):
        request = pb.EnrollRequest(request=request_of(world.members.consortium, subject_of(who)))
    return outcome(_call(world.channel(who, which), method, request.SerializeToString()))


async def _call(channel: grpc.aio.Channel, method: str, request: bytes) -> Any:
    sends, receives = METHODS[method].client_streaming, METHODS[method].server_streaming
    kind = f"{'stream' if sends else 'unary'}_{'stream' if receives else 'unary'}"
    started = getattr(channel, kind)(method)(iter([request]) if sends else request, timeout=20)
    return await collect(started, 1) if receives else await started


def expected(method: str, who: Who, which: Certificate) -> type[FederationError] | None:
    """What the caller is told; None: an answer."""
    if which in (Certificate.NONE, Certificate.EXPIRED, Certificate.OTHER_CA):
        return PeerUnavailableError  # the handshake fails
    if CertRole(who) not in ACCESS[method]:
        return AccessDeniedError
    if which is Certificate.REVOKED:
        return RevokedError if who in (Who.SITE, Who.BOOTSTRAP) else AccessDeniedError
    return None


def test_every_call_of_every_service_is_in_the_table_and_in_the_matrix() -> None:
    assert set(METHODS) == set(ACCESS) == set(REQUESTS)


def test_no_call_is_anybodys_and_a_bootstrap_certificate_reaches_enrolment_alone() -> None:
    assert all(ACCESS.values())
    assert [m for m, roles in ACCESS.items() if CertRole.BOOTSTRAP in roles] == ["/federation.v1.Enrolment/Enroll"]
    assert not any(CertRole.COORDINATOR in roles for roles in ACCESS.values())


@pytest.mark.parametrize(
    ("method", "who", "which"),
    [pytest.param(*case, id="-".join(case)) for case in itertools.product(METHODS, Who, Certificate)],
)
def test_access(world: World, method: str, who: Who, which: Certificate) -> None:
    error = expected(method, who, which)
    if error is None:
        assert call(world, method, who, which) not in (None, [])
        return
    with pytest.raises(error) as caught:
        call(world, method, who, which)
    assert type(caught.value) is error
    assert str(caught.value)


def test_a_method_that_is_served_and_not_in_the_table_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {method: roles for method, roles in ACCESS.items() if not method.endswith("/Pull")}
    monkeypatch.setattr("coordinator.rpc.access.ACCESS", table)
    with Bench(directory=tmp_path) as bench, pytest.raises(AccessDeniedError, match="in no table"):
        outcome(_call(bench.channel_of(Who.SITE), "/federation.v1.Courier/Pull", b""))


def test_nothing_of_a_refused_caller_is_kept(tmp_path: Path) -> None:
    with Bench(directory=tmp_path) as bench:
        bench.change(revoke(bench.membership, "lumi"))
        for name in ("/federation.v1.Courier/Push", "/federation.v1.Courier/PutBlob"):
            with pytest.raises(RevokedError):
                outcome(_call(bench.channel_of(Who.SITE), name, REQUESTS[name].SerializeToString()))
        assert not bench.fs.exists("mailbox")


def test_an_expired_certificate_is_refused_on_a_connection_that_was_opened_before(tmp_path: Path) -> None:
    with Bench(directory=tmp_path) as bench:
        soon = bench.certificate(subject_of(Who.SITE), days=2.5 / 86_400)
        channel = bench.channel(subject_of(Who.SITE), soon)
        pull = pb.PullRequest(wait_ms=60_000).SerializeToString()
        began = time.monotonic()
        with pytest.raises(FederationError, match="expired"):
            outcome(_call(channel, "/federation.v1.Courier/Pull", pull))
        assert time.monotonic() - began < 15
