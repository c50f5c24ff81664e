# SPDX-License-Identifier: Apache-2.0
"""From one roster to the next: merge requests, remove members, and say in sentences what changed (no I/O)."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from federation.errors import ConfigError
from federation.ids import short
from federation.notes import default_origin
from federation.roster_document import (
    CoordinatorEntry,
    KeyRequest,
    KeyUse,
    OperatorEntry,
    RequestKind,
    Roster,
    SiteEntry,
)


def merge(previous: Roster, requests: Sequence[KeyRequest], removals: Sequence[str] = ()) -> Roster:
    """The members of the next roster: removals first, then requests; who is there already gets the new keys.

    The coordinator's request brings the TLS issuer too, or takes it away.
    Version and times stay those of `previous`.

    Args:
        removals: "site:ID" or "operator:ID".

    Raises:
        ConfigError: two requests for one id, or a removal of what is not there.
    """
    _check_unique(requests)
    roster = previous
    for removal in removals:
        roster = _without(roster, removal)
    sites = {entry.site: entry for entry in roster.sites}
    operators = {entry.operator: entry for entry in roster.operators}
    coordinator, tls_issuer = roster.coordinator, roster.tls_issuer
    for request in requests:
        if request.kind is RequestKind.SITE:
            sites[request.id] = _site(request)
        elif request.kind is RequestKind.OPERATOR:
            operators[request.id] = _operator(request)
        else:
            coordinator, tls_issuer = _coordinator(request, roster.consortium), request.tls_issuer
    return replace(
        roster,
        coordinator=coordinator,
        sites=tuple(entry for _, entry in sorted(sites.items())),
        operators=tuple(entry for _, entry in sorted(operators.items())),
        tls_issuer=tls_issuer,
    )


def describe(previous: Roster | None, roster: Roster) -> tuple[str, ...]:
    """What `roster` changes, one line for each member concerned, for the people who sign it."""
    lines = []
    old_sites = {entry.site: entry for entry in previous.sites} if previous else {}
    old_operators = {entry.operator: entry for entry in previous.operators} if previous else {}
    if previous and (previous.root_keys, previous.threshold) != (roster.root_keys, roster.threshold):
        lines.append(f"root: now {roster.threshold} of {len(roster.root_keys)} keys, and another fingerprint")
    lines += _coordinator_lines(previous.coordinator if previous else None, roster.coordinator)
    lines += _lines("site", old_sites, {entry.site: entry for entry in roster.sites})
    lines += _lines("operator", old_operators, {entry.operator: entry for entry in roster.operators})
    lines += _issuer_lines(previous.tls_issuer if previous else b"", roster.tls_issuer)
    lines.append(f"expires {day(roster.expires_at_us)}")
    return tuple(lines)


def day(at_us: int) -> str:
    """A time in microseconds since 1970 as a date (UTC)."""
    try:
        return datetime.fromtimestamp(at_us / 1e6, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return f"{at_us} microseconds after 1970"


def _check_unique(requests: Iterable[KeyRequest]) -> None:
    seen = set()
    for request in requests:
        if request.id in seen:
            raise ConfigError(f"requests: expected one of {request.id!r}, found several")
        seen.add(request.id)


def _without(roster: Roster, removal: str) -> Roster:
    kind, _, name = removal.partition(":")
    if kind == "site" and any(entry.site == name for entry in roster.sites):
        return replace(roster, sites=tuple(entry for entry in roster.sites if entry.site != name))
    if kind == "operator" and any(entry.operator == name for entry in roster.operators):
        return replace(roster, operators=tuple(entry for entry in roster.operators if entry.operator != name))
    raise ConfigError(
        f"remove: expected site:ID or operator:ID of roster version {roster.version}, found {removal!r:.80}"
    )


def _site(request: KeyRequest) -> SiteEntry:
    return SiteEntry(
        site=request.id,
        tls_public=request.key(KeyUse.TLS),
        update_public=request.key(KeyUse.ENVELOPES),
        witness_public=request.key(KeyUse.WITNESS),
    )


def _operator(request: KeyRequest) -> OperatorEntry:
    return OperatorEntry(
        operator=request.id,
        public=request.key(KeyUse.ENVELOPES),
        roles=request.roles,
        tls_public=request.key(KeyUse.TLS),
    )


def _coordinator(request: KeyRequest, consortium: str) -> CoordinatorEntry:
    return CoordinatorEntry(
        public=request.key(KeyUse.ENVELOPES),
        ledger_origin=request.ledger_origin or default_origin(consortium),
        ledger_public=request.key(KeyUse.LEDGER),
        tls_public=request.key(KeyUse.TLS),
    )


def _coordinator_lines(old: CoordinatorEntry | None, new: CoordinatorEntry | None) -> list[str]:
    if old == new:
        return []
    if old is None:
        return [f"coordinator: added, ledger {new.ledger_origin}"] if new else []
    if new is None:
        return ["coordinator: removed"]
    lines = ["coordinator: keys REPLACED"]
    if (old.ledger_origin, old.ledger_public) != (new.ledger_origin, new.ledger_public):
        lines.append("coordinator: ANOTHER LEDGER (origin or key); checkpoints of the old one will not verify any more")
    return lines


def _issuer_lines(old: bytes, new: bytes) -> list[str]:
    if old == new:
        return []
    if not new:
        return ["TLS issuer: removed; channel certificates are not accepted any more"]
    named = f"certificate with SHA-256 {short(hashlib.sha256(new).hexdigest())}"
    if not old:
        return [f"TLS issuer: added, {named}"]
    return [f"TLS issuer: REPLACED by the {named}; all certificates of the old one must be issued anew"]


def _lines(
    kind: str,
    old: dict[str, SiteEntry] | dict[str, OperatorEntry],
    new: dict[str, SiteEntry] | dict[str, OperatorEntry],
) -> list[str]:
    lines = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        verb = _verb(before, after)
        roles = f" ({', '.join(after.roles)})" if isinstance(after, OperatorEntry) else ""
        lines.append(f"{kind} {name}: {verb}{roles}")
    return lines


def _verb(before: SiteEntry | OperatorEntry | None, after: SiteEntry | OperatorEntry | None) -> str:
    if before is None or after is None:
        return "added" if before is None else "removed"
    changes = []
    if before.tls_public != after.tls_public:
        changes.append("TLS key REPLACED" if before.tls_public else "TLS key added")
        before = replace(before, tls_public=after.tls_public)
    if isinstance(before, OperatorEntry) and isinstance(after, OperatorEntry) and before.roles != after.roles:
        changes.append("roles changed")
        before = replace(before, roles=after.roles)
    return ", ".join(changes) if before == after else "keys REPLACED"
