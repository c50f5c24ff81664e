# SPDX-License-Identifier: Apache-2.0
"""What is the case with runs and their rounds. Pure."""

from collections.abc import Iterator
from statistics import median
from typing import Final

from coordinator.notices.notice import Kind, Notice, Severity, notice
from coordinator.notices.participation import participation_notices
from coordinator.notices.silence import courier_seconds, present
from coordinator.notices.snapshot import Snapshot
from coordinator.notices.text import listed, plain, sentences
from coordinator.notices.thresholds import Thresholds
from coordinator.observations import Observations
from coordinator.openings import opening_view
from federation.durations import count, in_words
from federation.quorum import quorum
from federation.rounds import Round, RoundState, Run, RunState
from federation.witnesses import unwitnessed_since, witnessed_by

_LEAST_ROUND_BOUND: Final = 1.0


def run_notices(snapshot: Snapshot, now: float, thresholds: Thresholds) -> Iterator[Notice]:
    """Notices of all runs."""
    for _, run in sorted(snapshot.state.runs.items()):
        yield from _ended(run, now, thresholds)
    for run in snapshot.live_runs():
        yield from _paused(run)
        yield from _stalled(snapshot, run, now, thresholds)
        yield from _no_round_opens(snapshot, run, now, thresholds)
        yield from _quorum_at_risk(snapshot, run, now, thresholds)
        yield from _cosignature_missing(snapshot, run, now, thresholds)
        yield from participation_notices(snapshot, run, thresholds)


def _ended(run: Run, now: float, thresholds: Thresholds) -> Iterator[Notice]:
    since = run.state_since_us / 1e6
    if now - since > thresholds.event_seconds:
        return
    commits = f"{run.num_commits()} of {count(run.plan.num_rounds, 'round')} committed"
    if run.state is RunState.COMPLETED:
        kind, severity, words = Kind.RUN_COMPLETED, Severity.INFO, "completed"
    elif run.state is RunState.ABORTED:
        kind, severity, words = Kind.RUN_ABORTED, Severity.WARNING, "aborted by an operator"
    else:
        return
    advice = f"coordinator run export {run.id} --out FILE --as DIR writes the model."
    yield notice(kind, severity, what=f"run {run.id}: {words}", why=commits, advice=advice, run=run.id, since=since)


def _paused(run: Run) -> Iterator[Notice]:
    if run.state is not RunState.PAUSED or run.pause is None:
        return
    by_itself, resume = not run.pause.operator, f"coordinator run resume {run.id} --as DIR"
    yield notice(
        Kind.RUN_PAUSED,
        Severity.CRITICAL if by_itself else Severity.WARNING,
        what=f"run {run.id}: paused ({run.pause.reason.value})",
        why=sentences(plain(run.pause.sentence, 200)),
        advice=f"{'Mend that, then' if by_itself else 'To go on'}: {resume}. Until then no round opens.",
        run=run.id,
        since=run.state_since_us / 1e6,
    )


# -- rounds ------------------------------------------------------------------------------------------------------------


def expected_round_seconds(run: Run, thresholds: Thresholds) -> float:
    """How long a round may be open before it counts as stalled: by the run's own pace, else by its bounds."""
    bounds = run.plan.bounds
    extra = max((m.courier_round_trip_seconds for m in run.plan.members), default=0)
    steps = bounds.answer_seconds + bounds.training_seconds + bounds.upload_seconds + 3 * extra
    limit = max(min(thresholds.round_limit_share * bounds.max_round_seconds, steps), _LEAST_ROUND_BOUND)
    pace = round_pace(run, thresholds)
    if len(pace) < thresholds.round_pace_least_rounds:
        return limit
    return min(limit, max(thresholds.round_floor_seconds, thresholds.round_pace_factor * median(pace)))


def round_pace(run: Run, thresholds: Thresholds) -> list[float]:
    """Seconds from the opening of each of the newest committed rounds to that of the next one of its fragment."""
    pace: list[float] = []
    for number in range(run.next_round - run.plan.num_fragments - 1, -1, -1):
        found, following = run.rounds.get(number), run.rounds.get(number + run.plan.num_fragments)
        if found is not None and following is not None and found.state is RoundState.COMMITTED:
            pace.append((following.opened_at_us - found.opened_at_us) / 1e6)
        if len(pace) >= thresholds.round_pace_rounds:
            break
    return pace


def _stalled(snapshot: Snapshot, run: Run, now: float, thresholds: Thresholds) -> Iterator[Notice]:
    if not run.open_rounds:
        return
    found = run.rounds[min(run.open_rounds)]
    opened, expected = found.opened_at_us / 1e6, expected_round_seconds(run, thresholds)
    if now - opened <= expected:
        return
    last = run.plan.bounds.max_round_seconds + thresholds.round_overdue_seconds
    sealed = found.state is RoundState.SEALED
    look = "Look at the coordinator's log." if sealed else "Look at the jobs of these sites."
    yield notice(
        Kind.ROUND_STALLED,
        Severity.CRITICAL if now - opened > last else Severity.WARNING,
        what=f"run {run.id}: round {found.number} is stalled",
        why=f"open for {in_words(now - opened)}, expected {in_words(expected)}; {_waits_for(snapshot, run, found)}",
        advice=f"{look} coordinator round abandon {run.id} --round {found.number} --as DIR ends it without a commit.",
        run=run.id,
        since=opened + expected,
    )


def _waits_for(snapshot: Snapshot, run: Run, found: Round) -> str:
    if found.state is RoundState.SEALED:
        return "sealed, and the commit is not done"
    words = [f"{site} ({_phase(snapshot.observations, run, found, site)})" for site in found.waiting_for()]
    return f"waits for {listed(words)}"


def _phase(observations: Observations, run: Run, found: Round, site: str) -> str:
    seen = observations.sites.get(site)
    reports = seen.status.participations if seen else ()
    mine = [r.phase.value for r in reports if (r.run, r.round) == (run.id, found.number)]
    return mine[-1] if mine else "no word"


def _no_round_opens(snapshot: Snapshot, run: Run, now: float, thresholds: Thresholds) -> Iterator[Notice]:
    over = run.next_round - len(run.void) >= run.plan.num_rounds
    if run.state is not RunState.RUNNING or run.open_rounds or over:
        return
    bound = run.plan.bounds.max_open_wait_seconds
    since = max(run.last_round_end_us, run.state_since_us) / 1e6
    if now - since <= min(thresholds.no_open_seconds, thresholds.no_open_share * bound):
        return
    decision = opening_view(snapshot.state, run, snapshot.observations, now).decision
    if not decision.reached:
        near = now - since > thresholds.no_open_critical_share * bound
        yield notice(
            Kind.NO_ROUND_OPENS,
            Severity.CRITICAL if near else Severity.WARNING,
            what=f"run {run.id}: no round could open for {in_words(now - since)}",
            why=f"ready: {decision.sentence}",
            advice=f"Get allocations of the missing sites started; after {in_words(bound)} the run pauses.",
            run=run.id,
            since=since,
        )


# -- sites that the run needs ------------------------------------------------------------------------------------------


def _quorum_at_risk(snapshot: Snapshot, run: Run, now: float, thresholds: Thresholds) -> Iterator[Notice]:
    here = present(snapshot, run, now, thresholds)
    lost = [m.site for m in run.plan.members if m.site not in here]
    if run.state is RunState.APPROVED or not lost:
        return
    excluded = snapshot.state.excluded | run.declined()
    decision = quorum(run.plan, here, excluded)
    if decision.reached and all(quorum(run.plan, here - {site}, excluded).reached for site in here):
        return
    words = "just held: no further site may be lost" if decision.reached else "out of reach"
    yield notice(
        Kind.QUORUM_AT_RISK,
        Severity.WARNING if decision.reached else Severity.CRITICAL,
        what=f"run {run.id}: the quorum is {words}",
        why=f"lost {listed(lost)}; {decision.sentence}",
        advice="Bring a lost site back: its agent's log and site-agent doctor SITE_DIR say what it lacks.",
        run=run.id,
    )


def commits_ahead(run: Run, snapshot: Snapshot) -> int:
    """How many of the newest commits are under no checkpoint that enough witnesses cosigned; counts to L + 1."""
    for ahead in range(run.plan.witness_lag + 1):
        number = run.num_commits() - ahead
        leaf = run.approved_leaf if number < 1 else run.commit_leaves[number - 1]
        if len(witnessed_by(run, leaf, snapshot.witnessed)) >= run.plan.witness_quorum:
            return ahead
        if number < 1:
            break
    return run.plan.witness_lag + 1


def _cosignature_missing(snapshot: Snapshot, run: Run, now: float, thresholds: Thresholds) -> Iterator[Notice]:
    ahead, lag = commits_ahead(run, snapshot), run.plan.witness_lag
    if ahead < max(lag, 1):
        return
    newest = run.commit_leaves[-1] if run.commit_leaves else run.approved_leaf
    covering = witnessed_by(run, newest, snapshot.witnessed)
    missing = [m.site for m in run.plan.members if m.site not in covering]
    since = max(run.last_round_end_us, run.state_since_us) / 1e6
    patience = max((courier_seconds(snapshot, site) for site in missing), default=0.0)
    if now - since <= thresholds.cosignature_seconds + patience:
        return
    blocked = bool(unwitnessed_since(run, snapshot.witnessed))
    held = "no job may use the newest model" if blocked else "one commit more and no job may use it"
    yield notice(
        Kind.COSIGNATURE_MISSING,
        Severity.CRITICAL if blocked else Severity.WARNING,
        what=f"run {run.id}: cosignatures are missing",
        why=f"{len(covering)} of {run.plan.witness_quorum} needed, none from {listed(missing)}; {held}",
        advice="Look whether these sites' agents run and are reached; after a while the run pauses.",
        run=run.id,
        since=since,
    )
