# SPDX-License-Identifier: Apache-2.0
"""An operator's end of the network: enrolment, a courier for as long as a command runs, and `run watch` as a stream."""

import asyncio
import json
import logging
import queue
import threading
import time
from typing import Any, Final

from coordinator.identities import operator_request_of
from coordinator.operator_client import OPERATOR_ID, OPERATOR_REQUEST
from federation.durable.real import RealFileSystem
from federation.errors import (
    AccessDeniedError,
    CertificateError,
    ConfigError,
    DeadlineExceededError,
    FederationError,
    ProtocolVersionError,
    RevokedError,
    RolledBackError,
)
from federation.ids import COORDINATOR
from federation.invite import Invite, Party
from federation.leaves import PartyKind
from federation.roster import TrustedRosters
from federation.roster_document import Role
from federation.rpc import credentials, enrolment, loop, once
from federation.rpc.credentials import Way
from federation.rpc.once import Line
from federation.rpc.thread import CourierThread, Station
from federation.rpc.transfers import answered_stream
from federation.v1 import courier_pb2 as pb
from federation.v1.courier_pb2_grpc import ControlStub

LOG: Final = logging.getLogger("coordinator.rpc")
Document = dict[str, Any]

HTTP_PROXY: Final = "tls/http-proxy"
RECONNECT_SECONDS: Final = 1.0
OF_NO_USE: Final = (
    AccessDeniedError,
    RevokedError,
    CertificateError,
    ProtocolVersionError,
    RolledBackError,
    ConfigError,
)
"""Failures that no patience mends."""


def party_of(fs: RealFileSystem, roles: tuple[Role, ...] = ()) -> Party:
    """The operator, as it enrols. `roles`: what to ask for; if none, what was asked for before.

    Raises:
        ConfigError: a key is missing or unreadable.
    """
    operator = fs.read(OPERATOR_ID).decode().strip()
    if roles or not fs.exists(OPERATOR_REQUEST):
        fs.write(OPERATOR_REQUEST, operator_request_of(fs, roles or (Role.OPERATOR,)))
    return Party(fs=fs, kind=PartyKind.OPERATOR, id=operator, request=fs.read(OPERATOR_REQUEST))


def station_of(fs: RealFileSystem) -> Station:
    """The operator's end of the courier."""
    proxy = credentials.read_text(fs, HTTP_PROXY)
    return Station(party=party_of(fs), mailbox=f"mailbox/{COORDINATOR}", way=Way(http_proxy=proxy), software="operator")


def enrol(fs: RealFileSystem, invite: Invite, root: str, roles: tuple[Role, ...], http_proxy: str) -> TrustedRosters:
    """Redeems an invite: see `federation.rpc.enrolment.enrol`. A failure leaves the directory as it was."""
    before = fs.read(OPERATOR_REQUEST) if fs.exists(OPERATOR_REQUEST) else None
    try:
        rosters = loop.wait_for(
            enrolment.enrol(party_of(fs, roles), invite, root, time.time(), Way(http_proxy=http_proxy))
        )
    except BaseException:  # an interruption too; the same keys and roles make the same request again
        _put_back(fs, before)
        raise
    if http_proxy:
        fs.write(HTTP_PROXY, http_proxy.encode())
    return rosters


def _put_back(fs: RealFileSystem, request: bytes | None) -> None:
    if request is not None:
        fs.write(OPERATOR_REQUEST, request)
    elif fs.exists(OPERATOR_REQUEST):
        fs.remove(OPERATOR_REQUEST)


def renew(fs: RealFileSystem) -> TrustedRosters:
    """Asks for certificate and rosters again: see `federation.rpc.enrolment.renew`."""
    station = station_of(fs)
    return loop.wait_for(enrolment.renew(station.party, time.time(), station.way))


class NetworkCourier:
    """Carries an operator's mailbox while a command runs: see `operator_client.Carrying`."""

    def __init__(self, fs: RealFileSystem) -> None:
        self._arrived = threading.Event()
        self._courier = CourierThread(station_of(fs), self._arrived)
        self._endpoint = credentials.read_text(fs, credentials.ENDPOINT)
        self._courier.start()

    def carry(self) -> None:
        """Wakes the courier. Raises the error that it met if waiting is of no use."""
        failure = self._courier.failure
        if isinstance(failure, OF_NO_USE):
            raise failure
        self._courier.wake()

    def rest(self, seconds: float) -> None:
        """Waits for an arrival, at most so long."""
        self._arrived.wait(seconds)
        self._arrived.clear()

    def progress(self) -> int:
        """Bytes carried so far."""
        status = self._courier.current_status()
        return status.bytes_up + status.bytes_down

    def advice(self, command: str = "") -> str:
        """Who has to act."""
        status = self._courier.current_status()
        if status.connected:
            again = f"repeat command {command} later" if command else "ask again later"
            return f"The coordinator at {self._endpoint} answers calls, but not this request yet; {again}."
        failure = f"{status.sentence}. {status.advice}" if status.sentence else "It did not answer yet."
        return f"No connection to the coordinator at {self._endpoint}: {failure}"

    def close(self) -> None:
        """Ends the connection."""
        self._courier.stop()


class Watching:
    """A run's documents as they change, for `run watch`."""

    def __init__(self, fs: RealFileSystem, run: str, every_seconds: float, wait_seconds: float) -> None:
        """
        Args:
            every_seconds: at least between two documents.
            wait_seconds: for the first one.
        """
        self._run, self._every, self._wait = run, every_seconds, wait_seconds
        self._news: queue.Queue[Document | FederationError] = queue.Queue()
        self._newest: Document | None = None
        self._heard = False
        self._lost: FederationError | None = None
        self._future = loop.start(self._follow(station_of(fs)))

    def look(self) -> Document:
        """The next document, or the one before if there was no change for a while.

        Raises:
            FederationError: none came; a retryable one: they may come again.
        """
        try:
            found = self._news.get(timeout=self._wait if self._newest is None else self._every)
        except queue.Empty:
            if self._newest is None:
                raise DeadlineExceededError(f"no answer within {self._wait:g} s") from None
            if self._lost is not None:
                raise self._lost from None
            return self._newest
        if isinstance(found, FederationError):
            raise found
        self._newest = found
        return found

    def close(self) -> None:
        """Ends the stream."""
        self._future.cancel()

    async def _follow(self, station: Station) -> None:
        """Follows for ever; a connection that broke is made anew."""
        while True:
            try:
                async with once.connected(station) as line:
                    await self._stream(line)
            except FederationError as error:
                if not error.retryable or not self._heard:
                    self._news.put(error)
                    return
                self._lost = error
                LOG.info("watch: %s", error)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _stream(self, line: Line) -> None:
        stub = ControlStub(line.channel)  # type: ignore[no-untyped-call]
        request = pb.WatchRequest(run=self._run, interval_ms=round(self._every * 1000))
        async for reply in answered_stream(stub.Watch(request)):
            self._heard, self._lost = True, None
            self._news.put(json.loads(reply.document))
