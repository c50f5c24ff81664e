# SPDX-License-Identifier: Apache-2.0
"""What would follow from a revocation or an abort, in sentences for whoever is about to order it. No I/O."""

from collections.abc import Collection, Iterator

from federation.durations import count
from federation.quorum import quorum
from federation.rounds import Federation, Round, RoundState, Run, RunState

_ENDED = (RunState.COMPLETED, RunState.ABORTED)


def of_revocation(state: Federation, site: str, used: Collection[str] = ()) -> tuple[str, ...]:
    """What revoking a site does now. `used`: SHA-256 of the tokens of invites that somebody enrolled with."""
    if site in state.revoked:
        return (f"{site} is revoked already; it comes back when a roster version gives it another update key.",)
    made = [f"From then on nothing that {site} sends is taken, and nothing is sent to it; its channel is closed."]
    for _, run in sorted(state.runs.items()):
        if run.is_member(site) and run.state not in _ENDED:
            made += _in_rounds(state, run, site)
            made.append(_without(state, run, site))
            made += _witnesses(state, run, site)
    voided = sum(i.kind.value == "site" and i.party == site for d, i in state.invites.items() if d not in used)
    if voided:
        made.append(f"Its {count(voided, 'open invite')} {'becomes' if voided == 1 else 'become'} void.")
    made.append(f"{site} comes back only when a roster version, signed by the root, gives it another update key.")
    return tuple(made)


def _in_rounds(state: Federation, run: Run, site: str) -> Iterator[str]:
    for number in run.open_rounds:
        found, where = run.rounds[number], f"run {run.id}, round {number}"
        if site in found.waiting_for() and found.state is RoundState.OPEN:
            yield f"{where}: its participation ends as rejected (revoked); {_goes_on(state, run, found, site)}."
        elif any(verdict.site == site for verdict in found.admitted()):
            yield (
                f"{where}: its update was admitted and stays; `coordinator round abandon {run.id} --round {number}` "
                "would drop it, with the whole round."
            )


def _goes_on(state: Federation, run: Run, found: Round, site: str) -> str:
    """Whether the others suffice for a seal, should each of them that is still waited for be admitted."""
    rest = ({verdict.site for verdict in found.admitted()} | set(found.waiting_for())) - {site}
    decision = quorum(run.plan, rest, (state.excluded | run.declined() | {site}) - rest)
    if decision.reached:
        return f"the round goes on with the others, and commits if they deliver: {decision.sentence}"
    return f"the round will be ABANDONED, the others are no quorum: {decision.sentence}"


def _without(state: Federation, run: Run, site: str) -> str:
    excluded = state.excluded | run.declined() | {site}
    rest = [m.site for m in run.plan.members if m.site not in excluded and m.site in state.sites]
    decision = quorum(run.plan, rest, excluded)
    if decision.reached:
        return f"run {run.id} can go on: {decision.sentence}."
    bound = run.plan.bounds.max_open_wait_seconds
    pause = f", and it pauses once none could open for {bound} s (max_open_wait_seconds)"
    pause = pause if run.state is RunState.RUNNING else ""
    return f"run {run.id}: NO QUORUM without {site}, no further round can open{pause}: {decision.sentence}."


def _witnesses(state: Federation, run: Run, site: str) -> Iterator[str]:
    left = [m.site for m in run.plan.members if m.site not in state.revoked and m.site != site]
    if len(left) < run.plan.witness_quorum:
        bound, needed = run.plan.bounds.witness_seconds, run.plan.witness_quorum
        pause = f", and the run pauses once they have been missing for {bound} s (witness_seconds)"
        pause = pause if run.state is RunState.RUNNING else ""
        yield (
            f"run {run.id}: {count(needed, 'witness', 'witnesses')} must cosign, {len(left)} "
            f"{'is' if len(left) == 1 else 'are'} left: jobs will wait in vain for cosignatures of further commits"
            f"{pause}."
        )


def of_abort(state: Federation, run: Run) -> tuple[str, ...]:
    """What aborting a run does now; () if it has ended."""
    if run.state in _ENDED:
        return ()
    made = [
        f"Run {run.id} ends for good after {run.num_commits()} of {count(run.plan.num_rounds, 'commit')}; "
        "it can be neither resumed nor started again."
    ]
    made += [_dropped(run.rounds[number]) for number in run.open_rounds]
    told = [member.site for member in run.plan.members if member.site not in state.revoked]
    if told:
        made.append(f"Jobs for it end at {', '.join(told)}.")
    made += [
        f"{member.site} is revoked and is not told: its job ends when it has been idle."
        for member in run.plan.members
        if member.site in state.revoked
    ]
    if run.num_commits():
        made.append(f"Its models stay: `coordinator run export {run.id}`.")
    return tuple(made)


def _dropped(found: Round) -> str:
    sites = ", ".join(verdict.site for verdict in found.admitted())
    dropped = f"admitted updates of {sites} are dropped" if sites else "no update of it was admitted yet"
    return f"Round {found.number} is abandoned; {dropped}."
