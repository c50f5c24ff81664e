# SPDX-License-Identifier: Apache-2.0
"""Invites are good once, for one party and one request; renewals are for who is in the roster; nothing is forgotten."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from network_bench import DAY, Who, consortium_of, holder_of, invite, membership_of, request_of, revoke, subject_of

from coordinator.rpc.enrolment import EnrolmentDesk
from coordinator.rpc.membership import Membership
from federation import signing
from federation.certificates import CertRole, Identity, Issuers, der, read_identity, spki
from federation.durable.simulated import SimulatedCrash, SimulatedFileSystem
from federation.errors import (
    AccessDeniedError,
    BadSignatureError,
    FederationError,
    InviteError,
    LimitExceededError,
    ProtocolError,
    RevokedError,
    UsageError,
)
from federation.invite import Enrolled
from federation.key_requests import coordinator_request, operator_request, site_request
from federation.leaves import PartyKind
from federation.roster_document import Role
from federation.testing.rosters import MemoryConsortium
from federation.tls_keys import generate_tls_key

NOW = 1_800_000_000.0
TOKEN = bytes(range(32))
DIGEST = hashlib.sha256(TOKEN).hexdigest()


@dataclass
class Scene:
    """A desk over files that can crash, and a newcomer, "mare", who is in no roster."""

    consortium: MemoryConsortium = field(default_factory=consortium_of)
    fs: SimulatedFileSystem = field(default_factory=SimulatedFileSystem)
    now: float = NOW

    def __post_init__(self) -> None:
        self.membership = membership_of(self.consortium, now=NOW)
        self.invite(PartyKind.SITE, "mare", NOW + DAY)

    @property
    def desk(self) -> EnrolmentDesk:
        return EnrolmentDesk(self.fs, self.consortium.issuers(), "eu", "coordinator.example.org:443")

    def invite(self, kind: PartyKind, party: str, expires_at: float, token: bytes = TOKEN) -> None:
        self.membership = invite(self.membership, kind, party, hashlib.sha256(token).hexdigest(), expires_at)

    def caller(self, who: Who = Who.BOOTSTRAP, party: str = "mare") -> Identity:
        subject = subject_of(who, party)
        public = self.consortium.tls_public(holder_of(subject))
        issuers = self.consortium.issuers()
        return identity_in(issuers, der(issuers.issue(subject, public, self.now)), self.now)

    def request(self, party: str = "mare", generation: str = "") -> bytes:
        keys = [self.consortium.key(f"site/{party}/{use}{generation}") for use in ("update", "witness")]
        tls_public = self.consortium.tls_public(f"site/{party}{generation}")
        return site_request(party, update=keys[0], witness=keys[1], tls_public=tls_public)

    def enroll(
        self, token: bytes = TOKEN, request: bytes = b"", caller: Identity | None = None, now: float | None = None
    ) -> Enrolled:
        at = self.now if now is None else now
        return self.desk.enroll(caller or self.caller(), token, request or self.request(), self.membership, at)

    def read(self, certificate: bytes, now: float | None = None) -> Identity:
        return identity_in(self.consortium.issuers(), certificate, self.now if now is None else now)


def identity_in(issuers: Issuers, certificate: bytes, now: float) -> Identity:
    return read_identity(certificate, der(issuers.tls.certificate), der(issuers.enrolment.certificate), now)


def roster_with(membership: Membership, consortium: MemoryConsortium, site: str) -> Membership:
    sites = (*membership.roster.sites, consortium.site_entry(site))
    return replace(membership, roster=replace(membership.roster, sites=sites, version=2))


# --- invites ----------------------------------------------------------------------------------------------------------


def test_an_invite_gives_a_channel_certificate_for_30_days_and_one_for_renewal() -> None:
    scene = Scene()
    answer = scene.enroll()
    channel, renewal = scene.read(answer.certificate), scene.read(answer.renewal_certificate)
    assert (channel.roles, channel.id, channel.kind) == ((CertRole.SITE,), "mare", PartyKind.SITE)
    assert (renewal.roles, renewal.id, renewal.kind) == ((CertRole.BOOTSTRAP,), "mare", PartyKind.SITE)
    assert channel.spki == renewal.spki == scene.consortium.tls_public("site/mare")
    assert channel.not_after_us == int((NOW + 30 * DAY) * 1e6)
    assert renewal.not_after_us > int((NOW + 3000 * DAY) * 1e6)
    assert (answer.consortium, answer.rosters, answer.member) == ("eu", scene.membership.rosters, False)


def test_the_same_request_gets_the_same_certificates_again_even_after_the_invite_expired() -> None:
    scene = Scene()
    first = scene.enroll()
    assert scene.enroll() == first
    assert scene.enroll(now=NOW + 2 * DAY) == first
    assert scene.enroll(token=b"") == first  # asks again with what it got, until a roster names it


def test_the_request_is_kept_for_the_roots_signers() -> None:
    scene = Scene()
    scene.enroll()
    assert scene.fs.read("enrolment/requests/mare.req") == scene.request()


def test_a_used_invite_is_no_good_for_other_keys() -> None:
    scene = Scene()
    first = scene.enroll()
    with pytest.raises(InviteError, match="used, with other keys"):
        scene.enroll(request=scene.request(generation="/2"))
    assert scene.enroll() == first
    assert scene.fs.read("enrolment/requests/mare.req") == scene.request()


def test_an_expired_invite_gives_nothing() -> None:
    scene = Scene()
    with pytest.raises(InviteError, match="expired"):
        scene.enroll(now=NOW + DAY)
    assert scene.fs.list("enrolment") == []


@pytest.mark.parametrize("token", [bytes(32), TOKEN[:-1], TOKEN + b"x", bytes([*TOKEN[:-1], 0]), b"../../x"])
def test_an_altered_or_unknown_token_gives_nothing(token: bytes) -> None:
    scene = Scene()
    with pytest.raises(InviteError):
        scene.enroll(token=token)
    assert scene.fs.list("enrolment") == []


@pytest.mark.parametrize(("kind", "party"), [(PartyKind.SITE, "other"), (PartyKind.OPERATOR, "mare")])
def test_an_invite_is_no_good_for_another_party(kind: PartyKind, party: str) -> None:
    scene, token = Scene(), bytes(31) + b"y"
    scene.invite(kind, party, NOW + DAY, token)
    with pytest.raises(InviteError, match="expected one for"):
        scene.enroll(token=token)


def test_a_bootstrap_certificate_is_no_good_for_another_party() -> None:
    scene = Scene()
    with pytest.raises(AccessDeniedError, match="as in the certificate"):
        scene.enroll(caller=scene.caller(party="other"))


def test_a_second_invite_replaces_the_first_ones_keys() -> None:
    scene, token = Scene(), bytes(32)
    scene.enroll()
    scene.invite(PartyKind.SITE, "mare", NOW + DAY, token)
    newer = scene.enroll(token=token, request=scene.request(generation="/2"))
    assert scene.read(newer.certificate).spki == scene.consortium.tls_public("site/mare/2")
    with pytest.raises(AccessDeniedError, match="found neither"):
        scene.enroll(token=b"")  # the older keys are in no roster, and their request was replaced


def test_an_operators_certificate_has_the_roles_that_it_asked_for_until_a_roster_says() -> None:
    scene, token = Scene(), bytes(32)
    scene.invite(PartyKind.OPERATOR, "zoe", NOW + DAY, token)
    key, tls_key = Ed25519PrivateKey.generate(), generate_tls_key()
    request = operator_request("zoe", key, (Role.OPERATOR, Role.AUDITOR), tls_public=spki(tls_key))
    caller = replace(scene.caller(), kind=PartyKind.OPERATOR, id="zoe")
    found = scene.read(scene.enroll(token=token, request=request, caller=caller).certificate)
    assert found.roles == (CertRole.OPERATOR, CertRole.AUDITOR)
    entry = replace(
        scene.consortium.operator_entry("zoe", (Role.AUDITOR,)),
        public=signing.public_bytes(key),
        tls_public=spki(tls_key),
    )
    scene.membership = replace(scene.membership, roster=replace(scene.membership.roster, operators=(entry,)))
    answer = scene.enroll(token=b"", request=request, caller=caller)
    assert answer.member
    assert scene.read(answer.certificate).roles == (CertRole.AUDITOR,)


# --- renewal ----------------------------------------------------------------------------------------------------------


def test_a_member_needs_no_token() -> None:
    scene = Scene()
    answer = scene.enroll(token=b"", request=scene.request("lumi"), caller=scene.caller(party="lumi"))
    assert answer.member
    assert scene.read(answer.certificate).id == "lumi"


def test_a_certificate_is_answered_again_while_more_than_20_days_are_left_then_renewed() -> None:
    scene = Scene()
    scene.membership = roster_with(scene.membership, scene.consortium, "mare")
    first = scene.enroll(token=b"")
    assert scene.enroll(token=b"", now=NOW + 9.9 * DAY) == first
    later = scene.enroll(token=b"", now=NOW + 10.1 * DAY)
    assert later.certificate != first.certificate
    assert later.renewal_certificate == first.renewal_certificate
    assert scene.read(later.certificate, NOW + 40 * DAY).id == "mare"
    assert scene.enroll(token=b"", now=NOW + 300 * DAY).member


def test_who_is_in_no_roster_and_has_no_invite_gets_nothing() -> None:
    scene = Scene()
    with pytest.raises(AccessDeniedError, match="found neither"):
        scene.enroll(token=b"")
    assert scene.fs.list("enrolment") == []


def test_a_member_with_other_keys_than_the_rosters_gets_nothing() -> None:
    scene = Scene()
    with pytest.raises(AccessDeniedError, match="found neither"):
        scene.enroll(token=b"", request=scene.request("lumi", "/2"), caller=scene.caller(party="lumi"))


def test_a_revoked_site_gets_nothing_with_its_old_keys_and_something_with_new_ones() -> None:
    scene = Scene()
    scene.membership = revoke(scene.membership, "lumi")
    caller = scene.caller(party="lumi")
    with pytest.raises(RevokedError):
        scene.enroll(token=b"", request=scene.request("lumi"), caller=caller)
    token = bytes(32)
    scene.invite(PartyKind.SITE, "lumi", NOW + DAY, token)
    with pytest.raises(RevokedError):
        scene.enroll(token=token, request=scene.request("lumi"), caller=caller)
    assert scene.fs.list("enrolment") == []
    answer = scene.enroll(token=token, request=scene.request("lumi", "/2"), caller=caller)
    assert not answer.member


def test_an_operator_of_this_machine_certifies_members_alone() -> None:
    scene = Scene()
    answer = scene.desk.certify(scene.request("lumi"), scene.membership, NOW)
    asked = scene.enroll(token=b"", request=scene.request("lumi"), caller=scene.caller(party="lumi"))
    assert answer == replace(asked, endpoint="coordinator.example.org:443")  # who asked over the network knows it
    with pytest.raises(AccessDeniedError):
        scene.desk.certify(scene.request("mare"), scene.membership, NOW)


# --- what is no request -----------------------------------------------------------------------------------------------


def test_what_is_no_request_is_refused() -> None:
    scene = Scene()
    signed = scene.request()
    without_tls = site_request("mare", update=scene.consortium.key("a"), witness=scene.consortium.key("b"))
    coordinator = coordinator_request(envelopes=scene.consortium.key("a"), ledger=scene.consortium.key("b"))
    for request, error in (
        (b"junk", ProtocolError),
        (b"x" * 70_000, LimitExceededError),
        (signed[:-1] + bytes([signed[-1] ^ 1]), FederationError),
        (signed.replace(b"mare", b"lumi"), BadSignatureError),
        (without_tls, ProtocolError),
        (coordinator, ProtocolError),
    ):
        with pytest.raises(error):
            scene.enroll(request=request)
    assert scene.fs.list("enrolment") == []


# --- crashes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", range(1, 45))
def test_a_crash_at_any_operation_locks_nobody_out_and_never_frees_the_token(operation: int) -> None:
    scene = Scene()

    def crash(name: str, path: str) -> None:
        if scene.fs.operations > operation:
            raise SimulatedCrash

    scene.fs.hook = crash
    answered: Enrolled | None = None
    with suppress(SimulatedCrash):
        answered = scene.enroll()
    scene.fs.hook = None
    scene.fs = scene.fs.crash()
    was_bound = scene.fs.exists(f"enrolment/{DIGEST}.json")
    again = scene.enroll()
    assert answered is None or again == answered
    assert scene.enroll() == again
    assert was_bound or answered is None
    with pytest.raises(InviteError):
        scene.enroll(request=scene.request(generation="/2"))


# --- the document of an invite ----------------------------------------------------------------------------------------


def test_an_invites_document_has_what_a_newcomer_needs_and_lives_as_long_as_the_invite() -> None:
    scene, key = Scene(), generate_tls_key()
    leaf = scene.membership.invites[DIGEST]
    document = scene.desk.invite_document(leaf, spki(key), NOW)
    found = scene.read(document["certificate"].encode())
    assert (found.roles, found.kind, found.id, found.spki) == ((CertRole.BOOTSTRAP,), PartyKind.SITE, "mare", spki(key))
    assert found.not_after_us == leaf.expires_at_us
    assert document["endpoint"] == "coordinator.example.org:443"
    assert document["consortium"] == "eu"
    nowhere = EnrolmentDesk(scene.fs, scene.consortium.issuers(), "eu")
    with pytest.raises(UsageError, match="listens nowhere"):
        nowhere.invite_document(leaf, spki(key), NOW)


def test_the_benchs_requests_are_the_rosters() -> None:
    consortium = consortium_of()
    assert request_of(consortium, subject_of(Who.SITE)) == Scene().request("lumi")
