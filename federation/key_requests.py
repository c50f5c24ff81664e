# SPDX-License-Identifier: Apache-2.0
"""Requests for a roster entry: public keys, signed by each of them as proof that the asker holds them.

A TLS key does not sign: it proves itself in each handshake. (Release 0.1 named a raw Ed25519 key there, which signed.)
A request proves possession only. Whether the asker is who they say is for the root's key holders to find out, over
another channel, before they sign.
"""

from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation import dsse, signing
from federation.certificates import read_issuer, read_spki
from federation.errors import BadSignatureError, CertificateError, ProtocolError
from federation.ids import COORDINATOR, check_slug
from federation.roster_document import KeyRequest, KeyUse, RequestedKey, RequestKind, Role
from federation.wire import request_from_bytes, request_to_bytes

_USES: Final[Mapping[RequestKind, tuple[frozenset[KeyUse], frozenset[KeyUse]]]] = {
    RequestKind.SITE: (frozenset({KeyUse.ENVELOPES, KeyUse.WITNESS}), frozenset({KeyUse.TLS})),
    RequestKind.OPERATOR: (frozenset({KeyUse.ENVELOPES}), frozenset({KeyUse.TLS})),
    RequestKind.COORDINATOR: (frozenset({KeyUse.ENVELOPES, KeyUse.LEDGER}), frozenset({KeyUse.TLS})),
}
"""Per kind: uses that a request must name, and uses that it may name."""


def site_request(site: str, *, update: Ed25519PrivateKey, witness: Ed25519PrivateKey, tls_public: bytes = b"") -> bytes:
    """A site's signed request; `tls_public` is DER SubjectPublicKeyInfo (`certificates.spki`), b"" for none.

    Raises:
        ConfigError: `site` is no id.
    """
    keys = {KeyUse.ENVELOPES: update, KeyUse.WITNESS: witness}
    name = check_slug(site, "site")
    return _signed(KeyRequest(kind=RequestKind.SITE, id=name, keys=_publics(keys, tls_public)), keys)


def operator_request(
    operator: str, key: Ed25519PrivateKey, roles: tuple[Role, ...] = (Role.OPERATOR,), *, tls_public: bytes = b""
) -> bytes:
    """An operator's, auditor's or viewer's signed request; `tls_public` as a site's.

    Raises:
        ConfigError: `operator` is no id.
    """
    keys = {KeyUse.ENVELOPES: key}
    name = check_slug(operator, "operator")
    publics = _publics(keys, tls_public)
    return _signed(KeyRequest(kind=RequestKind.OPERATOR, id=name, keys=publics, roles=roles), keys)


def coordinator_request(
    *,
    envelopes: Ed25519PrivateKey,
    ledger: Ed25519PrivateKey,
    tls_public: bytes = b"",
    tls_issuer: bytes = b"",
    ledger_origin: str = "",
) -> bytes:
    """The coordinator's signed request.

    Args:
        tls_public: DER SubjectPublicKeyInfo of its server's key, b"" for none.
        tls_issuer: DER certificate of its authority for channel certificates, b"" for none.
        ledger_origin: "" leaves that name to the root.
    """
    keys = {KeyUse.ENVELOPES: envelopes, KeyUse.LEDGER: ledger}
    request = KeyRequest(
        kind=RequestKind.COORDINATOR,
        id=COORDINATOR,
        keys=_publics(keys, tls_public),
        ledger_origin=ledger_origin,
        tls_issuer=tls_issuer,
    )
    return _signed(request, keys)


def open_request(data: bytes) -> KeyRequest:
    """The request, if every Ed25519 key in it signed it and it asks for what its kind may have.

    Raises:
        ProtocolError, LimitExceededError: not a request, or one for other keys than its kind has.
        BadSignatureError: a key did not sign.
    """
    request = request_from_bytes(dsse.peek_payload(data, dsse.REQUEST_TYPE))
    _check(request)
    signers = [key for key in request.keys if key.use is not KeyUse.TLS or _is_ed25519(key)]
    publics = {signing.key_id(key.public): key.public for key in signers}
    if len(publics) != len(signers):
        raise BadSignatureError(f"request of {request.id}: expected different keys for different uses, found one twice")
    dsse.open_threshold(data, dsse.REQUEST_TYPE, publics, len(publics))
    return request


def _check(request: KeyRequest) -> None:
    check_slug(request.id, f"request of a {request.kind}")
    if (request.id == COORDINATOR) != (request.kind is RequestKind.COORDINATOR):
        raise ProtocolError(f"request of a {request.kind}: expected another id, found {request.id!r}")
    needed, optional = _USES[request.kind]
    uses = [key.use for key in request.keys]
    if not needed <= set(uses) <= needed | optional or len(set(uses)) != len(uses):
        found = ", ".join(uses) or "none"
        raise ProtocolError(f"request of {request.id}: expected keys for {', '.join(sorted(needed))}, found {found}")
    if bool(request.roles) != (request.kind is RequestKind.OPERATOR):
        raise ProtocolError(f"request of {request.id}: expected roles for an operator alone, found {request.roles}")
    if request.ledger_origin and request.kind is not RequestKind.COORDINATOR:
        raise ProtocolError(f"request of {request.id}: expected no ledger origin, found {request.ledger_origin!r:.60}")
    _check_tls(request)


def _check_tls(request: KeyRequest) -> None:
    if request.tls_issuer and request.kind is not RequestKind.COORDINATOR:
        raise ProtocolError(f"request of {request.id}: expected no TLS issuer, found a certificate")
    try:
        for key in request.keys:
            if key.use is KeyUse.TLS and not _is_ed25519(key):
                read_spki(key.public)
        if request.tls_issuer:
            read_issuer(request.tls_issuer)
    except CertificateError as error:
        raise ProtocolError(f"request of {request.id}: {error}") from error


def _is_ed25519(key: RequestedKey) -> bool:
    return len(key.public) == signing.PUBLIC_KEY_BYTES


def _publics(keys: Mapping[KeyUse, Ed25519PrivateKey], tls_public: bytes) -> tuple[RequestedKey, ...]:
    publics = {use: signing.public_bytes(key) for use, key in keys.items()}
    if tls_public:
        publics[KeyUse.TLS] = tls_public
    return tuple(RequestedKey(use=use, public=public) for use, public in sorted(publics.items()))


def _signed(request: KeyRequest, keys: Mapping[KeyUse, Ed25519PrivateKey]) -> bytes:
    first, *others = keys.values()
    envelope = dsse.sign_envelope(dsse.REQUEST_TYPE, request_to_bytes(request), first)
    for key in others:
        envelope = dsse.add_signature(envelope, key)
    return envelope
