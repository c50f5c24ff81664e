# SPDX-License-Identifier: Apache-2.0
"""ECDSA keys on P-256 for channels: make, store, load, name. gRPC's TLS takes no Ed25519 certificates."""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from federation import signing
from federation.durable.api import FileSystem
from federation.errors import CertificateError, ConfigError


def generate_tls_key() -> ec.EllipticCurvePrivateKey:
    """A new ECDSA key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def save_tls_key(fs: FileSystem, path: str, key: ec.EllipticCurvePrivateKey) -> None:
    """As `signing.save_private_key`: PKCS #8 PEM, mode 0600, never over an existing file (UsageError)."""
    signing.save_private_key(fs, path, key)


def load_tls_key(fs: FileSystem, path: str) -> ec.EllipticCurvePrivateKey:
    """Reads what `save_tls_key` wrote.

    Raises:
        ConfigError: the file is missing, unreadable, no unencrypted PEM key, or one of another kind.
    """
    key = signing.load_any_key(fs, path, "an ECDSA")
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError(f"{path}: expected an ECDSA key on P-256, found {type(key).__name__.strip('_')}")
    return key


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as gRPC and an invite take it (PKCS #8 PEM, unencrypted)."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def spki(key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) -> bytes:
    """DER SubjectPublicKeyInfo of a key: how rosters and requests name a TLS identity."""
    public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def read_spki(data: bytes) -> ec.EllipticCurvePublicKey:
    """The public key that `spki` wrote.

    Raises:
        CertificateError: not the DER SubjectPublicKeyInfo of an ECDSA key on P-256 in its usual form.
    """
    try:
        key = serialization.load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(
            f"TLS key: expected a SubjectPublicKeyInfo (DER), found {len(data)} other bytes"
        ) from error
    public = require_p256(key, "TLS key")
    if spki(public) != data:
        raise CertificateError("TLS key: expected the usual encoding of an ECDSA key, found another one")
    return public


def require_p256(key: object, what: str) -> ec.EllipticCurvePublicKey:
    """The public key if it is an ECDSA key on P-256. Raises CertificateError."""
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateError(f"{what}: expected an ECDSA key on P-256, found another kind of key")
    return key
