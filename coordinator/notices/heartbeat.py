# SPDX-License-Identifier: Apache-2.0
"""Whether the coordinator lives, seen from another process: the counter of its directory's lock. Only reads."""

from collections.abc import Callable

from coordinator.home import ENROLMENT_ISSUER, TLS_ISSUER
from coordinator.notices.snapshot import CoordinatorSeen
from federation.certificates import MAX_CERTIFICATE_BYTES, read_issuer
from federation.directory_lock import Hold, newest_hold
from federation.durable import FileSystem
from federation.errors import FederationError
from federation.lock_owner import boot_seconds


class Counter:
    """For how long a lock's counter has stood still, by our own clock.

    It is taken to have risen when we first see it, so that nobody counts as away who was not watched.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: tuple[int, int] | None = None
        self._risen_at = clock()

    def quiet_seconds(self, hold: Hold) -> float:
        """One look."""
        if (hold.number, hold.count) != self._seen:
            self._seen, self._risen_at = (hold.number, hold.count), self._clock()
        return max(self._clock() - self._risen_at, 0.0)


class Heartbeat:
    """Watches the counter that a serving coordinator raises several times in `directory_lock.STALE_SECONDS`."""

    def __init__(self, fs: FileSystem, clock: Callable[[], float] = boot_seconds) -> None:
        """
        Args:
            fs: of the coordinator's directory.
            clock: seconds, never going back, sleep included.
        """
        self._fs, self._counter = fs, Counter(clock)

    def look(self) -> CoordinatorSeen:
        """One look; call it every few seconds."""
        hold = newest_hold(self._fs)
        owner = hold.owner
        return CoordinatorSeen(
            quiet_seconds=self._counter.quiet_seconds(hold),
            stopped=hold.number == 0 or (owner is not None and owner.released),
            since=owner.since_us / 1e6 if owner is not None else 0.0,
            owner=f"process {owner.pid} on {owner.host}" if owner is not None else "",
        )


def issuers_not_after_us(fs: FileSystem) -> int:
    """When the first of the coordinator's two issuers expires, microseconds since 1970; 0 if there is none to read.

    What they certify is renewed by itself; they are not.
    """
    found = []
    for base in (TLS_ISSUER, ENROLMENT_ISSUER):
        try:
            certificate = read_issuer(fs.read(f"{base}.crt", max_bytes=MAX_CERTIFICATE_BYTES))
        except (FederationError, OSError):
            continue
        found.append(int(certificate.not_valid_after_utc.timestamp() * 1e6))
    return min(found, default=0)
