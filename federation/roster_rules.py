# SPDX-License-Identifier: Apache-2.0
"""What every roster must obey, whoever signed it."""

from collections import Counter
from collections.abc import Sequence

from federation.certificates import read_issuer, read_spki, spki_of
from federation.errors import CertificateError, ConfigError, RosterError
from federation.ids import COORDINATOR, check_slug
from federation.roster_document import Roster
from federation.signing import PUBLIC_KEY_BYTES
from federation.wire.envelope import MAX_SIGNATURES


def check_roster(roster: Roster) -> None:
    """Returns if the roster obeys all rules; signatures, version order and time are checked elsewhere.

    Raises:
        RosterError: which rule is broken, and by what.
    """
    if roster.version < 1:
        raise RosterError(f"roster: expected a version from 1, found {roster.version}")
    if not 0 <= roster.issued_at_us < roster.expires_at_us:
        raise RosterError(f"roster: expected issue before expiry, found {roster.issued_at_us}, {roster.expires_at_us}")
    _check_root(roster)
    _check_ids(roster)
    _check_keys(roster)
    _check_tls(roster)
    for operator in roster.operators:
        if not operator.roles or len(set(operator.roles)) != len(operator.roles):
            raise RosterError(f"operator {operator.operator}: expected different roles, found {operator.roles}")
    if roster.coordinator is not None:
        _check_origin(roster.coordinator.ledger_origin)


def _check_root(roster: Roster) -> None:
    count = len(roster.root_keys)
    if not 1 <= count <= MAX_SIGNATURES:
        raise RosterError(f"root keys: expected 1 to {MAX_SIGNATURES}, found {count}")
    if not 1 <= roster.threshold <= count:
        raise RosterError(f"threshold: expected 1 to {count} (the number of root keys), found {roster.threshold}")
    publics = [key.public for key in roster.root_keys]
    if publics != sorted(publics):
        raise RosterError("root keys: expected ascending order, found another one")


def _check_ids(roster: Roster) -> None:
    """Sites and operators share one name space, because both are senders."""
    sites = [entry.site for entry in roster.sites]
    operators = [entry.operator for entry in roster.operators]
    for what, names in (("sites", sites), ("operators", operators)):
        if names != sorted(names):
            raise RosterError(f"{what}: expected ascending ids, found another order")
    for name, count in Counter((*sites, *operators, COORDINATOR)).items():
        if count > 1:
            raise RosterError(f"ids: expected each once (and {COORDINATOR!r} for nobody else), found {name!r} twice")
    try:
        for name in (roster.consortium, *sites, *operators):
            check_slug(name, "roster")
    except ConfigError as error:
        raise RosterError(str(error)) from error


def _check_keys(roster: Roster) -> None:
    """No key has two holders or two uses: a signature must say who signed, and as what."""
    needed = [("root key", key.public) for key in roster.root_keys]
    needed += [(f"operator {entry.operator}", entry.public) for entry in roster.operators]
    for site in roster.sites:
        needed += [
            (f"site {site.site}: update", site.update_public),
            (f"site {site.site}: witness", site.witness_public),
        ]
    if roster.coordinator is not None:
        needed += [("coordinator", roster.coordinator.public), ("ledger", roster.coordinator.ledger_public)]
    for what, public in needed:
        if len(public) != PUBLIC_KEY_BYTES:
            raise RosterError(f"{what}: expected a key of {PUBLIC_KEY_BYTES} bytes, found {len(public)}")
    _check_distinct([*needed, *_tls_keys(roster)])


def _tls_keys(roster: Roster) -> list[tuple[str, bytes]]:
    keys = [(f"site {entry.site}: tls", entry.tls_public) for entry in roster.sites]
    keys += [(f"operator {entry.operator}: tls", entry.tls_public) for entry in roster.operators]
    if roster.coordinator is not None:
        keys.append(("coordinator: tls", roster.coordinator.tls_public))
    return [(what, public) for what, public in keys if public]


def _check_tls(roster: Roster) -> None:
    """TLS keys are ECDSA keys, and the issuer of their certificates is nobody else's key.

    Sites of release 0.1 named a raw Ed25519 key that nothing used: it stays readable, and no certificate matches it.
    """
    keys, what = _tls_keys(roster), ""
    try:
        for what, public in keys:  # noqa: B007 - the message names it
            if len(public) != PUBLIC_KEY_BYTES:
                read_spki(public)
        what = "TLS issuer"
        if roster.tls_issuer:
            _check_distinct([*keys, (what, spki_of(read_issuer(roster.tls_issuer)))])
    except CertificateError as error:
        raise RosterError(f"{what}: {error}") from error


def _check_distinct(keys: Sequence[tuple[str, bytes]]) -> None:
    holders: dict[bytes, str] = {}
    for what, public in keys:
        if public in holders:
            raise RosterError(f"{what}: expected a key of its own, found that of {holders[public]}")
        holders[public] = what


def _check_origin(origin: str) -> None:
    ok = 0 < len(origin) <= 200 and origin.isascii() and origin.isprintable() and not set(origin) & set(" +")
    if not ok:
        raise RosterError(f"ledger origin: expected printable ASCII without spaces or '+', found {origin!r:.100}")
