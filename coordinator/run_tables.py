# SPDX-License-Identifier: Apache-2.0
"""A run as long tables, made from the ledger's leaves and from telemetry. Pure: no files, no clock.

The leaves are folded with `federation.rounds.apply` as everywhere else; times that the folded state does not keep, and
verdicts that do not stand, are noted as the leaves pass by.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Final

from coordinator.phases import PhaseChange
from coordinator.run_columns import Table, Value, countable, empty_table
from coordinator.run_evaluations import EvaluationTables
from coordinator.run_phases import phases_table
from coordinator.telemetry import StepMetrics, newest_of_each_step
from federation import leaves as lv
from federation.errors import UsageError
from federation.rounds import Federation, Round, Run, apply

NOT_INVITED: Final = "not-invited"


@dataclass(frozen=True, kw_only=True)
class RunTables:
    """One run. `tables`: in the order of `run_columns.SCHEMAS`."""

    run: str
    tables: tuple[Table, ...]

    def table(self, name: str) -> Table:
        """One table. Raises KeyError."""
        return {table.name: table for table in self.tables}[name]


def run_tables(
    run: str,
    leaves: Iterable[lv.Leaf],
    steps: Mapping[str, Iterable[StepMetrics]] | None = None,
    phases: Mapping[str, Iterable[PhaseChange]] | None = None,
) -> RunTables:
    """All tables of a run.

    Args:
        leaves: of the whole ledger, or all that speak of this run, in order.
        steps: by site its telemetry, oldest first; what is of another run is left out.
        phases: by site what the coordinator heard it do, oldest first; the same.

    Raises:
        UsageError: no leaf creates such a run.
    """
    history = _History(run)
    for leaf in leaves:
        history.add(leaf)
    found = history.state.runs.get(run)
    if found is None:
        raise UsageError(f"run {run!r}: no run of that name in the ledger")
    scores, tasks = history.evaluations.finish(found)
    tables = (
        _rounds(found, history),
        _updates(found, history),
        scores,
        tasks,
        phases_table(found, history.invited, history.standing, phases or {}),
        _steps(found, steps or {}),
    )
    return RunTables(run=run, tables=tables)


@dataclass(frozen=True, kw_only=True)
class _Moment:
    """When (microseconds since 1970) a verdict was given that stands; or one that does not, with its body."""

    at_us: int
    verdict: lv.VerdictV1


@dataclass
class _History:
    """What passes by while the leaves of one run are folded."""

    run: str
    state: Federation = field(default_factory=Federation)
    sealed: dict[int, tuple[int, str]] = field(default_factory=dict)
    ended: dict[int, int] = field(default_factory=dict)
    abandoned: dict[int, lv.RoundAbandonedV1] = field(default_factory=dict)
    standing: dict[tuple[int, str], int] = field(default_factory=dict)
    further: list[_Moment] = field(default_factory=list)
    invited: dict[tuple[int, str], int] = field(default_factory=dict)
    evaluations: EvaluationTables = field(default_factory=EvaluationTables)

    def add(self, leaf: lv.Leaf) -> None:
        """The ledger's next leaf."""
        body = leaf.body
        if getattr(body, "run", "") != self.run:
            return
        if isinstance(body, lv.EvaluationRecordedV1):  # the fold would keep them all: there may be a million scores
            self.evaluations.scored(body, leaf.at_us)
            return
        if isinstance(body, lv.TasksEvaluatedV1):  # the fold would keep the newest only
            self.evaluations.tasks_scored(body, leaf.at_us)
            return
        self.state = apply(self.state, leaf)
        match body:
            case lv.VerdictV1():
                self._judged(body, leaf.at_us)
            case lv.RoundOpenedV1():
                self.invited |= {(body.round, i.site): leaf.at_us for i in body.invitations}
            case lv.SiteInvitedV1():
                self.invited[body.round, body.invitation.site] = leaf.at_us
            case lv.RoundSealedV1():
                self.sealed[body.round] = (leaf.at_us, body.sentence)
            case lv.RoundCommittedV1():
                self.ended[body.round] = leaf.at_us
            case lv.RoundAbandonedV1():
                self.ended[body.round] = leaf.at_us
                self.abandoned[body.round] = body
            case _:
                pass

    def _judged(self, body: lv.VerdictV1, at_us: int) -> None:
        found = self.state.runs[self.run].rounds.get(body.round)
        if found is not None and found.verdicts.get(body.site) is body:
            self.standing[body.round, body.site] = at_us
        else:
            self.further.append(_Moment(at_us=at_us, verdict=body))


def _rounds(run: Run, history: _History) -> Table:
    table = empty_table("rounds")
    for number, found in sorted(run.rounds.items()):
        sealed_at, seal_sentence = history.sealed.get(number, (None, None))
        abandoned, admitted, commit = history.abandoned.get(number), found.admitted(), found.commit
        table.add(
            number,
            found.fragment,
            found.state.value,
            found.reverted,
            found.opened_at_us,
            sealed_at,
            history.ended.get(number),
            found.lr_position,
            _finite(commit.aggregate_norm) if commit else None,
            commit.blob_bytes if commit else None,
            sum(verdict.payload_bytes for verdict in admitted),
            len(found.invitations),
            len(admitted),
            abandoned.reason.value if abandoned else None,
            abandoned.sentence if abandoned else seal_sentence,
        )
    return table


def _updates(run: Run, history: _History) -> Table:
    """Per round a row of each member, then the verdicts that do not stand; at last those of rounds that never were."""
    table = empty_table("updates")
    further: dict[int, list[_Moment]] = {}
    for moment in history.further:
        further.setdefault(moment.verdict.round, []).append(moment)
    for number, found in sorted(run.rounds.items()):
        for member in run.plan.members:
            _add_member(table, found, member.site, history.standing.get((number, member.site)))
        _add_further(table, further.pop(number, []), found)
    for _, moments in sorted(further.items()):
        _add_further(table, moments, None)
    return table


def _add_member(table: Table, found: Round, site: str, at_us: int | None) -> None:
    """The row that counts of one member."""
    invitation, verdict = found.invitation(site), found.verdicts.get(site)
    weight = next((update.weight for update in found.sealed if update.site == site), None)
    cosine = None
    if found.commit is not None:
        cosine = next((c.cosine for c in found.commit.contributions if c.site == site), None)
    if verdict is not None:
        outcome: str | None = verdict.outcome.value
    else:
        outcome = None if invitation else NOT_INVITED
    table.add(
        found.number,
        site,
        outcome,
        True,
        *_why(verdict),
        at_us,
        _finite(weight),
        *_figures(verdict),
        _finite(cosine),
        invitation.allocation if invitation else None,
    )


def _add_further(table: Table, moments: Iterable[_Moment], found: Round | None) -> None:
    for moment in moments:
        verdict = moment.verdict
        invitation = found.invitation(verdict.site) if found else None
        table.add(
            verdict.round,
            verdict.site,
            verdict.outcome.value,
            False,
            *_why(verdict),
            moment.at_us,
            None,
            *_figures(verdict),
            None,
            invitation.allocation if invitation else None,
        )


def _why(verdict: lv.VerdictV1 | None) -> tuple[Value, Value]:
    """Reason and sentence."""
    if verdict is None:
        return None, None
    return None if verdict.reason is lv.Reason.NONE else verdict.reason.value, verdict.sentence or None


def _figures(verdict: lv.VerdictV1 | None) -> tuple[Value, ...]:
    """weight_tokens, new_tokens, num_steps, payload_bytes and norm: of a verdict without an update there are none."""
    if verdict is None or not verdict.update_digest:
        return (None,) * 5
    measured = verdict.outcome is lv.Outcome.ADMITTED or verdict.norm
    norm = _finite(verdict.norm) if measured else None
    counts = (verdict.weight_tokens, verdict.new_tokens, verdict.num_steps, verdict.payload_bytes)
    return (*map(countable, counts), norm)


def _steps(run: Run, steps: Mapping[str, Iterable[StepMetrics]]) -> Table:
    table = empty_table("steps")
    for member in run.plan.members:
        of_run = (metrics for metrics in steps.get(member.site, ()) if metrics.run == run.id)
        for metrics in newest_of_each_step(of_run).values():
            table.add(
                member.site,
                metrics.round,
                metrics.step,
                metrics.num_steps,
                metrics.loss,
                metrics.tokens,
                metrics.seconds,
                None if metrics.at is None else round(metrics.at * 1e6),
            )
    return table


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None
