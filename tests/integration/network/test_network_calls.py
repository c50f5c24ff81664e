# SPDX-License-Identifier: Apache-2.0
"""Every call end to end: a real server, real certificates, real mailboxes."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from network_bench import PIECE, Bench, Who, answered, collect, outcome

from federation.errors import LimitExceededError, ObjectNotFoundError, ProtocolError
from federation.mailbox.layout import message_name
from federation.merkle import blob_digest
from federation.rpc import loop
from federation.v1 import courier_pb2 as pb
from federation.v1 import courier_pb2_grpc as pb_grpc


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench(directory=tmp_path) as bench:
        yield bench


@pytest.fixture
def site(bench: Bench) -> pb_grpc.CourierStub:
    return pb_grpc.CourierStub(bench.channel_of(Who.SITE))


def test_negotiate_chooses_a_version_and_tells_the_time(site: pb_grpc.CourierStub) -> None:
    reply = answered(lambda: site.Negotiate(pb.NegotiateRequest(protocol_versions=[1, 7])))
    assert (reply.protocol_version, reply.consortium, reply.roster_version, reply.ledger_size) == (1, "eu", 1, 7)


def test_a_pushed_message_lies_in_the_coordinators_in(bench: Bench, site: pb_grpc.CourierStub) -> None:
    data = b"signed by somebody"
    name = message_name(1, data)
    request = pb.PushRequest(
        messages=[pb.CarriedMessage(name=name, data=data)], first_offered=1, next_sequence=2, acknowledgement=b"ack"
    )
    reply = answered(lambda: site.Push(request))
    assert [(r.first, r.last) for r in reply.have] == [(1, 1)]
    assert bench.fs.read(f"mailbox/lumi/in/{name}") == data
    assert bench.fs.read("mailbox/lumi/in/ack") == b"ack"
    assert bench.server.arrived.is_set()


def test_a_pull_brings_what_the_caller_lacks(bench: Bench, site: pb_grpc.CourierStub) -> None:
    names = {}
    for number in (1, 2, 3):
        data = b"message %d" % number
        names[number] = message_name(number, data)
        bench.fs.write(f"mailbox/lumi/out/{names[number]}", data)
    bench.fs.write("mailbox/lumi/out/ack", b"slot")
    reply = answered(lambda: site.Pull(pb.PullRequest(have=[pb.NumberRange(first=2, last=2)])))
    assert [m.name for m in reply.messages] == [names[1], names[3]]
    assert (reply.first_offered, reply.next_sequence, reply.acknowledgement) == (1, 4, b"slot")
    known = hashlib.sha256(b"slot").digest()
    request = pb.PullRequest(have=[pb.NumberRange(first=1, last=3)], acknowledgement_digest=known)
    assert answered(lambda: site.Pull(request)).acknowledgement == b""


def test_a_blob_goes_up_and_comes_down(bench: Bench, site: pb_grpc.CourierStub) -> None:
    data = bytes(range(256)) * 4096 * 2 + b"tail"
    digest = bytes.fromhex(blob_digest(data))
    pieces = [data[at : at + PIECE] for at in range(0, len(data), PIECE)]
    requests = [
        pb.PutBlobRequest(digest=digest, num_bytes=len(data), piece=number, data=piece)
        for number, piece in enumerate(pieces)
    ]
    stat = pb.StatBlobRequest(digest=digest, num_bytes=len(data))
    assert [(r.first, r.last) for r in answered(lambda: site.StatBlob(stat)).pieces_missing] == [(0, 2)]
    first = answered(lambda: site.PutBlob(iter(requests[2:])))
    assert [(r.first, r.last) for r in first.pieces_missing] == [(0, 1)]
    assert answered(lambda: site.PutBlob(iter(requests[:2]))).complete
    assert bench.fs.read(f"mailbox/lumi/in/blobs/{digest.hex()}") == data

    bench.fs.write(f"mailbox/lumi/out/blobs/{digest.hex()}", data)
    call = pb.GetBlobRequest(digest=digest, first_piece=1, num_pieces=2)
    found = loop.wait_for(_collected(site, call))
    assert [(m.piece, m.data) for m in found] == [(1, pieces[1]), (2, pieces[2])]
    call = pb.GetBlobRequest(digest=digest, num_pieces=3, pieces_per_message=2)
    found = loop.wait_for(_collected(site, call))
    assert [(m.piece, m.data) for m in found] == [(0, pieces[0] + pieces[1]), (2, pieces[2])]
    with pytest.raises(ObjectNotFoundError):
        outcome(_collected(site, pb.GetBlobRequest(digest=digest, num_pieces=4, pieces_per_message=2)))


def test_several_pieces_come_in_one_message(bench: Bench, site: pb_grpc.CourierStub) -> None:
    data = bytes(range(256)) * 4096 * 5 + b"tail"
    digest = bytes.fromhex(blob_digest(data))

    def brought(piece: int, stop: int) -> pb.PutBlobRequest:
        return pb.PutBlobRequest(
            digest=digest, num_bytes=len(data), piece=piece, data=data[piece * PIECE : stop * PIECE]
        )

    def put(request: pb.PutBlobRequest) -> pb.StatBlobReply:
        return answered(lambda: site.PutBlob(iter([request])))

    with pytest.raises(LimitExceededError, match="2 pieces in a message at most"):
        put(brought(0, 3))
    with pytest.raises(ProtocolError, match="pieces 3 to 4"):
        put(pb.PutBlobRequest(digest=digest, num_bytes=len(data), piece=3, data=data[: 2 * PIECE - 1]))
    for first in (4, 2):
        found = put(brought(first, first + 2))
    assert [(r.first, r.last) for r in found.pieces_missing] == [(0, 1)]
    put(brought(1, 3))
    assert put(brought(0, 2)).complete, "one of the two was here already"
    assert bench.fs.read(f"mailbox/lumi/in/blobs/{digest.hex()}") == data


async def _collected(site: pb_grpc.CourierStub, request: pb.GetBlobRequest) -> list[pb.BlobPiece]:
    return await collect(site.GetBlob(request))


def test_a_blob_that_is_not_offered_is_not_found(site: pb_grpc.CourierStub) -> None:
    with pytest.raises(ObjectNotFoundError):
        outcome(_collected(site, pb.GetBlobRequest(digest=bytes(32), first_piece=0, num_pieces=1)))
