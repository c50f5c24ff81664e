# SPDX-License-Identifier: Apache-2.0
"""Signed envelopes after DSSE v1: sign, add a signature, open with one key or a threshold of keys.

A signature covers PAE(payload type, payload), so a document of one type is never taken for one of another type, and
the payload's exact bytes are what was signed: nothing is re-serialised before verifying.
"""

from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation import signing
from federation.errors import BadSignatureError, ProtocolError
from federation.wire.envelope import Envelope, Signature, envelope_from_bytes, envelope_to_bytes

MESSAGE_TYPE: Final = "application/vnd.hpc-federation.message.v1+protobuf"
"""`messages.Message`: header and body."""

UPDATE_TYPE: Final = "application/vnd.hpc-federation.update.v1+protobuf"
"""`messages.Update`: an update's descriptor."""

EVALUATION_TYPE: Final = "application/vnd.hpc-federation.evaluation.v1+protobuf"
"""`messages.Evaluation`: one site's scores."""

TASKS_TYPE: Final = "application/vnd.hpc-federation.tasks.v1+protobuf"
"""`messages.TaskEvaluation`: one site's scores of benchmark tasks."""

ROSTER_TYPE: Final = "application/vnd.hpc-federation.roster.v1+protobuf"
"""`roster.Roster`: who belongs to a consortium."""

REQUEST_TYPE: Final = "application/vnd.hpc-federation.request.v1+protobuf"
"""`roster.KeyRequest`: public keys that ask to be put into a roster."""


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding (DSSE v1, protocol.md): the bytes that are signed."""
    name = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(name), name, len(payload), payload)


def sign_envelope(payload_type: str, payload: bytes, key: Ed25519PrivateKey) -> bytes:
    """A new envelope with one signature."""
    signature = _signature(payload_type, payload, key)
    return envelope_to_bytes(Envelope(payload=payload, payload_type=payload_type, signatures=(signature,)))


def add_signature(envelope: bytes, key: Ed25519PrivateKey) -> bytes:
    """The envelope with this key's signature added or, if it has signed already, made anew. Others are not checked.

    Signatures are kept in ascending order of key id, so the order of signing leaves no trace in the bytes.

    Raises:
        ProtocolError, LimitExceededError: the bytes are no envelope.
    """
    opened = envelope_from_bytes(envelope)
    mine = _signature(opened.payload_type, opened.payload, key)
    others = (entry for entry in opened.signatures if entry.keyid != mine.keyid)
    signatures = tuple(sorted((*others, mine), key=lambda entry: entry.keyid))
    return envelope_to_bytes(
        Envelope(payload=opened.payload, payload_type=opened.payload_type, signatures=signatures),
    )


def open_envelope(data: bytes, payload_type: str, public: bytes) -> bytes:
    """The payload, if the envelope is of this type and carries exactly one signature, by this key.

    Exactly one: signatures of others are not covered by ours, so allowing them would let anybody change the digest of
    a signed document.

    Raises:
        ProtocolError, LimitExceededError: the bytes are no envelope, or one of another type.
        BadSignatureError: not signed by this key, or by others too.
    """
    envelope = _of_type(data, payload_type)
    expected = signing.key_id(public)
    found = [entry.keyid for entry in envelope.signatures]
    if found != [expected]:
        names = ", ".join(repr(name[:12]) for name in found) or "none"
        raise BadSignatureError(f"envelope: expected one signature, by key {expected[:12]}, found {names:.200}")
    signing.verify(public, envelope.signatures[0].sig, pae(envelope.payload_type, envelope.payload))
    return envelope.payload


def open_threshold(data: bytes, payload_type: str, publics: Mapping[str, bytes], threshold: int) -> bytes:
    """The payload, if at least `threshold` different keys of `publics` (by key id) signed it.

    Signatures by unknown keys, and ones that fail, count for nothing.

    Raises:
        ProtocolError, LimitExceededError: the bytes are no envelope, or one of another type.
        BadSignatureError: too few signatures.
        ValueError: the caller's bug: a threshold below 1, or a key under another name than its key id.
    """
    envelope = _of_type(data, payload_type)
    found = _signed_by(envelope, publics)
    if threshold < 1:
        raise ValueError(f"threshold: expected at least 1, found {threshold}")
    if len(found) < threshold:
        raise BadSignatureError(
            f"envelope: expected signatures by {threshold} of {len(publics)} keys, found {len(found)} good ones"
        )
    return envelope.payload


def signers(data: bytes, publics: Mapping[str, bytes]) -> tuple[str, ...]:
    """Key ids of `publics` whose signature in this envelope verifies, ascending.

    Raises:
        ProtocolError, LimitExceededError: the bytes are no envelope.
        ValueError: the caller's bug: a key under another name than its key id.
    """
    return _signed_by(envelope_from_bytes(data), publics)


def peek_payload(data: bytes, payload_type: str = "") -> bytes:
    """The payload WITHOUT any verification: only to learn whose key to fetch before opening the envelope.

    Raises:
        ProtocolError, LimitExceededError: the bytes are no envelope, or not of `payload_type` ("" lets any pass).
    """
    envelope = _of_type(data, payload_type) if payload_type else envelope_from_bytes(data)
    return envelope.payload


def peek_type(data: bytes) -> str:
    """The payload type WITHOUT any verification: only to learn what kind of document this claims to be.

    Raises:
        ProtocolError, LimitExceededError: the bytes are no envelope.
    """
    return envelope_from_bytes(data).payload_type


def _signature(payload_type: str, payload: bytes, key: Ed25519PrivateKey) -> Signature:
    public = signing.public_bytes(key)
    return Signature(keyid=signing.key_id(public), sig=signing.sign(key, pae(payload_type, payload)))


def _of_type(data: bytes, payload_type: str) -> Envelope:
    envelope = envelope_from_bytes(data)
    if envelope.payload_type != payload_type:
        raise ProtocolError(f"envelope: expected type {payload_type}, found {envelope.payload_type!r:.100}")
    return envelope


def _signed_by(envelope: Envelope, publics: Mapping[str, bytes]) -> tuple[str, ...]:
    for keyid, public in publics.items():
        if keyid != signing.key_id(public):  # else one key under two names would count twice
            raise ValueError(f"publics: expected key id {signing.key_id(public)}, found {keyid!r}")
    data = pae(envelope.payload_type, envelope.payload)
    good = set()
    for entry in envelope.signatures:
        if entry.keyid in publics and _verifies(publics[entry.keyid], entry.sig, data):
            good.add(entry.keyid)
    return tuple(sorted(good))


def _verifies(public: bytes, signature: bytes, data: bytes) -> bool:
    try:
        signing.verify(public, signature, data)
    except BadSignatureError:
        return False
    return True
