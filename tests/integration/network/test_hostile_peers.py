# SPDX-License-Identifier: Apache-2.0
"""Peers that break every rule of the network: each gets its refusal, keeps nothing, and holds nobody up."""

import asyncio
import gc
import hashlib
import resource
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from network_bench import (
    DAY,
    PATIENCE,
    PIECE,
    Bench,
    Who,
    answered,
    invite,
    is_served,
    membership_of,
    outcome,
    request_of,
    revoke,
    subject_of,
)
from raw_peer import DATA, GOAWAY, SETTINGS, Frame, RawPeer, closed, connect, secured, tls_context

from federation.errors import (
    DeadlineExceededError,
    DigestMismatchError,
    FederationError,
    InviteError,
    LimitExceededError,
    OverloadedError,
    ProtocolError,
    ProtocolVersionError,
    RevokedError,
)
from federation.leaves import PartyKind
from federation.mailbox.layout import message_name
from federation.merkle import blob_digest
from federation.rpc.errors import error_from
from federation.v1 import courier_pb2 as pb
from federation.v1 import courier_pb2_grpc as pb_grpc

SITE = subject_of(Who.SITE)
# --- below gRPC -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpn", [(), ("http/1.1",)])
def test_http_1_over_tls_gets_no_answer(bench: Bench, tmp_path: Path, alpn: tuple[str, ...]) -> None:
    with secured(bench, tls_context(bench, SITE, tmp_path, alpn)) as peer:
        peer.sendall(b"GET /federation.v1.Courier/Pull HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP/1" not in closed(peer)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x00" * 400, b""])
def test_plain_text_gets_no_answer_and_is_cut_off(bench: Bench, data: bytes) -> None:
    with connect(bench) as peer:
        peer.sendall(data)
        assert b"HTTP" not in closed(peer)


def test_a_peer_that_stalls_in_the_handshake_is_cut_off(bench: Bench, other: pb_grpc.CourierStub) -> None:
    began = time.monotonic()
    with connect(bench) as peer:
        peer.sendall(b"\x16\x03\x01")  # the beginning of a ClientHello
        assert is_served(other)
        closed(peer)
    assert time.monotonic() - began < PATIENCE


def test_a_peer_that_sends_a_byte_now_and_then_is_cut_off_too(bench: Bench) -> None:
    began = time.monotonic()
    with connect(bench) as peer:
        peer.settimeout(0.2)
        for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 40:
            try:
                peer.sendall(bytes([byte]))
                if peer.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
    assert time.monotonic() - began < PATIENCE


def test_a_message_announced_as_2_gigabytes_is_refused_before_it_comes(
    bench: Bench, tmp_path: Path, other: pb_grpc.CourierStub
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with RawPeer(bench, SITE, tmp_path) as peer:
        peer.open("/federation.v1.Courier/Push")
        peer.send(Frame(DATA, 0, 1, b"\x00" + (2**31 - 1).to_bytes(4, "big") + b"x" * 1000))
        assert peer.end_of(1) is not None
    assert is_served(other)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 200 * PIECE


def test_a_message_larger_than_the_limit_is_refused(bench: Bench, site: pb_grpc.CourierStub) -> None:
    request = pb.PushRequest(messages=[pb.CarriedMessage(name="x", data=bytes(10 * PIECE))])
    with pytest.raises(OverloadedError, match="larger than max"):
        answered(lambda: site.Push(request))
    assert not bench.fs.exists("mailbox/lumi/in")


def test_a_call_whose_message_stalls_is_ended(bench: Bench, tmp_path: Path) -> None:
    began = time.monotonic()
    with RawPeer(bench, SITE, tmp_path) as peer:
        peer.open("/federation.v1.Courier/Negotiate")
        peer.send(Frame(DATA, 0, 1, b"\x00\x00\x00\x00\x04"))  # four bytes are announced, none comes
        assert peer.end_of(1) is not None
    assert time.monotonic() - began < PATIENCE


def test_a_stream_that_stalls_between_messages_is_ended(site: pb_grpc.CourierStub) -> None:
    async def stalls() -> AsyncIterator[pb.PutBlobRequest]:
        yield pb.PutBlobRequest(digest=bytes(32), num_bytes=2 * PIECE, piece=0, data=bytes(PIECE))
        await asyncio.Event().wait()

    with pytest.raises(DeadlineExceededError, match="within 1 seconds"):
        answered(lambda: site.PutBlob(stalls()))


def test_peers_that_go_in_the_middle_of_a_call_leave_no_trace(
    bench: Bench, tmp_path: Path, other: pb_grpc.CourierStub, caplog: pytest.LogCaptureFixture
) -> None:
    gc.collect()  # what clients of other tests left behind complains when it is found, not when it happened
    caplog.clear()
    for number in range(30):
        with RawPeer(bench, SITE, tmp_path) as peer:
            peer.open("/federation.v1.Courier/Negotiate")
            peer.send(Frame(DATA, number % 2, 1, b"\x00\x00\x00\x00\x02\x0a" + b"\x00" * (number % 3)))
    deadline = time.monotonic() + PATIENCE
    while bench.server._gate.num_open and time.monotonic() < deadline:
        assert is_served(other)
    assert bench.server._gate.num_open == 0
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_garbage_frames_end_the_connection_of_their_sender_alone(
    bench: Bench, tmp_path: Path, other: pb_grpc.CourierStub
) -> None:
    with RawPeer(bench, SITE, tmp_path) as peer:
        peer.send(Frame(SETTINGS, 0, 0, b"five."))  # RFC 9113, section 6.5: a connection error
        assert list(peer.frames())[-1].kind in (SETTINGS, GOAWAY)  # then the server closes
    assert is_served(other)


# --- what they say ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../../../keys/tls.pem",
        "/etc/passwd",
        "000000000001-0123456789abcdef.msg/../x",
        "000000000001-0123456789abcdef.msg\x00",
        "..",
        "",
        "ack",
        "blobs/x",
        "000000000000-0123456789abcdef.msg",
        "٠٠٠٠٠٠٠٠٠٠٠١-0123456789abcdef.msg",
    ],
)
def test_no_name_of_a_message_leads_out_of_the_mailbox(bench: Bench, site: pb_grpc.CourierStub, name: str) -> None:
    before = files(bench.directory)
    request = pb.PushRequest(messages=[pb.CarriedMessage(name=name, data=b"x")], first_offered=1, next_sequence=2)
    with pytest.raises(ProtocolError):
        answered(lambda: site.Push(request))
    assert files(bench.directory) == before


def files(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_message_under_another_messages_name_is_refused(bench: Bench, site: pb_grpc.CourierStub) -> None:
    request = pb.PushRequest(
        messages=[pb.CarriedMessage(name=message_name(1, b"genuine"), data=b"altered")],
        first_offered=1,
        next_sequence=2,
    )
    with pytest.raises(ProtocolError):
        answered(lambda: site.Push(request))
    assert bench.fs.list("mailbox/lumi/in") == []


def put(stub: pb_grpc.CourierStub, *requests: pb.PutBlobRequest) -> pb.StatBlobReply:
    reply: pb.StatBlobReply = answered(lambda: stub.PutBlob(iter(requests)))
    return reply


def test_a_blob_that_is_not_its_digest_is_thrown_away(bench: Bench, site: pb_grpc.CourierStub) -> None:
    digest = bytes.fromhex(blob_digest(b"genuine"))
    with pytest.raises(DigestMismatchError):
        put(site, pb.PutBlobRequest(digest=digest, num_bytes=7, data=b"altered"))
    assert bench.fs.list("mailbox/lumi/in/blobs") == []
    assert put(site, pb.PutBlobRequest(digest=digest, num_bytes=7, data=b"genuine")).complete


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (pb.PutBlobRequest(digest=bytes(32), num_bytes=3, data=b"four"), ProtocolError),
        (pb.PutBlobRequest(digest=bytes(32), num_bytes=3, data=b""), ProtocolError),
        (pb.PutBlobRequest(digest=bytes(32), num_bytes=3, piece=1, data=b"one"), ProtocolError),
        (pb.PutBlobRequest(digest=bytes(32), num_bytes=2 * PIECE, piece=2**63, data=bytes(PIECE)), ProtocolError),
        (pb.PutBlobRequest(digest=bytes(31), num_bytes=3, data=b"one"), ProtocolError),
        (pb.PutBlobRequest(digest=b"../../../../../../../keys/tls.pem", num_bytes=3, data=b"one"), ProtocolError),
        (pb.PutBlobRequest(digest=bytes(32), num_bytes=2**63, data=bytes(PIECE)), LimitExceededError),
    ],
)
def test_lies_about_a_blob_are_refused(
    bench: Bench, site: pb_grpc.CourierStub, request_: pb.PutBlobRequest, error: type[FederationError]
) -> None:
    with pytest.raises((error, LimitExceededError)):
        put(site, request_)
    assert bench.fs.list("mailbox/lumi/in/blobs") == []


def test_a_stream_has_pieces_of_one_blob(site: pb_grpc.CourierStub) -> None:
    one = pb.PutBlobRequest(digest=bytes(32), num_bytes=2 * PIECE, data=bytes(PIECE))
    with pytest.raises(ProtocolError, match="one blob"):
        put(site, one, pb.PutBlobRequest(digest=bytes([1] * 32), num_bytes=PIECE, data=bytes(PIECE)))
    assert not put(site).complete, "a line that is cut before the first piece is no offence"


def test_ranges_and_counts_are_bounded(site: pb_grpc.CourierStub) -> None:
    many = pb.PullRequest(have=[pb.NumberRange(first=2 * n + 1, last=2 * n + 1) for n in range(20_000)])
    with pytest.raises(LimitExceededError):
        answered(lambda: site.Pull(many))
    for ranges in ([(2, 1)], [(0, 1)], [(1, 5), (5, 6)], [(1, 2**64 - 1), (1, 1)]):
        wrong = pb.PullRequest(have=[pb.NumberRange(first=first, last=last) for first, last in ranges])
        with pytest.raises(ProtocolError):
            answered(lambda wrong=wrong: site.Pull(wrong))
    with pytest.raises(LimitExceededError):
        answered(lambda: first_of(site.GetBlob(pb.GetBlobRequest(digest=bytes(32), num_pieces=65))))
    with pytest.raises(ProtocolVersionError):
        answered(lambda: site.Negotiate(pb.NegotiateRequest(protocol_versions=list(range(2, 10_000)))))


async def first_of(call: Any) -> Any:
    async for message in call:
        return message
    return None


def test_what_a_peer_may_leave_is_bounded(bench: Bench, site: pb_grpc.CourierStub, other: pb_grpc.CourierStub) -> None:
    def leave(number: int) -> None:
        data = bytes([number]) * number * PIECE
        message = pb.CarriedMessage(name=message_name(number, data), data=data)
        answered(lambda: site.Push(pb.PushRequest(messages=[message], next_sequence=9)))

    for number in (1, 2, 3):
        leave(number)
    with pytest.raises(OverloadedError):
        leave(5)
    used = sum(path.stat().st_size for path in (bench.directory / "mailbox/lumi").rglob("*") if path.is_file())
    assert used <= 8 * PIECE + 65_536
    assert is_served(other)


def test_bytes_that_are_no_request_are_refused(bench: Bench) -> None:
    call = bench.channel_of(Who.SITE).unary_unary("/federation.v1.Courier/Push")
    with pytest.raises(ProtocolError, match="its request"):
        answered(lambda: call(b"\xff\xff\xff"))


def test_a_call_that_this_release_does_not_know(bench: Bench) -> None:
    call = bench.channel_of(Who.SITE).unary_unary("/federation.v1.Courier/Steal")
    with pytest.raises(ProtocolVersionError):
        answered(lambda: call(b""))


def test_our_own_bugs_tell_a_peer_nothing(
    bench: Bench, site: pb_grpc.CourierStub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret path")

    monkeypatch.setattr("coordinator.rpc.courier_desk.common_version", broken)
    with pytest.raises(FederationError) as caught:
        is_served(site)
    assert "secret" not in caught.value.diagnostics()
    assert "a secret path" in caplog.text


# --- revocation on open streams ---------------------------------------------------------------------------------------


def test_a_revocation_ends_calls_that_are_open(bench: Bench) -> None:
    site = pb_grpc.CourierStub(bench.channel_of(Who.SITE))
    control = pb_grpc.ControlStub(bench.channel_of(Who.VIEWER))
    bench.drive()

    async def scene() -> list[BaseException | Any]:
        writing: asyncio.Queue[pb.PutBlobRequest] = asyncio.Queue()
        writing.put_nowait(pb.PutBlobRequest(digest=bytes(32), num_bytes=2 * PIECE, data=bytes(PIECE)))

        async def pieces() -> AsyncIterator[pb.PutBlobRequest]:
            while True:
                yield await writing.get()

        watch = control.Watch(pb.WatchRequest(run="run-1"))
        assert (await anext(aiter(watch))).document
        calls = [
            asyncio.ensure_future(wait_for_end(call))
            for call in (site.Pull(pb.PullRequest(wait_ms=60_000)), site.PutBlob(pieces()), watch)
        ]
        while bench.server._gate.num_open < 3:
            await asyncio.sleep(0)
        gone = revoke(bench.membership, "lumi")
        everybody = membership_of(bench.consortium, without=("victor",))
        bench.change(type(gone)(**{**vars_of(everybody), "revoked": gone.revoked}))
        return await asyncio.wait_for(asyncio.gather(*calls), PATIENCE)

    ends = outcome(scene())
    assert [type(end) for end in ends] == [RevokedError, RevokedError, type(ends[2])]
    assert "found a stranger" in str(ends[2])


def vars_of(membership: Any) -> dict[str, Any]:
    names = ("consortium", "roster", "rosters", "revoked", "invites", "ledger_size")
    return {name: getattr(membership, name) for name in names}


async def wait_for_end(call: Any) -> FederationError:
    try:
        await (call if hasattr(call, "__await__") else first_of(call))
    except grpc.aio.AioRpcError as error:
        return error_from(error)
    raise AssertionError("expected an error, found an answer")


# --- invites over the wire --------------------------------------------------------------------------------------------


def test_an_invite_over_the_wire_is_good_once(bench: Bench) -> None:
    token, subject = bytes(range(32)), subject_of(Who.BOOTSTRAP)
    digest = hashlib.sha256(token).hexdigest()
    outside = membership_of(bench.consortium, without=("jupiter",))
    bench.change(invite(outside, PartyKind.SITE, "jupiter", digest, time.time() + DAY))
    enrolment = pb_grpc.EnrolmentStub(bench.channel(subject))
    request = pb.EnrollRequest(token=token, request=request_of(bench.consortium, subject))
    first = answered(lambda: enrolment.Enroll(request))
    assert not first.member
    assert list(first.rosters) == list(outside.rosters)
    assert answered(lambda: enrolment.Enroll(request)) == first

    other = request_of(type(bench.consortium)(seed="thief", sites=("jupiter",)), subject)
    with pytest.raises(InviteError, match="used"):
        answered(lambda: enrolment.Enroll(pb.EnrollRequest(token=token, request=other)))
    with pytest.raises(InviteError, match="unknown"):
        answered(lambda: enrolment.Enroll(pb.EnrollRequest(token=bytes(32), request=request.request)))

    # The certificate reaches nothing until the roster names the site, then at once.
    stub = pb_grpc.CourierStub(bench.channel(subject_of(Who.SITE, "jupiter"), as_pem(first.certificate)))
    with pytest.raises(FederationError, match="found a stranger"):
        is_served(stub)
    bench.change(membership_of(bench.consortium))
    assert is_served(stub)
    renewal = pb_grpc.EnrolmentStub(bench.channel(subject_of(Who.SITE, "jupiter"), as_pem(first.renewal_certificate)))
    again = answered(lambda: renewal.Enroll(pb.EnrollRequest(request=request.request)))
    assert again.member
    assert again.certificate == first.certificate


def as_pem(certificate: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(certificate).encode()
