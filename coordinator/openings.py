# SPDX-License-Identifier: Apache-2.0
"""When a round opens, and who is invited. No I/O."""

from dataclasses import dataclass

from coordinator.observations import Observations
from federation import leaves as lv
from federation.messages import AllocationReport
from federation.quorum import QuorumDecision, quorum
from federation.rounds import Federation, Round, RoundState, Run, RunState, apply
from federation.schedule import lr_position


@dataclass(frozen=True, kw_only=True)
class OpeningView:
    """Who could take part in a round that opened now.

    Attributes:
        ready: per ready site its allocation, ascending by site.
        decision: quorum of the ready sites.
        complete: whether every member not drained, revoked or declined is ready.
    """

    ready: dict[str, AllocationReport]
    decision: QuorumDecision
    complete: bool


def opening_view(state: Federation, run: Run, observations: Observations, now: float) -> OpeningView:
    """Looks at every member's newest report."""
    excluded = state.excluded | run.declined()
    ready: dict[str, AllocationReport] = {}
    for member in run.plan.members:
        allocation = _ready(state, run, member, observations, now)
        if allocation is not None:
            ready[member.site] = allocation
    decision = quorum(run.plan, ready, excluded)
    return OpeningView(ready=ready, decision=decision, complete=not decision.missing)


def _ready(
    state: Federation, run: Run, member: lv.Member, observations: Observations, now: float
) -> AllocationReport | None:
    answer, seen = run.answers.get(member.site), observations.sites.get(member.site)
    if member.site in state.excluded or member.site not in state.sites:
        return None
    if answer is None or not answer.accepted or seen is None:
        return None
    steps = run.schedule(member.site).window_steps
    return seen.ready_allocation(run.id, now, run.plan.num_fragments, steps)


def decide_openings(state: Federation, run: Run, observations: Observations, now: float) -> list[lv.Body]:
    """Opens every round that may open now; else lets newly ready sites join an open one."""
    if run.state is not RunState.RUNNING or observations.roster_expired:
        return []
    view = opening_view(state, run, observations, now)
    made: list[lv.Body] = []
    while _may_open(run, view, observations, now):
        opened = _opened(run, view)
        made.append(opened)
        run = apply(state, lv.Leaf(at_us=int(now * 1e6), body=opened)).runs[run.id]
        state = apply(state, lv.Leaf(at_us=int(now * 1e6), body=opened))
    return made or _joins(run, view, now)


def _may_open(run: Run, view: OpeningView, observations: Observations, now: float) -> bool:
    plan = run.plan
    if run.next_round - len(run.void) >= plan.num_rounds or len(run.open_rounds) >= plan.max_rounds_in_flight:
        return False
    fragment = run.schedule().fragment_of(run.next_round)
    if any(run.rounds[n].fragment == fragment for n in run.open_rounds):
        return False  # round k - P has not ended
    if not view.decision.reached or run.id in observations.short_of_disk:
        return False
    held = observations.held_for(f"can-open/{run.id}", now)
    return view.complete or held >= plan.bounds.open_grace_seconds


def _opened(run: Run, view: OpeningView) -> lv.RoundOpenedV1:
    number, schedule = run.next_round, run.schedule()
    fragment = schedule.fragment_of(number)
    head = run.heads()[fragment]
    return lv.RoundOpenedV1(
        run=run.id,
        round=number,
        fragment=fragment,
        base_version=head.number,
        base_digest=head.theta_digest,
        lr_position=lr_position(number, len(run.void), schedule.window_steps),
        invitations=tuple(_invitation(run, site, a, number) for site, a in view.ready.items()),
        sentence=view.decision.sentence,
    )


def _invitation(run: Run, site: str, allocation: AllocationReport, number: int) -> lv.Invitation:
    steps = run.schedule(site).steps_of_window(number)
    return lv.Invitation(site=site, allocation=allocation.allocation, num_steps=steps)


def _joins(run: Run, view: OpeningView, now: float) -> list[lv.Body]:
    """A site that became ready later joins the newest open round if its window fits what remains of it."""
    newest = max(run.open_rounds, default=-1)
    if newest < 0 or run.rounds[newest].state is not RoundState.OPEN:
        return []
    found = run.rounds[newest]
    made: list[lv.Body] = []
    for site, allocation in view.ready.items():
        if found.invitation(site) is None and _fits(run, found, site, allocation, now):
            invitation = _invitation(run, site, allocation, newest)
            made.append(lv.SiteInvitedV1(run=run.id, round=newest, invitation=invitation))
    return made


def _fits(run: Run, found: Round, site: str, allocation: AllocationReport, now: float) -> bool:
    bounds = run.plan.bounds
    training = run.schedule(site).steps_of_window(found.number) * allocation.seconds_per_step
    training = training or bounds.training_seconds
    extra = run.member(site).courier_round_trip_seconds
    return now + training + extra <= found.opened_at_us / 1e6 + bounds.max_round_seconds
