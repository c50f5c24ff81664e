# SPDX-License-Identifier: Apache-2.0
"""Who belongs to the consortium at this moment: an immutable snapshot that the driver makes and the network reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from federation.leaves import InviteIssuedV1, PartyKind
from federation.roster_document import OperatorEntry, Roster, SiteEntry
from federation.signing import key_id

if TYPE_CHECKING:
    from coordinator.service import Coordinator


@dataclass(frozen=True)
class Membership:
    """What calls are judged by.

    Attributes:
        roster: the one in force.
        rosters: all root-signed documents, oldest first, exact bytes.
        revoked: per revoked site the id of the update key that it had.
        invites: by the SHA-256 of their tokens, in hexadecimal.
        ledger_size: leaves of the ledger by then.
    """

    consortium: str
    roster: Roster
    rosters: tuple[bytes, ...]
    revoked: Mapping[str, str]
    invites: Mapping[str, InviteIssuedV1]
    ledger_size: int

    @cached_property
    def sites(self) -> Mapping[str, SiteEntry]:
        """Entries of the roster in force, by site."""
        return {entry.site: entry for entry in self.roster.sites}

    @cached_property
    def operators(self) -> Mapping[str, OperatorEntry]:
        """Entries of the roster in force, by operator."""
        return {entry.operator: entry for entry in self.roster.operators}

    def is_revoked(self, site: str, update_public: bytes) -> bool:
        """Whether the site was revoked with this update key; another key is for the roster to judge."""
        return site in self.revoked and self.revoked[site] == key_id(update_public)

    def entry(self, kind: PartyKind, party: str) -> SiteEntry | OperatorEntry | None:
        """The party's entry in the roster in force."""
        return self.sites.get(party) if kind is PartyKind.SITE else self.operators.get(party)


def membership_of(coordinator: "Coordinator") -> Membership:
    """The snapshot of a coordinator, for the thread that drives it."""
    rosters, state = coordinator.rosters, coordinator.state
    return Membership(
        consortium=coordinator.consortium,
        roster=rosters.current,
        rosters=tuple(rosters.document(version) for version in rosters.versions),
        revoked=state.revoked,
        invites=state.invites,
        ledger_size=state.size,
    )
