# SPDX-License-Identifier: Apache-2.0
"""Projections for people: the sites, their invites and key requests, and what is amiss. Read-only."""

from __future__ import annotations

import base64
import dataclasses
import json
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from coordinator.consequences import of_revocation
from coordinator.openings import opening_view
from coordinator.round_trips import round_trip_document, slow_couriers
from federation import egress
from federation.errors import FederationError, UsageError
from federation.ids import short
from federation.kernels.dispatch import compiler
from federation.key_requests import open_request
from federation.leaves import InviteIssuedV1, PartyKind
from federation.roster import KeyUse, RequestKind, Roster
from federation.rounds import Federation, RoundState, Run, RunState

if TYPE_CHECKING:
    from coordinator.observations import SiteSeen
    from coordinator.service import Coordinator

Document = dict[str, Any]

ENROLMENT: Final = "enrolment"
REQUESTS: Final = f"{ENROLMENT}/requests"
REQUEST_SUFFIX: Final = ".req"
NETWORK_STATUS: Final = "status/network.json"
MAX_REQUEST_BYTES: Final = 64 * 1024
MAX_REQUESTS_BYTES: Final = 4 * 1024 * 1024
"""Of requests in one document, which has to fit into a message."""


def sites_document(coordinator: Coordinator, subject: str = "") -> Document:
    """What `site list` prints; of one site also what its revocation would mean.

    Invites that nobody has used yet; whether they have expired is for the reader's clock to say.

    Raises:
        UsageError: the roster names no such site.
    """
    state = coordinator.state
    if subject and subject not in state.sites:
        raise _unknown(coordinator, subject)
    used = {digest for digest in state.invites if coordinator.fs.exists(used_invite_path(digest))}
    names = (subject,) if subject else tuple(sorted({*state.sites, *state.revoked}))
    document: Document = {
        "roster_version": state.roster_version,
        "sites": [site_line(coordinator, name) for name in names],
        "invites": [
            _invite_line(coordinator, invite)
            for digest, invite in sorted(state.invites.items(), key=lambda item: item[1].expires_at_us)
            if digest not in used and (not subject or invite.party == subject)
        ],
    }
    if subject:
        return {**document, "consequences": list(of_revocation(state, subject, used))}
    return {**document, "requests": open_requests(coordinator)}


def _unknown(coordinator: Coordinator, subject: str) -> UsageError:
    state = coordinator.state
    is_operator = any(entry.operator == subject for entry in coordinator.rosters.current.operators)
    return UsageError(
        f"site {subject!r}: not in roster version {state.roster_version}, which has {', '.join(state.sites) or 'none'}",
        advice=f"{subject} is an operator: the consortium root takes operators out, with `federation consortium sign "
        f"ROOT --remove operator:{subject} --out roster`; then install that roster."
        if is_operator
        else "",
    )


def _invite_line(coordinator: Coordinator, invite: InviteIssuedV1) -> Document:
    """One invite. `member`: the roster in force names who was invited, and nobody has revoked them."""
    roster = coordinator.rosters.current
    sites = {entry.site for entry in roster.sites} - coordinator.state.revoked.keys()
    operators = {entry.operator for entry in roster.operators}
    return {
        "kind": invite.kind.value,
        "party": invite.party,
        "operator": invite.operator,
        "expires_at_us": invite.expires_at_us,
        "member": invite.party in (sites if invite.kind is PartyKind.SITE else operators),
    }


def site_line(coordinator: Coordinator, site: str) -> Document:
    """One site, over all runs."""
    state, seen = coordinator.state, coordinator.observations.sites.get(site)
    allocations = seen.status.allocations if seen else ()
    return {
        "site": site,
        "state": site_state(state, site),
        "last_seen": seen.received_at if seen else None,
        "software": seen.status.software if seen else "",
        "ledger_size": seen.status.ledger_size if seen else 0,
        "allocations": {a.run: a.state.value for a in allocations},
        "runs": sorted(run.id for run in state.runs.values() if run.is_member(site)),
        "waited_for": _waited_for(state, site),
        "revoked_key": short(state.revoked.get(site, "")),
        "round_trip": round_trip_document(state, coordinator.observations, site),
        "facts": facts_document(seen),
        "clock_skew_seconds": clock_skew_seconds(seen),
    }


def facts_document(seen: SiteSeen | None) -> Document | None:
    """What the site says about itself, as it said it; None of an older agent, and where something in it is nothing that
    an honest agent says: a text that is not on the egress list, a figure that is not finite.
    """
    facts = seen.status.facts if seen else None
    if facts is None or any(egress.problems(facts)):
        return None
    figures = (figure for entry in facts.budgets for figure in dataclasses.astuple(entry))
    is_finite = all(isfinite(figure) for figure in figures if isinstance(figure, float))
    return dataclasses.asdict(facts) if is_finite else None


def clock_skew_seconds(seen: SiteSeen | None) -> float | None:
    """By how much the newest report's receipt, by the coordinator's clock, lies behind its writing, by the site's.

    It is not the clocks' difference alone: the courier's way is in it, up to hours with a spool. Far below zero the
    site's clock certainly is ahead; far above, compare it with `round_trip`. None where the site did not say when.
    """
    sent_at_us = seen.status.sent_at_us if seen else 0
    return round(seen.received_at - sent_at_us / 1e6, 3) if seen and sent_at_us else None


def site_state(state: Federation, site: str) -> str:
    """In a word: revoked outranks removed (from the roster), which outranks drained."""
    if site in state.revoked:
        return "revoked"
    if site not in state.sites:
        return "removed"
    return "drained" if site in state.drained else "active"


def _waited_for(state: Federation, site: str) -> list[Document]:
    """Open rounds that wait for this site."""
    return [
        {"run": run.id, "round": number}
        for _, run in sorted(state.runs.items())
        for number in run.open_rounds
        if run.rounds[number].state is RoundState.OPEN and site in run.rounds[number].waiting_for()
    ]


def open_requests(coordinator: Coordinator) -> list[Document]:
    """Key requests that enrolled parties left and that the roster in force does not fulfil yet, base64 of each."""
    fs, roster, room = coordinator.fs, coordinator.rosters.current, MAX_REQUESTS_BYTES
    found: list[Document] = []
    for name in fs.list(REQUESTS):
        if not name.endswith(REQUEST_SUFFIX):
            continue
        try:
            data = fs.read(f"{REQUESTS}/{name}", max_bytes=MAX_REQUEST_BYTES)
            request = open_request(data)
        except FederationError:
            continue  # a file that enrolment did not write
        room -= len(data)
        keys = {key.use: key.public for key in request.keys}
        if room >= 0 and not _fulfilled(roster, request.kind, request.id, keys):
            text = base64.b64encode(data).decode()
            found.append({"kind": request.kind.value, "id": request.id, "request": text})
    return found


def _fulfilled(roster: Roster, kind: RequestKind, name: str, keys: dict[KeyUse, bytes]) -> bool:
    """Whether the roster gives this party exactly the keys that it asks for."""
    sites = ((RequestKind.SITE, e.site, e.update_public, e.tls_public, e.witness_public) for e in roster.sites)
    operators = ((RequestKind.OPERATOR, e.operator, e.public, e.tls_public, b"") for e in roster.operators)
    wanted = (keys.get(use, b"") for use in (KeyUse.ENVELOPES, KeyUse.TLS, KeyUse.WITNESS))
    return (kind, name, *wanted) in {*sites, *operators}


def used_invite_path(token_digest: str) -> str:
    """The file that enrolment makes when an invite is used."""
    return f"{ENROLMENT}/{token_digest}.json"


def network_document(coordinator: Coordinator) -> Document:
    """What the network server wrote about itself; {} where there is none."""
    try:
        found = json.loads(coordinator.fs.read(NETWORK_STATUS, max_bytes=1024 * 1024))
    except (FederationError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def problems(coordinator: Coordinator, only_run: str = "") -> list[str]:
    """What somebody has to see to, in sentences. `only_run`: leaves out what concerns another run."""
    state, observations = coordinator.state, coordinator.observations
    runs = [run for name, run in sorted(state.runs.items()) if only_run in ("", name)]
    made = [
        f"run {run.id} is paused: {run.pause.sentence}" for run in runs if run.state is RunState.PAUSED and run.pause
    ]
    short = observations.short_of_disk
    made += [f"run {run.id}: {short[run.id]}" for run in runs if run.id in short]
    made += [sentence for run in runs if (sentence := cannot_open(coordinator, run))]
    made += slow_couriers(state, observations)
    if not compiler():
        made.append("nothing compiles arithmetic here: commits take several times as long; install numba")
    if observations.roster_expired:
        made.append(f"roster version {state.roster_version} has expired; install the next one")
    made += [f"site {site} is revoked" for site in sorted(state.revoked)]
    heard = {*observations.sites, *state.revoked}
    made += [f"site {site} was never heard of" for site in state.sites if site not in heard]
    made += [
        f"{request['kind']} {request['id']}: its key request waits for the consortium root; "
        "`coordinator site requests` fetches it"
        for request in open_requests(coordinator)
    ]
    return made


def cannot_open(coordinator: Coordinator, run: Run) -> str:
    """Why no further round of a running run can open, "" if one can or none is left to open.

    By the quorum of who was ready when the newest report came: a look at the state needs no clock.
    """
    state, observations = coordinator.state, coordinator.observations
    if run.state is not RunState.RUNNING or run.next_round - len(run.void) >= run.plan.num_rounds:
        return ""
    newest = max((seen.received_at for seen in observations.sites.values()), default=0.0)
    decision = opening_view(state, run, observations, newest).decision
    return "" if decision.reached else f"run {run.id}: no round can open, too few sites are ready: {decision.sentence}"
