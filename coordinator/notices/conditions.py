# SPDX-License-Identifier: Apache-2.0
"""What is the case now and worth a notice: pure functions of a snapshot.

What cannot be judged is neither the case nor over. Of a coordinator that is away, or a ledger that cannot be read to
its end, only that is told: sites would all look silent, and rounds stalled.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from coordinator.notices.notice import Kind, Notice, Severity, key_of, notice
from coordinator.notices.run_conditions import run_notices
from coordinator.notices.site_conditions import certificate_severity, days_left_words, expiry_severity, site_notices
from coordinator.notices.snapshot import Snapshot
from coordinator.notices.text import sentences
from coordinator.notices.thresholds import DEFAULTS, Thresholds
from federation.durations import in_words

MAX_NOTICES: Final = 2_000
"""At once; the least severe are left out first. Only thousands of sites in trouble would reach it."""

SEEN_FROM_OUTSIDE: Final = frozenset(
    {Kind.COORDINATOR_AWAY, Kind.LEDGER_BROKEN, Kind.COORDINATOR_CERTIFICATE, Kind.ROSTER_EXPIRY}
)
"""What can be told without a coordinator that serves."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What is the case.

    Attributes:
        notices: most severe first, one a key.
        unjudged_kinds: of these nothing is known now, neither that it is so nor that it is not.
        unjudged_keys: the same of single keys.
    """

    notices: tuple[Notice, ...]
    unjudged_kinds: frozenset[str] = frozenset()
    unjudged_keys: frozenset[str] = frozenset()

    def judged(self, key: str) -> bool:
        """Whether it is known that what is not among the notices is not the case."""
        return key not in self.unjudged_keys and key.partition("/")[0] not in self.unjudged_kinds


def conditions(snapshot: Snapshot, now: float, thresholds: Thresholds = DEFAULTS) -> tuple[Notice, ...]:
    """All notices at `now` (unix seconds), most severe first."""
    return judge(snapshot, now, thresholds).notices


def judge(snapshot: Snapshot, now: float, thresholds: Thresholds = DEFAULTS) -> Findings:
    """All notices at `now` (unix seconds), and what cannot be judged."""
    unjudged = _unjudged_kinds(snapshot, thresholds)
    found = [*_service_notices(snapshot, now, thresholds)]
    if not unjudged:
        found += run_notices(snapshot, now, thresholds)
        found += site_notices(snapshot, now, thresholds)
    by_key = {n.key: n for n in sorted(found, key=lambda n: n.severity.rank)}
    ordered = sorted(by_key.values(), key=lambda n: (-n.severity.rank, n.key))
    keys = _too_few_losses(snapshot, thresholds)
    return Findings(notices=tuple(ordered[:MAX_NOTICES]), unjudged_kinds=unjudged, unjudged_keys=keys)


def is_away(snapshot: Snapshot, thresholds: Thresholds) -> bool:
    """Whether the coordinator gives no sign of life."""
    seen = snapshot.coordinator
    return seen is not None and (seen.stopped or seen.quiet_seconds > thresholds.away_seconds)


def _unjudged_kinds(snapshot: Snapshot, thresholds: Thresholds) -> frozenset[str]:
    if not is_away(snapshot, thresholds) and not snapshot.ledger_fault:
        return frozenset()
    return frozenset(kind.value for kind in Kind if kind not in SEEN_FROM_OUTSIDE)


def _too_few_losses(snapshot: Snapshot, thresholds: Thresholds) -> frozenset[str]:
    return frozenset(
        key_of(Kind.LOSS_SPIKE, run, site)
        for (run, site), losses in snapshot.losses.items()
        if len(losses) <= thresholds.loss_least
    )


def _service_notices(snapshot: Snapshot, now: float, thresholds: Thresholds) -> Iterator[Notice]:
    yield from _away(snapshot, now, thresholds)
    yield from _ledger(snapshot)
    yield from _roster(snapshot, now, thresholds)
    yield from _issuer(snapshot, now, thresholds)


def _away(snapshot: Snapshot, now: float, thresholds: Thresholds) -> Iterator[Notice]:
    seen = snapshot.coordinator
    if seen is None or not is_away(snapshot, thresholds):
        return
    quiet = f"no sign of life for {in_words(seen.quiet_seconds)}"
    who = f"It was {seen.owner}" if seen.owner else ""
    yield notice(
        Kind.COORDINATOR_AWAY,
        Severity.CRITICAL,
        what="coordinator: away, no round opens, ends or is committed",
        why=sentences("it was stopped" if seen.stopped else quiet, who),
        advice="Start it again: coordinator serve DIR. "
        + ("" if seen.stopped else "Its log says why it ended. ")
        + "What was acknowledged is kept.",
        since=now - seen.quiet_seconds,
    )


def _ledger(snapshot: Snapshot) -> Iterator[Notice]:
    if snapshot.ledger_fault:
        yield notice(
            Kind.LEDGER_BROKEN,
            Severity.CRITICAL,
            what=f"ledger: cannot be read beyond leaf {snapshot.state.size}",
            why=snapshot.ledger_fault,
            advice="federation verify DIR --root FINGERPRINT lists all damage; restore the directory from a backup.",
        )


def _roster(snapshot: Snapshot, now: float, thresholds: Thresholds) -> Iterator[Notice]:
    left = snapshot.roster_expires_at_us / 1e6 - now
    severity = expiry_severity(left, thresholds.roster_days, thresholds.roster_critical_days)
    if severity is not None and snapshot.roster_expires_at_us:
        yield notice(
            Kind.ROSTER_EXPIRY,
            severity,
            what=f"roster version {snapshot.state.roster_version}: {days_left_words(left)}",
            why="once it has expired no round opens and no command is taken",
            advice="Have the consortium root sign the next version; then: coordinator roster install DIR roster.",
        )


def _issuer(snapshot: Snapshot, now: float, thresholds: Thresholds) -> Iterator[Notice]:
    not_after_us = snapshot.coordinator_certificate_not_after_us
    left = not_after_us / 1e6 - now
    severity = certificate_severity(left, thresholds) if not_after_us else None
    if severity is not None:
        yield notice(
            Kind.COORDINATOR_CERTIFICATE,
            severity,
            what=f"coordinator: the certificate that it issues others with {days_left_words(left)}",
            why="no certificate can outlast its issuer's: then no site reaches the coordinator over the network",
            advice="Make a new issuer and have the consortium root sign it into the next roster.",
        )
