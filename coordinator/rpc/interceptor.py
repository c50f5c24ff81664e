# SPDX-License-Identifier: Apache-2.0
"""Wraps every handler of the server, so that none can be reached around the gate.

Each call, of whatever kind, is served as a stream of raw messages: so the caller is judged before its first message is
received, every message has its time, and nothing is parsed before that. What a peer sees is the same.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import grpc

from coordinator.rpc.gate import Gate, OpenCall, peer_name
from coordinator.rpc.piece_budget import PieceBudget
from coordinator.rpc.rates import Complaints
from federation.certificates import Identity
from federation.errors import DeadlineExceededError, FederationError, OverloadedError, ProtocolError
from federation.rpc.errors import details, status_code, trailing_metadata
from federation.rpc.pieces import PUT_BLOB, in_own_form

LOG = logging.getLogger("coordinator.rpc")

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"

MIN_PENALTY_SECONDS: Final = 0.25
MAX_PENALTY_SECONDS: Final = 1.0
"""How long an answer "too much" is held back: who asks again at once cannot ask more often than that."""

MAX_HELD: Final = 512
"""Answers held back at a time, over all peers; more are given at once."""

_DEFAULT_CALL_SECONDS: Final[Mapping[str, float]] = {
    "/federation.v1.Courier/Pull": 75.0,
    "/federation.v1.Courier/PutBlob": 300.0,
    "/federation.v1.Courier/GetBlob": 300.0,
    "/federation.v1.Control/Watch": 3600.0,
    "/grpc.health.v1.Health/Watch": 3600.0,
}


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long a peer may take.

    Attributes:
        message_seconds: until each message is there, counted from when it is waited for.
        write_seconds: until the peer has taken each message, but for what fits into buffers on the way.
        call_seconds: for a whole call, by method; callers of streams simply call again.
        default_call_seconds: for methods that are not among those.
    """

    message_seconds: float = 20.0
    write_seconds: float = 60.0
    call_seconds: Mapping[str, float] = field(default_factory=lambda: dict(_DEFAULT_CALL_SECONDS))
    default_call_seconds: float = 60.0

    def seconds(self, method: str) -> float:
        """For a whole call of this method."""
        return self.call_seconds.get(method, self.default_call_seconds)


class Caller:
    """What a servicer sees of a call: who calls, and a stream whose every message passes the gate again."""

    def __init__(
        self, gate: Gate, call: OpenCall, handler: Handler, context: Context, timing: Timing, pieces: PieceBudget
    ) -> None:
        self._gate = gate
        self._call = call
        self._pieces = pieces
        self._handler = handler
        self._context = context
        self._timing = timing

    @property
    def identity(self) -> Identity:
        """The certificate's holder."""
        return self._call.identity

    def piece(self) -> AbstractAsyncContextManager[None]:
        """A place for one piece of a blob, to be held while its bytes are in memory; may have to wait for it."""
        return self._pieces.place(peer_name(self.identity))

    async def abort(self, code: grpc.StatusCode, text: str = "") -> None:
        """Ends the call with a status; for servicers of other makes."""
        await self._context.abort(code, text)

    async def write(self, reply: Any) -> None:
        """Sends one message. Raises DeadlineExceededError if the peer does not take it in time."""
        serialize = self._handler.response_serializer
        data: bytes = serialize(reply) if serialize else reply
        await self._pay(len(data))
        seconds = self._timing.write_seconds
        try:
            await asyncio.wait_for(self._context.write(data), seconds)
        except TimeoutError as error:
            raise DeadlineExceededError(f"stream: expected a message to be taken within {seconds:g} seconds") from error

    async def request(self) -> Any:
        """The one request of a call that has one. Raises ProtocolError if there is none."""
        async for request in self.requests():
            return request
        raise ProtocolError(f"{self._call.method}: expected a request, found the end of the stream")

    async def requests(self) -> AsyncGenerator[Any, None]:
        """All requests; the caller lets go of each before it asks for the next one.

        Raises:
            DeadlineExceededError: one takes too long.
        """
        while True:
            async with self.piece() if self._call.method == PUT_BLOB else nullcontext():
                data = await self._received()
                if data is None:
                    return
                await self._pay(len(data))
                parsed = [self._parsed(data)]
                del data
                yield parsed.pop()  # no reference stays here: with many streams, each copy of a piece counts

    async def _received(self) -> bytes | None:
        seconds = self._timing.message_seconds
        try:
            data = await asyncio.wait_for(self._context.read(), seconds)
        except TimeoutError as error:
            raise DeadlineExceededError(f"stream: expected a message within {seconds:g} seconds") from error
        return None if data is grpc.aio.EOF else data

    async def _pay(self, num_bytes: int) -> None:
        wait = self._gate.spend(self._call, num_bytes)
        if wait:
            await asyncio.sleep(wait)
        self._gate.check(self._call)

    def _parsed(self, data: bytes) -> Any:
        parse = self._handler.request_deserializer
        try:
            return parse(data) if parse else data
        except Exception as error:
            raise ProtocolError(f"{self._call.method}: expected its request, found {len(data)} other bytes") from error


class Guard(grpc.aio.ServerInterceptor):
    """The one interceptor of the server."""

    def __init__(self, gate: Gate, timing: Timing, complaints: Complaints, pieces: PieceBudget) -> None:
        self._gate = gate
        self._pieces = pieces
        self._timing = timing
        self._complaints = complaints
        self._num_held = 0

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method
        handler = in_own_form(method, await continuation(handler_call_details))

        async def behaviour(_: object, context: Context) -> None:
            try:
                await self._guarded(handler, method, context)
            except grpc.aio.InternalError as error:  # what gRPC says when a connection is gone
                LOG.debug("%s: the caller has gone: %s", method, error)

        return grpc.stream_stream_rpc_method_handler(behaviour)

    async def _guarded(self, handler: "Handler | None", method: str, context: Context) -> None:
        peer = "stranger"
        try:
            identity = self._gate.identify(*_channel(context))
            peer = peer_name(identity)
            if handler is None:
                await self._unknown(method, identity, context)
            else:
                await self._let_in(handler, method, identity, context)
        except (grpc.aio.AbortError, grpc.aio.InternalError):
            raise
        except FederationError as error:
            await self._refuse(peer, method, error, context)
        except Exception:  # our own bug: the peer learns nothing of it
            LOG.exception("%s of %s failed", method, peer)
            await context.abort(grpc.StatusCode.INTERNAL, "internal error; the coordinator's log has it")

    async def _let_in(self, handler: Handler, method: str, identity: Identity, context: Context) -> None:
        call = self._gate.enter(method, identity)
        try:
            async with asyncio.timeout(self._timing.seconds(method)) as limit:
                ended: list[FederationError] = []
                call.end = lambda error: _end(limit, ended, error)
                await _serve(handler, Caller(self._gate, call, handler, context, self._timing, self._pieces))
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise (
                ended[0]
                if ended
                else DeadlineExceededError(f"{method}: expected an end within {self._timing.seconds(method):g} seconds")
            ) from error
        finally:
            self._gate.leave(call)

    async def _unknown(self, method: str, identity: Identity, context: Context) -> None:
        self._gate.count(identity)
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method[:80]}: no such call in this release")

    async def _refuse(self, peer: str, method: str, error: FederationError, context: Context) -> None:
        self._complaints.report(peer, method, error, time.monotonic())
        if isinstance(error, OverloadedError) and self._num_held < MAX_HELD:
            await self._hold_back(min(max(error.retry_after_seconds, MIN_PENALTY_SECONDS), MAX_PENALTY_SECONDS))
        await context.abort(status_code(type(error)), details(error), trailing_metadata(error))

    async def _hold_back(self, seconds: float) -> None:
        self._num_held += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self._num_held -= 1


async def _serve(handler: Any, caller: Caller) -> None:
    if not handler.request_streaming:
        await _reply(handler, await caller.request(), caller)
        return
    async with aclosing(caller.requests()) as requests:  # a call that fails leaves its place at once
        await _reply(handler, requests, caller)


async def _reply(handler: Any, argument: Any, caller: Caller) -> None:
    if not handler.response_streaming:
        answer = handler.stream_unary if handler.request_streaming else handler.unary_unary
        await caller.write(await answer(argument, caller))
        return
    replies = (handler.stream_stream if handler.request_streaming else handler.unary_stream)(argument, caller)
    if not hasattr(replies, "__aiter__"):  # a servicer that writes by itself
        await replies
        return
    async with aclosing(replies):
        async for reply in replies:
            await caller.write(reply)
            del reply  # before the next one is made


def _end(limit: asyncio.Timeout, ended: list[FederationError], error: FederationError) -> None:
    if ended or limit.expired():  # it is ending already
        return
    ended.append(error)
    limit.reschedule(asyncio.get_running_loop().time())


def _channel(context: Context) -> tuple[bytes, bytes]:
    """Certificate and TLS version of the channel, b"" for what is not there."""
    found = context.auth_context()
    certificate, version = (list(found.get(key, ()))[:1] or [b""] for key in ("x509_pem_cert", "ssl_tls_version"))
    return certificate[0], version[0]
