# SPDX-License-Identifier: Apache-2.0
"""Ed25519 keys and signatures: make, store, load, sign, verify. What is signed is decided in `dsse` and `notes`.

Private keys of both kinds are stored here; those for TLS are ECDSA keys: see `certificates`.
"""

import hashlib
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from federation.durable.api import FileSystem
from federation.errors import BadSignatureError, ConfigError, FederationError, UsageError

PUBLIC_KEY_BYTES: Final = 32
"""Length of a raw Ed25519 public key."""

SIGNATURE_BYTES: Final = 64
"""Length of an Ed25519 signature."""

_MAX_KEY_FILE_BYTES: Final = 64 * 1024


def generate_key() -> Ed25519PrivateKey:
    """A new private key from the operating system's random source."""
    return Ed25519PrivateKey.generate()


def save_private_key(fs: FileSystem, path: str, key: Ed25519PrivateKey | EllipticCurvePrivateKey) -> None:
    """Writes an unencrypted PKCS #8 PEM file with mode 0600. A key that is there already is never replaced.

    Raises:
        UsageError: something has that name.
    """
    pem = key.private_bytes(
        encoding=serialization.Encoding.PEM,
        format=serialization.PrivateFormat.PKCS8,
        encryption_algorithm=serialization.NoEncryption(),
    )
    if not fs.create(path, pem, mode=0o600):
        raise UsageError(
            f"{path}: expected no file, found one",
            advice="A key is never overwritten; move the old one away if it is really no longer needed.",
        )


def load_private_key(fs: FileSystem, path: str) -> Ed25519PrivateKey:
    """Reads what `save_private_key` wrote.

    Raises:
        ConfigError: the file is missing or unreadable, is no PEM file, is encrypted, or holds another kind of key.
    """
    key = load_any_key(fs, path, "an Ed25519")
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: expected an Ed25519 key, found {type(key).__name__.strip('_')}")
    return key


def load_any_key(fs: FileSystem, path: str, words: str) -> object:
    """A private key of any kind; `words` name the wanted one in messages, with its article. Raises ConfigError."""
    try:
        pem = fs.read(path, max_bytes=_MAX_KEY_FILE_BYTES)
    except (FederationError, OSError) as error:
        raise ConfigError(
            f"{path}: expected {words} private key in a readable PEM file, found: {error}",
            advice="Restore the key file, or make a new identity and have it signed into the next roster.",
        ) from error
    try:
        return serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path}: expected an unencrypted PEM private key, found something else") from error


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The raw public key (32 bytes)."""
    return key.public_key().public_bytes_raw()


def key_id(public: bytes) -> str:
    """SHA-256 of the raw public key in lower-case hexadecimal: how envelopes and rosters name a key."""
    return hashlib.sha256(public).hexdigest()


def sign(key: Ed25519PrivateKey, data: bytes) -> bytes:
    """The signature of `data` (64 bytes, deterministic: RFC 8032)."""
    return key.sign(data)


def verify(public: bytes, signature: bytes, data: bytes) -> None:
    """Returns if `signature` over `data` verifies under the raw public key.

    Raises:
        BadSignatureError: it does not, or key or signature have a wrong length.
    """
    if len(public) != PUBLIC_KEY_BYTES:
        raise BadSignatureError(f"public key: expected {PUBLIC_KEY_BYTES} bytes, found {len(public)}")
    if len(signature) != SIGNATURE_BYTES:
        raise BadSignatureError(f"signature: expected {SIGNATURE_BYTES} bytes, found {len(signature)}")
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError) as error:
        raise BadSignatureError(f"signature: expected one by key {key_id(public)[:12]}, found another") from error
