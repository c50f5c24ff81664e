# SPDX-License-Identifier: Apache-2.0
"""What the coordinator decides because time passed: missed sites, seals, openings, pauses, completion. No I/O.

Decisions build on each other within one tick, so each step folds its own leaves before the next one looks.
"""

from collections.abc import Callable, Iterator

from coordinator.observations import Observations
from coordinator.openings import decide_openings, opening_view
from federation import leaves as lv
from federation.leaves import Outcome, Reason
from federation.quorum import QuorumDecision, quorum
from federation.rounds import Federation, Round, RoundState, Run, RunState, apply
from federation.weights import round_weights
from federation.witnesses import unwitnessed_since

Step = Callable[[Federation, Run, Observations, float], list[lv.Body]]


def decide_tick(state: Federation, observations: Observations, now: float) -> list[lv.Body]:
    """All decisions that are due at `now`, in the order in which they are to be appended."""
    made: list[lv.Body] = []
    for run_id in sorted(state.runs):
        for step in (_miss, _seal, _complete, _pause, decide_openings):
            bodies = step(state, state.runs[run_id], observations, now)
            for body in bodies:
                state = apply(state, lv.Leaf(at_us=int(now * 1e6), body=body))
            made.extend(bodies)
    return made


def conditions(state: Federation, observations: Observations, now: float) -> dict[str, bool]:
    """Named conditions whose duration decisions depend on; the driver keeps their timers (`with_timers`)."""
    holding: dict[str, bool] = {}
    for run in state.runs.values():
        if run.state in (RunState.COMPLETED, RunState.ABORTED):
            continue
        view = opening_view(state, run, observations, now)
        holding[f"can-open/{run.id}"] = view.decision.reached
        holding[f"unwitnessed/{run.id}"] = bool(unwitnessed_since(run, observations.witnessed))
        for number in run.open_rounds:
            if run.rounds[number].state is RoundState.OPEN:
                holding[f"quorum/{run.id}/{number}"] = _quorum_of(state, run, run.rounds[number]).reached
    return holding


def _open(run: Run) -> Iterator[Round]:
    return (run.rounds[n] for n in run.open_rounds if run.rounds[n].state is RoundState.OPEN)


def _quorum_of(state: Federation, run: Run, found: Round) -> QuorumDecision:
    excluded = (state.excluded | run.declined()) - {v.site for v in found.admitted()}
    return quorum(run.plan, {v.site for v in found.admitted()}, excluded)


def _miss(state: Federation, run: Run, observations: Observations, now: float) -> list[lv.Body]:
    """Bounds run from the coordinator's own receipt times, lengthened by the site's courier."""
    made: list[lv.Body] = []
    for found in _open(run):
        for site in found.waiting_for():
            reason, sentence = _overdue(run, found, site, observations, now)
            if reason is not Reason.NONE:
                made.append(
                    lv.VerdictV1(
                        run=run.id,
                        round=found.number,
                        site=site,
                        outcome=Outcome.MISSED,
                        reason=reason,
                        sentence=sentence,
                    )
                )
    return made


def _overdue(run: Run, found: Round, site: str, observations: Observations, now: float) -> tuple[Reason, str]:
    bounds, extra = run.plan.bounds, run.member(site).courier_round_trip_seconds
    opened = found.opened_at_us / 1e6
    seen = observations.sites.get(site)
    progress = seen.progress_of(run.id, found.number) if seen else None
    checks = [
        (Reason.ROUND_TOO_LONG, opened, bounds.max_round_seconds, "round"),
    ]
    if progress is None or progress.answered_at is None:
        checks.append((Reason.NO_ANSWER, opened, bounds.answer_seconds + extra, "first word"))
    elif progress.uploading_at is not None:
        checks.append((Reason.UPLOAD_TOO_LONG, progress.uploading_at, bounds.upload_seconds + extra, "upload"))
    elif progress.training_at is not None:
        checks.append((Reason.TRAINING_TOO_LONG, progress.training_at, bounds.training_seconds + extra, "training"))
    for reason, since, limit, what in checks:
        if now - since > limit:
            return reason, f"{site}: {what} allowed {limit} s, waited {now - since:.1f} s"
    return Reason.NONE, ""


def _seal(state: Federation, run: Run, observations: Observations, now: float) -> list[lv.Body]:
    made: list[lv.Body] = []
    for found in _open(run):
        grace = run.plan.bounds.seal_grace_seconds
        held = observations.held_for(f"quorum/{run.id}/{found.number}", now)
        if found.waiting_for() and not (grace and held >= grace):
            continue
        decision = _quorum_of(state, run, found)
        if decision.reached:
            made.append(_sealed(run, found, decision.sentence))
        else:
            made.append(
                lv.RoundAbandonedV1(run=run.id, round=found.number, reason=Reason.NO_QUORUM, sentence=decision.sentence)
            )
    return made


def _sealed(run: Run, found: Round, sentence: str) -> lv.RoundSealedV1:
    admitted = found.admitted()
    weights = round_weights([(v.site, v.weight_tokens) for v in admitted], run.plan.weighting)
    updates = tuple(
        lv.SealedUpdate(site=v.site, weight=weight, update_digest=v.update_digest, payload_digest=v.payload_digest)
        for v, weight in zip(admitted, weights, strict=True)
    )
    return lv.RoundSealedV1(run=run.id, round=found.number, updates=updates, sentence=sentence)


def _complete(state: Federation, run: Run, observations: Observations, now: float) -> list[lv.Body]:
    running = run.state in (RunState.RUNNING, RunState.PAUSED)
    if running and run.num_commits() >= run.plan.num_rounds and not run.open_rounds:
        return [lv.RunCompletedV1(run=run.id)]
    return []


def _pause(state: Federation, run: Run, observations: Observations, now: float) -> list[lv.Body]:
    if run.state is not RunState.RUNNING:
        return []
    for check in (_abandoned_too_often, _witnesses_silent, _could_not_open, _disk_full):
        reason, sentence = check(state, run, observations, now)
        if reason is not Reason.NONE:
            return [lv.RunPausedV1(run=run.id, operator="", command="", reason=reason, sentence=sentence)]
    return []


def _abandoned_too_often(state: Federation, run: Run, observations: Observations, now: float) -> tuple[Reason, str]:
    limit = run.plan.bounds.max_abandoned
    if run.num_abandoned_in_a_row < limit:
        return Reason.NONE, ""
    ended = [r for r in run.rounds.values() if r.state is RoundState.ABANDONED]
    newest = max(ended, key=lambda r: r.number)
    absent = sorted(
        f"{v.site} ({v.outcome.value}: {v.reason.value})"
        for v in newest.verdicts.values()
        if v.outcome is not Outcome.ADMITTED
    )
    return (
        Reason.ABANDONED_TOO_OFTEN,
        f"{limit} rounds in a row abandoned; in round {newest.number}: {', '.join(absent)}",
    )


def _witnesses_silent(state: Federation, run: Run, observations: Observations, now: float) -> tuple[Reason, str]:
    limit = run.plan.bounds.witness_seconds
    if observations.held_for(f"unwitnessed/{run.id}", now) <= limit:
        return Reason.NONE, ""
    silent = ", ".join(unwitnessed_since(run, observations.witnessed))
    return Reason.WITNESSES_SILENT, f"no cosignature within {limit} s from {silent}"


def _could_not_open(state: Federation, run: Run, observations: Observations, now: float) -> tuple[Reason, str]:
    limit = run.plan.bounds.max_open_wait_seconds
    since = max(run.last_round_end_us, run.state_since_us) / 1e6
    if run.open_rounds or now - since <= limit:
        return Reason.NONE, ""
    view = opening_view(state, run, observations, now)
    return Reason.COULD_NOT_OPEN, f"no round could open within {limit} s: {view.decision.sentence}"


def _disk_full(state: Federation, run: Run, observations: Observations, now: float) -> tuple[Reason, str]:
    sentence = observations.short_of_disk.get(run.id, "")
    return (Reason.DISK_FULL, sentence) if sentence and not run.open_rounds else (Reason.NONE, "")
