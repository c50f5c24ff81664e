# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest

from federation import signing
from federation.certificates import der
from federation.errors import ConfigError
from federation.key_requests import coordinator_request, open_request, operator_request, site_request
from federation.roster import Role, RootKey, check_roster
from federation.roster_changes import day, describe, merge
from federation.testing.rosters import DAY_US, MemoryConsortium

EU = MemoryConsortium()
ROSTER = EU.roster()


def _site(name: str) -> bytes:
    return site_request(name, update=signing.generate_key(), witness=signing.generate_key())


def test_new_members_are_added_in_order() -> None:
    requests = [open_request(data) for data in (_site("leonardo"), operator_request("bob", signing.generate_key()))]
    merged = merge(ROSTER, requests)
    assert [entry.site for entry in merged.sites] == ["jupiter", "leonardo", "lumi"]
    assert [entry.operator for entry in merged.operators] == ["alice", "bob"]
    check_roster(merged)
    assert describe(ROSTER, merged)[:-1] == ("site leonardo: added", "operator bob: added (operator)")


def test_changed_keys_replace_and_are_said_so() -> None:
    merged = merge(ROSTER, [open_request(_site("lumi"))])
    assert merged.sites[0] == ROSTER.sites[0]
    assert merged.sites[1] != ROSTER.sites[1]
    assert describe(ROSTER, merged)[0] == "site lumi: keys REPLACED"


def test_the_same_keys_again_change_nothing() -> None:
    again = site_request(
        "lumi",
        update=EU.key("site/lumi/update"),
        witness=EU.key("site/lumi/witness"),
        tls_public=EU.tls_public("site/lumi"),
    )
    merged = merge(ROSTER, [open_request(again)])
    assert merged == ROSTER
    assert describe(ROSTER, merged) == (f"expires {day(ROSTER.expires_at_us)}",)


def test_a_change_of_roles_alone() -> None:
    key, tls = EU.key("operator/alice"), EU.tls_public("operator/alice")
    request = open_request(operator_request("alice", key, (Role.AUDITOR,), tls_public=tls))
    assert describe(ROSTER, merge(ROSTER, [request]))[0] == "operator alice: roles changed (auditor)"


def test_a_change_of_the_tls_key_alone() -> None:
    keys = {"update": EU.key("site/lumi/update"), "witness": EU.key("site/lumi/witness")}
    without = merge(ROSTER, [open_request(site_request("lumi", **keys))])
    other = merge(ROSTER, [open_request(site_request("lumi", **keys, tls_public=EU.tls_public("spare")))])
    assert describe(without, other)[0] == "site lumi: TLS key added"
    assert describe(ROSTER, other)[0] == "site lumi: TLS key REPLACED"
    check_roster(other)
    request = operator_request("alice", EU.key("operator/alice"), (Role.VIEWER,), tls_public=EU.tls_public("spare"))
    merged = merge(ROSTER, [open_request(request)])
    assert merged.operators[0].tls_public == EU.tls_public("spare")
    assert describe(ROSTER, merged)[0] == "operator alice: TLS key REPLACED, roles changed (viewer)"


def test_the_coordinators_request_brings_the_tls_issuer() -> None:
    keys = {"envelopes": EU.key("coordinator"), "ledger": EU.key("ledger")}
    tls, issuer = EU.tls_public("coordinator"), der(EU.issuer().certificate)
    other = der(MemoryConsortium(seed="other").issuer().certificate)
    same = open_request(coordinator_request(**keys, tls_public=tls, tls_issuer=issuer))
    assert merge(ROSTER, [same]) == ROSTER
    replaced = merge(ROSTER, [open_request(coordinator_request(**keys, tls_public=tls, tls_issuer=other))])
    assert replaced.tls_issuer == other
    assert describe(ROSTER, replaced)[0].startswith("TLS issuer: REPLACED")
    without = merge(ROSTER, [open_request(coordinator_request(**keys))])
    assert without.tls_issuer == b""
    assert describe(ROSTER, without)[:2] == (
        "coordinator: keys REPLACED",
        "TLS issuer: removed; channel certificates are not accepted any more",
    )
    assert describe(without, merge(without, [same]))[1].startswith("TLS issuer: added, certificate with SHA-256 ")
    for roster in (replaced, without):
        check_roster(roster)


def test_another_ledger_is_shouted() -> None:
    request = open_request(coordinator_request(envelopes=signing.generate_key(), ledger=signing.generate_key()))
    merged = merge(ROSTER, [request])
    assert merged.coordinator is not None
    assert merged.coordinator.ledger_origin == "eu/ledger"
    assert any("ANOTHER LEDGER" in line for line in describe(ROSTER, merged))
    kept = open_request(coordinator_request(envelopes=signing.generate_key(), ledger=EU.key("ledger")))
    assert describe(ROSTER, merge(ROSTER, [kept]))[0] == "coordinator: keys REPLACED"
    assert not any("ANOTHER LEDGER" in line for line in describe(ROSTER, merge(ROSTER, [kept])))


def test_removals_come_before_requests() -> None:
    merged = merge(ROSTER, [open_request(_site("lumi"))], ["site:jupiter", "operator:alice"])
    assert [entry.site for entry in merged.sites] == ["lumi"]
    assert merged.operators == ()
    assert describe(ROSTER, merged)[:3] == (
        "site jupiter: removed",
        "site lumi: keys REPLACED",
        "operator alice: removed",
    )


@pytest.mark.parametrize("removal", ["site:nobody", "operator:lumi", "lumi", "", "coordinator:", "site:"])
def test_what_is_not_there_cannot_be_removed(removal: str) -> None:
    with pytest.raises(ConfigError, match="remove: expected"):
        merge(ROSTER, [], [removal])


def test_two_requests_for_one_id_are_refused() -> None:
    with pytest.raises(ConfigError, match="found several"):
        merge(ROSTER, [open_request(_site("lumi")), open_request(_site("lumi"))])


def test_a_change_of_root_is_said() -> None:
    other = replace(ROSTER, root_keys=(RootKey(public=bytes(32)),))
    assert describe(ROSTER, other)[0].startswith("root: now 1 of 1 keys")


def test_first_roster_lists_everybody() -> None:
    lines = describe(None, ROSTER)
    assert lines[0] == "coordinator: added, ledger eu/ledger"
    assert len(lines) == 6
    assert lines[-2].startswith("TLS issuer: added")


def test_days() -> None:
    assert day(DAY_US) == "1970-01-02"
    assert "microseconds" in day(2**62)
