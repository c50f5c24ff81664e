# SPDX-License-Identifier: Apache-2.0
"""Site lumi and a coordinator, each with its mailbox in its own directory, and the real server between them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from network_bench import Bench, Who, request_of, subject_of

from federation.blobs.store import BlobStore
from federation.certificates import bootstrap_subject, pem, save_tls_key
from federation.durable.api import FileSystem
from federation.durable.real import RealFileSystem
from federation.ids import COORDINATOR
from federation.invite import Party
from federation.leaves import PartyKind
from federation.mailbox.mailbox import Mailbox
from federation.messages import MessageBody, Query, QueryKind
from federation.roster import root_fingerprint
from federation.rpc import credentials
from federation.rpc.credentials import Endpoint, Way
from federation.rpc.mirror import Pace
from federation.rpc.once import sync
from federation.rpc.status import Greeting
from federation.rpc.thread import CourierThread, Station

SITE = "lumi"
MAILBOX = "spool/mailbox/coordinator"
PIECE = 1024 * 1024
QUICK = Pace(pull=5.0, answer=10.0, look=0.05, refresh=0.2, quiet=0.05, watch=0.05, backoff=0.02, max_backoff=0.1)


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """Waits for a condition with a deadline; returns what it returned."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"expected {what} within {seconds:g} s"
        pause.wait(0.01)


def body(text: str) -> MessageBody:
    """A message that either end may send."""
    return Query(id=text, kind=QueryKind.RUNS)


def noise(num_bytes: int, seed: int = 0) -> bytes:
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(num_bytes)


@dataclass(kw_only=True)
class Side:
    """One party's mailbox and blob store, opened again at will, as after a restart."""

    fs: FileSystem
    base: str
    me: str
    peer: str
    key: Any
    peer_public: bytes
    heard: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reopen()

    def reopen(self) -> None:
        """A new process over the same directory."""
        self.blobs = BlobStore(self.fs)
        self.mailbox = Mailbox(self.fs, self.base, self.blobs, self.me, self.peer, "eu", self.key)

    def post(self, text: str, *blobs: bytes) -> list[str]:
        """Posts one message with blobs; returns their digests."""
        digests = [self.blobs.put(blob) for blob in blobs]
        self.mailbox.post(body(text), blobs=digests)
        return digests

    def listen(self) -> list[str]:
        """Acts upon what is ready, as a driver's pass does; returns everything heard so far."""
        for received in self.mailbox.collect(self.peer_public, time.time_ns() // 1000):
            if received.ready:
                assert isinstance(received.message.body, Query)
                self.heard.append(received.message.body.id)
                self.mailbox.done(received.sequence)
        assert self.mailbox.rejected == []
        self.mailbox.acknowledge()
        self.mailbox.prune()
        return self.heard


@dataclass(kw_only=True)
class CourierWorld:
    """The world of one test."""

    base: Path
    bench: Bench
    site: RealFileSystem
    ours: Side
    theirs: Side
    now: Callable[[], float] = time.time

    def pump(self) -> None:
        """A pass of both drivers."""
        self.ours.listen()
        self.theirs.listen()
        self.bench.server.wake()

    def settle(self, ours: list[str], theirs: list[str], seconds: float = 30.0) -> None:
        """Waits until the site heard `ours` and the coordinator `theirs`, each once and in sequence."""

        def done() -> bool:
            self.pump()
            return len(self.ours.heard) >= len(ours) and len(self.theirs.heard) >= len(theirs)

        wait_until(done, f"{ours} here and {theirs} there; heard {self.ours.heard}, {self.theirs.heard}", seconds)
        assert (self.ours.heard, self.theirs.heard) == (ours, theirs)

    def restart_server(self) -> None:
        """Another process at the same port, over what the first one left."""
        address = self.bench.server.address
        self.bench.server.stop()
        self.start_server(address)

    def start_server(self, address: str) -> None:
        """A server at an address."""
        self.bench.server = self.new_server(address)

    def new_server(self, address: str) -> Any:
        """See `start_server`."""
        from coordinator.network_config import NetworkSection
        from coordinator.rpc.server import NetworkServer

        server = NetworkServer(
            self.bench.fs,
            network=NetworkSection(listen=address, limits=self.bench.limits),
            issuers=self.bench.consortium.issuers(),
            membership=self.bench.membership,
        )
        server.start()
        return server

    @property
    def party(self) -> Party:
        """Site lumi."""
        request = request_of(self.bench.consortium, subject_of(Who.SITE))
        return Party(fs=self.site, kind=PartyKind.SITE, id=SITE, request=request)

    def station(self, pace: Pace = QUICK, http_proxy: str = "", connect_to: str = "") -> Station:
        """The site's end of the courier."""
        clock = lambda: self.now()  # noqa: E731 - tests turn the clock
        return Station(
            party=self.party,
            mailbox=MAILBOX,
            pace=pace,
            way=Way(http_proxy=http_proxy, connect_to=connect_to),
            clock=clock,
        )

    def sync(self) -> Greeting:
        """Everything both ways, once."""
        return sync(self.station(), 60.0)

    @contextmanager
    def courier(self, pace: Pace = QUICK, http_proxy: str = "", connect_to: str = "") -> Iterator[CourierThread]:
        """A running courier."""
        thread = CourierThread(self.station(pace, http_proxy, connect_to))
        thread.start()
        try:
            yield thread
        finally:
            thread.stop()

    def certify(self, *, days: float = 30.0, made_at: float | None = None) -> None:
        """Gives the site a certificate."""
        subject = subject_of(Who.SITE)
        self.site.write(credentials.CERTIFICATE, self.bench.certificate(subject, now=made_at, days=days))


@contextmanager
def world(base: Path, **bench: Any) -> Iterator[CourierWorld]:
    """An enrolled site and a served coordinator below `base`."""
    with Bench(directory=base / "coordinator", **bench) as found:
        consortium = found.consortium
        site = RealFileSystem(base / SITE)
        key, update = consortium.key("coordinator"), consortium.key(f"site/{SITE}/update")
        ours = Side(
            fs=site, base=MAILBOX, me=SITE, peer=COORDINATOR, key=update, peer_public=consortium.public("coordinator")
        )
        theirs = Side(
            fs=found.fs,
            base=f"mailbox/{SITE}",
            me=COORDINATOR,
            peer=SITE,
            key=key,
            peer_public=consortium.public(f"site/{SITE}/update"),
        )
        result = CourierWorld(base=base, bench=found, site=site, ours=ours, theirs=theirs)
        _enrol(result)
        yield result


def _enrol(found: CourierWorld) -> None:
    bench, site = found.bench, found.site
    save_tls_key(site, credentials.TLS_KEY, bench.consortium.tls_key(f"site/{SITE}"))
    site.write(credentials.ROOT_FILE, root_fingerprint(bench.membership.roster).encode())
    site.write(credentials.roster_path(1), bench.membership.rosters[0])
    credentials.write_endpoint(site, Endpoint.parse(bench.server.address))
    found.certify()
    subject = bootstrap_subject("eu", PartyKind.SITE, SITE)
    site.write(credentials.RENEWAL, pem(bench.consortium.certificate(subject, f"site/{SITE}", time.time() - 86_400)))
