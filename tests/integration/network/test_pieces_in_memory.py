# SPDX-License-Identifier: Apache-2.0
"""Many sites at once: the server holds no more pieces than its budget has places, and who stalls holds nobody up."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from network_bench import PATIENCE, PIECE, Bench, outcome

from coordinator.rpc.courier_desk import PeerMailbox
from coordinator.rpc.interceptor import Caller
from coordinator.rpc.piece_budget import PieceBudget
from federation.certificates import site_subject
from federation.merkle import blob_digest
from federation.rpc.pieces import PUT_BLOB, courier_stub, put_request
from federation.testing.rosters import MemoryConsortium
from federation.v1 import courier_pb2 as pb

NUM_SITES = 18
PIECES = 4
SITES = tuple(f"site-{number:02d}" for number in range(NUM_SITES))
MOVING, PARKED = 4, 3


class Counted(PieceBudget):
    """Remembers the most pieces that were held, and how many wait."""

    most = num_waiting = 0

    @asynccontextmanager
    async def place(self, peer: str) -> AsyncIterator[None]:
        self.num_waiting += 1
        async with super().place(peer):
            self.num_waiting -= 1
            self.most = max(self.most, self.num_held)
            yield


class Alive:
    """Bytes of pieces that the server has received and that something still refers to: counted without the budget."""

    def __init__(self) -> None:
        self.num_bytes = self.most = 0
        self._lock = threading.Lock()

    def add(self, num_bytes: int) -> None:
        with self._lock:
            self.num_bytes += num_bytes
            self.most = max(self.most, self.num_bytes)

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        alive, received = self, Caller._received

        class Piece(bytes):
            def __del__(self) -> None:
                alive.add(-len(self))

        async def counted(caller: Caller) -> bytes | None:
            data = await received(caller)
            if caller._call.method != PUT_BLOB or data is None:
                return data
            alive.add(len(data))
            return Piece(data)

        patch.setattr(Caller, "_received", counted)


@pytest.fixture
def pieces() -> Counted:
    return Counted(num_moving=MOVING, num_parked=PARKED, patience_seconds=0.02)


@pytest.fixture
def bench(tmp_path: Path, pieces: Counted) -> Iterator[Bench]:
    consortium = MemoryConsortium(sites=SITES, operators=())
    with Bench(directory=tmp_path, consortium=consortium, pieces=pieces) as bench:
        yield bench


def stub_of(bench: Bench, site: str) -> Any:
    return courier_stub(bench.channel(site_subject("eu", site)))


def content(site: str) -> bytes:
    return (site.encode() * PIECE)[: PIECES * PIECE]


async def upload(stub: Any, site: str, until: asyncio.Event | None = None) -> pb.StatBlobReply:
    """Brings a site's blob; with `until` it stalls after the first piece."""
    data = content(site)
    digest = bytes.fromhex(blob_digest(data))

    async def sent() -> AsyncIterator[bytes]:
        for piece in range(PIECES):
            yield put_request(digest, len(data), piece, data[piece * PIECE : (piece + 1) * PIECE])
            if until is not None:
                await until.wait()

    reply: pb.StatBlobReply = await stub.PutBlob(sent(), timeout=PATIENCE)
    return reply


def offer(bench: Bench, site: str) -> str:
    data = content(site)
    digest = blob_digest(data)
    bench.fs.write(f"mailbox/{site}/out/blobs/{digest}", data)
    return digest


async def download(stub: Any, digest: str) -> int:
    request = pb.GetBlobRequest(digest=bytes.fromhex(digest), first_piece=0, num_pieces=PIECES)
    return sum([len(data) async for _, data in stub.GetBlob(request, timeout=PATIENCE)])


def test_uploads_of_many_sites_hold_no_more_than_the_budget(
    bench: Bench, pieces: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive, gate, put_pieces = Alive(), threading.Event(), PeerMailbox.put_pieces
    alive.watch(monkeypatch)

    def slow(*arguments: Any) -> bool:
        assert gate.wait(PATIENCE)
        return put_pieces(*arguments)

    monkeypatch.setattr(PeerMailbox, "put_pieces", slow)
    stubs = [stub_of(bench, site) for site in SITES]

    async def scene() -> list[pb.StatBlobReply]:
        uploads = [asyncio.create_task(upload(stub, site)) for stub, site in zip(stubs, SITES, strict=True)]
        async with asyncio.timeout(PATIENCE):  # all have begun, no piece can be written
            while pieces.num_waiting < NUM_SITES - MOVING - PARKED or pieces.most < MOVING + PARKED:
                await asyncio.sleep(0.005)
        gate.set()
        return list(await asyncio.gather(*uploads))

    try:
        assert all(reply.complete for reply in outcome(scene()))
    finally:
        gate.set()
    assert pieces.most == MOVING + PARKED
    assert alive.num_bytes == 0
    assert MOVING * PIECE < alive.most <= (MOVING + PARKED) * (PIECE + 100)  # a piece, and the fields around it
    assert pieces.num_held == 0


def test_downloads_of_many_sites_hold_no_more_than_the_budget(
    bench: Bench, pieces: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, read_pieces = threading.Event(), PeerMailbox.read_pieces
    begun = set()

    def slow(mailbox: PeerMailbox, digest: str, *pieces: int) -> bytes:
        begun.add(digest)
        assert gate.wait(PATIENCE)
        return read_pieces(mailbox, digest, *pieces)

    monkeypatch.setattr(PeerMailbox, "read_pieces", slow)
    digests = [offer(bench, site) for site in SITES]
    stubs = [stub_of(bench, site) for site in SITES]

    async def scene() -> list[int]:
        downloads = [asyncio.create_task(download(*each)) for each in zip(stubs, digests, strict=True)]
        async with asyncio.timeout(PATIENCE):
            while pieces.num_waiting < NUM_SITES - MOVING - PARKED or pieces.most < MOVING + PARKED:
                await asyncio.sleep(0.005)
        assert len(begun) <= MOVING + PARKED
        gate.set()
        return list(await asyncio.gather(*downloads))

    try:
        assert outcome(scene()) == [PIECES * PIECE] * NUM_SITES
    finally:
        gate.set()
    assert pieces.most == MOVING + PARKED
    assert pieces.num_held == 0


def test_uploads_that_stall_hold_nobody_up(bench: Bench, pieces: Counted) -> None:
    stubs = [stub_of(bench, site) for site in SITES]

    async def scene() -> None:
        resume = asyncio.Event()
        stalled = [asyncio.create_task(upload(stubs[each], SITES[each], resume)) for each in range(PARKED)]
        async with asyncio.timeout(PATIENCE):
            while pieces.num_held < PARKED:
                await asyncio.sleep(0.005)
            others = [upload(stub, site) for stub, site in list(zip(stubs, SITES, strict=True))[PARKED:]]
            assert all(reply.complete for reply in await asyncio.gather(*others))
        assert not any(one.done() for one in stalled)
        resume.set()
        assert all(reply.complete for reply in await asyncio.gather(*stalled))

    outcome(scene())
    assert pieces.num_held == 0


def test_downloads_that_stall_hold_nobody_up(bench: Bench, pieces: Counted) -> None:
    digests = [offer(bench, site) for site in SITES]
    stubs = [stub_of(bench, site) for site in SITES]

    async def scene() -> None:
        with ExitStack() as calls:
            for stub, digest in zip(stubs[:PARKED], digests, strict=False):
                request = pb.GetBlobRequest(digest=bytes.fromhex(digest), first_piece=0, num_pieces=PIECES)
                call = stub.GetBlob(request, timeout=PATIENCE)
                calls.callback(call.cancel)
                await call.read()  # the first piece, and no more
            async with asyncio.timeout(PATIENCE):
                found = await asyncio.gather(*(map(download, stubs[PARKED:], digests[PARKED:])))
            assert found == [PIECES * PIECE] * (NUM_SITES - PARKED)

    outcome(scene())


def test_a_call_that_is_refused_leaves_its_place(bench: Bench, pieces: Counted) -> None:
    stub, data = stub_of(bench, SITES[0]), bytes(PIECE)

    async def scene() -> None:
        for _ in range(3 * (MOVING + PARKED)):

            async def wrong() -> AsyncIterator[bytes]:
                yield put_request(bytes(32), 3, 0, data)

            with pytest.raises(Exception, match="expected 3 bytes in piece 0"):
                await stub.PutBlob(wrong(), timeout=PATIENCE)

    outcome(scene())
    assert pieces.num_held == 0
