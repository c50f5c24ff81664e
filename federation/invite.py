# SPDX-License-Identifier: Apache-2.0
"""Invites, and what a newcomer checks before it believes the answer to one.

An invite file is a secret: who holds it first may ask for a channel certificate in the invited party's name. It makes
nobody a member; only a root-signed roster does. The root's fingerprint must reach the newcomer over another channel.

`install` accepts an answer in this order; nothing is written before the last check:

1. the rosters are signed, from the first to the newest, by the root with the fingerprint;
2. none of them contradicts one that is installed here;
3. they are of the consortium that the answer names;
4. the newest names a TLS issuer, the same one that the invite spoke of;
5. the certificate is of that issuer, valid now, for this party and for the TLS key in this directory;
6. the renewal certificate is for the same party, for enrolment only, and for the same key;
7. an endpoint that it names is one; it counts only where the directory has none.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from federation import certificates
from federation.certificates import bootstrap_subject
from federation.durable.api import FileSystem
from federation.durable.real import RealFileSystem
from federation.durations import in_words
from federation.errors import CertificateError, ConfigError, InviteError, LimitExceededError, RosterError
from federation.ids import check_slug, is_digest
from federation.leaves import PartyKind
from federation.roster import TrustedRosters, peek_roster, roster_digest
from federation.rpc import credentials
from federation.rpc.credentials import Endpoint

FORMAT: Final = "hpc-federation invite v1"
TOKEN_BYTES: Final = 32
_MAX_BYTES: Final = 64 * 1024
_OTHER_KEYS: Final = "This answer is for other keys: have one made for the request that this directory writes now."


@dataclass(frozen=True, kw_only=True)
class Invite:
    """What lets one site or operator ask for its first certificate, once.

    Attributes:
        kind: a site's or an operator's.
        id: who is invited.
        root: fingerprint of the consortium root.
        endpoint: the coordinator's "host:port".
        tls_issuer: PEM certificate of the authority that the coordinator's server certificate is of.
        certificate, key: PEM of the bootstrap certificate, which reaches enrolment only, and of its private key.
        token: one-time, lower-case hexadecimal; the ledger holds its SHA-256.
        expires_at_us: microseconds since 1970.
    """

    consortium: str
    kind: PartyKind
    id: str
    root: str
    endpoint: str
    tls_issuer: str
    certificate: str
    key: str
    token: str
    expires_at_us: int


def new_token() -> str:
    """A fresh one-time token."""
    return secrets.token_bytes(TOKEN_BYTES).hex()


def encode_invite(invite: Invite) -> bytes:
    """The invite file's bytes."""
    return json.dumps({"format": FORMAT, **asdict(invite)}, indent=1, sort_keys=True).encode() + b"\n"


def decode_invite(data: bytes, source: str = "invite") -> Invite:
    """The invite in a file that errors call `source`.

    Raises:
        InviteError: it is none, or was altered so that it cannot be used.
    """
    document = _document(data)
    if document is None:
        raise InviteError(
            f"{source}: expected the file that an operator made with `invite`, found {len(data)} other bytes",
            advice="Ask the operator for the file again; it must arrive unchanged.",
        )
    try:
        return _checked_invite(document)
    except (ConfigError, CertificateError) as error:
        raise InviteError(
            f"{source}: was altered or damaged on its way: {error}",
            advice="Ask the operator for a new one; it must arrive unchanged.",
        ) from error


def _document(data: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
        return None
    return document


def _checked_invite(document: Mapping[str, Any]) -> Invite:
    """Raises ConfigError or CertificateError, which say what is wrong; no secret is in their words."""
    names = {field.name for field in fields(Invite)}
    if set(document) != names:
        wrong = sorted(names.symmetric_difference(document))
        raise ConfigError(f"expected each key of an invite and no other one, found it otherwise for {wrong[0]!r:.60}")
    for name in sorted(names):
        is_number = name == "expires_at_us"
        if not isinstance(document[name], int if is_number else str) or isinstance(document[name], bool):
            raise ConfigError(f"{name}: expected {'a whole number' if is_number else 'text'}, found something else")
    if not 0 <= document["expires_at_us"] < 2**63:
        raise ConfigError("expires_at_us: expected microseconds since 1970, found another number")
    if document["kind"] not in tuple(PartyKind):
        raise ConfigError(f"kind: expected {' or '.join(PartyKind)}, found {document['kind']!r:.60}")
    invite = Invite(**{**document, "kind": PartyKind(document["kind"])})
    _check(invite)
    return invite


def _check(invite: Invite) -> None:
    for name, value in (("consortium", invite.consortium), ("id", invite.id)):
        check_slug(value, name)
    for name, value in (("root", invite.root), ("token", invite.token)):
        if not is_digest(value):  # a token has as many bytes as a digest
            raise ConfigError(f"{name}: expected 64 characters of lower-case hexadecimal, found something else")
    Endpoint.parse(invite.endpoint)
    certificates.read_issuer(_bytes(invite.tls_issuer))
    if certificates.spki_of(certificates.read_certificate(_bytes(invite.certificate))) != _public_of(invite.key):
        raise CertificateError("key: expected the private key of the certificate beside it, found another one")


def _public_of(pem: str) -> bytes:
    """SubjectPublicKeyInfo of a private key on P-256."""
    try:
        key = serialization.load_pem_private_key(_bytes(pem), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError("key: expected the PEM of an ECDSA key, found something else")
    return certificates.spki(key)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def write_invite(path: Path, invite: Invite) -> None:
    """Writes a new invite file that only its owner can read.

    Raises:
        ConfigError: the file is there already.
    """
    fs = RealFileSystem(path.resolve().parent)
    if not fs.create(path.name, encode_invite(invite), mode=0o600):
        raise ConfigError(f"--out: expected a new file, found {path}", advice="Choose another name for it.")


def read_invite(path: Path) -> Invite:
    """Reads an invite file.

    Raises:
        InviteError: it is none.
    """
    fs = RealFileSystem(path.resolve().parent)
    name = f"invite {path}"
    try:
        return decode_invite(fs.read(path.name, max_bytes=_MAX_BYTES), name)
    except LimitExceededError as error:
        raise InviteError(
            f"{name}: expected at most {_MAX_BYTES} bytes, found more",
            advice="Ask the operator for the file again; it must arrive unchanged.",
        ) from error


def check_invite(invite: Invite, party: "Party", root: str, now: float) -> None:
    """What can be known of an invite before the coordinator is asked.

    Args:
        root: the fingerprint that the newcomer was given over another channel.

    Raises:
        InviteError: it is for somebody else, of another root, or has expired.
    """
    if (invite.kind, invite.id) != (party.kind, party.id):
        raise InviteError(
            f"invite: expected one for {party.kind} {party.id}, found one for {invite.kind} {invite.id}",
            advice="Use the directory that was made for this id, or ask for another invite.",
        )
    pinned = credentials.read_text(party.fs, credentials.ROOT_FILE)
    for expected, words in ((root, "as you gave it"), (pinned, "as pinned here")):
        if expected and invite.root != expected:
            raise InviteError(
                f"invite: expected consortium root {expected}, {words}, found {invite.root}",
                advice="The invite is of another consortium, or was altered. Nothing was kept of it.",
            )
    left = min(invite.expires_at_us / 1e6 - now, _seconds_left(invite, now))  # its own date can be edited
    if left <= 0:
        raise InviteError(
            f"invite: expired {in_words(-left)} ago by this machine's clock",
            advice="Ask the operator for a new invite; if it should still hold, check this machine's clock.",
        )


def _seconds_left(invite: Invite, now: float) -> float:
    """Of its bootstrap certificate, which the coordinator made to end with the invite."""
    certificate = certificates.read_certificate(invite.certificate.encode())
    return certificates.days_left(certificate, now) * certificates.DAY_SECONDS


# --- the answer -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Party:
    """Who enrols, and the directory that it keeps its keys in.

    Attributes:
        request: signed key request with the public key of `keys/tls.pem`.
    """

    fs: FileSystem
    kind: PartyKind
    id: str
    request: bytes


@dataclass(frozen=True, kw_only=True)
class Enrolled:
    """A coordinator's answer.

    Attributes:
        member: whether the newest roster names the asker with these keys.
        endpoint: HOST:PORT of the coordinator, in an answer that comes as a file; else "".
    """

    consortium: str
    certificate: bytes
    renewal_certificate: bytes
    rosters: tuple[bytes, ...]
    member: bool
    endpoint: str = ""


def install(party: Party, answer: Enrolled, root: str, now: float, tls_issuer: bytes = b"") -> TrustedRosters:
    """Accepts an answer whole, or not at all, and keeps it in the party's directory.

    Args:
        root: fingerprint of the consortium root, from the newcomer or pinned in the directory.
        now: this machine's clock, seconds since 1970.
        tls_issuer: certificate that the invite named; b"" for a renewal.

    Raises:
        RosterError: another root, or a roster breaks a rule.
        CertificateError: a certificate is not what it should be.
        ConfigError: the answer's endpoint is none.
    """
    fs, now_us = party.fs, int(now * 1_000_000)
    documents = _merged(fs, answer.rosters)  # 2
    rosters = TrustedRosters.load(documents, root, now_us)  # 1
    consortium = rosters.current.consortium
    if answer.consortium != consortium:  # 3
        raise RosterError(f"roster: expected consortium {answer.consortium}, found {consortium}")
    issuer = credentials.trusted_issuer(rosters.current)  # 4
    if tls_issuer and certificates.pem(certificates.read_issuer(tls_issuer)) != issuer:
        raise CertificateError(
            "TLS issuer: expected the one that the consortium root signed, found another in the invite"
        )
    channel = _checked(party, consortium, answer.certificate, issuer, now)  # 5
    renewal = _checked_renewal(party, consortium, answer.renewal_certificate)  # 6
    endpoint = Endpoint.parse(answer.endpoint) if answer.endpoint else None  # 7
    for version, document in zip(rosters.versions, documents, strict=True):
        if not fs.exists(credentials.roster_path(version)):
            fs.write(credentials.roster_path(version), document)
    if not fs.exists(credentials.ROOT_FILE):
        fs.write(credentials.ROOT_FILE, root.encode())
    for path, pem in ((credentials.ISSUER, issuer), (credentials.RENEWAL, renewal), (credentials.CERTIFICATE, channel)):
        fs.write(path, pem)
    if endpoint is not None and not fs.exists(credentials.ENDPOINT):
        credentials.write_endpoint(fs, endpoint)
    return rosters


def _merged(fs: FileSystem, documents: tuple[bytes, ...]) -> list[bytes]:
    """Installed rosters and those of an answer, oldest first."""
    merged = {peek_roster(document).version: document for document in documents}
    for own in credentials.roster_documents(fs):
        version = peek_roster(own).version
        if version in merged and roster_digest(merged[version]) != roster_digest(own):
            raise RosterError(
                f"roster version {version}: expected the one that is installed here, found another one",
                advice="The consortium root signed two rosters of one version, or the coordinator is an impostor.",
            )
        merged[version] = own
    return [document for _, document in sorted(merged.items())]


def _checked(party: Party, consortium: str, certificate: bytes, issuer: bytes, now: float) -> bytes:
    identity = certificates.read_identity(certificate, issuer, b"", now)
    expected, found = (consortium, party.kind, party.id), (identity.consortium, identity.kind, identity.id)
    if found != expected:
        raise CertificateError(
            f"certificate: expected one for {party.kind} {party.id} of consortium {consortium}, "
            f"found one for {identity.kind} {identity.id} of consortium {identity.consortium}",
            advice="This answer is for somebody else: use the one that was made for this directory's request.",
        )
    if identity.spki != _own_spki(party):
        raise CertificateError(
            f"certificate: expected one for the key in this directory, found one for another key of {party.id}",
            advice=_OTHER_KEYS,
        )
    return certificates.pem(certificates.read_certificate(certificate))


def _checked_renewal(party: Party, consortium: str, data: bytes) -> bytes:
    """The issuer for enrolment is the coordinator's own: only the coordinator can check its signature."""
    certificate = certificates.read_certificate(data)
    uri = bootstrap_subject(consortium, party.kind, party.id).uri
    if _uris(certificate) != [uri] or certificates.spki_of(certificate) != _own_spki(party):
        raise CertificateError(
            f"renewal certificate: expected one for {uri} and the key in this directory, found another one",
            advice=_OTHER_KEYS,
        )
    return certificates.pem(certificate)


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _own_spki(party: Party) -> bytes:
    return certificates.spki(certificates.load_tls_key(party.fs, credentials.TLS_KEY))
