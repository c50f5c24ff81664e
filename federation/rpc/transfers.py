# SPDX-License-Identifier: Apache-2.0
"""Blobs over the network: few parallel calls, each of a few pieces, resumed at whatever the receiver lacks.

A call carries as many pieces as went in good time before: a slow link gets short calls, so that neither a deadline nor
a proxy cuts them, and a fast one long calls. Blobs are carried in the order of the messages that name them: a peer
that has room for few of them always gets those that it can act upon first.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc

from federation.errors import (
    DeadlineExceededError,
    FederationError,
    ObjectNotFoundError,
    OverloadedError,
    ProtocolError,
)
from federation.mailbox.ends import InEnd, OutEnd
from federation.rpc.errors import error_from
from federation.v1 import courier_pb2 as pb
from federation.v1.courier_pb2_grpc import CourierStub

T = TypeVar("T")

NUM_STREAMS: Final = 2
"""Parallel calls in each direction."""

MAX_PIECES_PER_CALL: Final = 64
MAX_CALL_SECONDS: Final = 240.0
QUICK_SECONDS: Final = 10.0
"""A call that took less is followed by one of twice as many pieces; one of more than three times this, by half."""

Files = Callable[..., Awaitable[Any]]
"""Runs a function that works on files in a thread, and awaits its result."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """Pieces of one blob: first and last, both included."""

    digest: str
    num_bytes: int
    first: int
    last: int


class Backlog:
    """Pieces that wait for a call, in the order in which they were planned."""

    def __init__(self) -> None:
        self._spans: deque[Span] = deque()
        self._open: Counter[str] = Counter()
        self._news = asyncio.Event()
        self.num_pieces = 1

    def __contains__(self, digest: str) -> bool:
        return self._open[digest] > 0

    @property
    def idle(self) -> bool:
        """Whether nothing waits and no call is under way."""
        return self._open.total() == 0

    @property
    def waiting(self) -> bool:
        """Whether pieces wait for a call."""
        return bool(self._spans)

    def add(self, spans: Iterable[Span]) -> None:
        """Pieces to carry; the digest must not be in here yet."""
        for span in spans:
            self._spans.append(span)
            self._open[span.digest] += 1
        self._news.set()

    async def take(self) -> Span:
        """The next few pieces; the caller calls `done` or `again`."""
        while not self._spans:
            self._news.clear()
            await self._news.wait()
        head = self._spans.popleft()
        last = min(head.last, head.first + self.num_pieces - 1)
        if last < head.last:
            self._spans.appendleft(Span(digest=head.digest, num_bytes=head.num_bytes, first=last + 1, last=head.last))
            self._open[head.digest] += 1
        return Span(digest=head.digest, num_bytes=head.num_bytes, first=head.first, last=last)

    def done(self, span: Span, seconds: float) -> bool:
        """These pieces were carried, or are not wanted any more; returns whether nothing of the blob is left."""
        if seconds < QUICK_SECONDS:
            self.num_pieces = min(2 * self.num_pieces, MAX_PIECES_PER_CALL)
        elif seconds > 3 * QUICK_SECONDS:
            self.num_pieces = max(self.num_pieces // 2, 1)
        self._open[span.digest] -= 1
        return self._open[span.digest] == 0

    def again(self, span: Span) -> None:
        """These pieces could not be carried now, and are the next ones; fewer at a time from here on."""
        self.num_pieces = max(self.num_pieces // 4, 1)
        self._spans.appendleft(span)


class Transfers:
    """Both directions of one connection."""

    def __init__(self, stub: CourierStub, out_end: OutEnd, in_end: InEnd, files: Files) -> None:
        self._stub, self._out, self._in, self._files = stub, out_end, in_end, files
        self.up, self.down = Backlog(), Backlog()
        self.on_arrival: Callable[[], None] = lambda: None
        self.on_uploaded: Callable[[], None] = lambda: None
        self.bytes_up = self.bytes_down = 0
        self.held_up: dict[str, str] = {}

    async def want(self, offered: Iterable[tuple[str, int]]) -> None:
        """Plans to fetch what is missing here of the blobs that the peer offers."""
        sizes = dict(offered)
        new = [(digest, size) for digest, size in sizes.items() if digest not in self.down]
        for digest in await self._files(self._in.missing_blobs, new):
            ranges = await self._files(self._in.pieces_missing, digest, sizes[digest])
            if ranges:
                self.down.add(_spans(digest, sizes[digest], ranges))
            else:
                self.on_arrival()

    async def offer(self, digest: str, num_bytes: int) -> None:
        """Plans to bring what the peer says that it lacks of one of our blobs."""
        if digest in self.up:
            return
        request = pb.StatBlobRequest(digest=bytes.fromhex(digest), num_bytes=num_bytes)
        reply = await answered(self._stub.StatBlob(request, timeout=60.0))
        last = max(num_bytes - 1, 0) // (1024 * 1024)
        ranges = [(found.first, min(found.last, last)) for found in reply.pieces_missing if found.first <= last]
        if ranges and not reply.complete:
            self.up.add(_spans(digest, num_bytes, ranges))

    async def upload(self) -> None:
        """One worker, for ever."""
        while True:
            await self.upload_one()

    async def download(self) -> None:
        """One worker, for ever."""
        while True:
            await self.download_one()

    async def upload_one(self) -> None:
        """Carries the next few pieces up."""
        if await self._carry(self.up, self._put):
            self.on_uploaded()

    async def download_one(self) -> None:
        """Carries the next few pieces down."""
        await self._carry(self.down, self._get)

    async def drain(self) -> None:
        """Carries all that is planned, then returns."""
        await gathered(*(self._drain(backlog, one) for backlog, one in self._directions() for _ in range(NUM_STREAMS)))

    def _directions(self) -> list[tuple[Backlog, Callable[[], Awaitable[None]]]]:
        return [(self.up, self.upload_one), (self.down, self.download_one)]

    async def _drain(self, backlog: Backlog, one: Callable[[], Awaitable[None]]) -> None:
        while backlog.waiting:
            await one()

    async def _carry(self, backlog: Backlog, carry: Callable[[Span], Awaitable[None]]) -> bool:
        span, start = await backlog.take(), time.monotonic()
        try:
            await carry(span)
        except ObjectNotFoundError:
            pass  # withdrawn meanwhile: the reader has it, or nobody wants it
        except (OverloadedError, DeadlineExceededError) as error:
            self.held_up[self._name_of(backlog)] = str(error)
            backlog.again(span)
            await asyncio.sleep(min(getattr(error, "retry_after_seconds", 0.0), 60.0))
            return False
        self.held_up.pop(self._name_of(backlog), None)
        return backlog.done(span, time.monotonic() - start)

    def _name_of(self, backlog: Backlog) -> str:
        return "blobs up" if backlog is self.up else "blobs down"

    async def _put(self, span: Span) -> None:
        await answered(self._stub.PutBlob(self._pieces(span), timeout=MAX_CALL_SECONDS))

    async def _pieces(self, span: Span) -> AsyncIterator[pb.PutBlobRequest]:
        digest = bytes.fromhex(span.digest)
        for piece in range(span.first, span.last + 1):
            try:
                data = await self._files(self._out.read_piece, span.digest, piece)
            except FederationError:
                return  # withdrawn: the peer keeps what it has, and asks no more once it hears of that
            self.bytes_up += len(data)
            yield pb.PutBlobRequest(digest=digest, num_bytes=span.num_bytes, piece=piece, data=data)

    async def _get(self, span: Span) -> None:
        wanted = span.last - span.first + 1
        request = pb.GetBlobRequest(digest=bytes.fromhex(span.digest), first_piece=span.first, num_pieces=wanted)
        call, brought, complete = self._stub.GetBlob(request, timeout=MAX_CALL_SECONDS), 0, False
        async for piece in answered_stream(call):
            if not span.first <= piece.piece <= span.last:
                raise ProtocolError(f"blob: expected pieces {span.first} to {span.last}, found {piece.piece}")
            put = self._files(self._in.put_piece, span.digest, span.num_bytes, piece.piece, piece.data)
            complete = await put or complete
            self.bytes_down += len(piece.data)
            brought += 1
        if brought < wanted:
            raise ProtocolError(f"blob: expected {wanted} pieces, found {brought}")
        if complete:
            self.on_arrival()


async def answered(call: Awaitable[T]) -> T:
    """The answer to one call. Raises the FederationError that a failure stands for."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise error_from(error) from error


async def answered_stream(call: Any) -> AsyncIterator[Any]:
    """Messages of a response stream. Raises the FederationError that a failure stands for."""
    try:
        async for message in call:
            yield message
    except grpc.aio.AioRpcError as error:
        raise error_from(error) from error
    finally:
        call.cancel()


async def gathered(*awaitables: Awaitable[None]) -> None:
    """Runs all until one fails or all are done; then none runs any more."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _spans(digest: str, num_bytes: int, ranges: Iterable[tuple[int, int]]) -> list[Span]:
    return [Span(digest=digest, num_bytes=num_bytes, first=first, last=last) for first, last in ranges]
