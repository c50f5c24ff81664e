# SPDX-License-Identifier: Apache-2.0
"""The gate that each call passes: identity, share of the peer, access. No sockets here; times come from two clocks.

One event loop uses it; only `membership` is replaced by another thread, whole.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from coordinator.rpc.access import authorise
from coordinator.rpc.membership import Membership
from coordinator.rpc.rates import MAX_PEERS, TokenBucket
from federation.certificates import CertRole, Identity, read_identity
from federation.errors import CertificateError, FederationError, OverloadedError

MAX_CERTIFICATE_BYTES: Final = 16 * 1024
MAX_REMEMBERED: Final = 1024
"""Certificates whose issuer was verified before."""

MAX_DEBT_SECONDS: Final = 10.0
"""Longest wait for a peer's share of bytes; more ends the call."""


@dataclass(frozen=True, kw_only=True)
class CallLimits:
    """One peer's share.

    Attributes:
        calls_per_second: calls, twice as many at once.
        bytes_per_second: received and sent together, of requests and replies.
        max_open_calls: calls at the same time, over all its connections.
    """

    calls_per_second: float = 50.0
    bytes_per_second: float = 2.0 * 1024**3
    max_open_calls: int = 32


@dataclass(kw_only=True, eq=False)
class OpenCall:
    """One call that was let in.

    Attributes:
        end: tells the call's task to stop now with an error; set by who runs it.
    """

    method: str
    identity: Identity
    end: Callable[[FederationError], None] = field(default=lambda _: None)


@dataclass(kw_only=True)
class _Share:
    calls: TokenBucket
    num_bytes: TokenBucket
    num_open: int = 0


class Gate:
    """Lets calls in, and judges them again whenever asked."""

    def __init__(
        self,
        membership: Membership,
        *,
        tls_issuer: bytes,
        enrolment_issuer: bytes,
        limits: CallLimits,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        """Takes the issuers' certificates (DER) and the clocks: `clock` for dates, `ticks` for rates."""
        self.membership = membership
        self._issuers = (tls_issuer, enrolment_issuer)
        self._limits = limits
        self._clock = clock
        self._ticks = ticks
        self._known: OrderedDict[bytes, Identity] = OrderedDict()
        self._shares: OrderedDict[str, _Share] = OrderedDict()
        self._open: set[OpenCall] = set()

    @property
    def num_open(self) -> int:
        """Calls that were let in and have not left."""
        return len(self._open)

    def identify(self, certificate: bytes, tls_version: bytes) -> Identity:
        """Who calls, by the certificate of its channel.

        Raises:
            CertificateError: none, not by our issuers, expired, or not over TLS 1.3.
        """
        if tls_version != b"TLSv1.3":
            raise CertificateError(f"channel: expected TLSv1.3, found {tls_version[:20]!r}")
        if not 0 < len(certificate) <= MAX_CERTIFICATE_BYTES:
            raise CertificateError(f"certificate: expected one, found {len(certificate)} bytes")
        identity = self._known.get(certificate)
        if identity is None:
            identity = read_identity(certificate, *self._issuers, self._clock())
            self._known[certificate] = identity
            if len(self._known) > MAX_REMEMBERED:
                self._known.popitem(last=False)
        return identity

    def enter(self, method: str, identity: Identity) -> OpenCall:
        """Counts the call against the peer's share, then judges it. The caller must `leave`.

        Raises:
            OverloadedError: too many calls, at once or per second, or too many bytes before.
            AccessDeniedError, CertificateError: see `authorise`.
        """
        self.count(identity)
        share = self._share(peer_name(identity))
        authorise(method, identity, self.membership, self._clock())
        share.num_open += 1
        call = OpenCall(method=method, identity=identity)
        self._open.add(call)
        return call

    def count(self, identity: Identity) -> None:
        """Counts one call, whatever it is, against the peer's share. Raises OverloadedError: see `enter`."""
        now, peer = self._ticks(), peer_name(identity)
        share = self._share(peer)
        if share.num_open >= self._limits.max_open_calls:
            raise OverloadedError(
                f"{peer}: expected at most {self._limits.max_open_calls} calls at a time", retry_after_seconds=1.0
            )
        wait = max(share.calls.take(1.0, now), share.num_bytes.debt_seconds(now))
        if wait:
            raise OverloadedError(
                f"{peer}: expected at most {self._limits.calls_per_second:g} calls a second and "
                f"{self._limits.bytes_per_second:g} bytes a second",
                retry_after_seconds=wait,
            )

    def leave(self, call: OpenCall) -> None:
        """The call has ended."""
        if call in self._open:
            self._open.remove(call)
            self._share(peer_name(call.identity)).num_open -= 1

    def check(self, call: OpenCall) -> None:
        """Judges an open call by the membership of now. Raises what `authorise` raises."""
        authorise(call.method, call.identity, self.membership, self._clock())

    def spend(self, call: OpenCall, num_bytes: int) -> float:
        """Counts bytes that were received, or are about to be sent; returns how many seconds to wait first.

        Raises:
            OverloadedError: the peer is too far beyond its share.
        """
        wait = self._share(peer_name(call.identity)).num_bytes.owe(num_bytes, self._ticks())
        if wait > MAX_DEBT_SECONDS:
            raise OverloadedError(
                f"{peer_name(call.identity)}: expected at most {self._limits.bytes_per_second:g} bytes a second",
                retry_after_seconds=wait,
            )
        return wait

    def recheck(self) -> None:
        """Ends every open call that could not be made any more: revoked, expired, out of the roster."""
        for call in list(self._open):
            try:
                self.check(call)
            except FederationError as error:
                call.end(error)

    def _share(self, peer: str) -> _Share:
        share = self._shares.get(peer)
        if share is None:
            share = self._shares[peer] = _Share(
                calls=_bucket(self._limits.calls_per_second), num_bytes=_bucket(self._limits.bytes_per_second)
            )
            self._forget()
        self._shares.move_to_end(peer)
        return share

    def _forget(self) -> None:
        for peer in list(self._shares)[: max(0, len(self._shares) - MAX_PEERS)]:
            if not self._shares[peer].num_open:
                del self._shares[peer]


def peer_name(identity: Identity) -> str:
    """What a peer's share and its lines in the log go by: who holds an invite shares nothing with who is a member."""
    if CertRole.BOOTSTRAP in identity.roles:
        return f"bootstrap/{identity.kind}/{identity.id}"
    return f"site/{identity.id}" if CertRole.SITE in identity.roles else f"operator/{identity.id}"


def _bucket(per_second: float) -> TokenBucket:
    return TokenBucket(per_second=per_second, burst=2.0 * per_second)
