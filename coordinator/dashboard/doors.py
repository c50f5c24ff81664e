# SPDX-License-Identifier: Apache-2.0
"""Who may come in: closed by default. A client's certificate, or the session of a one-time link."""

import hashlib
import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from coordinator.dashboard.links import LinkDesk, Visitor, may_give
from coordinator.dashboard.sessions import Sessions
from coordinator.rpc.access import authorise
from coordinator.rpc.membership import Membership
from coordinator.rpc.rates import TokenBucket
from federation.certificates import read_identity
from federation.durable import FileSystem
from federation.errors import AccessDeniedError, FederationError, LimitExceededError
from federation.roster_document import Role

VIEW_METHOD: Final = "/federation.v1.Control/Watch"
"""Who may follow a run over the network may look at it here."""

TRIES_PER_SECOND: Final = 0.2
TRIES: Final = 10.0
REQUESTS_PER_SECOND: Final = 20.0
REQUESTS: Final = 200.0
MAX_PEERS: Final = 4096


@dataclass
class Doors:
    """Decides on each request. `membership` is replaced whole when the ledger or the roster changes.

    Attributes:
        tls_issuer, enrolment_issuer: DER certificates, as `read_identity` takes them; b"" where there are none.
        clock: unix seconds, for what is dated: certificates and links.
        steady: seconds that never go back, for sessions and rates: a clock that is set must not lock everybody out.
    """

    fs: FileSystem
    membership: Membership
    tls_issuer: bytes = b""
    enrolment_issuer: bytes = b""
    clock: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic
    sessions: Sessions = field(default_factory=Sessions)
    _tries: OrderedDict[str, TokenBucket] = field(default_factory=OrderedDict)
    _requests: OrderedDict[str, TokenBucket] = field(default_factory=OrderedDict)

    def visitor(self, certificate: bytes, secret: str, peer: str) -> Visitor | None:
        """Who asks, None for nobody whom we know.

        Requests count for the session or the certificate that they come with: people behind one proxy do not wait for
        each other, nor for strangers there, who count by their address.

        Raises:
            LimitExceededError: too many requests.
            FederationError: a certificate that does not count.
        """
        self.check_rate(self.share_of(certificate, secret, peer))
        return self.known(certificate, secret)

    def known(self, certificate: bytes, secret: str) -> Visitor | None:
        """Who has a session or a certificate. A session counts first: its link was opened later.

        Raises:
            FederationError: a certificate that does not count.
        """
        found = self.by_session(secret)
        return self.by_certificate(certificate) if found is None and certificate else found

    def share_of(self, certificate: bytes, secret: str, peer: str) -> str:
        """For whom requests and open streams count."""
        if self.by_session(secret) is not None:
            return f"session {hashlib.sha256(secret.encode()).hexdigest()}"
        return f"certificate {hashlib.sha256(certificate).hexdigest()}" if certificate else _network(peer)

    def by_certificate(self, certificate: bytes) -> Visitor:
        """Who the holder of a verified client's certificate is.

        Raises:
            FederationError: an expired or foreign certificate, or the roster does not name its holder so.
        """
        now = self.clock()
        identity = read_identity(certificate, self.tls_issuer, self.enrolment_issuer, now)
        authorise(VIEW_METHOD, identity, self.membership, now)
        entry = self.membership.operators.get(identity.id)
        if entry is None:
            raise AccessDeniedError(f"{identity.id}: expected an operator, viewer or auditor of the roster")
        auditor = Role.AUDITOR in entry.roles
        return Visitor(name=identity.id, role=Role.AUDITOR if auditor else Role.VIEWER)

    def by_link(self, token: str, peer: str) -> str:
        """Uses a link up; returns the secret of a new session.

        Raises:
            LimitExceededError: too many tries from there.
            AccessDeniedError: the link does not count.
        """
        try:
            visitor = LinkDesk(self.fs).accept(token, self.membership.roster, int(self.clock() * 1e6))
        except FederationError:  # only this counts: who has a link does not wait for others at the same proxy
            self._take(self._tries, _network(peer), TRIES_PER_SECOND, TRIES)
            raise
        return self.sessions.begin(visitor, self.steady())

    def by_session(self, secret: str) -> Visitor | None:
        """Whose session it is.

        Nobody's once the roster does not let who gave the link give that role any more, or names another key for them:
        with the one before somebody else may have made the link.
        """
        visitor = self.sessions.find(secret, self.steady())
        entry = self.membership.operators.get(visitor.name) if visitor is not None else None
        if visitor is None or entry is None or entry.public != visitor.public:
            return None
        return visitor if may_give(entry, visitor.role) else None

    def check_rate(self, share: str, requests: float = 1.0) -> None:
        """Counts a request, or a costly one as several.

        Raises:
            LimitExceededError: more than a person and their browser ask for.
        """
        self._take(self._requests, share, REQUESTS_PER_SECOND, REQUESTS, requests)

    def check_peer(self, peer: str) -> None:
        """As `check_rate`, for what everybody may ask for."""
        self.check_rate(_network(peer))

    def _take(
        self, buckets: OrderedDict[str, TokenBucket], share: str, rate: float, burst: float, amount: float = 1.0
    ) -> None:
        bucket = buckets.setdefault(share, TokenBucket(per_second=rate, burst=burst))
        buckets.move_to_end(share)
        while len(buckets) > MAX_PEERS:
            buckets.popitem(last=False)
        wait = bucket.take(amount, self.steady())
        if wait:
            raise LimitExceededError(f"too many requests: try again in {math.ceil(wait)} seconds")


def _network(peer: str) -> str:
    """An address; of IPv6 the /64 that it is in: one host has as many of those addresses as it likes."""
    try:
        address = ipaddress.IPv6Address(peer.partition("%")[0])
    except ValueError:
        return peer
    mapped = address.ipv4_mapped
    return str(mapped) if mapped else str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


def refused_sentence(error: FederationError) -> str:
    """What a person is told who stays outside."""
    return error.diagnostics()
