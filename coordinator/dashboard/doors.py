# SPDX-License-Identifier: Apache-2.0
"""Who may come in: closed by default. A client's certificate, or the session of a one-time link."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from coordinator.dashboard.links import LinkDesk, Visitor
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
    """

    fs: FileSystem
    membership: Membership
    tls_issuer: bytes = b""
    enrolment_issuer: bytes = b""
    clock: Callable[[], float] = time.time
    sessions: Sessions = field(default_factory=Sessions)
    _tries: dict[str, TokenBucket] = field(default_factory=dict)
    _requests: dict[str, TokenBucket] = field(default_factory=dict)

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
        now = self.clock()
        self._take(self._tries, peer, TRIES_PER_SECOND, TRIES, now)
        visitor = LinkDesk(self.fs).accept(token, self.membership.roster, int(now * 1e6))
        return self.sessions.begin(visitor, now)

    def by_session(self, secret: str) -> Visitor | None:
        """Whose session it is; nobody's once the roster does not name who gave the link any more."""
        visitor = self.sessions.find(secret, self.clock())
        if visitor is None or visitor.name not in self.membership.operators:
            return None
        return visitor

    def check_rate(self, peer: str) -> None:
        """Raises LimitExceededError: more requests than a person and their browser make."""
        self._take(self._requests, peer, REQUESTS_PER_SECOND, REQUESTS, self.clock())

    def _take(self, buckets: dict[str, TokenBucket], peer: str, rate: float, burst: float, now: float) -> None:
        bucket = buckets.setdefault(peer, TokenBucket(per_second=rate, burst=burst))
        while len(buckets) > MAX_PEERS:
            del buckets[next(iter(buckets))]
        wait = bucket.take(1.0, now)
        if wait:
            raise LimitExceededError(f"too many requests: try again in {wait:.0f} seconds")


def refused_sentence(error: FederationError) -> str:
    """What a person is told who stays outside."""
    return error.diagnostics()
