# SPDX-License-Identifier: Apache-2.0
"""The client's half of the courier: mirrors one mailbox with the coordinator's over an open channel.

    out/ → Push, StatBlob, PutBlob → the coordinator's in/
    in/  ← Pull (long poll), GetBlob ← the coordinator's out/

What `federation.mailbox.carrier` does between two directories. Both ends do the same file operations
(`federation.mailbox.ends`); every call may be repeated, and any failure ends the connection and nothing else: the next
one asks each side what it has. Nothing is removed here before the coordinator's numbers were found to fit ours.
"""

import asyncio
import hashlib
import random
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final

import grpc

from federation.errors import (
    DeadlineExceededError,
    OverloadedError,
    PeerUnavailableError,
    ProtocolError,
    ProtocolVersionError,
    RolledBackError,
)
from federation.mailbox.ends import InEnd, Offered, OutEnd
from federation.rpc.channel import PROTOCOL_VERSIONS
from federation.rpc.pacing import UploadPace
from federation.rpc.pieces import courier_stub
from federation.rpc.status import Greeting
from federation.rpc.transfers import NUM_STREAMS, Transfers, answered, gathered
from federation.v1 import courier_pb2 as pb

PUSH_BYTES: Final = 4 * 1024 * 1024
"""Of messages in one call, at least one message."""

WINDOW: Final = 16_384
"""Messages beyond what the coordinator has acted upon that it takes."""

MAX_SYNC_ROUNDS: Final = 1000


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Patience of a courier, in seconds.

    Attributes:
        pull: a long poll waits so long for news; below the minute after which proxies cut idle connections.
        answer: for an answer to any other call.
        look: between two looks at out/ that nobody asked for.
        refresh: while messages are not acknowledged, the coordinator is asked so often what it has of them.
        quiet: after a pull that ended early and brought nothing.
        watch: between two looks at the certificate.
        backoff, max_backoff: after the first failed connection, and at most.
    """

    pull: float = 50.0
    answer: float = 30.0
    look: float = 5.0
    refresh: float = 30.0
    quiet: float = 1.0
    watch: float = 60.0
    backoff: float = 0.2
    max_backoff: float = 60.0


DEFAULT_PACE: Final = Pace()


class Mirror:
    """One mailbox over one channel. All methods run on the channel's loop."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        out_end: OutEnd,
        in_end: InEnd,
        executor: Executor,
        *,
        consortium: str,
        software: str = "",
        pace: Pace = DEFAULT_PACE,
        upload_pace: UploadPace | None = None,
        on_arrival: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            executor: threads for work on files.
            upload_pace: how fast blobs may go up; as fast as they go without it.
            on_arrival: called when a message, an acknowledgement or a whole blob has arrived.
        """
        self._stub = courier_stub(channel)
        self._out, self._in, self._executor = out_end, in_end, executor
        self._consortium, self._software, self._pace = consortium, software, pace
        self._on_arrival = on_arrival
        self._upload_pace = upload_pace or UploadPace()
        self.transfers = Transfers(self._stub, out_end, in_end, self._files, self._upload_pace)
        self.transfers.on_arrival, self.transfers.on_uploaded = on_arrival, self.wake
        self._wake = asyncio.Event()
        self._pushed: Offered | None = None
        self._peer_has: tuple[tuple[int, int], ...] = ()
        self._peer_received_through = 0
        self._told_acknowledgement = b""
        self._uploads_missing = False
        self.last_contact = 0.0

    def wake(self) -> None:
        """Something was posted: look at out/ now."""
        self._wake.set()

    @property
    def held_up(self) -> dict[str, str]:
        """What the coordinator takes no more of for now, and its words; empty while everything goes on."""
        return self.transfers.held_up

    @property
    def progress(self) -> tuple[float, int, int]:
        """When the coordinator last answered (unix seconds), and bytes of blobs up and down so far."""
        return self.last_contact, self.transfers.bytes_up, self.transfers.bytes_down

    # --- greeting -----------------------------------------------------------------------------------------------------

    async def negotiate(self) -> Greeting:
        """Agrees upon a protocol version.

        Raises:
            ProtocolVersionError: none that both know.
            ProtocolError: another consortium.
            PeerUnavailableError: nobody answers.
        """
        start = time.time()
        request = pb.NegotiateRequest(protocol_versions=PROTOCOL_VERSIONS, software=self._software)
        try:
            reply = await self._answered(self._stub.Negotiate(request, timeout=self._pace.answer))
        except DeadlineExceededError as error:
            raise PeerUnavailableError(f"deadline of {self._pace.answer:g} s passed without an answer") from error
        took = time.time() - start
        if reply.protocol_version not in PROTOCOL_VERSIONS:
            raise ProtocolVersionError(
                f"protocol: expected one of {PROTOCOL_VERSIONS}, found {reply.protocol_version}",
                advice="One of the two ends needs another release of this software.",
            )
        if reply.consortium != self._consortium:
            raise ProtocolError(f"coordinator: expected consortium {self._consortium}, found {reply.consortium!r:.60}")
        return Greeting(
            protocol_version=reply.protocol_version,
            software=reply.software[:100],
            roster_version=reply.roster_version,
            ledger_size=reply.ledger_size,
            clock_ahead_seconds=reply.now_us / 1e6 - (start + took / 2),
            round_trip_seconds=took,
        )

    async def compare(self) -> None:
        """One exchange each way, at once: the greeting does not tell whether the two ends fit together.

        Nor does a long poll tell it, or which blobs are missing, before there is a new message.

        Raises:
            RolledBackError: one of the two was restored from an old backup.
        """
        await self._push(await self._files(self._out.look), [])
        await self.pull(0.0)

    # --- once ---------------------------------------------------------------------------------------------------------

    async def sync_once(self) -> None:
        """Brings everything both ways that is there now, then returns. `negotiate` comes first."""
        for _ in range(MAX_SYNC_ROUNDS):
            await self.push()
            news = await self.pull(0.0)
            waiting = self.transfers.up.waiting or self.transfers.down.waiting
            await self.transfers.drain()
            if not news and not waiting:
                break
        await self._files(self._in.flush)

    # --- for ever -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Mirrors until the connection fails (raises) or the caller cancels. `negotiate` comes first."""
        workers = (work() for work in (self.transfers.upload, self.transfers.download) for _ in range(NUM_STREAMS))
        try:
            await gathered(self._pull_on(), self._push_on(), *workers)
        finally:
            await asyncio.shield(asyncio.ensure_future(self._files(self._in.flush)))

    async def _pull_on(self) -> None:
        while True:
            start = time.monotonic()
            try:
                news = await self.pull(self._pace.pull)
            except OverloadedError as error:
                self.held_up["messages down"] = str(error)
                await _pause(error.retry_after_seconds)
                continue
            self.held_up.pop("messages down", None)
            if not news and time.monotonic() - start < self._pace.quiet:
                await _pause(self._pace.quiet)

    async def _push_on(self) -> None:
        refreshed = time.monotonic()
        while True:
            self._wake.clear()
            try:
                if await self._is_push_due(time.monotonic() - refreshed):
                    await self.push()
                    refreshed = time.monotonic()
                    self.held_up.pop("messages up", None)
            except OverloadedError as error:
                self.held_up["messages up"] = str(error)
                await _pause(error.retry_after_seconds)
                continue
            await _within(self._wake.wait(), self._pace.look)

    async def _is_push_due(self, since: float) -> bool:
        offered = await self._files(self._out.look)
        if offered != self._pushed:
            return True
        outstanding = any(sequence > self._peer_received_through for sequence in offered.names)
        unfinished = self._uploads_missing and self.transfers.up.idle
        return unfinished or (outstanding and since >= self._pace.refresh)

    # --- down ---------------------------------------------------------------------------------------------------------

    async def pull(self, wait_seconds: float) -> bool:
        """One long poll; returns whether it brought anything.

        Raises:
            RolledBackError: the coordinator lost what it had told us.
        """
        request = await self._files(self._pull_request, wait_seconds)
        reply = await self._answered(self._stub.Pull(request, timeout=wait_seconds + self._pace.answer))
        news = bool(await self._files(self._take, reply))
        await self.transfers.want((blob.digest.hex(), blob.num_bytes) for blob in reply.blobs)
        if news:
            self._on_arrival()
        return news

    def _pull_request(self, wait_seconds: float) -> pb.PullRequest:
        return pb.PullRequest(
            have=[pb.NumberRange(first=first, last=last) for first, last in self._in.have()],
            received_through=self._in.received_through(),
            acknowledgement_digest=self._in.acknowledgement_digest(),
            wait_ms=round(wait_seconds * 1000),
            max_bytes=PUSH_BYTES,
        )

    def _take(self, reply: pb.PullReply) -> bool:
        """The order matters: what does not fit together is noticed before anything changes here."""
        received_through = self._in.received_through()
        if reply.next_sequence <= received_through:
            raise RolledBackError(
                f"the coordinator's next message has number {reply.next_sequence}, this end has received up to number "
                f"{received_through}: the coordinator was restored from an old backup",
                advice="Nothing was changed here. Its operators have to restore its newest state.",
            )
        self._in.check_not_rolled_back(reply.first_offered)
        news = False
        for message in reply.messages:
            news = self._in.accept(message.name, message.data) or news
        blobs = {blob.digest.hex() for blob in reply.blobs}
        self._in.withdraw(reply.first_offered, blobs, next_sequence=reply.next_sequence)
        return self._in.acknowledge(reply.acknowledgement) or news

    # --- up -----------------------------------------------------------------------------------------------------------

    async def push(self) -> None:
        """Brings all messages that the coordinator lacks, and plans the blobs.

        Raises:
            RolledBackError: the coordinator has received more than this end ever posted.
        """
        sent: set[int] = set()
        offered = await self._files(self._out.look)
        reply: pb.PushReply | None = None
        if self._pushed is None:  # what the coordinator has is not known yet
            reply = await self._push(offered, [])
        while (due := self._due(offered, sent)) or reply is None:
            numbers, messages = await self._files(self._batch, offered, due)
            sent.update(numbers)
            if messages or reply is None:
                reply = await self._push(offered, messages)
        self._pushed = offered
        await self._offer_blobs(offered, {digest.hex() for digest in reply.blobs_missing})

    def _due(self, offered: Offered, sent: set[int]) -> list[int]:
        def is_there(sequence: int) -> bool:
            return any(first <= sequence <= last for first, last in self._peer_has)

        low, high = self._peer_received_through, self._peer_received_through + WINDOW
        return [s for s in offered.names if low < s <= high and s not in sent and not is_there(s)]

    def _batch(self, offered: Offered, due: Iterable[int]) -> tuple[list[int], list[pb.CarriedMessage]]:
        """Numbers dealt with, and the messages among them that are still offered."""
        numbers: list[int] = []
        messages: list[pb.CarriedMessage] = []
        num_bytes = 0
        for sequence in due:
            name = offered.names[sequence]
            data = self._out.read_message(name)
            if data is not None and messages and num_bytes + len(data) > PUSH_BYTES:
                break
            numbers.append(sequence)
            if data is not None:
                num_bytes += len(data)
                messages.append(pb.CarriedMessage(name=name, data=data))
        return numbers, messages

    async def _push(self, offered: Offered, messages: list[pb.CarriedMessage]) -> pb.PushReply:
        told = hashlib.sha256(offered.acknowledgement).digest()
        self._upload_pace.owe(sum(len(message.data) for message in messages))  # they do not wait: they are small
        request = pb.PushRequest(
            messages=messages,
            first_offered=offered.first_offered,
            next_sequence=offered.next_sequence,
            acknowledgement=b"" if told == self._told_acknowledgement else offered.acknowledgement,
            blobs=[pb.OfferedBlob(digest=bytes.fromhex(digest), num_bytes=size) for digest, size in offered.blobs],
        )
        reply: pb.PushReply = await self._answered(self._stub.Push(request, timeout=self._pace.answer + 60))
        await self._files(self._out.check_not_rolled_back, reply.received_through)
        self._told_acknowledgement = told
        self._peer_has = tuple((found.first, found.last) for found in reply.have)
        self._peer_received_through = reply.received_through
        return reply

    async def _offer_blobs(self, offered: Offered, missing: set[str]) -> None:
        wanted = [(digest, num_bytes) for digest, num_bytes in offered.blobs if digest in missing]
        self._uploads_missing = bool(wanted)
        for digest, num_bytes in wanted:
            try:
                await self.transfers.offer(digest, num_bytes)
            except (OverloadedError, DeadlineExceededError) as error:
                self.held_up["blobs up"] = str(error)
                break  # its share is full for now: what is under way goes first
        else:
            self.held_up.pop("blobs up", None)

    # --- both ---------------------------------------------------------------------------------------------------------

    async def _answered(self, call: Any) -> Any:
        reply = await answered(call)
        self.last_contact = time.time()
        return reply

    async def _files(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)


async def _pause(seconds: float) -> None:
    """Sleeps for between one and one and a half times as long, so that many ends do not come back together."""
    await asyncio.sleep(min(seconds, 60.0) * random.uniform(1.0, 1.5))


async def _within(awaitable: Any, seconds: float) -> None:
    """Waits for something, or so long."""
    try:
        await asyncio.wait_for(awaitable, seconds)
    except TimeoutError:
        return
