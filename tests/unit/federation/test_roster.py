# SPDX-License-Identifier: Apache-2.0
"""Documents walk the fixed order of checks; each illegal one is refused and leaves what is trusted untouched."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from federation import dsse, signing
from federation.certificates import der, site_subject, spki
from federation.errors import RosterError, UnknownSiteError
from federation.roster import (
    CoordinatorEntry,
    OperatorEntry,
    Role,
    RootKey,
    Roster,
    TrustedRosters,
    check_roster,
    peek_roster,
    root_fingerprint,
    roster_digest,
)
from federation.testing.rosters import DAY_US, MemoryConsortium
from federation.wire import roster_to_bytes

NOW = 1_000 * DAY_US


@pytest.fixture
def eu() -> MemoryConsortium:
    return MemoryConsortium(num_root_keys=3, threshold=2)


@pytest.fixture
def trusted(eu: MemoryConsortium) -> TrustedRosters:
    rosters = TrustedRosters()
    first = eu.roster(1, NOW)
    rosters.anchor(eu.document(first), root_fingerprint(first))
    return rosters


def _second(eu: MemoryConsortium) -> Roster:
    return eu.roster(2, NOW)


def test_anchor_then_updates_are_held_with_their_exact_bytes(eu: MemoryConsortium, trusted: TrustedRosters) -> None:
    second = eu.document(_second(eu))
    assert trusted.update(second, NOW) == _second(eu) == trusted.current == trusted.at(2)
    assert trusted.versions == (1, 2)
    assert trusted.document(2) == second
    assert trusted.at(1).version == 1
    assert trusted.fingerprint == root_fingerprint(eu.roster())
    for missing in (0, 3, -1):
        with pytest.raises(RosterError, match="expected one of"):
            trusted.at(missing)


def test_anchor_may_be_any_version(eu: MemoryConsortium) -> None:
    rosters = TrustedRosters()
    fifth = eu.roster(5, NOW)
    rosters.anchor(eu.document(fifth), root_fingerprint(fifth))
    rosters.update(eu.document(eu.next(fifth)), NOW)
    assert rosters.versions == (5, 6)


def test_anchor_of_another_root_is_refused(eu: MemoryConsortium) -> None:
    rosters = TrustedRosters()
    stranger = MemoryConsortium(seed="stranger", num_root_keys=3, threshold=2)
    with pytest.raises(RosterError, match="fingerprint") as caught:
        rosters.anchor(stranger.document(), root_fingerprint(eu.roster()))
    assert "another channel" in caught.value.diagnostics()
    with pytest.raises(RuntimeError):
        _ = rosters.current


def test_anchor_needs_the_threshold(eu: MemoryConsortium) -> None:
    roster = eu.roster()
    for signers in (eu.root_keys()[:1], [eu.key("stranger"), eu.root_keys()[0]]):
        with pytest.raises(RosterError, match="its own root"):
            TrustedRosters().anchor(eu.document(roster, signers), root_fingerprint(roster))


def test_misuse_is_a_runtime_error(eu: MemoryConsortium, trusted: TrustedRosters) -> None:
    with pytest.raises(RuntimeError, match="anchor"):
        TrustedRosters().update(eu.document(), NOW)
    with pytest.raises(RuntimeError, match="anchor"):
        trusted.anchor(eu.document(), trusted.fingerprint)


def _rotated(eu: MemoryConsortium, holders: list[str], threshold: int) -> Roster:
    publics = sorted(eu.public(holder) for holder in holders)
    return replace(_second(eu), threshold=threshold, root_keys=tuple(RootKey(public=key) for key in publics))


Broken = Callable[[MemoryConsortium], bytes]

ILLEGAL: dict[str, tuple[Broken, str]] = {
    "1-junk": (lambda eu: b"junk", "expected a signed envelope"),
    "1-other-type": (
        lambda eu: dsse.sign_envelope(dsse.MESSAGE_TYPE, roster_to_bytes(_second(eu)), eu.root_keys()[0]),
        "expected type",
    ),
    "1-payload": (
        lambda eu: dsse.sign_envelope(dsse.ROSTER_TYPE, b"\xff", eu.root_keys()[0]),
        "expected its encoding",
    ),
    "2-one-signature": (lambda eu: eu.document(_second(eu), eu.root_keys()[:1]), "signatures of the root of version 1"),
    "2-strangers": (
        lambda eu: eu.document(_second(eu), [eu.key("x"), eu.key("y")]),
        "signatures of the root of version 1",
    ),
    "2-coordinator": (
        lambda eu: eu.document(_second(eu), [eu.key("coordinator"), eu.root_keys()[0]]),
        "signatures of the root of version 1",
    ),
    "2-rotated-by-new-alone": (
        lambda eu: eu.document(_rotated(eu, ["new/1", "new/2"], 2), [eu.key("new/1"), eu.key("new/2")]),
        "signatures of the root of version 1",
    ),
    "3-consortium": (lambda eu: eu.document(replace(_second(eu), consortium="us")), "expected consortium eu"),
    "4-gap": (lambda eu: eu.document(eu.roster(3, NOW)), "expected version 2, found 3"),
    "4-older": (lambda eu: eu.document(replace(eu.roster(1, NOW), sites=())), "expected version 2, found 1"),
    "5-rules": (lambda eu: eu.document(replace(_second(eu), threshold=4)), "threshold"),
    "6-rotated-by-old-alone": (
        lambda eu: eu.document(_rotated(eu, ["new/1", "new/2"], 2)),
        "signatures of its own root",
    ),
    "6-higher-threshold": (lambda eu: eu.document(replace(_second(eu), threshold=3)), "signatures of its own root"),
    "7-expired": (
        lambda eu: eu.document(replace(eu.roster(2, NOW - DAY_US), expires_at_us=NOW)),
        "expired 0 seconds ago",
    ),
    "7-future": (lambda eu: eu.document(eu.roster(2, NOW + 3 * DAY_US)), "clock"),
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_an_illegal_document_changes_nothing(eu: MemoryConsortium, trusted: TrustedRosters, name: str) -> None:
    make, words = ILLEGAL[name]
    with pytest.raises(RosterError) as caught:
        trusted.update(make(eu), NOW)
    assert words in caught.value.diagnostics()
    assert trusted.versions == (1,)
    trusted.update(eu.document(_second(eu)), NOW)


def test_a_rotated_root_needs_both_roots_and_then_rules_alone(eu: MemoryConsortium, trusted: TrustedRosters) -> None:
    new = [eu.key("new/1"), eu.key("new/2")]
    rotated = _rotated(eu, ["new/1", "new/2"], 2)
    trusted.update(eu.document(rotated, [*eu.root_keys()[:2], *new]), NOW)
    with pytest.raises(RosterError, match="version 2"):
        trusted.update(eu.document(eu.next(rotated)), NOW)
    trusted.update(eu.document(eu.next(rotated), new), NOW)
    assert trusted.current.version == 3
    assert root_fingerprint(trusted.current) != trusted.fingerprint


def test_the_same_document_again_is_no_error_whoever_signed_it(eu: MemoryConsortium, trusted: TrustedRosters) -> None:
    keys = eu.root_keys()
    trusted.update(eu.document(_second(eu), keys[:2]), NOW)
    assert trusted.update(eu.document(_second(eu), keys[1:]), NOW) == trusted.current
    assert trusted.versions == (1, 2)
    assert trusted.document(2) == eu.document(_second(eu), keys[:2])
    assert roster_digest(trusted.document(2)) == roster_digest(eu.document(_second(eu), keys[1:]))


def test_expiry_is_the_callers_clock(eu: MemoryConsortium, trusted: TrustedRosters) -> None:
    late = _second(eu).expires_at_us
    with pytest.raises(RosterError, match="expired"):
        trusted.update(eu.document(_second(eu)), late)
    trusted.update(eu.document(_second(eu)), late - 1)
    assert not trusted.expired(late - 1)
    assert trusted.expired(late)


def test_load_trusts_what_was_installed_even_if_it_has_expired(eu: MemoryConsortium) -> None:
    documents = [eu.document(eu.roster(version, NOW)) for version in (1, 2, 3)]
    fingerprint = root_fingerprint(eu.roster())
    rosters = TrustedRosters.load(documents, fingerprint, NOW + 1_000 * DAY_US)
    assert rosters.versions == (1, 2, 3)
    for broken in ([], documents[::2], [documents[0], eu.document(eu.roster(2, NOW), eu.root_keys()[:1])]):
        with pytest.raises(RosterError):
            TrustedRosters.load(broken, fingerprint, NOW)


def test_members_are_found_by_id(eu: MemoryConsortium, trusted: TrustedRosters) -> None:
    assert trusted.site("lumi") == eu.site_entry("lumi")
    assert trusted.operator("alice").public == eu.public("operator/alice")
    assert trusted.coordinator().public == eu.public("coordinator")
    assert trusted.sender_public("lumi") == eu.public("site/lumi/update")
    assert trusted.sender_public("alice") == eu.public("operator/alice")
    assert trusted.sender_public("coordinator") == eu.public("coordinator")
    for find in (trusted.site, trusted.operator, trusted.sender_public):
        with pytest.raises(UnknownSiteError, match="mallory"):
            find("mallory")


def test_a_removed_site_is_unknown(eu: MemoryConsortium, trusted: TrustedRosters) -> None:
    eu.sites = ("jupiter",)
    trusted.update(eu.document(_second(eu)), NOW)
    with pytest.raises(UnknownSiteError):
        trusted.site("lumi")


def test_a_roster_without_a_coordinator(eu: MemoryConsortium) -> None:
    roster = replace(eu.roster(1, NOW), coordinator=None)
    rosters = TrustedRosters()
    rosters.anchor(eu.document(roster), root_fingerprint(roster))
    with pytest.raises(RosterError, match="coordinator"):
        rosters.coordinator()
    with pytest.raises(UnknownSiteError):
        rosters.sender_public("coordinator")


def test_fingerprint_is_over_consortium_threshold_and_keys_alone(eu: MemoryConsortium) -> None:
    roster = eu.roster()
    same = replace(roster, version=9, sites=(), operators=(), coordinator=None, root_keys=roster.root_keys[::-1])
    assert root_fingerprint(same) == root_fingerprint(roster)
    for other in (
        replace(roster, consortium="us"),
        replace(roster, threshold=1),
        replace(roster, root_keys=roster.root_keys[1:]),
    ):
        assert root_fingerprint(other) != root_fingerprint(roster)


def test_fingerprint_has_a_fixed_value() -> None:
    roster = Roster(
        consortium="eu",
        version=1,
        issued_at_us=0,
        expires_at_us=1,
        threshold=1,
        root_keys=(RootKey(public=bytes(32)),),
    )
    assert root_fingerprint(roster) == "409d6343b20a6ca8fbc54abd6feb821def7264fa441bc3615d9257b4be82a156"


COMPRESSED = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + (
    MemoryConsortium()
    .tls_key("coordinator")
    .public_key()
    .public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
)
"""A TLS key in another encoding: two spellings of one key would be two keys."""

LEAF = der(MemoryConsortium().certificate(site_subject("eu", "lumi"), "site/lumi", NOW / 1e6))


def _with_coordinator(roster: Roster, **changes: object) -> Roster:
    assert roster.coordinator is not None
    return replace(roster, coordinator=replace(roster.coordinator, **changes))


def _doubled(roster: Roster) -> Roster:
    """Jupiter under Lumi's key."""
    jupiter, lumi = roster.sites
    return replace(roster, sites=(replace(jupiter, witness_public=lumi.update_public), lumi))


RULES: dict[str, Callable[[Roster], Roster]] = {
    "version-zero": lambda roster: replace(roster, version=0),
    "expires-before-issue": lambda roster: replace(roster, expires_at_us=roster.issued_at_us),
    "negative-time": lambda roster: replace(roster, issued_at_us=-1),
    "threshold-zero": lambda roster: replace(roster, threshold=0),
    "threshold-above": lambda roster: replace(roster, threshold=4),
    "no-root": lambda roster: replace(roster, root_keys=()),
    "root-order": lambda roster: replace(roster, root_keys=roster.root_keys[::-1]),
    "root-twice": lambda roster: replace(roster, root_keys=roster.root_keys[:1] * 3),
    "root-short": lambda roster: replace(roster, root_keys=(RootKey(public=b"short"),), threshold=1),
    "too-many-root-keys": lambda roster: replace(
        roster, root_keys=tuple(RootKey(public=number.to_bytes(32, "big")) for number in range(65))
    ),
    "site-order": lambda roster: replace(roster, sites=roster.sites[::-1]),
    "site-twice": lambda roster: replace(roster, sites=roster.sites[:1] * 2),
    "site-is-operator": lambda roster: replace(
        roster, operators=(OperatorEntry(operator="lumi", public=bytes(32), roles=(Role.VIEWER,)),)
    ),
    "site-is-coordinator": lambda roster: replace(roster, sites=(replace(roster.sites[0], site="coordinator"),)),
    "site-no-slug": lambda roster: replace(roster, sites=(replace(roster.sites[0], site="../lumi"),)),
    "consortium-no-slug": lambda roster: replace(roster, consortium="E U"),
    "key-of-another": _doubled,
    "ledger-key-is-coordinators": lambda roster: _with_coordinator(
        roster, ledger_public=roster.coordinator.public if roster.coordinator else b""
    ),
    "root-key-is-coordinators": lambda roster: _with_coordinator(roster, public=roster.root_keys[0].public),
    "tls-short": lambda roster: _with_coordinator(roster, tls_public=b"x"),
    "tls-other-curve": lambda roster: _with_coordinator(
        roster, tls_public=spki(ec.derive_private_key(7, ec.SECP384R1()))
    ),
    "tls-trailing-byte": lambda roster: _with_coordinator(
        roster, tls_public=roster.coordinator.tls_public + b"\0" if roster.coordinator else b""
    ),
    "tls-compressed": lambda roster: _with_coordinator(roster, tls_public=COMPRESSED),
    "tls-key-of-another": lambda roster: _with_coordinator(roster, tls_public=roster.sites[0].tls_public),
    "operators-tls-key-of-a-site": lambda roster: replace(
        roster, operators=(replace(roster.operators[0], tls_public=roster.sites[0].tls_public),)
    ),
    "issuer-junk": lambda roster: replace(roster, tls_issuer=b"junk"),
    "issuer-no-authority": lambda roster: replace(roster, tls_issuer=LEAF),
    "issuers-key-is-a-sites": lambda roster: replace(
        roster, sites=(replace(roster.sites[0], tls_public=MemoryConsortium().tls_public("TLS issuer")),)
    ),
    "no-update-key": lambda roster: replace(roster, sites=(replace(roster.sites[0], update_public=b""),)),
    "no-role": lambda roster: replace(roster, operators=(replace(roster.operators[0], roles=()),)),
    "role-twice": lambda roster: replace(
        roster, operators=(replace(roster.operators[0], roles=(Role.VIEWER, Role.VIEWER)),)
    ),
    "no-origin": lambda roster: _with_coordinator(roster, ledger_origin=""),
    "origin-newline": lambda roster: _with_coordinator(roster, ledger_origin="eu\nledger"),
    "origin-space": lambda roster: _with_coordinator(roster, ledger_origin="eu ledger"),
    "origin-plus": lambda roster: _with_coordinator(roster, ledger_origin="eu+ledger"),
}


@pytest.mark.parametrize("name", RULES)
def test_rules_of_a_roster(eu: MemoryConsortium, name: str) -> None:
    roster = eu.roster(1, NOW)
    check_roster(roster)
    with pytest.raises(RosterError):
        check_roster(RULES[name](roster))


def test_rosters_of_release_0_1_stay_valid(eu: MemoryConsortium) -> None:
    """Its sites had raw Ed25519 keys there, which nothing used; nobody else had any."""
    roster = eu.roster(1, NOW)
    old = tuple(replace(site, tls_public=eu.public(f"tls/{site.site}")) for site in roster.sites)
    operators = tuple(replace(operator, tls_public=b"") for operator in roster.operators)
    check_roster(replace(_with_coordinator(roster, tls_public=b""), sites=old, operators=operators, tls_issuer=b""))
    twice = (replace(old[0], tls_public=old[1].tls_public), old[1])
    with pytest.raises(RosterError, match="a key of its own"):
        check_roster(replace(roster, sites=twice, tls_issuer=b""))


def test_a_tls_identity_may_be_missing(eu: MemoryConsortium) -> None:
    roster = eu.roster(1, NOW)
    bare = tuple(replace(site, tls_public=b"") for site in roster.sites)
    check_roster(replace(_with_coordinator(roster, tls_public=b""), sites=bare))


def test_peeking_verifies_nothing(eu: MemoryConsortium) -> None:
    assert peek_roster(eu.document(signers=[signing.generate_key()])) == eu.roster()
    assert isinstance(peek_roster(eu.document()).coordinator, CoordinatorEntry)
    with pytest.raises(RosterError):
        peek_roster(b"junk")
