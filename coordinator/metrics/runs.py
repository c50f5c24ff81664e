# SPDX-License-Identifier: Apache-2.0
"""Runs and their rounds, quorum and witnesses as metrics. Pure."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from statistics import median
from typing import Final

from coordinator.metrics import catalogue as metric
from coordinator.metrics.snapshot import Snapshot
from coordinator.openings import opening_view
from federation.exposition import Sample
from federation.rounds import Round, RoundState, Run, RunState
from federation.witnesses import needed_leaf, witnessed_by

NEWEST_ROUNDS: Final = 20
"""Of which the interval is taken."""

_DECIDED: Final = (RoundState.COMMITTED, RoundState.ABANDONED)


def run_samples(snapshot: Snapshot, run: Run) -> Iterator[Sample]:
    """One run."""
    yield metric.RUN_INFO.of(1, run.id, run.manifest_digest)
    yield from (metric.RUN_STATE.of(run.state is state, run.id, state.value) for state in RunState)
    yield metric.RUN_STATE_SINCE.of(run.state_since_us / 1e6, run.id)
    if run.state is RunState.PAUSED and run.pause is not None:
        yield metric.RUN_PAUSE.of(1, run.id, run.pause.reason.value)
    yield metric.RUN_COMMITS.of(run.num_commits(), run.id)
    yield metric.RUN_PLANNED.of(run.plan.num_rounds, run.id)
    yield from _ended_rounds(run)
    yield from _newest_rounds(run)
    yield from _open_rounds(run)
    yield from _quorum(snapshot, run)
    if run.approved_leaf >= 0:
        yield metric.WITNESSES_MISSING.of(_missing_cosignatures(snapshot, run), run.id)


def _ended_rounds(run: Run) -> Iterator[Sample]:
    found = Counter(found.state for found in run.rounds.values())
    yield from (metric.ROUNDS.of(found[state], run.id, state.value) for state in _DECIDED)
    yield metric.REVERTED.of(sum(1 for found in run.rounds.values() if found.reverted), run.id)
    commits = (found.commit.blob_bytes for found in run.rounds.values() if found.commit is not None)
    yield metric.DOWNLOADED.of(sum(commits) * len(run.plan.members), run.id)


def _newest_rounds(run: Run) -> Iterator[Sample]:
    newest = [run.rounds[n] for n in range(max(0, run.next_round - NEWEST_ROUNDS), run.next_round)]
    if newest:
        yield metric.RUN_ROUND.of(newest[-1].number, run.id)
    limit = _round_limit_seconds(run)
    yield metric.ROUND_LIMIT.of(limit, run.id)
    opened = [found.opened_at_us / 1e6 for found in newest]
    intervals = [later - earlier for earlier, later in pairwise(opened)]
    yield metric.ROUND_INTERVAL.of(median(intervals) if len(intervals) > 1 else limit, run.id)
    progress = max(run.last_round_end_us / 1e6, run.state_since_us / 1e6, *opened[-1:])
    yield metric.LAST_PROGRESS.of(progress, run.id)


def _round_limit_seconds(run: Run) -> int:
    slowest = max((member.courier_round_trip_seconds for member in run.plan.members), default=0)
    return run.plan.bounds.max_round_seconds + slowest


def _open_rounds(run: Run) -> Iterator[Sample]:
    yield metric.OPEN_ROUNDS.of(len(run.open_rounds), run.id)
    if run.open_rounds:
        oldest: Round = run.rounds[min(run.open_rounds)]
        yield metric.ROUND_OPENED.of(oldest.opened_at_us / 1e6, run.id)
        waiting = len(oldest.waiting_for()) if oldest.state is RoundState.OPEN else 0
        yield metric.ROUND_WAITING.of(waiting, run.id)


def _quorum(snapshot: Snapshot, run: Run) -> Iterator[Sample]:
    """Who could make a quorum: `federation.quorum` has the rule."""
    excluded, available = snapshot.state.excluded | run.declined(), snapshot.available(run)
    counted = [member for member in run.plan.members if member.site not in excluded]
    total = sum(member.planned_tokens for member in counted)
    here = sum(member.planned_tokens for member in counted if member.site in available)
    ready = opening_view(snapshot.state, run, snapshot.observations, snapshot.now).ready
    yield metric.MEMBERS.of(len(counted), run.id)
    yield metric.QUORUM.of(run.plan.quorum_sites, run.id)
    yield metric.AVAILABLE.of(len(available), run.id)
    yield metric.READY.of(len(ready), run.id)
    yield metric.MARGIN_SITES.of(len(available) - run.plan.quorum_sites, run.id)
    share = here / total if total else 0.0
    yield metric.MARGIN_RATIO.of(share - run.plan.quorum_token_percent / 100, run.id)


def _missing_cosignatures(snapshot: Snapshot, run: Run) -> int:
    covering = witnessed_by(run, needed_leaf(run, run.num_commits()), snapshot.observations.witnessed)
    return max(0, run.plan.witness_quorum - len(covering))
