# SPDX-License-Identifier: Apache-2.0
"""A courier for who does not stay: connect, mirror what is there now, leave."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import grpc

from federation.errors import DeadlineExceededError, PeerUnavailableError
from federation.mailbox.ends import InEnd, OutEnd
from federation.rpc import enrolment, loop
from federation.rpc.channel import ChannelSettings, explained, open_channel
from federation.rpc.mirror import Mirror
from federation.rpc.pacing import UploadPace
from federation.rpc.status import Greeting
from federation.rpc.thread import NUM_FILE_THREADS, Station

T = TypeVar("T")

PROBE_SECONDS: Final = 15.0
"""How long a command waits for the coordinator's first answer."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """An open connection."""

    channel: grpc.aio.Channel
    mirror: Mirror
    greeting: Greeting


def sync(station: Station, seconds: float) -> Greeting:
    """Brings everything both ways that is there now.

    Raises:
        FederationError: as calls fail; what was brought is kept, and the next time goes on from there.
        DeadlineExceededError: it takes longer.
    """

    async def all_of_it(line: Line) -> Greeting:
        await line.mirror.sync_once()
        return line.greeting

    return with_line(station, all_of_it, seconds)


def probe(station: Station, seconds: float = PROBE_SECONDS) -> Greeting:
    """One round trip. Raises FederationError, in words, if it failed."""

    async def nothing(line: Line) -> Greeting:
        return line.greeting

    quick = replace(station, pace=replace(station.pace, answer=seconds))
    return with_line(quick, nothing, 2 * seconds)


def with_line(station: Station, use: Callable[[Line], Awaitable[T]], seconds: float) -> T:
    """Opens a connection, waits for what `use` makes of it, closes it.

    Raises:
        FederationError: whatever failed, in words.
        DeadlineExceededError: it took longer.
    """
    return loop.wait_for(_within(station, use, seconds))


@asynccontextmanager
async def connected(station: Station) -> AsyncIterator[Line]:
    """A connection with a mirror over it, after the greeting. Raises FederationError, in words."""
    now = station.clock()
    await enrolment.renew_if_due(station.party, now, station.way)
    settings = enrolment.party_settings(station.party, now, station.way)
    in_end = InEnd(station.party.fs, station.mailbox, station.limits)
    files = ThreadPoolExecutor(NUM_FILE_THREADS, thread_name_prefix="courier-files")
    try:
        async with open_channel(settings) as channel:
            mirror = _mirror(station, in_end, files, channel, settings)
            yield Line(channel=channel, mirror=mirror, greeting=await mirror.negotiate())
    except PeerUnavailableError as error:
        raise explained(error, settings, now) from error
    finally:
        await asyncio.get_running_loop().run_in_executor(files, in_end.close)
        files.shutdown(wait=False)


async def _within(station: Station, use: Callable[[Line], Awaitable[T]], seconds: float) -> T:
    try:
        async with asyncio.timeout(seconds), connected(station) as line:
            return await use(line)
    except TimeoutError:
        raise DeadlineExceededError(
            f"courier: expected to be done within {seconds:g} s, found more to do",
            advice="What was brought is kept; the next time goes on from there.",
        ) from None


def _mirror(
    station: Station, in_end: InEnd, files: ThreadPoolExecutor, channel: Any, settings: ChannelSettings
) -> Mirror:
    out_end = OutEnd(station.party.fs, station.mailbox)
    return Mirror(
        channel,
        out_end,
        in_end,
        files,
        consortium=settings.consortium,
        software=station.software,
        pace=station.pace,
        upload_pace=UploadPace(station.max_upload_bytes_per_second),
    )
