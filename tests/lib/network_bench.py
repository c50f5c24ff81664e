# SPDX-License-Identifier: Apache-2.0
"""A coordinator's server on loopback with real certificates, and callers of every role with every kind of certificate.

The server shares its event loop with the callers' channels, in one thread beside the test (`federation.rpc.loop`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import grpc

from coordinator import home
from coordinator.home import TLS_KEY
from coordinator.network_config import LimitsSection, NetworkSection
from coordinator.rpc.interceptor import Timing
from coordinator.rpc.membership import Membership
from coordinator.rpc.piece_budget import PieceBudget
from coordinator.rpc.server import NetworkServer
from coordinator.rpc.serving import Network
from coordinator.startup import open_coordinator
from federation import signing
from federation.certificates import (
    Subject,
    bootstrap_subject,
    key_pem,
    operator_subject,
    pem,
    save_tls_key,
    server_name,
    site_subject,
    spki,
)
from federation.durable.real import RealFileSystem
from federation.errors import FederationError
from federation.key_requests import operator_request, site_request
from federation.leaves import InviteIssuedV1, PartyKind
from federation.roster import root_fingerprint
from federation.roster_document import Role
from federation.rpc import loop
from federation.rpc.errors import error_from
from federation.testing.rosters import MemoryConsortium
from federation.v1 import courier_pb2 as pb
from federation.v1 import courier_pb2_grpc as pb_grpc

T = TypeVar("T")

DAY = 86_400.0
OPTIONS = [
    ("grpc.ssl_target_name_override", server_name("eu")),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", 9 * 1024 * 1024),
    ("grpc.max_send_message_length", -1),
]
PIECE = 1024 * 1024

PATIENCE = 20.0
"""Longest that anything may take, in seconds, on a busy machine."""


class Who(StrEnum):
    """Whose certificate a caller has."""

    SITE = "site"
    OPERATOR = "operator"
    VIEWER = "viewer"
    AUDITOR = "auditor"
    BOOTSTRAP = "bootstrap"


class Certificate(StrEnum):
    """Which certificate a caller shows."""

    VALID = "valid"
    NONE = "none"
    EXPIRED = "expired"
    REVOKED = "revoked"
    OTHER_CA = "other CA"


PARTIES: Mapping[Who, str] = {
    Who.SITE: "lumi",
    Who.OPERATOR: "alice",
    Who.VIEWER: "victor",
    Who.AUDITOR: "anna",
    Who.BOOTSTRAP: "jupiter",
}
ROLES: Mapping[str, tuple[Role, ...]] = {"alice": (Role.OPERATOR,), "victor": (Role.VIEWER,), "anna": (Role.AUDITOR,)}


def consortium_of(seed: str = "") -> MemoryConsortium:
    """Sites jupiter, leonardo and lumi; alice, an operator; victor, a viewer; anna, an auditor."""
    sites = ("jupiter", "leonardo", "lumi")
    return MemoryConsortium(seed=seed, sites=sites, operators=tuple(sorted(ROLES)))


def membership_of(
    consortium: MemoryConsortium, *, without: tuple[str, ...] = (), now: float | None = None
) -> Membership:
    """Everybody of the consortium, but for some."""
    now_us = int((time.time() if now is None else now) * 1e6)
    roster = consortium.roster(now_us=now_us)
    operators = tuple(consortium.operator_entry(o.operator, ROLES.get(o.operator, o.roles)) for o in roster.operators)
    roster = replace(
        roster,
        operators=tuple(o for o in operators if o.operator not in without),
        sites=tuple(s for s in roster.sites if s.site not in without),
    )
    return Membership(
        consortium=consortium.name,
        roster=roster,
        rosters=(consortium.document(roster),),
        revoked={},
        invites={},
        ledger_size=7,
    )


def revoke(membership: Membership, site: str) -> Membership:
    """The same, with a site revoked."""
    key = signing.key_id(membership.sites[site].update_public)
    return replace(membership, revoked={**membership.revoked, site: key})


def invite(membership: Membership, kind: PartyKind, party: str, token_digest: str, expires_at: float) -> Membership:
    """The same, with one more invite."""
    leaf = InviteIssuedV1(
        kind=kind,
        party=party,
        token_digest=token_digest,
        expires_at_us=int(expires_at * 1e6),
        operator="alice",
        command="c1",
    )
    return replace(membership, invites={**membership.invites, token_digest: leaf})


def request_of(consortium: MemoryConsortium, subject: Subject) -> bytes:
    """The signed key request of a party, for the keys that the roster names."""
    holder, tls_public = holder_of(subject), consortium.tls_public(holder_of(subject))
    if subject.kind is PartyKind.OPERATOR:
        return operator_request(subject.id, consortium.key(holder), ROLES[subject.id], tls_public=tls_public)
    update, witness = (consortium.key(f"{holder}/{use}") for use in ("update", "witness"))
    return site_request(subject.id, update=update, witness=witness, tls_public=tls_public)


def subject_of(who: Who, party: str = "", consortium: str = "eu") -> Subject:
    """What a certificate of that role says."""
    party = party or PARTIES[who]
    if who is Who.SITE:
        return site_subject(consortium, party)
    if who is Who.BOOTSTRAP:
        return bootstrap_subject(consortium, PartyKind.SITE, party)
    return operator_subject(consortium, party, (who.value,))


def holder_of(subject: Subject) -> str:
    """Whose key a certificate is for."""
    return f"{subject.kind}/{subject.id}"


@dataclass(kw_only=True)
class Bench:
    """One server, and callers. Use it as a context manager."""

    directory: Path
    consortium: MemoryConsortium = field(default_factory=consortium_of)
    limits: LimitsSection = field(default_factory=lambda: LimitsSection(calls_per_second=10_000.0))
    timing: Timing | None = None
    handshake_seconds: float = 10.0
    pieces: PieceBudget | None = None
    membership: Membership = field(init=False)
    server: NetworkServer = field(init=False)
    fs: RealFileSystem = field(init=False)
    _channels: list[grpc.aio.Channel] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)
    _left: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.fs = RealFileSystem(self.directory)
        self.membership = membership_of(self.consortium)

    def __enter__(self) -> Bench:
        if not self.fs.exists(TLS_KEY):
            save_tls_key(self.fs, TLS_KEY, self.consortium.tls_key("coordinator"))
        self.server = self._server("127.0.0.1:0")
        self.server.start()
        return self

    def _server(self, listen: str) -> NetworkServer:
        return NetworkServer(
            self.fs,
            network=NetworkSection(listen=listen, limits=self.limits),
            issuers=self.consortium.issuers(),
            membership=self.membership,
            timing=self.timing,
            handshake_seconds=self.handshake_seconds,
            pieces=self.pieces,
        )

    def restart(self) -> None:
        """Another server at the address of the one before, which was stopped; whoever drives goes on with it."""
        before, self.server = self.server, self._server(self.server.address)
        self.server.start()
        before.arrived.set()

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self.server.arrived.set()
        for thread in self._threads:
            thread.join()
        for channel in self._channels:
            loop.wait_for(channel.close())
        self.server.stop()

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return int(self.server.address.rpartition(":")[2])

    def drive(self, document: Callable[[str], str] = lambda subject: f'{{"subject": "{subject}"}}') -> None:
        """Answers questions for documents as the driver does, until the bench is left."""

        def answer_all() -> None:
            while not self._left.is_set():
                self.server.arrived.wait()
                self.server.arrived.clear()
                self.server.documents.answer(document)

        self._threads.append(threading.Thread(target=answer_all, name="driver"))
        self._threads[-1].start()

    def change(self, membership: Membership) -> None:
        """What the driver does after a decision."""
        self.membership = membership
        self.server.update(membership)

    def certificate(self, subject: Subject, *, now: float | None = None, days: float = 30.0, seed: str = "") -> bytes:
        """PEM, made `now`; another `seed`: by another consortium's issuers, for the same key."""
        issuers = (self.consortium if not seed else consortium_of(seed)).issuers()
        public = self.consortium.tls_public(holder_of(subject))
        made_at = time.time() if now is None else now
        return pem(issuers.issue(subject, public, made_at, days * DAY))

    def channel(self, subject: Subject | None = None, certificate: bytes = b"") -> grpc.aio.Channel:
        """A channel of that party; None: without a certificate."""

        async def open_it() -> grpc.aio.Channel:
            key = None if subject is None else key_pem(self.consortium.tls_key(holder_of(subject)))
            chain = None if subject is None else certificate or self.certificate(subject)
            issuer = pem(self.consortium.issuer().certificate)
            credentials = grpc.ssl_channel_credentials(issuer, key, chain)
            return grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options=OPTIONS)

        self._channels.append(loop.wait_for(open_it()))
        return self._channels[-1]

    def channel_of(self, who: Who, which: Certificate = Certificate.VALID) -> grpc.aio.Channel:
        """A channel with a certificate of the matrix. A revoked one is a valid one of a party that the test revokes."""
        subject = subject_of(who)
        if which is Certificate.NONE:
            return self.channel()
        if which is Certificate.EXPIRED:
            return self.channel(subject, self.certificate(subject, now=time.time() - 31 * DAY))
        if which is Certificate.OTHER_CA:
            return self.channel(subject, self.certificate(subject, seed="other"))
        return self.channel(subject)


def answered(call: Callable[[], Awaitable[T]]) -> T:
    """Makes a call on the network's loop; a status becomes the error that it stands for."""

    async def run() -> T:
        return await call()

    return outcome(run())


def outcome(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine on the network's loop; a status becomes the error that it stands for."""
    try:
        return loop.wait_for(coroutine)
    except grpc.aio.AioRpcError as failed:
        error: FederationError = error_from(failed)
        raise error from failed


async def collect(call: Any, limit: int = 1000) -> list[Any]:
    """Messages of a response stream."""
    found: list[Any] = []
    async for message in call:
        found.append(message)
        if len(found) == limit:
            call.cancel()
            break
    return found


def coordinator_directory(directory: Path, consortium: MemoryConsortium, membership: Membership) -> RealFileSystem:
    """A coordinator's directory with keys, issuers and one installed roster."""
    fs = RealFileSystem(directory)
    signing.save_private_key(fs, home.COORDINATOR_KEY, consortium.key("coordinator"))
    signing.save_private_key(fs, home.LEDGER_KEY, consortium.key("ledger"))
    save_tls_key(fs, TLS_KEY, consortium.tls_key("coordinator"))
    issuers = consortium.issuers()
    for base, issuer in ((home.TLS_ISSUER, issuers.tls), (home.ENROLMENT_ISSUER, issuers.enrolment)):
        save_tls_key(fs, f"{base}.pem", issuer.key)
        fs.write(f"{base}.crt", pem(issuer.certificate))
    fs.write(home.ROOT_FILE, root_fingerprint(membership.roster).encode())
    fs.write(home.roster_path(1), consortium.document(membership.roster))
    return fs


@dataclass
class Driven:
    """A whole coordinator: its driver in a thread, its server beside it. Use it as a context manager."""

    directory: Path
    limits: LimitsSection = field(default_factory=lambda: LimitsSection(calls_per_second=200.0))
    consortium: MemoryConsortium = field(default_factory=consortium_of)
    slowest_step: float = 0.0
    num_steps: int = 0

    def __enter__(self) -> Driven:
        coordinator_directory(self.directory, self.consortium, membership_of(self.consortium))
        self.coordinator = open_coordinator(self.directory, time.time())
        self.network = Network(self.coordinator, NetworkSection(listen="127.0.0.1:0", limits=self.limits))
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._drive, name="driver")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self.network.arrived.set()
        self._thread.join()
        self.network.stop()

    def _drive(self) -> None:
        while not self._left.is_set():
            began = time.monotonic()
            busy = self.coordinator.step(time.time())
            self.network.after_step(busy)
            self.slowest_step = max(self.slowest_step, time.monotonic() - began)
            self.num_steps += 1
            if not busy:
                self.network.arrived.wait(0.1)
                self.network.arrived.clear()

    def stub(self, stub: Callable[[grpc.aio.Channel], T], who: Who, party: str = "") -> T:
        """A stub for a party's calls."""
        subject = subject_of(who, party)
        key = self.consortium.tls_key(holder_of(subject))
        certificate = pem(self.consortium.issuers().issue(subject, spki(key), time.time()))

        async def open_it() -> grpc.aio.Channel:
            issuer = pem(self.consortium.issuer().certificate)
            credentials = grpc.ssl_channel_credentials(issuer, key_pem(key), certificate)
            return grpc.aio.secure_channel(self.network.address, credentials, options=OPTIONS)

        return stub(loop.wait_for(open_it()))


def is_served(stub: pb_grpc.CourierStub) -> bool:
    """Whether a site's simplest call is answered now."""
    request = pb.NegotiateRequest(protocol_versions=[1])
    return bool(answered(lambda: stub.Negotiate(request, timeout=PATIENCE)).protocol_version == 1)
