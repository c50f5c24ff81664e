# SPDX-License-Identifier: Apache-2.0
"""X.509 certificates of channels: issued and read.

There are two issuers. The *TLS issuer*, whose certificate the consortium's root signs into the roster, certifies the
coordinator's server and, for 30 days, sites and operators. The *enrolment issuer* is the coordinator's own; what it
certifies reaches nothing but enrolment. All keys are ECDSA keys on P-256 (`tls_keys`); who a certificate speaks for:
`certificate_subjects`.

Not here: whether the roster still names the holder with this key and these roles. Times are seconds since 1970.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from federation.certificate_subjects import (
    CertRole,
    Identity,
    IssuerKind,
    Subject,
    bootstrap_subject,
    coordinator_subject,
    operator_subject,
    parse_subject,
    server_name,
    site_subject,
)
from federation.errors import CertificateError
from federation.tls_keys import (
    generate_tls_key,
    key_pem,
    load_tls_key,
    read_spki,
    require_p256,
    save_tls_key,
    spki,
)

__all__ = [
    "CertRole",
    "Identity",
    "Issuer",
    "IssuerKind",
    "Issuers",
    "Subject",
    "bootstrap_subject",
    "coordinator_subject",
    "days_left",
    "der",
    "generate_tls_key",
    "key_pem",
    "load_tls_key",
    "make_issuer",
    "operator_subject",
    "parse_subject",
    "pem",
    "read_certificate",
    "read_identity",
    "read_issuer",
    "read_spki",
    "save_tls_key",
    "server_name",
    "site_subject",
    "spki",
    "spki_of",
]

DAY_SECONDS: Final = 86_400.0

CERTIFICATE_SECONDS: Final = 30 * DAY_SECONDS
"""How long a channel certificate lives."""

ISSUER_DAYS: Final = 3650
"""How long an issuer lives; nothing that it issues lives longer."""

BACKDATE: Final = timedelta(minutes=5)
"""A certificate is valid from so long before it was made, for clocks that are behind."""

MAX_CERTIFICATE_BYTES: Final = 16 * 1024

E = TypeVar("E", bound=x509.ExtensionType)


# --- issuing ----------------------------------------------------------------------------------------------------------


def make_issuer(name: str, key: ec.EllipticCurvePrivateKey, now: float, days: int = ISSUER_DAYS) -> x509.Certificate:
    """A self-signed certificate of an authority that issues to end entities only.

    Args:
        name: its common name, at most 64 characters; the two issuers of a consortium MUST have different names.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(**_NO_USE | {"key_cert_sign": True, "crl_sign": True})
    builder = _builder(subject, subject, key.public_key(), now, _time(now) + timedelta(days=days))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return _signed(builder.add_extension(usage, critical=True), key, f"issuer {name}", now)


@dataclass(frozen=True, kw_only=True)
class Issuer:
    """An authority: its private key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def issue_client(
        self, subject: Subject, spki: bytes, now: float, lifetime_seconds: float = CERTIFICATE_SECONDS
    ) -> x509.Certificate:
        """A certificate with which `subject` may open channels.

        Raises:
            CertificateError: `spki` is no ECDSA key on P-256, or `subject` has no role.
        """
        parse_subject(subject.uri)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(subject.uri)]
        return self._issue(subject, names, ExtendedKeyUsageOID.CLIENT_AUTH, spki, now, lifetime_seconds)

    def issue_server(
        self, consortium: str, spki: bytes, now: float, lifetime_seconds: float = CERTIFICATE_SECONDS
    ) -> x509.Certificate:
        """A certificate for the coordinator's server. Raises CertificateError as `issue_client`."""
        subject = coordinator_subject(consortium)
        names = [x509.DNSName(server_name(consortium)), x509.UniformResourceIdentifier(subject.uri)]
        return self._issue(subject, names, ExtendedKeyUsageOID.SERVER_AUTH, spki, now, lifetime_seconds)

    def _issue(
        self,
        subject: Subject,
        names: list[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        spki: bytes,
        now: float,
        lifetime_seconds: float,
    ) -> x509.Certificate:
        own = self.certificate
        not_after = min(_time(now + lifetime_seconds), own.not_valid_after_utc)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject.id)])
        builder = _builder(name, own.subject, read_spki(spki), now, not_after)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        for extension, critical in (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.KeyUsage(**_NO_USE | {"digital_signature": True}), True),
            (x509.ExtendedKeyUsage([usage]), False),
            (x509.SubjectAlternativeName(names), False),
            (authority, False),
        ):
            builder = builder.add_extension(extension, critical=critical)
        return _signed(builder, self.key, f"{own.subject.rfc4514_string()} {subject.uri} {lifetime_seconds}", now, spki)


@dataclass(frozen=True, kw_only=True)
class Issuers:
    """The coordinator's two authorities."""

    tls: Issuer
    enrolment: Issuer

    def issue(
        self, subject: Subject, spki: bytes, now: float, lifetime_seconds: float = CERTIFICATE_SECONDS
    ) -> x509.Certificate:
        """A client's certificate, by the one issuer that may certify this subject. Raises CertificateError."""
        issuer = self.enrolment if subject.is_bootstrap else self.tls
        return issuer.issue_client(subject, spki, now, lifetime_seconds)


_NO_USE: Final = {
    "digital_signature": False,
    "content_commitment": False,
    "key_encipherment": False,
    "data_encipherment": False,
    "key_agreement": False,
    "key_cert_sign": False,
    "crl_sign": False,
    "encipher_only": False,
    "decipher_only": False,
}


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: float, not_after: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(issuer_name=issuer, subject_name=subject, public_key=key)
    builder = builder.not_valid_before(_time(now) - BACKDATE).not_valid_after(not_after)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _signed(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, what: str, now: float, public: bytes = b""
) -> x509.Certificate:
    """Number and signature follow from the content, so that the same certificate made twice has the same bytes."""
    number = hashlib.sha256(f"{what} {now!r} ".encode() + public).digest()
    builder = builder.serial_number(int.from_bytes(number[:19], "big") | 1)
    try:
        return builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    except UnsupportedAlgorithm:  # an OpenSSL before 3.2: valid all the same
        return builder.sign(key, hashes.SHA256())


def _time(seconds: float) -> datetime:
    """Whole seconds: X.509 has no finer ones."""
    return datetime.fromtimestamp(int(seconds), UTC)


# --- reading ----------------------------------------------------------------------------------------------------------


def pem(certificate: x509.Certificate) -> bytes:
    """A certificate as gRPC takes it."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def der(certificate: x509.Certificate) -> bytes:
    """A certificate as rosters and replies carry it."""
    return certificate.public_bytes(serialization.Encoding.DER)


def read_certificate(data: bytes) -> x509.Certificate:
    """One certificate, PEM or DER, WITHOUT any verification.

    Raises:
        CertificateError: it is none, or too large.
    """
    if len(data) > MAX_CERTIFICATE_BYTES:
        raise CertificateError(f"certificate: expected at most {MAX_CERTIFICATE_BYTES} bytes, found {len(data)}")
    try:
        if data.startswith(b"-----"):
            return x509.load_pem_x509_certificate(data)
        return x509.load_der_x509_certificate(data)
    except ValueError as error:
        raise CertificateError(f"certificate: expected X.509 in PEM or DER, found {len(data)} other bytes") from error


def read_issuer(data: bytes) -> x509.Certificate:
    """An issuer's certificate, PEM or DER: self-signed, ECDSA on P-256, may issue to end entities only.

    Raises:
        CertificateError: it is none. Times are not looked at.
    """
    certificate = read_certificate(data)
    extensions = _extensions(certificate)
    spki_of(certificate)
    basic = _extension(extensions, x509.BasicConstraints)
    if basic is None or not basic.ca or basic.path_length != 0:
        raise CertificateError("issuer's certificate: expected an authority for end entities, found another kind")
    usage = _extension(extensions, x509.KeyUsage)
    if usage is None or not usage.key_cert_sign or not _signed_by(certificate, certificate):
        raise CertificateError("issuer's certificate: expected a self-signed one that may sign others, found none")
    return certificate


def spki_of(certificate: x509.Certificate) -> bytes:
    """DER SubjectPublicKeyInfo of a certificate's key. Raises CertificateError: not on P-256."""
    return spki(require_p256(_public_key(certificate), "certificate"))


def read_identity(data: bytes, tls_issuer: bytes, enrolment_issuer: bytes, now: float) -> Identity:
    """Who a certificate speaks for, verified in this order:

    1. it is one X.509 certificate, PEM or DER, without a critical extension that this release does not know;
    2. one of the two issuers signed it;
    3. neither it nor its issuer is expired, or not valid yet;
    4. its key is an ECDSA key on P-256, and it is no authority;
    5. it has exactly one URI, which names a subject in the one spelling;
    6. its issuer may certify that: a bootstrap subject the enrolment issuer alone, all others the TLS issuer alone;
    7. it is a client's certificate, the coordinator's a server's with its DNS name.

    Args:
        data: PEM or DER.
        tls_issuer, enrolment_issuer: issuers' certificates, PEM or DER; b"" where the caller has none.

    Raises:
        CertificateError: it is not; the message says in words why.
    """
    certificate = read_certificate(data)  # 1
    extensions = _extensions(certificate)
    issuers = {IssuerKind.TLS: tls_issuer, IssuerKind.ENROLMENT: enrolment_issuer}
    kind, issuer = _issuer_of(certificate, {kind: read_issuer(found) for kind, found in issuers.items() if found})  # 2
    _check_times(issuer, now, "issuer's certificate")  # 3
    _check_times(certificate, now, "certificate")
    key = spki_of(certificate)  # 4
    basic = _extension(extensions, x509.BasicConstraints)
    if basic is None or basic.ca:
        raise CertificateError("certificate: expected one of an end entity, found an authority's")
    subject = _subject(extensions)  # 5
    if (kind is IssuerKind.ENROLMENT) != subject.is_bootstrap:  # 6
        raise CertificateError(f"certificate: expected another issuer for {subject.uri}, found the {kind} issuer")
    _check_usage(extensions, subject)  # 7
    return Identity(
        **vars(subject),
        not_after_us=int(certificate.not_valid_after_utc.timestamp()) * 1_000_000,
        spki=key,
        issuer=kind,
    )


def days_left(certificate: x509.Certificate, now: float) -> float:
    """Days until it expires; negative afterwards."""
    return (certificate.not_valid_after_utc.timestamp() - now) / DAY_SECONDS


def _subject(extensions: x509.Extensions) -> Subject:
    names = _extension(extensions, x509.SubjectAlternativeName)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names is not None else []
    if len(uris) != 1:
        raise CertificateError(f"certificate: expected exactly one URI, found {len(uris)}")
    return parse_subject(uris[0])


def _check_usage(extensions: x509.Extensions, subject: Subject) -> None:
    usage, names = _extension(extensions, x509.ExtendedKeyUsage), _extension(extensions, x509.SubjectAlternativeName)
    of_server = subject.kind is None
    wanted = ExtendedKeyUsageOID.SERVER_AUTH if of_server else ExtendedKeyUsageOID.CLIENT_AUTH
    if usage is None or list(usage) != [wanted]:
        raise CertificateError(f"certificate: expected one for a {'server' if of_server else 'client'}, found none")
    hosts = names.get_values_for_type(x509.DNSName) if names is not None else []
    expected = [server_name(subject.consortium)] if of_server else []
    if hosts != expected:
        raise CertificateError(f"certificate: expected the server names {expected}, found {hosts!r:.200}")


def _issuer_of(
    certificate: x509.Certificate, issuers: dict[IssuerKind, x509.Certificate]
) -> tuple[IssuerKind, x509.Certificate]:
    for kind, issuer in issuers.items():
        if _signed_by(certificate, issuer):
            return kind, issuer
    raise CertificateError(
        f"certificate: expected one of this consortium's issuers, found {certificate.issuer.rfc4514_string()!r:.120}",
        advice="Enrol again, or ask an operator of the consortium for an invite.",
    )


def _signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _check_times(certificate: x509.Certificate, now: float, what: str) -> None:
    start, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    if now < start:
        raise CertificateError(
            f"{what}: it is valid from {_time(start):%Y-%m-%d %H:%M:%S} UTC, {int(start - now)} seconds from now",
            advice="Check the clock of this machine, and that of the coordinator.",
        )
    if now >= end:
        raise CertificateError(
            f"{what}: it expired on {_time(end):%Y-%m-%d %H:%M:%S} UTC, {int(now - end)} seconds ago",
            advice="An agent renews its certificate by itself while it runs; else enrol again.",
        )


def _extensions(certificate: x509.Certificate) -> x509.Extensions:
    try:
        extensions = certificate.extensions
    except (ValueError, x509.DuplicateExtension) as error:
        raise CertificateError(f"certificate: expected readable extensions, found: {error}") from error
    for extension in extensions:
        if extension.critical and isinstance(extension.value, x509.UnrecognizedExtension):
            raise CertificateError(f"certificate: unknown critical extension {extension.oid.dotted_string}")
    return extensions


def _extension(extensions: x509.Extensions, kind: type[E]) -> E | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _public_key(certificate: x509.Certificate) -> object:
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError("certificate: expected a readable key, found none") from error
