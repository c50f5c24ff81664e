# SPDX-License-Identifier: Apache-2.0
"""Which certificate reaches which call. Pure: a certificate's identity, the membership of now, and one table.

A call passes these checks, in this order, before anything that the caller sent is looked at, and again before each
message of a stream and after each wait:

1. the method is in the table;
2. the certificate is of this consortium;
3. it has not expired;
4. one of its roles reaches the method;
5. enrolment: nothing more here, `EnrolmentDesk` judges the keys that are asked for, whatever certificate it came over;
6. a site: the roster in force names it, with this certificate's key, and it is not revoked;
7. an operator, viewer or auditor: the roster names it, with this key, and gives it every role of the certificate.
"""

from collections.abc import Mapping
from typing import Final

from coordinator.rpc.membership import Membership
from federation.certificates import CertRole, Identity
from federation.errors import AccessDeniedError, CertificateError, RevokedError

_PEOPLE: Final = frozenset({CertRole.OPERATOR, CertRole.VIEWER, CertRole.AUDITOR})
_PARTIES: Final = _PEOPLE | {CertRole.SITE}
_WRITERS: Final = frozenset({CertRole.SITE, CertRole.OPERATOR})
_EVERYONE: Final = _PARTIES | {CertRole.BOOTSTRAP}

ENROLL: Final = "/federation.v1.Enrolment/Enroll"

ACCESS: Final[Mapping[str, frozenset[CertRole]]] = {
    "/federation.v1.Courier/Negotiate": _PARTIES,
    "/federation.v1.Courier/Pull": _PARTIES,
    "/federation.v1.Courier/Push": _PARTIES,
    "/federation.v1.Courier/StatBlob": _WRITERS,
    "/federation.v1.Courier/PutBlob": _WRITERS,
    "/federation.v1.Courier/GetBlob": _PARTIES,
    ENROLL: _EVERYONE,
    "/federation.v1.Control/Status": _PEOPLE,
    "/federation.v1.Control/Watch": _PEOPLE,
    "/grpc.health.v1.Health/Check": _PARTIES,
    "/grpc.health.v1.Health/Watch": _PARTIES,
}
"""Roles that reach each method. What is not here is refused; a test walks the services' descriptors."""


def authorise(method: str, identity: Identity, membership: Membership, now: float) -> None:
    """Returns if the call may go on.

    Args:
        method: full name, `/package.Service/Method`.
        identity: of a certificate whose issuer was verified.
        now: the coordinator's clock, seconds since 1970.

    Raises:
        AccessDeniedError: the role does not reach the method, or the roster does not name the caller so.
        RevokedError: an operator revoked the site.
        CertificateError: another consortium's certificate, or it has expired.
    """
    allowed = ACCESS.get(method)
    if allowed is None:  # 1
        raise AccessDeniedError(f"{method:.80}: expected a call that somebody may make, found one that is in no table")
    if identity.consortium != membership.consortium:  # 2
        raise CertificateError(
            f"certificate: expected consortium {membership.consortium}, found {identity.consortium:.60}"
        )
    if now * 1e6 >= identity.not_after_us:  # 3
        raise CertificateError(
            f"certificate of {identity.id}: expired {int(now - identity.not_after_us / 1e6)} seconds ago",
            advice="Renew it: the renewal certificate still reaches enrolment.",
        )
    if allowed.isdisjoint(identity.roles):  # 4
        raise AccessDeniedError(
            f"{method}: expected role {' or '.join(sorted(allowed))}, found {', '.join(identity.roles)}"
        )
    if method == ENROLL:  # 5
        return
    if CertRole.SITE in identity.roles:
        _site(identity, membership)  # 6
    else:
        _person(identity, membership)  # 7


def _site(identity: Identity, membership: Membership) -> None:
    entry = membership.sites.get(identity.id)
    if entry is None:
        raise _not_a_member(identity, membership)
    if membership.is_revoked(entry.site, entry.update_public):
        raise RevokedError(
            f"site {entry.site}: revoked by an operator", advice="Ask an operator; new keys need a new invite."
        )
    _same_key(identity, entry.tls_public, membership)


def _person(identity: Identity, membership: Membership) -> None:
    entry = membership.operators.get(identity.id)
    if entry is None:
        raise _not_a_member(identity, membership)
    _same_key(identity, entry.tls_public, membership)
    given = {role.value for role in entry.roles}
    if not given.issuperset(role.value for role in identity.roles):
        raise AccessDeniedError(
            f"{entry.operator}: expected no other roles than {', '.join(sorted(given))}, as in roster version "
            f"{membership.roster.version}, found {', '.join(identity.roles)}",
            advice="`coordinator operator enroll DIR` renews the certificate: it will have the roles of today.",
        )


def _same_key(identity: Identity, tls_public: bytes, membership: Membership) -> None:
    if not tls_public or identity.spki != tls_public:
        raise AccessDeniedError(
            f"{identity.id}: expected the TLS key that roster version {membership.roster.version} names, found another",
            advice="Enrol with the keys that the roster names, or have the new ones signed into the next roster.",
        )


def _not_a_member(identity: Identity, membership: Membership) -> AccessDeniedError:
    return AccessDeniedError(
        f"{identity.id}: expected a member of roster version {membership.roster.version}, found a stranger",
        advice="The consortium's root has to sign the key request into the next roster.",
    )
