# SPDX-License-Identifier: Apache-2.0
"""`decide(state, input, now) -> [body]` and `pending(state) -> {instruction}`: the coordinator without I/O.

Time and ids arrive as arguments. What it returns becomes leaves; a refused command raises `UsageError` and leaves
nothing. Instructions are level-triggered from the state: repeating one is harmless, and replay never emits any.
"""

from dataclasses import dataclass
from typing import TypeAlias

from coordinator.commands import decide_command
from coordinator.inputs import (
    AnswerReceived,
    CommandReceived,
    DeclineReceived,
    EvaluationReceived,
    Input,
    RosterAccepted,
    RoundAggregated,
    StateDigested,
    TasksReceived,
    Tick,
    UpdateExamined,
)
from coordinator.messages_in import decide_answer, decide_decline, decide_evaluation, decide_update
from coordinator.tasks_in import decide_tasks
from coordinator.ticks import decide_tick
from federation import leaves as lv
from federation.rounds import Federation, RoundState


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """Compute the commit of a sealed round."""

    run: str
    round: int


@dataclass(frozen=True, kw_only=True)
class RecordState:
    """Digest momentum and residual of a committed version."""

    run: str
    round: int
    fragment: int


Instruction: TypeAlias = Aggregate | RecordState


def decide(state: Federation, event: Input, now: float) -> list[lv.Body]:
    """Decides about one input.

    Args:
        state: the fold of the ledger so far.
        event: a verified fact.
        now: unix seconds of the coordinator's clock.

    Raises:
        UsageError: an operator's command that does not fit the state.
    """
    match event:
        case Tick():
            return decide_tick(state, event.observations, now)
        case CommandReceived():
            return decide_command(state, event, now)
        case AnswerReceived():
            return decide_answer(state, event)
        case UpdateExamined():
            return decide_update(state, event)
        case DeclineReceived():
            return decide_decline(state, event)
        case EvaluationReceived():
            return decide_evaluation(state, event)
        case TasksReceived():
            return decide_tasks(state, event)
        case RoundAggregated():
            return _committed(state, event)
        case StateDigested():
            return _recorded(state, event)
        case RosterAccepted():
            return _roster(state, event)


def pending(state: Federation) -> list[Instruction]:
    """What remains to be done, derived from the state alone; in a fixed order."""
    todo: list[Instruction] = []
    for run_id in sorted(state.runs):
        run = state.runs[run_id]
        for fragment, head in enumerate(run.heads()):
            if head.number and not head.momentum_digest:
                todo.append(RecordState(run=run_id, round=head.number - 1, fragment=fragment))
        for number in run.open_rounds:
            found = run.rounds[number]
            head = run.heads()[found.fragment]
            if found.state is RoundState.SEALED and (head.number == 0 or head.momentum_digest):
                todo.append(Aggregate(run=run_id, round=number))
    return todo


def _committed(state: Federation, event: RoundAggregated) -> list[lv.Body]:
    run = state.runs[event.run]
    found = run.rounds[event.round]
    if found.state is not RoundState.SEALED:  # abandoned by an operator while it was computed, or a repetition
        return []
    return [
        lv.RoundCommittedV1(
            run=event.run,
            round=event.round,
            fragment=found.fragment,
            version=event.round + 1,
            theta_digest=event.theta_digest,
            blob_digest=event.blob_digest,
            blob_bytes=event.blob_bytes,
            aggregate_norm=event.aggregate_norm,
            contributions=event.contributions,
            numerics_version=event.numerics_version,
        )
    ]


def _recorded(state: Federation, event: StateDigested) -> list[lv.Body]:
    head = state.runs[event.run].heads()[event.fragment]
    if head.number != event.round + 1 or head.momentum_digest:
        return []
    return [
        lv.StateRecordedV1(
            run=event.run,
            round=event.round,
            fragment=event.fragment,
            momentum_digest=event.momentum_digest,
            residual_digest=event.residual_digest,
        )
    ]


def _roster(state: Federation, event: RosterAccepted) -> list[lv.Body]:
    if event.version <= state.roster_version:
        return []
    readmitted = [
        lv.SiteReadmittedV1(site=site, key_digest=event.keys[site], roster_version=event.version)
        for site, revoked_key in sorted(state.revoked.items())
        if event.keys.get(site, revoked_key) != revoked_key
    ]
    return [lv.RosterInstalledV1(version=event.version, digest=event.digest, sites=event.sites), *readmitted]
