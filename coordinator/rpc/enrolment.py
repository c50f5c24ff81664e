# SPDX-License-Identifier: Apache-2.0
"""Who gets a channel certificate: by an invite, once; or by the roster, again and again.

A certificate makes nobody a member: it names a key that reaches nothing until a root-signed roster names it too.

A request passes these steps, in this order:

1. it opens: every key in it signed it, and it has a TLS key;
2. it is for the party of the certificate that it came over;
3. the party was not revoked with this update key;
4. with a token: its invite is known, for this party, and has not expired, or it was used by this very request;
   without one: the roster in force gives the party exactly these keys, or an invite was used by this very request;
5. the token is bound to the request, durably; from now on it is good for this request alone;
6. the certificates that are kept for it are answered again, or new ones are made, kept, and answered.
"""

import hashlib
import json
import threading
from dataclasses import replace
from typing import Any, Final

from cryptography import x509

from coordinator.rpc.membership import Membership
from coordinator.site_views import ENROLMENT, REQUESTS, used_invite_path
from federation.certificates import (
    Identity,
    Issuers,
    Subject,
    bootstrap_subject,
    days_left,
    der,
    operator_subject,
    pem,
    read_certificate,
    read_identity,
    site_subject,
)
from federation.durable.api import FileSystem
from federation.errors import (
    AccessDeniedError,
    CertificateError,
    InviteError,
    LimitExceededError,
    ProtocolError,
    RevokedError,
    UsageError,
)
from federation.invite import TOKEN_BYTES, Enrolled
from federation.key_requests import open_request
from federation.leaves import InviteIssuedV1, PartyKind
from federation.roster_document import KeyRequest, KeyUse, OperatorEntry, RequestKind, SiteEntry

RENEWAL_DAYS: Final = 3650
"""Life of a certificate that reaches enrolment alone, and there only for who is in the roster."""

RENEW_BELOW_DAYS: Final = 20.0
"""A kept certificate with so many days left is answered again; another one is made for who asks later."""

MAX_REQUEST_BYTES: Final = 64 * 1024

_KINDS: Final = {RequestKind.SITE: PartyKind.SITE, RequestKind.OPERATOR: PartyKind.OPERATOR}


class EnrolmentDesk:
    """Decides on requests and keeps what it answered. Threads may share it; nothing here opens a socket."""

    def __init__(self, fs: FileSystem, issuers: Issuers, consortium: str, endpoint: str = "") -> None:
        """Works in `enrolment/` of a coordinator's directory. `endpoint`: HOST:PORT that invites name."""
        self._fs = fs
        self._consortium = consortium
        self._issuers = issuers
        self._lock = threading.Lock()
        self.endpoint = endpoint

    def enroll(self, identity: Identity, token: bytes, request: bytes, membership: Membership, now: float) -> Enrolled:
        """The answer to one request; the same one to the same request.

        Args:
            identity: of the certificate that the request came over.
            token: of an invite, b"" for none.
            request: a signed key request.
            now: seconds since 1970.

        Raises:
            ProtocolError, BadSignatureError, LimitExceededError: no request.
            AccessDeniedError: it is for another party, or for keys that nobody invited.
            RevokedError: the party was revoked with this key.
            InviteError: the token is unknown, used for other keys, expired, or another party's.
        """
        asked = _opened(request)  # 1
        kind = _KINDS[asked.kind]
        if (identity.kind, identity.id) != (kind, asked.id):  # 2
            raise AccessDeniedError(
                f"enrolment: expected a request of {identity.kind} {identity.id}, as in the certificate that it came "
                f"over, found one of {kind} {asked.id}"
            )
        with self._lock:
            return self._answer(asked, token, request, membership, now)

    def certify(self, request: bytes, membership: Membership, now: float) -> Enrolled:
        """The answer to a request that an operator of this machine hands in: for who is in the roster with these keys.

        Raises:
            ProtocolError, BadSignatureError, LimitExceededError, AccessDeniedError, RevokedError: see `enroll`.
        """
        asked = _opened(request)
        try:
            with self._lock:
                return replace(self._answer(asked, b"", request, membership, now), endpoint=self.endpoint)
        except RevokedError:
            raise
        except AccessDeniedError as error:
            raise AccessDeniedError(
                str(error),
                advice="First have the consortium root sign this request (`federation consortium sign`) and install "
                "that roster; then certify it again.",
            ) from error

    def invite_document(self, invite: InviteIssuedV1, public: bytes, now: float) -> dict[str, Any]:
        """What an operator puts into an invite file, beside the private key and the token that only they have.

        Args:
            public: DER SubjectPublicKeyInfo of the bootstrap certificate's key.

        Raises:
            UsageError: this coordinator has no endpoint to invite to.
            CertificateError: `public` is no key.
        """
        if not self.endpoint:
            raise UsageError(
                "this coordinator listens nowhere, so it cannot invite",
                advice="Set [network] listen or endpoint in coordinator.toml, then serve again.",
            )
        tls_issuer = self._issuers.tls.certificate
        subject = bootstrap_subject(self._consortium, invite.kind, invite.party)
        certificate = self._issuers.issue(subject, public, now, max(60.0, invite.expires_at_us / 1e6 - now))
        return {
            "consortium": subject.consortium,
            "kind": invite.kind.value,
            "id": invite.party,
            "endpoint": self.endpoint,
            "tls_issuer": pem(tls_issuer).decode(),
            "certificate": pem(certificate).decode(),
            "expires_at_us": invite.expires_at_us,
        }

    def _answer(self, asked: KeyRequest, token: bytes, request: bytes, membership: Membership, now: float) -> Enrolled:
        kind = _KINDS[asked.kind]
        update, entry = asked.key(KeyUse.ENVELOPES), membership.entry(kind, asked.id)
        if kind is PartyKind.SITE and membership.is_revoked(asked.id, update):  # 3
            raise RevokedError(
                f"site {asked.id}: revoked by an operator, with this update key",
                advice="Make new keys, and ask an operator for an invite.",
            )
        member = entry is not None and has_keys(entry, asked)
        if token:
            self._redeem(token, asked, request, membership, now)  # 4, 5
        elif not member and not self._was_accepted(asked, request):
            raise AccessDeniedError(
                f"{kind} {asked.id}: expected the keys that roster version {membership.roster.version} names, or an "
                "invite's token, found neither",
                advice="Ask an operator of the consortium for an invite.",
            )
        granted = entry.roles if member and isinstance(entry, OperatorEntry) else asked.roles
        roles = tuple(role.value for role in granted)
        subject = _subject(membership.consortium, kind, asked.id, roles)
        return Enrolled(
            consortium=membership.consortium,
            certificate=self._channel_certificate(subject, asked, now),  # 6
            renewal_certificate=self._renewal_certificate(subject, asked, now),
            rosters=membership.rosters,
            member=member,
        )

    def _redeem(self, token: bytes, asked: KeyRequest, request: bytes, membership: Membership, now: float) -> None:
        if len(token) != TOKEN_BYTES:
            raise InviteError(f"invite: expected a token of {TOKEN_BYTES} bytes, found {len(token)}")
        digest, kind = hashlib.sha256(token).hexdigest(), _KINDS[asked.kind]
        path, bound = used_invite_path(digest), _binding(kind, asked.id, request)
        if self._fs.exists(path):
            if self._fs.read(path, max_bytes=MAX_REQUEST_BYTES) != bound:
                raise InviteError(
                    f"invite of {kind} {asked.id}: was used, with other keys",
                    advice="If that was not you, tell an operator at once; ask for another invite.",
                )
        else:
            _check_invite(membership.invites.get(digest), kind, asked.id, now)
            self._fs.write(path, bound)
        if not self._was_accepted(asked, request):
            self._fs.write(_request_path(asked), request)

    def _was_accepted(self, asked: KeyRequest, request: bytes) -> bool:
        """Whether an invite was used by exactly this request, and no later one by another."""
        path = _request_path(asked)
        return self._fs.exists(path) and self._fs.read(path, max_bytes=MAX_REQUEST_BYTES) == request

    def _channel_certificate(self, subject: Subject, asked: KeyRequest, now: float) -> bytes:
        return self._kept(f"{ENROLMENT}/{subject.kind}-{subject.id}.crt", subject, asked, now, RENEW_BELOW_DAYS, 30.0)

    def _renewal_certificate(self, subject: Subject, asked: KeyRequest, now: float) -> bytes:
        assert subject.kind is not None
        renewal = bootstrap_subject(subject.consortium, subject.kind, subject.id)
        path = f"{ENROLMENT}/{subject.kind}-{subject.id}-renewal.crt"
        return self._kept(path, renewal, asked, now, RENEWAL_DAYS / 2, RENEWAL_DAYS)

    def _kept(
        self, path: str, subject: Subject, asked: KeyRequest, now: float, at_least_days: float, days: float
    ) -> bytes:
        """The certificate in a file (DER) if it is still the right one, else a new one, durable before it is sent."""
        public = asked.key(KeyUse.TLS)
        found = self._read_kept(path)
        if found is not None and self._is_for(found, subject, public, now) and days_left(found, now) > at_least_days:
            return der(found)
        made = self._issuers.issue(subject, public, now, days * 86_400.0)
        self._fs.write(path, pem(made))
        return der(made)

    def _read_kept(self, path: str) -> x509.Certificate | None:
        return read_certificate(self._fs.read(path, max_bytes=MAX_REQUEST_BYTES)) if self._fs.exists(path) else None

    def _is_for(self, found: x509.Certificate, subject: Subject, public: bytes, now: float) -> bool:
        issuers = (der(self._issuers.tls.certificate), der(self._issuers.enrolment.certificate))
        try:
            identity = read_identity(der(found), *issuers, now)
        except CertificateError:  # expired, or of the issuer before
            return False
        return identity.uri == subject.uri and identity.spki == public


def has_keys(entry: SiteEntry | OperatorEntry, asked: KeyRequest) -> bool:
    """Whether a roster's entry gives a party exactly the keys that it asks for."""
    if isinstance(entry, SiteEntry):
        mine = (entry.tls_public, entry.update_public, entry.witness_public)
        return mine == tuple(asked.key(use) for use in (KeyUse.TLS, KeyUse.ENVELOPES, KeyUse.WITNESS))
    return (entry.tls_public, entry.public) == (asked.key(KeyUse.TLS), asked.key(KeyUse.ENVELOPES))


def _opened(request: bytes) -> KeyRequest:
    if len(request) > MAX_REQUEST_BYTES:
        raise LimitExceededError(f"request: expected at most {MAX_REQUEST_BYTES} bytes, found {len(request)}")
    asked = open_request(request)
    if asked.kind not in _KINDS or not asked.key(KeyUse.TLS):
        raise ProtocolError(f"enrolment: expected a site's or an operator's request with a TLS key, found {asked.kind}")
    return asked


def _check_invite(invite: InviteIssuedV1 | None, kind: PartyKind, party: str, now: float) -> None:
    if invite is None:
        raise InviteError(
            f"invite of {kind} {party}: expected a token that was issued, found an unknown one",
            advice="It was altered, or voided by a revocation. Ask an operator for another invite.",
        )
    if (invite.kind, invite.party) != (kind, party):
        raise InviteError(f"invite: expected one for {invite.kind} {invite.party}, found it used for {kind} {party}")
    if now * 1e6 >= invite.expires_at_us:
        raise InviteError(
            f"invite of {kind} {party}: expired {int(now - invite.expires_at_us / 1e6)} seconds ago",
            advice="Ask an operator for another invite.",
        )


def _binding(kind: PartyKind, party: str, request: bytes) -> bytes:
    document = {"kind": kind.value, "id": party, "request": hashlib.sha256(request).hexdigest()}
    return json.dumps(document, sort_keys=True).encode()


def _request_path(asked: KeyRequest) -> str:
    return f"{REQUESTS}/{asked.id}.req"


def _subject(consortium: str, kind: PartyKind, party: str, roles: tuple[str, ...]) -> Subject:
    return site_subject(consortium, party) if kind is PartyKind.SITE else operator_subject(consortium, party, roles)
