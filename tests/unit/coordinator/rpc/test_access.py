# SPDX-License-Identifier: Apache-2.0
"""The table of access, walked whole: every call x every role x everything that can be wrong with a caller."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
from network_bench import Who, consortium_of, holder_of, membership_of, revoke, subject_of

from coordinator.rpc.access import ACCESS, authorise
from coordinator.rpc.membership import Membership
from federation.certificates import CertRole, Identity, IssuerKind
from federation.errors import AccessDeniedError, CertificateError, RevokedError
from federation.roster_document import Role

NOW = 1_800_000_000.0
CONSORTIUM = consortium_of()
MEMBERSHIP = membership_of(CONSORTIUM, now=NOW)
ENROLL = "/federation.v1.Enrolment/Enroll"
"""Whose callers the enrolment desk judges by the keys that they ask for."""

OTHERS = [method for method in ACCESS if method != ENROLL]
CASES = [pytest.param(*case, id="-".join(case)) for case in itertools.product(ACCESS, Who)]

MEMBERS = [case for case in CASES if case.values[1] is not Who.BOOTSTRAP and case.values[0] != ENROLL]


def identity_of(who: Who, consortium: str = "eu") -> Identity:
    subject = subject_of(who, consortium=consortium)
    return Identity(
        **vars(subject),
        not_after_us=int((NOW + 60) * 1e6),
        spki=CONSORTIUM.tls_public(holder_of(subject)),
        issuer=IssuerKind.ENROLMENT if who is Who.BOOTSTRAP else IssuerKind.TLS,
    )


def verdict(method: str, identity: Identity, membership: Membership, now: float = NOW) -> type[Exception] | None:
    try:
        authorise(method, identity, membership, now)
    except (AccessDeniedError, CertificateError) as error:
        return type(error) if str(error) else None
    return None


@pytest.mark.parametrize(("method", "who"), CASES)
def test_a_member_reaches_what_the_table_says(method: str, who: Who) -> None:
    allowed = CertRole(who) in ACCESS[method]
    assert verdict(method, identity_of(who), MEMBERSHIP) is (None if allowed else AccessDeniedError)


@pytest.mark.parametrize(("method", "who"), CASES)
def test_an_expired_certificate_reaches_nothing(method: str, who: Who) -> None:
    assert verdict(method, identity_of(who), MEMBERSHIP, NOW + 59.9) is not CertificateError
    assert verdict(method, identity_of(who), MEMBERSHIP, NOW + 60) is CertificateError


@pytest.mark.parametrize(("method", "who"), CASES)
def test_another_consortiums_certificate_reaches_nothing(method: str, who: Who) -> None:
    assert verdict(method, identity_of(who, "us"), MEMBERSHIP) is CertificateError


@pytest.mark.parametrize(("method", "who"), MEMBERS)
def test_who_is_not_in_the_roster_reaches_nothing(method: str, who: Who) -> None:
    gone = replace(MEMBERSHIP, roster=replace(MEMBERSHIP.roster, sites=(), operators=()))
    assert verdict(method, identity_of(who), gone) is AccessDeniedError


@pytest.mark.parametrize(("method", "who"), MEMBERS)
def test_a_certificate_for_another_key_reaches_nothing(method: str, who: Who) -> None:
    other = replace(identity_of(who), spki=CONSORTIUM.tls_public("site/leonardo"))
    assert verdict(method, other, MEMBERSHIP) is AccessDeniedError


@pytest.mark.parametrize("method", OTHERS)
def test_a_member_without_a_tls_key_in_the_roster_reaches_nothing(method: str) -> None:
    entries = tuple(replace(entry, tls_public=b"") for entry in MEMBERSHIP.roster.sites)
    membership = replace(MEMBERSHIP, roster=replace(MEMBERSHIP.roster, sites=entries))
    assert verdict(method, replace(identity_of(Who.SITE), spki=b""), membership) is AccessDeniedError


@pytest.mark.parametrize("method", OTHERS)
def test_a_revoked_site_reaches_nothing_until_the_roster_gives_it_another_key(method: str) -> None:
    revoked = revoke(MEMBERSHIP, "lumi")
    allowed = CertRole.SITE in ACCESS[method]
    assert verdict(method, identity_of(Who.SITE), revoked) is (RevokedError if allowed else AccessDeniedError)
    entries = tuple(
        replace(entry, update_public=CONSORTIUM.public("new")) if entry.site == "lumi" else entry
        for entry in revoked.roster.sites
    )
    again = replace(revoked, roster=replace(revoked.roster, sites=entries))
    assert verdict(method, identity_of(Who.SITE), again) is (None if allowed else AccessDeniedError)


@pytest.mark.parametrize("method", OTHERS)
def test_a_role_that_the_roster_does_not_give_spoils_the_certificate(method: str) -> None:
    both = replace(identity_of(Who.VIEWER), roles=(CertRole.OPERATOR, CertRole.VIEWER))
    assert verdict(method, both, MEMBERSHIP) is AccessDeniedError
    entries = tuple(
        replace(entry, roles=(Role.OPERATOR, Role.VIEWER)) if entry.operator == "victor" else entry
        for entry in MEMBERSHIP.roster.operators
    )
    given = replace(MEMBERSHIP, roster=replace(MEMBERSHIP.roster, operators=entries))
    assert verdict(method, both, given) is None


@pytest.mark.parametrize("method", ["/federation.v1.Courier/Unknown", "", "/grpc.reflection.v1.ServerReflection/Info"])
@pytest.mark.parametrize("who", Who)
def test_a_method_that_is_in_no_table_is_nobodys(method: str, who: Who) -> None:
    assert verdict(method, identity_of(who), MEMBERSHIP) is AccessDeniedError


def test_nobody_calls_with_the_servers_own_certificate() -> None:
    server = replace(identity_of(Who.SITE), roles=(CertRole.COORDINATOR,), id="coordinator", kind=None)
    check: Callable[[str], type[Exception] | None] = lambda method: verdict(method, server, MEMBERSHIP)  # noqa: E731
    assert {check(method) for method in ACCESS} == {AccessDeniedError}


@pytest.mark.parametrize("who", Who)
def test_enrolment_is_reached_over_any_certificate_of_ours(who: Who) -> None:
    nobody = replace(revoke(MEMBERSHIP, "lumi"), roster=replace(MEMBERSHIP.roster, operators=()))
    assert verdict(ENROLL, replace(identity_of(who), spki=b"another"), nobody) is None
