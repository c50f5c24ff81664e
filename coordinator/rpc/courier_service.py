# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: N802 - methods have the names of the RPCs
"""The Courier service: guards its input's form, delegates to the peer's mailbox, translates."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from typing import Final, ParamSpec, TypeVar

from coordinator.rpc import courier_desk as desk
from coordinator.rpc.changes import Changes, wait_until
from coordinator.rpc.courier_desk import Brought, CourierDesk, PeerMailbox, Pushed, Wanted
from coordinator.rpc.interceptor import Caller
from coordinator.rpc.membership import Membership
from coordinator.rpc.workers import Workers
from federation.errors import ProtocolError
from federation.mailbox.ends import Ranges
from federation.rpc.pieces import BroughtPiece, blob_piece
from federation.trace import mark
from federation.v1 import courier_pb2 as pb
from federation.v1 import courier_pb2_grpc as pb_grpc

P = ParamSpec("P")
T = TypeVar("T")

MAX_WAIT_SECONDS: Final = 60.0
"""Longest long poll."""

LOOK_AGAIN_SECONDS: Final = 5.0
"""A waiting caller's mailbox is looked at so often even if nobody announces a change."""

SOFTWARE: Final = f"coordinator/{version('hpc-federation')}"


class CourierService(pb_grpc.CourierServicer):
    """One mailbox per caller: the one of its certificate's id.

    Attributes:
        last_piece: when a piece of a blob last came or went, by `time.monotonic`.
    """

    def __init__(
        self,
        courier: CourierDesk,
        workers: Workers,
        changes: Changes,
        membership: Callable[[], Membership],
        arrived: Callable[[], None],
    ) -> None:
        self._courier = courier
        self._workers = workers
        self._changes = changes
        self._membership = membership
        self._arrived = arrived
        self.last_piece = -math.inf

    async def Negotiate(self, request: pb.NegotiateRequest, caller: Caller) -> pb.NegotiateReply:
        """Which version of the protocol both speak, and what time it is here."""
        chosen, membership = desk.common_version(request.protocol_versions), self._membership()
        return pb.NegotiateReply(
            protocol_version=chosen,
            software=SOFTWARE,
            consortium=membership.consortium,
            now_us=time.time_ns() // 1000,
            roster_version=membership.roster.version,
            ledger_size=membership.ledger_size,
        )

    async def Pull(self, request: pb.PullRequest, caller: Caller) -> pb.PullReply:
        """Answers as soon as there is something that the caller lacks, or when it has waited long enough."""
        wanted = Wanted(
            have=desk.checked_ranges((r.first, r.last) for r in request.have),
            received_through=request.received_through,
            acknowledgement_digest=request.acknowledgement_digest,
            max_bytes=request.max_bytes,
        )
        mailbox, now = self._mailbox(caller), asyncio.get_running_loop().time
        deadline = now() + min(request.wait_ms / 1000, MAX_WAIT_SECONDS)
        while True:
            change = self._changes.subscribe(caller.identity.id)
            brought = await self._run(caller, mailbox.pull, wanted)
            if brought.is_news or now() >= deadline:
                return _pull_reply(brought)
            await wait_until(change, min(deadline - now(), LOOK_AGAIN_SECONDS))

    async def Push(self, request: pb.PushRequest, caller: Caller) -> pb.PushReply:
        """Takes messages in."""
        desk.check_count(len(request.messages), desk.MAX_MESSAGES, "messages")
        desk.check_count(len(request.blobs), desk.MAX_OFFERED_BLOBS, "blobs")
        pushed = Pushed(
            messages=tuple((message.name, message.data) for message in request.messages),
            first_offered=request.first_offered,
            next_sequence=request.next_sequence,
            acknowledgement=request.acknowledgement,
            blobs=tuple((desk.checked_digest(blob.digest), blob.num_bytes) for blob in request.blobs),
        )
        taken = await self._run(caller, self._mailbox(caller).push, pushed)
        if taken.is_news:
            self._arrived()
        return pb.PushReply(
            have=_ranges(taken.have),
            received_through=taken.received_through,
            blobs_missing=[bytes.fromhex(digest) for digest in taken.blobs_missing],
        )

    async def StatBlob(self, request: pb.StatBlobRequest, caller: Caller) -> pb.StatBlobReply:
        """Which pieces of a blob are missing here."""
        return await self._stat(caller, desk.checked_digest(request.digest), request.num_bytes)

    async def PutBlob(self, requests: AsyncIterator[BroughtPiece], caller: Caller) -> pb.StatBlobReply:
        """Takes pieces of one blob in, in any order."""
        mailbox, blob = self._mailbox(caller), None
        async for request, data in requests:
            found = (desk.checked_digest(request.digest), request.num_bytes)
            if blob not in (None, found):
                raise ProtocolError("PutBlob: expected pieces of one blob, found those of another one")
            blob, self.last_piece = found, time.monotonic()
            mark("piece", site=caller.identity.id, digest=found[0], piece=request.piece)
            if await self._run(caller, mailbox.put_pieces, *found, request.piece, desk.checked_data(data)):
                self._arrived()
            del request, data  # before the next one comes
        if blob is None:  # nothing was sent, or the line was cut before it came
            return pb.StatBlobReply()
        # An fsync for each call would slow all down: who is cut off asks with StatBlob what has become durable.
        absent = await self._run(caller, mailbox.pieces_absent, *blob)
        return pb.StatBlobReply(complete=not absent, pieces_missing=_ranges(absent))

    async def GetBlob(self, request: pb.GetBlobRequest, caller: Caller) -> AsyncIterator[bytes]:
        """Sends pieces of one offered blob."""
        digest, mailbox = desk.checked_digest(request.digest), self._mailbox(caller)
        for pieces in desk.checked_pieces(request.first_piece, request.num_pieces, request.pieces_per_message):
            self.last_piece = time.monotonic()
            async with caller.piece():
                yield blob_piece(pieces[0], await self._run(caller, mailbox.read_pieces, digest, *pieces))

    def _mailbox(self, caller: Caller) -> PeerMailbox:
        return self._courier.mailbox(caller.identity.id)

    async def _stat(self, caller: Caller, digest: str, num_bytes: int) -> pb.StatBlobReply:
        missing = await self._run(caller, self._mailbox(caller).pieces_missing, digest, num_bytes)
        return pb.StatBlobReply(complete=not missing, pieces_missing=_ranges(missing))

    async def _run(self, caller: Caller, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._workers.run(caller.identity.id, function, *args, **kwargs)


def _pull_reply(brought: Brought) -> pb.PullReply:
    return pb.PullReply(
        messages=[pb.CarriedMessage(name=name, data=data) for name, data in brought.messages],
        first_offered=brought.offered.first_offered,
        next_sequence=brought.offered.next_sequence,
        acknowledgement=brought.acknowledgement,
        blobs=[pb.OfferedBlob(digest=bytes.fromhex(d), num_bytes=size) for d, size in brought.offered.blobs],
    )


def _ranges(ranges: Ranges) -> list[pb.NumberRange]:
    return [pb.NumberRange(first=first, last=last) for first, last in ranges]
