# SPDX-License-Identifier: Apache-2.0
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation import signing
from federation.durable.real import RealFileSystem
from federation.errors import BadSignatureError, ConfigError, UsageError


def test_signature_of_rfc_8032_test_2() -> None:
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    expected = (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert signing.public_bytes(key) == public
    assert signing.sign(key, b"\x72").hex() == expected
    signing.verify(public, bytes.fromhex(expected), b"\x72")


def test_a_changed_byte_anywhere_is_refused() -> None:
    key = signing.generate_key()
    public, signature = signing.public_bytes(key), signing.sign(key, b"data")
    other = signing.public_bytes(signing.generate_key())
    for bad in [
        (public, signature, b"Data"),
        (public, bytes([signature[0] ^ 1]) + signature[1:], b"data"),
        (other, signature, b"data"),
        (public, signature[:-1], b"data"),
        (public[:-1], signature, b"data"),
        (public, b"", b"data"),
    ]:
        with pytest.raises(BadSignatureError):
            signing.verify(*bad)


def test_key_file_is_private_and_comes_back(tmp_path: Path) -> None:
    fs = RealFileSystem(tmp_path)
    key = signing.generate_key()
    signing.save_private_key(fs, "keys/update.pem", key)
    assert stat.S_IMODE((tmp_path / "keys/update.pem").stat().st_mode) == 0o600
    assert signing.public_bytes(signing.load_private_key(fs, "keys/update.pem")) == signing.public_bytes(key)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    fs = RealFileSystem(tmp_path)
    signing.save_private_key(fs, "key.pem", signing.generate_key())
    before = (tmp_path / "key.pem").read_bytes()
    with pytest.raises(UsageError, match="found one"):
        signing.save_private_key(fs, "key.pem", signing.generate_key())
    assert (tmp_path / "key.pem").read_bytes() == before


def _pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey, password: bytes = b"") -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "expected an Ed25519 private key in a readable PEM file"),
        (b"", "unencrypted PEM private key"),
        (b"\xff\x00junk", "unencrypted PEM private key"),
        (b"x" * 100_000, "at most"),
        (_pem(ec.generate_private_key(ec.SECP256R1())), "expected an Ed25519 key, found"),
        (_pem(Ed25519PrivateKey.generate(), b"secret"), "unencrypted"),
        (_pem(Ed25519PrivateKey.generate())[:-40], "PEM private key"),
    ],
    ids=["missing", "empty", "junk", "huge", "wrong-type", "encrypted", "cut"],
)
def test_a_bad_key_file_is_the_operators_to_mend(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "key.pem").write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        signing.load_private_key(RealFileSystem(tmp_path), "key.pem")
    assert "key.pem" in str(caught.value)


def test_key_id_is_the_sha256_of_the_raw_key() -> None:
    assert signing.key_id(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
