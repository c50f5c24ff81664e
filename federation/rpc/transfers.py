# SPDX-License-Identifier: Apache-2.0
"""Blobs over the network: few parallel calls, each of a few pieces, resumed at whatever the receiver lacks.

A call upwards takes piece after piece until it has lasted long enough; one downwards asks for as many as went in good
time before. So a slow link gets short calls, which neither a deadline nor a proxy cuts, and a fast one long calls. On a
fast link a message carries several pieces: a call costs what its messages cost, whatever they carry.
Blobs are carried in the order of the messages that name them: a peer that has room for few of them always gets those
that it can act upon first.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import grpc

from federation.blobs.partial import num_pieces_of
from federation.errors import (
    DeadlineExceededError,
    FederationError,
    ObjectNotFoundError,
    OverloadedError,
    ProtocolError,
)
from federation.mailbox.ends import InEnd, OutEnd
from federation.merkle import BLOB_PIECE_BYTES
from federation.rpc.errors import error_from
from federation.rpc.pacing import UploadPace
from federation.rpc.pieces import MAX_PIECES_PER_MESSAGE, put_request
from federation.v1 import courier_pb2 as pb
from federation.v1.courier_pb2_grpc import CourierStub

T = TypeVar("T")

NUM_STREAMS: Final = 2
"""Parallel calls in each direction."""

MAX_PIECES_PER_CALL: Final = 64
FIRST_PIECES: Final = 8
"""Of the first call downwards."""

MAX_CALL_SECONDS: Final = 240.0
QUICK_SECONDS: Final = 10.0
"""A call that took less is followed by one of twice as many pieces; one of more than three times this, by half."""

UPLOAD_SECONDS: Final = 20.0
"""A call upwards that has lasted so long takes no further piece."""

MESSAGE_SECONDS: Final = 0.25
"""A message carries several pieces where so many went in this time in the last call."""

MAX_PAUSE_SECONDS: Final = 5.0
"""A call upwards whose next piece must wait longer ends: its receiver waits for each message, but not for long."""

Files = Callable[..., Awaitable[Any]]
"""Runs a function that works on files in a thread, and awaits its result."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """Pieces of one blob: first and last, both included."""

    digest: str
    num_bytes: int
    first: int
    last: int

    @property
    def num_pieces(self) -> int:
        """How many they are."""
        return self.last - self.first + 1

    @property
    def span_bytes(self) -> int:
        """Length of all of them."""
        return min(self.num_pieces * BLOB_PIECE_BYTES, self.num_bytes - self.first * BLOB_PIECE_BYTES)


class Portion:
    """How many pieces one message carries in one direction: one, until calls have shown that the link is fast.

    Whole calls alone tell: a message that was sent quickly may still lie in a buffer on this side.
    """

    def __init__(self) -> None:
        self.num_pieces = 1

    def carried(self, num_pieces: int, seconds: float) -> None:
        """A call has brought so many pieces in this time; one of a few pieces says nothing."""
        if num_pieces >= MAX_PIECES_PER_MESSAGE:
            fitting = int(num_pieces * MESSAGE_SECONDS / max(seconds, 1e-9))
            self.num_pieces = min(max(fitting, 1), MAX_PIECES_PER_MESSAGE)

    def begin_again(self) -> None:
        """The peer takes or gives no more for now."""
        self.num_pieces = 1


class Backlog:
    """Pieces that wait for a call, in the order in which they were planned."""

    def __init__(self) -> None:
        self._spans: deque[Span] = deque()
        self._open: Counter[str] = Counter()
        self._news = asyncio.Event()
        self.num_pieces = FIRST_PIECES
        self.portion = Portion()

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

    async def take(self, num_pieces: int = 0) -> Span:
        """The next few pieces (0: as many as go in good time); the caller calls `done` or `again`."""
        while not self._spans:
            self._news.clear()
            await self._news.wait()
        return self._taken(num_pieces or self.num_pieces)

    def more(self, digest: str, num_pieces: int) -> Span | None:
        """The next few pieces, if they are of this blob; the caller calls `done` or `again`."""
        return self._taken(num_pieces) if self._spans and self._spans[0].digest == digest else None

    def _taken(self, num_pieces: int) -> Span:
        head = self._spans.popleft()
        last = min(head.last, head.first + num_pieces - 1)
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
        self.portion.begin_again()
        self.num_pieces = max(self.num_pieces // 4, 1)
        self._spans.appendleft(span)


class Transfers:
    """Both directions of one connection."""

    def __init__(self, stub: CourierStub, out_end: OutEnd, in_end: InEnd, files: Files, pace: UploadPace) -> None:
        self._stub, self._out, self._in, self._files = stub, out_end, in_end, files
        self.pace = pace
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
        last = max(num_bytes - 1, 0) // BLOB_PIECE_BYTES
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
        load, start = [await self.up.take(self._portion())], time.monotonic()
        try:
            await self.pace.turn(load[0].span_bytes)  # before the call: nobody waits for a message meanwhile
            await answered(self._stub.PutBlob(self._pieces(load), timeout=MAX_CALL_SECONDS))
        except ObjectNotFoundError:
            pass  # withdrawn meanwhile: the reader has it, or nobody wants it
        except (OverloadedError, DeadlineExceededError) as error:
            await self._put_back(self.up, load, error)
            return
        self.held_up.pop("blobs up", None)
        seconds = time.monotonic() - start
        self.up.portion.carried(sum(span.num_pieces for span in load), seconds)
        ended = [self.up.done(span, seconds) for span in load]
        if any(ended):
            self.on_uploaded()

    async def download_one(self) -> None:
        """Carries the next few pieces down."""
        span, start = await self.down.take(), time.monotonic()
        left = [span]
        try:
            await self._get(left)
            self.down.portion.carried(span.num_pieces, time.monotonic() - start)
        except ObjectNotFoundError:
            pass
        except (OverloadedError, DeadlineExceededError) as error:
            await self._put_back(self.down, left, error)
            return
        self.held_up.pop("blobs down", None)
        self.down.done(left[0], time.monotonic() - start)

    async def drain(self) -> None:
        """Carries all that is planned, then returns."""
        await gathered(*(self._drain(backlog, one) for backlog, one in self._directions() for _ in range(NUM_STREAMS)))

    def _directions(self) -> list[tuple[Backlog, Callable[[], Awaitable[None]]]]:
        return [(self.up, self.upload_one), (self.down, self.download_one)]

    async def _drain(self, backlog: Backlog, one: Callable[[], Awaitable[None]]) -> None:
        while backlog.waiting:
            await one()

    async def _put_back(self, backlog: Backlog, spans: list[Span], error: FederationError) -> None:
        """The peer takes or gives no more for now."""
        self.held_up["blobs up" if backlog is self.up else "blobs down"] = str(error)
        for span in reversed(spans):
            backlog.again(span)
        await asyncio.sleep(min(getattr(error, "retry_after_seconds", 0.0), 60.0))

    def _portion(self) -> int:
        """Pieces in the next message upwards; where there is a limit they go one at a time, so as to keep its pace."""
        return 1 if self.pace.limit else self.up.portion.num_pieces

    async def _pieces(self, load: list[Span]) -> AsyncIterator[bytes]:
        """Messages for one call with pieces of one blob: the span in `load`, and those that are added on the way."""
        digest, num_bytes = load[0].digest, load[0].num_bytes
        raw, end = bytes.fromhex(digest), time.monotonic() + UPLOAD_SECONDS
        while True:
            span = load[-1]
            try:
                data = await self._files(self._out.read_pieces, digest, span.first, span.num_pieces)
            except FederationError:
                return  # withdrawn: the peer keeps what it has, and asks no more once it hears of that
            self.bytes_up += len(data)
            message = [put_request(raw, num_bytes, span.first, data)]
            del data
            yield message.pop()  # no reference stays here while it is sent
            following = await self._following(digest, sum(span.num_pieces for span in load), end)
            if following is None:
                return
            load.append(following)

    async def _following(self, digest: str, num_pieces: int, end: float) -> Span | None:
        """The blob's next pieces when they may go; None if there are none, or if the call had better end."""
        if num_pieces >= MAX_PIECES_PER_CALL or time.monotonic() > end or self.pace.seconds() > MAX_PAUSE_SECONDS:
            return None
        following = self.up.more(digest, min(self._portion(), MAX_PIECES_PER_CALL - num_pieces))
        if following is not None:
            await self.pace.turn(following.span_bytes)
        return following

    async def _get(self, left: list[Span]) -> None:
        """Fetches the span in `left`, which shrinks with each message that is here."""
        span, complete = left[0], False
        request = pb.GetBlobRequest(
            digest=bytes.fromhex(span.digest),
            first_piece=span.first,
            num_pieces=span.num_pieces,
            pieces_per_message=self.down.portion.num_pieces,
        )
        async for head, data in answered_stream(self._stub.GetBlob(request, timeout=MAX_CALL_SECONDS)):
            following = head.piece + max(num_pieces_of(len(data)), 1)
            if head.piece != left[0].first or following > span.last + 1:
                found = f"{head.piece} to {following - 1}"
                raise ProtocolError(f"blob: expected pieces from {left[0].first} up to {span.last}, found {found}")
            put = self._files(self._in.put_pieces, span.digest, span.num_bytes, head.piece, data)
            complete = await put or complete
            self.bytes_down += len(data)
            left[0] = replace(span, first=following)
        if left[0].num_pieces:
            raise ProtocolError(f"blob: expected {span.num_pieces} pieces, found {left[0].first - span.first}")
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
