# SPDX-License-Identifier: Apache-2.0
"""Who a certificate speaks for, and how that is spelled in its one URI (subject alternative name):

federation://<consortium>/site/<id>
federation://<consortium>/operator/<id>?roles=operator+auditor+viewer
federation://<consortium>/bootstrap/site/<id>        (or operator: for enrolment alone)
federation://<consortium>/coordinator                (a server; its DNS name is `server_name`)
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from federation.errors import CertificateError
from federation.ids import COORDINATOR, SLUG_PATTERN
from federation.leaves import PartyKind


class CertRole(StrEnum):
    """What a certificate says that its holder is."""

    SITE = "site"
    OPERATOR = "operator"
    VIEWER = "viewer"
    AUDITOR = "auditor"
    BOOTSTRAP = "bootstrap"
    """Holds an invite, or asks for a new certificate; reaches enrolment alone."""

    COORDINATOR = "coordinator"
    """The server; never a caller."""


class IssuerKind(StrEnum):
    """Which of the two issuers signed a certificate."""

    TLS = "tls"
    ENROLMENT = "enrolment"


_OPERATOR_ROLES: Final = (CertRole.OPERATOR, CertRole.AUDITOR, CertRole.VIEWER)
"""In the order in which the URI lists them."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Who a certificate speaks for.

    Attributes:
        roles: one role, or an operator's roles in the order operator, auditor, viewer.
        id: site's or operator's id; "coordinator" for the coordinator.
        kind: what `id` names, for a bootstrap certificate too; None for the coordinator.
    """

    consortium: str
    roles: tuple[CertRole, ...]
    id: str
    kind: PartyKind | None

    @property
    def is_bootstrap(self) -> bool:
        """Whether it reaches enrolment alone."""
        return self.roles == (CertRole.BOOTSTRAP,)

    @property
    def uri(self) -> str:
        """The one spelling of this subject."""
        base = f"federation://{self.consortium}"
        if self.kind is None:
            return f"{base}/coordinator"
        if self.is_bootstrap:
            return f"{base}/bootstrap/{self.kind}/{self.id}"
        roles = f"?roles={'+'.join(self.roles)}" if self.kind is PartyKind.OPERATOR else ""
        return f"{base}/{self.kind}/{self.id}{roles}"


@dataclass(frozen=True, kw_only=True)
class Identity(Subject):
    """What a verified certificate says.

    Attributes:
        not_after_us: when it expires, microseconds since 1970.
        spki: its key: DER SubjectPublicKeyInfo, as a roster's `tls_public`.
        issuer: who signed it.
    """

    not_after_us: int
    spki: bytes
    issuer: IssuerKind


def site_subject(consortium: str, site: str) -> Subject:
    """A site."""
    return Subject(consortium=consortium, roles=(CertRole.SITE,), id=site, kind=PartyKind.SITE)


def operator_subject(consortium: str, operator: str, roles: tuple[str, ...]) -> Subject:
    """An operator with at least one of the roles operator, auditor, viewer (also as `roster_document.Role`)."""
    ordered = tuple(role for role in _OPERATOR_ROLES if role in roles)
    return Subject(consortium=consortium, roles=ordered, id=operator, kind=PartyKind.OPERATOR)


def bootstrap_subject(consortium: str, kind: PartyKind, party: str) -> Subject:
    """A site or operator that may only enrol."""
    return Subject(consortium=consortium, roles=(CertRole.BOOTSTRAP,), id=party, kind=kind)


def coordinator_subject(consortium: str) -> Subject:
    """The coordinator's server."""
    return Subject(consortium=consortium, roles=(CertRole.COORDINATOR,), id=COORDINATOR, kind=None)


def server_name(consortium: str) -> str:
    """The name that clients expect in the coordinator's certificate, wherever its endpoint is."""
    return f"coordinator.{consortium}.federation.internal"


_SUBJECT = re.compile(
    rf"federation://(?P<consortium>{SLUG_PATTERN})/"
    rf"(?:(?P<coordinator>coordinator)|(?P<bootstrap>bootstrap/)?(?P<kind>site|operator)/(?P<id>{SLUG_PATTERN})"
    r"(?:\?roles=(?P<roles>[a-z+]{1,40}))?)"
)


def parse_subject(uri: str) -> Subject:
    """The subject whose `uri` this is. Raises CertificateError: it is nobody's, or spelled otherwise."""
    match = _SUBJECT.fullmatch(uri)
    subject = _matched(match) if match else None
    if subject is None or subject.uri != uri:
        raise CertificateError(f"certificate: expected the URI of a site, operator or invite, found {uri[:120]!r}")
    return subject


def _matched(match: re.Match[str]) -> Subject:
    consortium = match["consortium"]
    if match["coordinator"]:
        return coordinator_subject(consortium)
    if match["bootstrap"]:
        return bootstrap_subject(consortium, PartyKind(match["kind"]), match["id"])
    if match["kind"] == PartyKind.SITE:
        return site_subject(consortium, match["id"])
    return operator_subject(consortium, match["id"], tuple((match["roles"] or "").split("+")))
