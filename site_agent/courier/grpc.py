# SPDX-License-Identifier: Apache-2.0
"""The site's end of the gRPC courier. Importing this loads gRPC: only a site that uses it does."""

import threading
import time
from collections.abc import Callable

from federation.durable.real import RealFileSystem
from federation.invite import Invite, Party, install
from federation.leaves import PartyKind
from federation.mailbox.ends import Vouch
from federation.roster import TrustedRosters
from federation.rpc import credentials, enrolment, loop, once
from federation.rpc.credentials import Way
from federation.rpc.status import CourierStatus, Greeting
from federation.rpc.thread import CourierThread, Station
from site_agent import layout
from site_agent.identity import request_of
from site_agent.setup import software
from site_agent.site_config import SiteConfig


def party_of(fs: RealFileSystem, config: SiteConfig) -> Party:
    """The site, as it enrols.

    Raises:
        ConfigError: a key is missing or unreadable.
    """
    return Party(fs=fs, kind=PartyKind.SITE, id=config.site, request=request_of(fs, config.site))


def way_of(config: SiteConfig) -> Way:
    """How site.toml says that the coordinator is reached."""
    return Way(http_proxy=config.courier.http_proxy, connect_to=config.courier.connect_to)


def station_of(fs: RealFileSystem, config: SiteConfig, vouch: Vouch | None = None) -> Station:
    """The site's end of its courier. Raises ConfigError as `party_of`."""
    return Station(
        party=party_of(fs, config),
        mailbox=layout.MAILBOX,
        way=way_of(config),
        max_upload_bytes_per_second=config.courier.max_upload_bytes_per_second,
        software=software(),
        vouch=vouch,
    )


def start(
    fs: RealFileSystem,
    config: SiteConfig,
    arrived: threading.Event,
    on_change: Callable[[CourierStatus], None],
    vouch: Vouch | None = None,
) -> CourierThread:
    """A courier beside the agent."""
    courier = CourierThread(station_of(fs, config, vouch), arrived, on_change)
    courier.start()
    return courier


def sync(fs: RealFileSystem, config: SiteConfig, seconds: float) -> Greeting:
    """Brings everything both ways once: see `federation.rpc.once.sync`."""
    return once.sync(station_of(fs, config), seconds)


def probe(fs: RealFileSystem, config: SiteConfig) -> Greeting:
    """One round trip: see `federation.rpc.once.probe`."""
    return once.probe(station_of(fs, config))


def enrol(fs: RealFileSystem, config: SiteConfig, invite: Invite, root: str) -> TrustedRosters:
    """Redeems an invite: see `federation.rpc.enrolment.enrol`."""
    return loop.wait_for(enrolment.enrol(party_of(fs, config), invite, root, time.time(), way_of(config)))


def renew(fs: RealFileSystem, config: SiteConfig) -> TrustedRosters:
    """Asks for certificate and rosters again: see `federation.rpc.enrolment.renew`."""
    return loop.wait_for(enrolment.renew(party_of(fs, config), time.time(), way_of(config)))


def take_reply(fs: RealFileSystem, config: SiteConfig, reply: bytes, root: str) -> TrustedRosters:
    """Accepts a reply that came as a file.

    Raises:
        ProtocolError: it is none.
        RosterError, CertificateError: it does not hold; nothing was kept.
    """
    pinned = credentials.read_text(fs, credentials.ROOT_FILE)
    return install(party_of(fs, config), enrolment.enrolled_from_bytes(reply), root or pinned, time.time())
