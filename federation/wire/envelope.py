# SPDX-License-Identifier: Apache-2.0
"""The outer bytes of a signed envelope. Nothing here verifies anything: `federation.dsse` does."""

from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from federation.errors import LimitExceededError, ProtocolError
from federation.limits import DEFAULT_LIMITS
from federation.v1 import envelope_pb2

MAX_SIGNATURES: Final = 64
"""Signatures of one envelope; a consortium root has fewer keys."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """One signature; `keyid` is a hint which key to try."""

    keyid: str
    sig: bytes


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """A payload, its media type, and who signed it."""

    payload: bytes
    payload_type: str
    signatures: tuple[Signature, ...]


def envelope_to_bytes(envelope: Envelope) -> bytes:
    """The one encoding of this envelope."""
    proto = envelope_pb2.Envelope(payload=envelope.payload, payload_type=envelope.payload_type)
    for signature in envelope.signatures:
        proto.signatures.add(sig=signature.sig, keyid=signature.keyid)
    return proto.SerializeToString(deterministic=True)


def envelope_from_bytes(data: bytes, max_bytes: int = DEFAULT_LIMITS.max_envelope_bytes) -> Envelope:
    """Parses untrusted bytes; only the one encoding that `envelope_to_bytes` gives is accepted.

    Signatures do not cover the outer bytes. If unknown fields or another field order were let through, anybody could
    give a signed document a second digest.

    Raises:
        LimitExceededError: more than `max_bytes`, or more than `MAX_SIGNATURES` signatures.
        ProtocolError: not an envelope, or not its one encoding.
    """
    if len(data) > max_bytes:
        raise LimitExceededError(f"envelope: expected at most {max_bytes} bytes, found {len(data)}")
    try:
        proto = envelope_pb2.Envelope.FromString(data)
    except DecodeError as error:
        raise ProtocolError(
            f"envelope: expected a signed envelope, found {len(data)} bytes of something else"
        ) from error
    count = len(proto.signatures)
    if count > MAX_SIGNATURES:
        raise LimitExceededError(f"envelope: expected at most {MAX_SIGNATURES} signatures, found {count}")
    signatures = tuple(Signature(keyid=entry.keyid, sig=entry.sig) for entry in proto.signatures)
    envelope = Envelope(payload=proto.payload, payload_type=proto.payload_type, signatures=signatures)
    if envelope_to_bytes(envelope) != data:
        raise ProtocolError("envelope: expected its one canonical encoding, found unknown or re-ordered fields")
    return envelope
