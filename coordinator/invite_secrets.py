# SPDX-License-Identifier: Apache-2.0
"""An invite's two secrets, made where the operator is: the coordinator sees the token's SHA-256 and the public key.

Both follow from the operator's private key and the command (HKDF), so that repeating a command whose reply was lost
gives the same invite, and no secret has to wait on a disk for its reply.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from federation.leaves import PartyKind
from federation.tls_keys import spki

TOKEN_BYTES: Final = 32
_SCALAR_BYTES: Final = 48
"""128 bits more than the order of P-256 has, so that reducing them favours no key (FIPS 186-5, A.2.1)."""

_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256's group (SEC 2, 2.4.2)."""


@dataclass(frozen=True, kw_only=True)
class InviteSecrets:
    """What only the invited may hold.

    Attributes:
        token: 32 bytes, good for one enrolment.
        key: of the bootstrap certificate, ECDSA on P-256.
    """

    token: bytes = field(repr=False)
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def token_digest(self) -> str:
        """SHA-256 of the token, lower-case hexadecimal: how the ledger names it."""
        return hashlib.sha256(self.token).hexdigest()

    @property
    def public(self) -> bytes:
        """DER SubjectPublicKeyInfo of the bootstrap key."""
        return spki(self.key)


def invite_secrets(operator: Ed25519PrivateKey, kind: PartyKind, party: str, command_id: str) -> InviteSecrets:
    """The secrets of one operator's one command."""
    context = f"{kind.value}/{party}/{command_id}"
    token = _derived(operator, f"hpc-federation invite token v1 {context}", TOKEN_BYTES)
    seed = _derived(operator, f"hpc-federation invite key v1 {context}", _SCALAR_BYTES)
    scalar = int.from_bytes(seed, "big") % (_ORDER - 1) + 1
    return InviteSecrets(token=token, key=ec.derive_private_key(scalar, ec.SECP256R1()))


def _derived(operator: Ed25519PrivateKey, info: str, num_bytes: int) -> bytes:
    kdf = HKDF(algorithm=hashes.SHA256(), length=num_bytes, salt=None, info=info.encode())
    return kdf.derive(operator.private_bytes_raw())
