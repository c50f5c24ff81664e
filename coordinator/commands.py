# SPDX-License-Identifier: Apache-2.0
"""What operators' commands become. No I/O; a command that does not fit raises `UsageError` and leaves nothing.

A repeated (operator, command id) is no error: the caller finds it in `Federation.commands` before asking.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Final

from coordinator.inputs import CommandReceived
from federation import leaves as lv
from federation.errors import UsageError
from federation.ids import COORDINATOR, check_slug, is_digest
from federation.leaves import Outcome, PartyKind, Reason
from federation.messages import CommandKind
from federation.rounds import Federation, RoundState, Run, RunState

MAX_INVITE_SECONDS: Final = 30 * 24 * 3600


def decide_command(state: Federation, event: CommandReceived, now: float) -> list[lv.Body]:
    """Leaves of a command; the first one that names it is its answer.

    Args:
        now: unix seconds of the coordinator's clock, by which invites must end in time.

    Raises:
        UsageError: expected state and found state.
    """
    if f"{event.operator}/{event.command.id}" in state.commands:
        return []
    if event.command.kind in _INVITED:
        return _invite(state, event, now)
    return _COMMANDS[event.command.kind](state, event)


def _run(state: Federation, event: CommandReceived, *allowed: RunState) -> Run:
    run = state.runs.get(event.command.subject)
    if run is None:
        known = ", ".join(sorted(state.runs)) or "none"
        raise UsageError(f"run {event.command.subject!r}: no run of that name; known runs: {known}")
    if run.state not in allowed:
        wanted = " or ".join(s.value for s in allowed)
        raise UsageError(
            f"run {run.id}: {event.command.kind.value} needs a run that is {wanted}, found {run.state.value}"
        )
    return run


def _create(state: Federation, event: CommandReceived) -> list[lv.Body]:
    command, plan = event.command, event.plan
    if plan is None:
        raise UsageError(f"run {command.subject}: the command names no manifest")
    if command.subject in state.runs:
        raise UsageError(
            f"run {command.subject}: a run of that name exists", advice="Choose another `run` in run.toml."
        )
    unknown = [m.site for m in plan.members if m.site not in state.sites]
    if unknown:
        known = ", ".join(state.sites) or "none"
        raise UsageError(f"sites {', '.join(unknown)}: not in roster version {state.roster_version}, which has {known}")
    revoked = [m.site for m in plan.members if m.site in state.revoked]
    if revoked:
        raise UsageError(f"sites {', '.join(revoked)}: expected members that are not revoked")
    return [
        lv.RunCreatedV1(
            run=command.subject,
            manifest_digest=command.manifest_digest,
            plan=plan,
            operator=event.operator,
            command=command.id,
        )
    ]


def _approve(state: Federation, event: CommandReceived) -> list[lv.Body]:
    run = _run(state, event, RunState.DRAFT)
    if event.operator in run.approved_by:
        raise UsageError(f"run {run.id}: {event.operator} approved it already; {_approvals(run)}")
    return [lv.RunApprovedV1(run=run.id, operator=event.operator, command=event.command.id)]


def _approvals(run: Run) -> str:
    return f"{len(run.approved_by)} of {run.plan.approvals_required} approvals"


def _start(state: Federation, event: CommandReceived) -> list[lv.Body]:
    run = _run(state, event, RunState.APPROVED)
    return [lv.RunStartedV1(run=run.id, operator=event.operator, command=event.command.id)]


def _pause(state: Federation, event: CommandReceived) -> list[lv.Body]:
    run = _run(state, event, RunState.RUNNING)
    return [
        lv.RunPausedV1(
            run=run.id,
            operator=event.operator,
            command=event.command.id,
            reason=Reason.OPERATOR,
            sentence=f"paused by {event.operator}",
        )
    ]


def _resume(state: Federation, event: CommandReceived) -> list[lv.Body]:
    run = _run(state, event, RunState.PAUSED)
    return [lv.RunResumedV1(run=run.id, operator=event.operator, command=event.command.id)]


def _abandon_all(run: Run, reason: Reason, sentence: str) -> list[lv.Body]:
    return [lv.RoundAbandonedV1(run=run.id, round=n, reason=reason, sentence=sentence) for n in run.open_rounds]


def _abort(state: Federation, event: CommandReceived) -> list[lv.Body]:
    run = _run(state, event, RunState.DRAFT, RunState.APPROVED, RunState.RUNNING, RunState.PAUSED)
    abandoned = _abandon_all(run, Reason.OPERATOR, f"run aborted by {event.operator}")
    return [*abandoned, lv.RunAbortedV1(run=run.id, operator=event.operator, command=event.command.id)]


def _rollback(state: Federation, event: CommandReceived) -> list[lv.Body]:
    run = _run(state, event, RunState.RUNNING, RunState.PAUSED)
    target = event.command.number
    if not -1 <= target < run.next_round:
        raise UsageError(f"run {run.id}: --to-round expected -1 (theta_0) to {run.next_round - 1}, found {target}")
    abandoned = _abandon_all(run, Reason.REVERTED, f"run rolled back to round {target} by {event.operator}")
    reverted = lv.RunRevertedV1(run=run.id, to_round=target, operator=event.operator, command=event.command.id)
    return [*abandoned, reverted]


def _evaluate(state: Federation, event: CommandReceived) -> list[lv.Body]:
    run = _run(state, event, RunState.APPROVED, RunState.RUNNING, RunState.PAUSED, RunState.COMPLETED)
    return [
        lv.EvaluationRequestedV1(
            run=run.id,
            request=len(run.requests) + 1,
            versions=tuple(v.number for v in run.heads()),
            operator=event.operator,
            command=event.command.id,
        )
    ]


def _abandon_round(state: Federation, event: CommandReceived) -> list[lv.Body]:
    run = _run(state, event, RunState.RUNNING, RunState.PAUSED)
    number = event.command.number
    found = run.rounds.get(number)
    if found is None or found.state not in (RoundState.OPEN, RoundState.SEALED):
        state_word = found.state.value if found else "unknown"
        open_rounds = ", ".join(map(str, run.open_rounds)) or "none"
        raise UsageError(f"run {run.id}: round {number} is {state_word}; open rounds: {open_rounds}")
    sentence = f"abandoned by {event.operator}, command {event.command.id}"
    return [
        lv.RoundAbandonOrderedV1(run=run.id, round=number, operator=event.operator, command=event.command.id),
        lv.RoundAbandonedV1(run=run.id, round=number, reason=Reason.OPERATOR, sentence=sentence),
    ]


def _known_site(state: Federation, event: CommandReceived) -> str:
    site = event.command.subject
    if site not in state.sites:
        raise UsageError(
            f"site {site!r}: not in roster version {state.roster_version}, which has {', '.join(state.sites)}"
        )
    return site


def _drain(state: Federation, event: CommandReceived) -> list[lv.Body]:
    site = _known_site(state, event)
    if site in state.drained:
        raise UsageError(f"site {site}: is drained already")
    return [lv.SiteDrainedV1(site=site, operator=event.operator, command=event.command.id)]


def _undrain(state: Federation, event: CommandReceived) -> list[lv.Body]:
    site = _known_site(state, event)
    if site not in state.drained and site in state.revoked:
        raise UsageError(
            f"site {site}: is revoked, not drained",
            advice="It comes back when a roster version, signed by the root, gives it another update key.",
        )
    if site not in state.drained:
        raise UsageError(f"site {site}: is not drained")
    return [lv.SiteResumedV1(site=site, operator=event.operator, command=event.command.id)]


def _revoke(state: Federation, event: CommandReceived) -> list[lv.Body]:
    """The revocation, then verdicts that end what the site was doing: no round waits for it any more."""
    site = _known_site(state, event)
    if site in state.revoked:
        raise UsageError(
            f"site {site}: is revoked already",
            advice="It comes back when a roster version gives it another update key.",
        )
    revoked = lv.SiteRevokedV1(site=site, key_digest=event.key, operator=event.operator, command=event.command.id)
    return [revoked, *revoked_verdicts(state, (site,))]


def revoked_verdicts(state: Federation, sites: Collection[str]) -> list[lv.Body]:
    """Verdicts on the participations of revoked sites that have none yet, by run and round."""
    made: list[lv.Body] = []
    for run_id, run in sorted(state.runs.items()):
        for number in run.open_rounds:
            found = run.rounds[number]
            waiting = found.waiting_for() if found.state is RoundState.OPEN else ()
            made += [_revoked_verdict(run_id, number, site) for site in waiting if site in sites]
    return made


def _revoked_verdict(run: str, number: int, site: str) -> lv.VerdictV1:
    return lv.VerdictV1(
        run=run,
        round=number,
        site=site,
        outcome=Outcome.REJECTED,
        reason=Reason.REVOKED,
        sentence=f"{site} is revoked: nothing more of it is taken",
    )


_INVITED: Final[Mapping[CommandKind, PartyKind]] = {
    CommandKind.SITE_INVITE: PartyKind.SITE,
    CommandKind.OPERATOR_INVITE: PartyKind.OPERATOR,
}


def _invite(state: Federation, event: CommandReceived, now: float) -> list[lv.Body]:
    command, kind = event.command, _INVITED[event.command.kind]
    if check_slug(command.subject, f"{kind.value} id") == COORDINATOR:
        raise UsageError(f"{kind.value} id: expected one of its own, found {COORDINATOR!r}")
    _check_other_kind(state, event, kind)
    if not is_digest(command.token_digest) or not command.public:
        raise UsageError("invite: expected the SHA-256 of a token and the public key of its bootstrap certificate")
    if command.token_digest in state.invites:
        raise UsageError("invite: expected a token of its own, found that of another invite")
    valid_seconds = command.expires_at_us / 1e6 - now
    if not 0 < valid_seconds <= MAX_INVITE_SECONDS:
        found = f"{valid_seconds / 3600:.1f} hours by the coordinator's clock"
        raise UsageError(f"invite: expected more than 0 and at most {MAX_INVITE_SECONDS // 3600} hours, found {found}")
    return [
        lv.InviteIssuedV1(
            kind=kind,
            party=command.subject,
            token_digest=command.token_digest,
            expires_at_us=command.expires_at_us,
            operator=event.operator,
            command=command.id,
        )
    ]


def _check_other_kind(state: Federation, event: CommandReceived, kind: PartyKind) -> None:
    """Sites and operators share one name space, because both are senders."""
    party = event.command.subject
    others = {PartyKind.OPERATOR: ("a site", state.sites), PartyKind.SITE: ("an operator", event.operators)}
    what, names = others[kind]
    if party in names:
        raise UsageError(f"{kind.value} {party}: roster version {state.roster_version} has {what} of that name")


_COMMANDS: dict[CommandKind, Callable[[Federation, CommandReceived], list[lv.Body]]] = {
    CommandKind.RUN_CREATE: _create,
    CommandKind.RUN_APPROVE: _approve,
    CommandKind.RUN_START: _start,
    CommandKind.RUN_PAUSE: _pause,
    CommandKind.RUN_RESUME: _resume,
    CommandKind.RUN_ROLLBACK: _rollback,
    CommandKind.RUN_ABORT: _abort,
    CommandKind.RUN_EVALUATE: _evaluate,
    CommandKind.ROUND_ABANDON: _abandon_round,
    CommandKind.SITE_DRAIN: _drain,
    CommandKind.SITE_RESUME: _undrain,
    CommandKind.SITE_REVOKE: _revoke,
}
