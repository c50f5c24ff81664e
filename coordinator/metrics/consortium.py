# SPDX-License-Identifier: Apache-2.0
"""Ledger, cosignatures, roster and certificates as metrics. Pure."""

from collections.abc import Iterator

from coordinator.metrics import catalogue as metric
from coordinator.metrics.snapshot import Snapshot, is_over
from federation.exposition import Sample


def consortium_samples(snapshot: Snapshot) -> Iterator[Sample]:
    """What there is once."""
    state = snapshot.state
    yield metric.COORDINATOR_INFO.of(1, snapshot.consortium, snapshot.software)
    if snapshot.coordinator_seen_at is not None:
        yield metric.COORDINATOR_LAST_SEEN.of(snapshot.coordinator_seen_at)
    yield metric.ROSTER_VERSION.of(state.roster_version)
    if snapshot.roster_expires_at is not None:
        yield metric.ROSTER_EXPIRY.of(snapshot.roster_expires_at)
    for name, expires_at in sorted(snapshot.certificates.items()):
        yield metric.CERTIFICATE_EXPIRY.of(expires_at, name)
    yield metric.LEDGER_LEAVES.of(snapshot.ledger_size if snapshot.ledger_size >= 0 else state.size)
    witnessed = snapshot.observations.witnessed
    for site in _witnesses(snapshot):
        yield metric.COSIGNED_LEAVES.of(witnessed.get(site, 0), site)


def _witnesses(snapshot: Snapshot) -> tuple[str, ...]:
    """Who cosigned something, and members of live runs, of whom it is expected; nobody who was revoked or removed."""
    state = snapshot.state
    live = (run for run in state.runs.values() if not is_over(run))
    accepted = (site for run in live for site, answer in run.answers.items() if answer.accepted)
    known = {*snapshot.observations.witnessed, *accepted}
    return tuple(sorted(site for site in known if site in state.sites and site not in state.revoked))
