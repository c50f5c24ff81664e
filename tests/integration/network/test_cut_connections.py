# SPDX-License-Identifier: Apache-2.0
"""Connections that are cut anywhere: in a handshake, in a message, in a piece. What has arrived is not sent again."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from courier_world import MAILBOX, PIECE, QUICK, SITE, noise, world
from recording_proxy import NEVER, Cut, RecordingProxy

from coordinator.rpc.courier_service import CourierService
from federation.blobs.partial import num_pieces_of
from federation.mailbox.ends import InEnd, OutEnd, Ranges
from federation.rpc import credentials
from federation.rpc.credentials import Endpoint
from federation.v1 import courier_pb2 as pb

NUM_PIECES = 8
LATE_PIECES = 3
"""So many pieces at most get through a connection that is cut late: a blob needs several."""

EARLY_BYTES = 6_000
"""Handshakes and first calls are over by then."""

MAX_CUTS = 60
PACE = replace(QUICK, pull=0.1)


@dataclass
class Pieces:
    """What became of the pieces of one direction, in order.

    The rule of resuming: the receiver says which pieces it lacks; each of these may be sent once, no other one; and a
    piece that was stored before the receiver was asked is not among them.
    """

    sent: Counter[int] = field(default_factory=Counter)
    due: Counter[int] = field(default_factory=Counter)
    stored: set[int] = field(default_factory=set)
    answers: list[frozenset[int]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def asked(self) -> frozenset[int]:
        """What is stored as the receiver is asked."""
        with self._lock:
            return frozenset(self.stored)

    def answered(self, ranges: Ranges, stored_before: frozenset[int]) -> None:
        """The receiver says what it lacks."""
        missing = frozenset(piece for first, last in ranges for piece in range(first, last + 1))
        with self._lock:
            self.due.update(missing)
            self.answers.append(missing)
            if missing & stored_before:
                self.broken.append(f"asked for again: {sorted(missing & stored_before)}")

    def send(self, piece: int) -> None:
        """A piece leaves its sender."""
        with self._lock:
            self.sent[piece] += 1
            if self.sent[piece] > self.due[piece]:
                self.broken.append(f"piece {piece} sent {self.sent[piece]} times, asked for {self.due[piece]} times")

    def store(self, piece: int) -> None:
        """A piece is there."""
        with self._lock:
            self.stored.add(piece)

    @property
    def resumed(self) -> bool:
        """Whether a transfer went on in its middle."""
        return any(0 < len(missing) < NUM_PIECES for missing in self.answers)


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Pieces, Pieces]]:
    """Counts pieces up and down. Both ends live in this process; the site's mailbox has another path."""
    up, down = Pieces(), Pieces()
    read, put, missing, stat = OutEnd.read_pieces, InEnd.put_pieces, InEnd.pieces_missing, CourierService.StatBlob

    def is_of_the_site(end: Any) -> bool:
        path: str = getattr(end, "_out", None) or end._in
        assert path.startswith((MAILBOX, f"mailbox/{SITE}/")), path
        return path.startswith(MAILBOX)

    def read_pieces(end: OutEnd, digest: str, first: int, num_pieces: int = 1) -> bytes:
        for piece in range(first, first + num_pieces):
            (up if is_of_the_site(end) else down).send(piece)
        return read(end, digest, first, num_pieces)

    def put_pieces(end: InEnd, digest: str, num_bytes: int, first: int, data: bytes) -> bool:
        complete = put(end, digest, num_bytes, first, data)
        for piece in range(first, first + num_pieces_of(len(data))):
            (down if is_of_the_site(end) else up).store(piece)
        return complete

    def pieces_missing(end: InEnd, digest: str, num_bytes: int) -> Ranges:
        before = down.asked()
        found = missing(end, digest, num_bytes)
        if is_of_the_site(end):
            down.answered(found, before)
        return found

    async def stat_blob(service: CourierService, request: pb.StatBlobRequest, caller: Any) -> pb.StatBlobReply:
        before = up.asked()
        reply = await stat(service, request, caller)
        up.answered(tuple((found.first, found.last) for found in reply.pieces_missing), before)
        return reply

    with monkeypatch.context() as patched:
        patched.setattr(OutEnd, "read_pieces", read_pieces)
        patched.setattr(InEnd, "put_pieces", put_pieces)
        patched.setattr(InEnd, "pieces_missing", pieces_missing)
        patched.setattr(CourierService, "StatBlob", stat_blob)
        yield up, down


def cut_of(seed: int, number: int) -> Cut:
    """Of one connection: early, in the handshake or a first call; or late, among pieces; in either manner."""
    if number >= MAX_CUTS:
        return NEVER
    dice = random.Random(f"{seed}/{number}")
    up, down = (dice.randrange(PIECE // 4, LATE_PIECES * PIECE) for _ in range(2))
    early, reset = dice.randrange(EARLY_BYTES), dice.random() < 0.5
    which = dice.choice(("up early", "down early", "late", "late"))
    return Cut(up=early if which == "up early" else up, down=early if which == "down early" else down, reset=reset)


@pytest.mark.parametrize("seed", range(3))
def test_cut_anywhere_and_no_piece_that_arrived_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    blobs = [noise((NUM_PIECES - 1) * PIECE + 7, 2 * seed + way) for way in (0, 1)]
    with watched(monkeypatch) as (up, down), world(tmp_path) as met:
        (sent,), (expected,) = met.ours.post("q1", blobs[0]), met.theirs.post("a1", blobs[1])
        with RecordingProxy(met.bench.server.address, lambda number: cut_of(seed, number)) as proxy:
            credentials.write_endpoint(met.site, Endpoint.parse(proxy.address))
            with met.courier(PACE):
                met.settle(["a1"], ["q1"], 60.0)
        assert [met.theirs.blobs.read(sent), met.ours.blobs.read(expected)] == blobs
    assert proxy.num_cut >= NUM_PIECES // LATE_PIECES
    for pieces in (up, down):
        assert pieces.broken == []
        assert pieces.stored == set(range(NUM_PIECES))
        assert pieces.resumed, f"expected a transfer to go on in its middle, found {pieces.answers}"
