# SPDX-License-Identifier: Apache-2.0
"""What Prometheus sees of a consortium: a pure projection of ledger state, reports and expiries. No I/O, no clock."""

from collections.abc import Iterator

from coordinator.metrics.consortium import consortium_samples
from coordinator.metrics.evaluations import evaluation_samples
from coordinator.metrics.runs import run_samples
from coordinator.metrics.sites import site_samples
from coordinator.metrics.snapshot import Snapshot
from coordinator.metrics.updates import update_samples
from federation.exposition import Exposition, Sample, exposition

__all__ = ["Snapshot", "expose", "render", "samples"]


def samples(snapshot: Snapshot) -> Iterator[Sample]:
    """Everything that `coordinator.metrics.catalogue` names and that is known in this snapshot."""
    yield from consortium_samples(snapshot)
    yield from site_samples(snapshot)
    for run in snapshot.shown_runs():
        yield from run_samples(snapshot, run)
        yield from update_samples(run)
        yield from evaluation_samples(run)


def expose(snapshot: Snapshot, accept: str = "") -> Exposition:
    """The answer to a scrape.

    Args:
        snapshot: what is known now.
        accept: the scraper's Accept header; one that asks for OpenMetrics gets it.
    """
    return exposition(samples(snapshot), accept)


def render(snapshot: Snapshot) -> bytes:
    """The same as text, for a file or a scraper that asks for nothing else."""
    return expose(snapshot).body
