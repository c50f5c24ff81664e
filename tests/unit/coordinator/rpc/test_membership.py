# SPDX-License-Identifier: Apache-2.0
"""The snapshot that calls are judged by: what it takes from the driver, and that it never changes afterwards."""

from dataclasses import FrozenInstanceError, dataclass, replace

import pytest
from network_bench import consortium_of, membership_of, revoke

from coordinator.rpc.membership import membership_of as snapshot_of
from federation import signing
from federation.leaves import InviteIssuedV1, PartyKind
from federation.roster import TrustedRosters, root_fingerprint
from federation.rounds import Federation


@dataclass
class Driven:
    """What the snapshot is taken of."""

    rosters: TrustedRosters
    state: Federation

    @property
    def consortium(self) -> str:
        return self.rosters.current.consortium


def driven() -> Driven:
    consortium, rosters = consortium_of(), TrustedRosters()
    first = consortium.roster()
    rosters.anchor(consortium.document(first), root_fingerprint(first))
    rosters.update(consortium.document(replace(first, version=2)), 0)
    return Driven(rosters, Federation(size=9, revoked={"lumi": "key"}))


def test_a_snapshot_has_all_documents_oldest_first_and_the_newest_roster() -> None:
    source = driven()
    found = snapshot_of(source)  # type: ignore[arg-type]
    assert (found.consortium, found.ledger_size, found.revoked) == ("eu", 9, {"lumi": "key"})
    assert found.roster is source.rosters.current
    assert found.rosters == tuple(source.rosters.document(version) for version in (1, 2))


def test_a_snapshot_does_not_follow_the_driver() -> None:
    source = driven()
    found = snapshot_of(source)  # type: ignore[arg-type]
    invite = InviteIssuedV1(
        kind=PartyKind.SITE, party="mare", token_digest="00", expires_at_us=1, operator="alice", command="c"
    )
    source.state = Federation(size=10, invites={"00": invite})
    assert (found.ledger_size, found.invites) == (9, {})
    assert snapshot_of(source).invites == {"00": invite}  # type: ignore[arg-type]
    with pytest.raises(FrozenInstanceError):
        found.ledger_size = 1  # type: ignore[misc]


def test_a_site_is_revoked_with_one_key() -> None:
    consortium = consortium_of()
    membership = revoke(membership_of(consortium), "lumi")
    assert membership.is_revoked("lumi", consortium.public("site/lumi/update"))
    assert not membership.is_revoked("lumi", consortium.public("site/lumi/witness"))
    assert not membership.is_revoked("jupiter", consortium.public("site/jupiter/update"))
    assert membership.revoked["lumi"] == signing.key_id(membership.sites["lumi"].update_public)


def test_entries_are_found_by_kind() -> None:
    membership = membership_of(consortium_of())
    assert membership.entry(PartyKind.SITE, "lumi") == membership.sites["lumi"]
    assert membership.entry(PartyKind.OPERATOR, "alice") == membership.operators["alice"]
    assert membership.entry(PartyKind.OPERATOR, "lumi") is None
