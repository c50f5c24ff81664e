# SPDX-License-Identifier: Apache-2.0
"""What a site's journal says, folded: the first argument of the agent's deciders. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeAlias

from federation.errors import InvalidTransition
from federation.messages import Evaluation, TaskEvaluation, Update
from site_agent.entries import (
    AllocationAccounted,
    AllocationEnded,
    AllocationIntended,
    AllocationStopped,
    AllocationSubmitted,
    Cosigned,
    Entry,
    EpochBegan,
    EvaluationSigned,
    ManifestAnswered,
    PayloadDropped,
    Posted,
    RoundIssued,
    RoundRefused,
    TasksSigned,
    UpdateSigned,
)

RoundKey: TypeAlias = tuple[str, int]
"""(run, round)."""

SigningKey: TypeAlias = tuple[str, int, int, str]
"""(run, round, fragment, base digest): what a second digest is never signed for."""

EvaluationKey: TypeAlias = tuple[str, int, int, tuple[int, ...]]
"""(run, request, commits, versions)."""


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """One allocation as the journal tells it; times in microseconds of this site's clock, 0 where it did not happen."""

    run: str
    number: int
    fencing: int
    intended_at_us: int
    evaluate_only: bool = False
    handle: str = ""
    submitted_at_us: int = 0
    stop: AllocationStopped | None = None
    end: AllocationEnded | None = None
    delivered: bool = False
    num_gpus: int = -1
    seconds_limit: int = -1
    begin_after_seconds: int = 0
    accounted: AllocationAccounted | None = None

    @property
    def live(self) -> bool:
        """Whether something of it may run: intended and not known to have ended."""
        return self.end is None

    @property
    def is_accounted(self) -> bool:
        """Whether the accounting has said what all of it used. Before its end it tells of earlier executions only."""
        return self.end is not None and self.accounted is not None and self.accounted.at_us >= self.end.at_us

    @property
    def id(self) -> str:
        """Its name in invitations and updates: "a" and the number."""
        return f"a{self.number}"


@dataclass(frozen=True, kw_only=True)
class AgentState:
    """Everything that the journal says, folded.

    Attributes:
        allocations: per run, ascending by number.
        issued: the allocation that trains a round; the newest one counts.
        signed: the update per signing key. signed_at_us: when, by this site's clock.
        tasks: what was signed of benchmark tasks, or settled without a score.
        posted: keys of messages that lie in the mailbox.
    """

    epoch: int = 0
    answers: Mapping[str, ManifestAnswered] = field(default_factory=dict)
    num_answers: Mapping[str, int] = field(default_factory=dict)
    allocations: Mapping[str, tuple[Allocation, ...]] = field(default_factory=dict)
    issued: Mapping[RoundKey, int] = field(default_factory=dict)
    signed: Mapping[SigningKey, Update] = field(default_factory=dict)
    signed_at_us: Mapping[SigningKey, int] = field(default_factory=dict)
    refused: Mapping[RoundKey, RoundRefused] = field(default_factory=dict)
    evaluations: Mapping[EvaluationKey, Evaluation] = field(default_factory=dict)
    tasks: Mapping[EvaluationKey, TasksSigned] = field(default_factory=dict)
    cosigned: Cosigned | None = None
    posted: frozenset[str] = frozenset()
    dropped: frozenset[RoundKey] = frozenset()

    def live_allocation(self, run: str) -> Allocation | None:
        """The allocation of a run that may be running, if there is one."""
        return next((a for a in reversed(self.allocations.get(run, ())) if a.live), None)


def evaluation_key(evaluation: Evaluation | TaskEvaluation) -> EvaluationKey:
    """What one site evaluates at most once."""
    return (evaluation.run, evaluation.request, evaluation.num_commits, evaluation.versions)


def signing_key(update: Update) -> SigningKey:
    """What a second digest is never signed for."""
    return (update.run, update.round, update.fragment, update.base_digest)


def fold(entries: Iterable[Entry], state: AgentState | None = None) -> AgentState:
    """Folds entries in order; one copy of each changed map per call, so long journals fold in linear time.

    Raises:
        InvalidTransition: entries that this agent never writes (a second digest, an end of nothing).
    """
    draft = _Draft(state or AgentState())
    for entry in entries:
        draft.apply(entry)
    return draft.freeze()


class _Draft:
    """A mutable copy of the state while a batch is folded."""

    def __init__(self, state: AgentState) -> None:
        self.plain: dict[str, Any] = {
            "epoch": state.epoch,
            "cosigned": state.cosigned,
        }
        self.answers = dict(state.answers)
        self.num_answers = dict(state.num_answers)
        self.allocations = {run: list(found) for run, found in state.allocations.items()}
        self.issued = dict(state.issued)
        self.signed = dict(state.signed)
        self.signed_at_us = dict(state.signed_at_us)
        self.refused = dict(state.refused)
        self.evaluations = dict(state.evaluations)
        self.tasks = dict(state.tasks)
        self.posted = set(state.posted)
        self.dropped = set(state.dropped)

    def freeze(self) -> AgentState:
        return AgentState(
            **self.plain,
            answers=MappingProxyType(self.answers),
            num_answers=MappingProxyType(self.num_answers),
            allocations=MappingProxyType({run: tuple(found) for run, found in self.allocations.items()}),
            issued=MappingProxyType(self.issued),
            signed=MappingProxyType(self.signed),
            signed_at_us=MappingProxyType(self.signed_at_us),
            refused=MappingProxyType(self.refused),
            evaluations=MappingProxyType(self.evaluations),
            tasks=MappingProxyType(self.tasks),
            posted=frozenset(self.posted),
            dropped=frozenset(self.dropped),
        )

    def apply(self, entry: Entry) -> None:
        match entry:
            case EpochBegan():
                self.plain.update(epoch=entry.epoch)
            case ManifestAnswered():
                self.answers[entry.run] = entry
                self.num_answers[entry.run] = self.num_answers.get(entry.run, 0) + 1
            case AllocationIntended() | AllocationSubmitted() | AllocationStopped() | AllocationEnded():
                self._apply_allocation(entry)
            case AllocationAccounted():
                self._apply_accounted(entry)
            case RoundIssued():
                self.issued[entry.run, entry.round] = entry.allocation
            case UpdateSigned():
                self._apply_update(entry.update, entry.at_us)
            case RoundRefused():
                self.refused[entry.run, entry.round] = entry
            case EvaluationSigned():
                self.evaluations.setdefault(evaluation_key(entry.evaluation), entry.evaluation)
                self._mark_delivered(entry.evaluation.run, entry.allocation)
            case TasksSigned():
                self.tasks.setdefault(evaluation_key(entry.evaluation), entry)
                self._mark_delivered(entry.evaluation.run, entry.allocation)
            case Cosigned():
                self._apply_cosigned(entry)
            case Posted():
                self.posted.add(entry.key)
            case PayloadDropped():
                self.dropped.add((entry.run, entry.round))

    def _apply_allocation(
        self, entry: AllocationIntended | AllocationSubmitted | AllocationStopped | AllocationEnded
    ) -> None:
        found = self.allocations.setdefault(entry.run, [])
        if isinstance(entry, AllocationIntended):
            if found and (found[-1].live or found[-1].number >= entry.number):
                raise InvalidTransition(f"allocation {entry.run}/a{entry.number}", "another one is live", "intended")
            found.append(_intended(entry))
            return
        position = next((i for i, a in enumerate(found) if a.number == entry.number and a.live), None)
        if position is None:
            raise InvalidTransition(f"allocation {entry.run}/a{entry.number}", "not live", type(entry).__name__)
        found[position] = _changed(found[position], entry)

    def _apply_accounted(self, entry: AllocationAccounted) -> None:
        found = self.allocations.get(entry.run, [])
        position = next((i for i, a in enumerate(found) if a.number == entry.number), None)
        if position is None:
            raise InvalidTransition(f"allocation {entry.run}/a{entry.number}", "absent", "accounted")
        found[position] = replace(found[position], accounted=entry)

    def _apply_update(self, update: Update, at_us: int) -> None:
        first = self.signed.setdefault(signing_key(update), update)
        self.signed_at_us.setdefault(signing_key(update), at_us)
        if first.payload_digest != update.payload_digest:
            raise InvalidTransition(f"round {update.run}/{update.round}", first.payload_digest, update.payload_digest)
        self._mark_delivered(update.run, int(update.allocation.removeprefix("a")))

    def _mark_delivered(self, run: str, number: int) -> None:
        found = self.allocations.get(run, [])
        for position, allocation in enumerate(found):
            if allocation.number == number:
                found[position] = replace(allocation, delivered=True)

    def _apply_cosigned(self, entry: Cosigned) -> None:
        last = self.plain["cosigned"]
        if last is not None and (entry.size < last.size or (entry.size == last.size and entry.root != last.root)):
            raise InvalidTransition("cosigned", f"{last.size} {last.root}", f"{entry.size} {entry.root}")
        self.plain["cosigned"] = entry


def _intended(entry: AllocationIntended) -> Allocation:
    return Allocation(
        run=entry.run,
        number=entry.number,
        fencing=entry.fencing,
        intended_at_us=entry.at_us,
        evaluate_only=entry.evaluate_only,
        num_gpus=entry.num_gpus,
        seconds_limit=entry.seconds_limit,
        begin_after_seconds=entry.begin_after_seconds,
    )


def _changed(allocation: Allocation, entry: AllocationSubmitted | AllocationStopped | AllocationEnded) -> Allocation:
    if isinstance(entry, AllocationSubmitted):
        return replace(allocation, handle=entry.handle, submitted_at_us=entry.at_us)
    if isinstance(entry, AllocationStopped):
        return replace(allocation, stop=entry)
    return replace(allocation, end=entry)
