# SPDX-License-Identifier: Apache-2.0
"""A courier beside an agent: connects, mirrors, reconnects, renews its certificate; for as long as it is not stopped.

It shares nothing with the agent but the directory, two events and a status. What fails is remembered as a sentence for
people, and tried again: at once after a new certificate, else after a pause that doubles up to a minute, with jitter.
"""

import asyncio
import concurrent.futures
import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from federation.errors import FederationError, OverloadedError, PeerUnavailableError
from federation.invite import Party
from federation.log import in_one_line
from federation.mailbox.ends import InEnd, MailboxLimits, OutEnd, Vouch
from federation.rpc import credentials, enrolment, loop
from federation.rpc.channel import ChannelSettings, explained, open_channel
from federation.rpc.credentials import DIRECT, Certificates, Way
from federation.rpc.mirror import DEFAULT_PACE, Mirror, Pace
from federation.rpc.pacing import UploadPace
from federation.rpc.status import CourierStatus, Greeting

LOG: Final = logging.getLogger("federation.rpc")

NUM_FILE_THREADS: Final = 4
DEFAULT_LIMITS: Final = MailboxLimits()
_CLEAN_SECONDS: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class Station:
    """One end of a courier.

    Attributes:
        party: who dials, with its directory.
        mailbox: base of the mailbox with the coordinator in that directory.
        way: how the coordinator is reached.
        max_upload_bytes_per_second: of blobs; 0 for as fast as they go.
        vouch: `BlobStore.vouch` of a store in this process that takes blobs over from the mailbox.
        clock: seconds since 1970.
    """

    party: Party
    mailbox: str
    way: Way = DIRECT
    max_upload_bytes_per_second: int = 0
    software: str = ""
    pace: Pace = DEFAULT_PACE
    limits: MailboxLimits = DEFAULT_LIMITS
    vouch: Vouch | None = None
    clock: Callable[[], float] = time.time


class CourierThread:
    """A running courier. `status` may be read from any thread."""

    def __init__(
        self,
        station: Station,
        arrived: threading.Event | None = None,
        on_change: Callable[[CourierStatus], None] = lambda _: None,
    ) -> None:
        """
        Args:
            arrived: set when there is something new in in/ or in rosters/.
            on_change: called, in a thread for files, when the connection was made, was lost, or fails otherwise.
        """
        self._on_change = on_change
        self._station = station
        self.arrived = arrived or threading.Event()
        now_us = int(station.clock() * 1_000_000)
        self._upload_pace = UploadPace(station.max_upload_bytes_per_second)
        self.status = CourierStatus(courier="grpc", since_us=now_us)
        self._executor = concurrent.futures.ThreadPoolExecutor(NUM_FILE_THREADS, thread_name_prefix="courier-files")
        self._in = InEnd(station.party.fs, station.mailbox, station.limits, station.vouch)
        self._out = OutEnd(station.party.fs, station.mailbox)
        self._mirror: Mirror | None = None
        self._future: concurrent.futures.Future[None] | None = None
        self._renewal_failed = ""
        self.failure: FederationError | None = None
        """Why there is no connection now, None while there is one."""

    # --- from the agent's thread --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to connect; returns at once."""
        self._future = loop.start(self._serve())

    def wake(self) -> None:
        """Something was posted. From any thread."""
        loop.network_loop().call_soon_threadsafe(self._wake_mirror)

    def limit_upload(self, bytes_per_second: int) -> None:
        """Blobs go up no faster than that from now on, also those that are under way; 0 for as fast as they go."""
        self._upload_pace.limit = bytes_per_second

    def stop(self) -> None:
        """Ends the connection; what was received is durable when this returns."""
        if self._future is not None:
            self._future.cancel()
            concurrent.futures.wait([loop.start(self._stopped())], timeout=_CLEAN_SECONDS)
        self._executor.shutdown(wait=True)
        self._in.close()

    def current_status(self) -> CourierStatus:
        """The status, with how far transfers have come."""
        mirror, limit = self._mirror, self._upload_pace.limit
        if mirror is None:
            return replace(self.status, max_upload_bytes_per_second=limit)
        contact, up, down = mirror.progress
        contact_us = max(self.status.last_contact_us, int(contact * 1_000_000))
        held_up = "; ".join(f"{what}: {words}" for what, words in sorted(mirror.held_up.items()))
        return replace(
            self.status,
            last_contact_us=contact_us,
            bytes_up=up,
            bytes_down=down,
            held_up=held_up,
            max_upload_bytes_per_second=limit,
        )

    # --- on the network's loop ----------------------------------------------------------------------------------------

    def _wake_mirror(self) -> None:
        if self._mirror is not None:
            self._mirror.wake()

    async def _stopped(self) -> None:
        """Returns once the courier's task has ended."""
        tasks = [task for task in asyncio.all_tasks() if task.get_name() == self._task_name]
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def _task_name(self) -> str:
        return f"courier {id(self)}"

    async def _serve(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.set_name(self._task_name)
        while True:
            try:
                await self._session()
            except FederationError as error:
                await self._note_and_wait(error)
            except Exception as error:  # our own bug must not end the courier without a word
                LOG.exception("courier: unexpected failure")
                await self._note_and_wait(PeerUnavailableError(f"the courier failed: {error!r:.200}"))

    async def _session(self) -> None:
        """One connection; returns when another one is due because a certificate was renewed."""
        await self._renew_if_due()
        settings = await self._files(self._settings)
        try:
            async with open_channel(settings) as channel:
                await self._mirror_over(channel, settings)
        except PeerUnavailableError as error:
            raise explained(error, settings, self._now()) from error
        finally:
            self._keep_progress()

    async def _mirror_over(self, channel: Any, settings: ChannelSettings) -> None:
        mirror = Mirror(
            channel,
            self._out,
            self._in,
            self._executor,
            consortium=settings.consortium,
            software=self._station.software,
            pace=self._station.pace,
            upload_pace=self._upload_pace,
            on_arrival=self.arrived.set,
        )
        greeting = await mirror.negotiate()
        self._mirror = mirror
        await mirror.compare()  # before that is done nothing is connected: else each greeting would end all patience
        self._note_connected(settings, greeting)
        await self._files(self._on_change, self.current_status())
        await self._refresh_rosters(greeting)
        running, watching = asyncio.ensure_future(mirror.run()), asyncio.ensure_future(self._watch(settings))
        try:
            await asyncio.wait((running, watching), return_when=asyncio.FIRST_COMPLETED)
        finally:
            running.cancel(), watching.cancel()
            found = await asyncio.gather(running, watching, return_exceptions=True)
        for result in found:
            if isinstance(result, Exception):
                raise result

    async def _watch(self, settings: ChannelSettings) -> None:
        """Returns when this connection's certificate or endpoint is no longer the directory's."""
        while True:
            await asyncio.sleep(self._station.pace.watch * random.uniform(0.75, 1.0))
            await self._renew_if_due()
            if await self._files(self._settings) != settings:
                return

    # --- certificate and rosters --------------------------------------------------------------------------------------

    async def _renew_if_due(self) -> None:
        station = self._station
        self._renewal_failed = await enrolment.renew_if_due(station.party, self._now(), station.way)
        await self._files(self._note_certificate)

    async def _refresh_rosters(self, greeting: Greeting) -> None:
        """A party that was away for several versions gets them all; the ledger's tail carries the newest alone."""
        rosters = await self._files(credentials.require_rosters, self._station.party.fs, int(self._now() * 1_000_000))
        if greeting.roster_version <= rosters.current.version:
            return
        try:
            await enrolment.renew(self._station.party, self._now(), self._station.way)
            self.arrived.set()
        except FederationError as error:
            LOG.warning("courier: rosters after version %d: %s", rosters.current.version, error)

    # --- status -------------------------------------------------------------------------------------------------------

    def _settings(self) -> ChannelSettings:
        station = self._station
        return enrolment.party_settings(station.party, self._now(), station.way)

    def _note_certificate(self) -> None:
        left = Certificates.read(self._station.party.fs).days_left(self._now())
        endpoint = credentials.read_text(self._station.party.fs, credentials.ENDPOINT)
        failed = self._renewal_failed
        self.status = replace(self.status, certificate_days=left, renewal_failed=failed, endpoint=endpoint)

    def _note_connected(self, settings: ChannelSettings, greeting: Greeting) -> None:
        now_us = int(self._now() * 1_000_000)
        LOG.info("courier: connected to %s", settings.endpoint)
        self.failure = None
        self.status = replace(
            self.status,
            connected=True,
            since_us=now_us,
            last_contact_us=now_us,
            failures=0,
            sentence="",
            advice="",
            error="",
            clock_ahead_seconds=greeting.clock_ahead_seconds,
            round_trip_seconds=greeting.round_trip_seconds,
            protocol_version=greeting.protocol_version,
        )

    def _keep_progress(self) -> None:
        self.status = self.current_status()
        self._mirror = None

    async def _note_and_wait(self, error: FederationError) -> None:
        pace, status = self._station.pace, self.status
        now_us = int(self._now() * 1_000_000)
        since_us = now_us if status.connected else status.since_us
        if status.connected or str(error) != status.sentence:
            LOG.warning("courier: %s", in_one_line(error))
        self.status = replace(
            status,
            connected=False,
            since_us=since_us,
            failures=status.failures + 1,
            sentence=str(error),
            advice=error.advice,
            error=type(error).__name__,
        )
        self.failure = error  # after the status: who sees it from another thread finds its words there
        await self._files(self._note_certificate)
        if status.connected or str(error) != status.sentence:
            await self._files(self._on_change, self.status)
        await asyncio.sleep(pause_seconds(error, status.failures, pace) * random.uniform(0.5, 1.0))

    def _now(self) -> float:
        return self._station.clock()

    async def _files(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)


def pause_seconds(error: FederationError, failures: int, pace: Pace) -> float:
    """The longest pause before the next attempt, after one that failed and so many in a row before it.

    Whatever is missing may stay away for days: the pause never ends the attempts, and never grows beyond its bound.
    """
    seconds = min(pace.backoff * 2.0 ** min(failures, 30), pace.max_backoff)
    if isinstance(error, OverloadedError):
        seconds = max(seconds, min(error.retry_after_seconds, 600.0))
    return seconds
