# SPDX-License-Identifier: Apache-2.0
"""The dashboard's TLS: a certificate that the operator names, else one that it makes for itself.

A self-made one proves nothing to a browser: its fingerprint is printed, to be compared with the browser's warning. It
is not issued by the consortium's TLS issuer, which nobody should have to trust for web pages.
"""

import ipaddress
import ssl
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from federation.certificates import days_left, generate_tls_key, load_tls_key, pem, read_certificate, save_tls_key
from federation.durable.real import RealFileSystem
from federation.errors import CertificateError, ConfigError, ObjectNotFoundError

KEY: Final = "dashboard/server.pem"
CERTIFICATE: Final = "dashboard/server.crt"
CLIENT_AUTHORITY: Final = "dashboard/clients.crt"
LIFETIME_DAYS: Final = 397
"""As long as browsers take one for."""

RENEW_BELOW_DAYS: Final = 30.0


def own_identity(
    fs: RealFileSystem, names: Iterable[str], clock: Callable[[], float] = time.time
) -> tuple[Path, Path, str]:
    """Paths of key and certificate, and the certificate's fingerprint; made where missing, and where it does not fit.

    Raises:
        ConfigError: a file there cannot be read.
    """
    wanted = sorted({str(_name(name).value) for name in ("localhost", "127.0.0.1", *names)})
    if not fs.exists(KEY):
        save_tls_key(fs, KEY, generate_tls_key())
    key, now = load_tls_key(fs, KEY), clock()
    certificate = _certificate(fs)
    if certificate is None or not _fits(certificate, key, wanted, now):
        certificate = _make(key, wanted, now)
        fs.write(CERTIFICATE, pem(certificate))
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex(":").upper()
    return fs.real_path(KEY), fs.real_path(CERTIFICATE), fingerprint


def server_context(key: Path, certificate: Path, client_authority: Path | None) -> ssl.SSLContext:
    """TLS 1.3; a client may show a certificate of the consortium, and need not.

    Raises:
        ConfigError: key or certificate cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate, key)
        if client_authority is not None:
            context.load_verify_locations(client_authority)
            context.verify_mode = ssl.CERT_OPTIONAL
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"[dashboard]: expected a certificate and its key in {certificate} and {key}, found: {error}",
            advice="Name PEM files that belong together, or neither: then the dashboard makes its own.",
        ) from error
    return context


def _certificate(fs: RealFileSystem) -> x509.Certificate | None:
    try:
        return read_certificate(fs.read(CERTIFICATE))
    except (CertificateError, ObjectNotFoundError):
        return None


def _fits(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, names: list[str], now: float) -> bool:
    """Whether it is of this key and for these names, and neither nearly old nor of a clock that was ahead."""
    young = RENEW_BELOW_DAYS <= days_left(certificate, now) <= LIFETIME_DAYS + 1
    return young and _names(certificate) == names and certificate.public_key() == key.public_key()


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    return sorted([*found.get_values_for_type(x509.DNSName), *addresses])


def _make(key: ec.EllipticCurvePrivateKey, names: Iterable[str], now: float) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hpc-federation dashboard")])
    start = datetime.fromtimestamp(int(now), UTC)
    builder = (
        x509.CertificateBuilder(issuer_name=subject, subject_name=subject, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - timedelta(minutes=5))
        .not_valid_after(start + timedelta(days=LIFETIME_DAYS))
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    return builder.sign(key, hashes.SHA256())


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
