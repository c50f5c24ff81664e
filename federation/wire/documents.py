# SPDX-License-Identifier: Apache-2.0
"""Exact bytes of each document, and back: `x_to_bytes` and `x_from_bytes` in pairs.

Two kinds of readers. *Strict*: bytes must be exactly what this release would write (leaves, manifests, updates,
evaluations, key requests): to ignore a field there would change what a decision means or what is trained. *Open*:
fields that this release does not know are ignored (messages, rosters), so that a newer peer can say more.
Signatures are no concern of this module.
"""

from typing import Final, TypeVar

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Proto

from federation.errors import LimitExceededError, ProtocolError, UnknownLeafError
from federation.leaves import Leaf
from federation.limits import DEFAULT_LIMITS
from federation.manifest import Manifest
from federation.messages import PROTOCOL_VERSION, Evaluation, Header, Message, TaskEvaluation, Update
from federation.roster_document import KeyRequest, Roster
from federation.v1 import leaves_pb2, manifest_pb2, message_pb2, roster_pb2, update_pb2
from federation.wire.convert import from_proto, to_proto

T = TypeVar("T")

MAX_UPDATE_BYTES: Final = 64 * 1024
"""An update's descriptor, without its payload."""

MAX_EVALUATION_BYTES: Final = 1024 * 1024
MAX_ROSTER_BYTES: Final = 4 * 1024 * 1024
MAX_REQUEST_BYTES: Final = 64 * 1024


def leaf_to_bytes(leaf: Leaf) -> bytes:
    """The one encoding of a leaf: what the ledger hashes and stores.

    Raises:
        ProtocolError, LimitExceededError: a value cannot be written, or the leaf is larger than `max_leaf_bytes`.
    """
    return _encode(leaf, leaves_pb2.Leaf(), DEFAULT_LIMITS.max_leaf_bytes)


def leaf_from_bytes(data: bytes) -> Leaf:
    """The leaf that these bytes are the one encoding of.

    Raises:
        LimitExceededError: longer than `max_leaf_bytes`.
        UnknownLeafError: a type, field or code of another release, or bytes that this release would write otherwise.
    """
    try:
        return _decode(Leaf, data, leaves_pb2.Leaf(), DEFAULT_LIMITS.max_leaf_bytes, strict=True)
    except ProtocolError as error:
        raise UnknownLeafError(
            f"ledger leaf of {len(data)} bytes: {error}",
            advice="It was written by another release; install that one or a newer one to read this ledger.",
        ) from error


def message_to_bytes(message: Message) -> bytes:
    """A message's payload, ready to be signed.

    Raises:
        ProtocolError, LimitExceededError: a value cannot be written, or the message exceeds `max_envelope_bytes`.
    """
    return _encode(message, message_pb2.Message(), DEFAULT_LIMITS.max_envelope_bytes)


def message_from_bytes(data: bytes) -> Message:
    """A message from a payload whose signature holds.

    Raises:
        LimitExceededError: larger or longer somewhere than allowed.
        ProtocolError: not a message of this protocol version, or a body that this release does not know.
    """
    proto = _parse(message_pb2.Message(), data, DEFAULT_LIMITS.max_envelope_bytes)
    _check_header(proto.header)  # first: another protocol version may mean other bodies
    return from_proto(Message, proto)


def manifest_to_bytes(manifest: Manifest) -> bytes:
    """The one encoding of a manifest; its SHA-256 based blob digest names it.

    Raises:
        ProtocolError, LimitExceededError: a value cannot be written, or it exceeds `max_manifest_bytes`.
    """
    return _encode(manifest, manifest_pb2.Manifest(), DEFAULT_LIMITS.max_manifest_bytes)


def manifest_from_bytes(data: bytes) -> Manifest:
    """A manifest. Its numbers are NOT checked against the rules of a run: the caller MUST do that.

    Raises:
        LimitExceededError: longer than `max_manifest_bytes`.
        ProtocolError: not a manifest, or one with fields that this release does not know.
    """
    return _decode(Manifest, data, manifest_pb2.Manifest(), DEFAULT_LIMITS.max_manifest_bytes, strict=True)


def update_to_bytes(update: Update) -> bytes:
    """An update's descriptor, ready to be signed. Raises ProtocolError, LimitExceededError."""
    return _encode(update, update_pb2.Update(), MAX_UPDATE_BYTES)


def update_from_bytes(data: bytes) -> Update:
    """An update's descriptor from a payload whose signature holds. Raises ProtocolError, LimitExceededError."""
    return _decode(Update, data, update_pb2.Update(), MAX_UPDATE_BYTES, strict=True)


def evaluation_to_bytes(evaluation: Evaluation) -> bytes:
    """A site's evaluation, ready to be signed. Raises ProtocolError, LimitExceededError."""
    return _encode(evaluation, update_pb2.Evaluation(), MAX_EVALUATION_BYTES)


def evaluation_from_bytes(data: bytes) -> Evaluation:
    """A site's evaluation from a payload whose signature holds. Raises ProtocolError, LimitExceededError."""
    return _decode(Evaluation, data, update_pb2.Evaluation(), MAX_EVALUATION_BYTES, strict=True)


def tasks_to_bytes(evaluation: TaskEvaluation) -> bytes:
    """A site's task evaluation, ready to be signed. Raises ProtocolError, LimitExceededError."""
    return _encode(evaluation, update_pb2.TaskEvaluation(), MAX_EVALUATION_BYTES)


def tasks_from_bytes(data: bytes) -> TaskEvaluation:
    """A task evaluation from a payload whose signature holds. Raises ProtocolError, LimitExceededError."""
    return _decode(TaskEvaluation, data, update_pb2.TaskEvaluation(), MAX_EVALUATION_BYTES, strict=True)


def roster_to_bytes(roster: Roster) -> bytes:
    """A roster, ready to be signed. Raises ProtocolError, LimitExceededError."""
    return _encode(roster, roster_pb2.Roster(), MAX_ROSTER_BYTES)


def roster_from_bytes(data: bytes) -> Roster:
    """A roster from a payload; `federation.roster` checks its signatures and rules.

    Raises:
        ProtocolError, LimitExceededError: not a roster, or too large a one.
    """
    return _decode(Roster, data, roster_pb2.Roster(), MAX_ROSTER_BYTES, strict=False)


def request_to_bytes(request: KeyRequest) -> bytes:
    """A request for a roster entry, ready to be signed. Raises ProtocolError, LimitExceededError."""
    return _encode(request, roster_pb2.KeyRequest(), MAX_REQUEST_BYTES)


def request_from_bytes(data: bytes) -> KeyRequest:
    """A request from a payload; `federation.key_requests` checks its signatures. Raises like `update_from_bytes`."""
    return _decode(KeyRequest, data, roster_pb2.KeyRequest(), MAX_REQUEST_BYTES, strict=True)


def clip_sentence(text: str) -> str:
    """The text, cut so that it fits a field named `sentence`."""
    limit = DEFAULT_LIMITS.max_text_chars
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _check_header(header: message_pb2.Header) -> None:
    expected = Header(consortium="", sender="", recipient="", sequence=0, received_through=0, epoch=0)
    if header.protocol_version != PROTOCOL_VERSION:
        raise ProtocolError(f"message: expected protocol version {PROTOCOL_VERSION}, found {header.protocol_version}")
    if header.algorithm != expected.algorithm or header.encryption != expected.encryption:
        found = f"{header.algorithm!r:.40} and {header.encryption!r:.40}"
        raise ProtocolError(f"message: expected signature algorithm 'ed25519' and no encryption, found {found}")


def _encode(value: object, proto: Proto, max_bytes: int) -> bytes:
    to_proto(value, proto)
    data = proto.SerializeToString(deterministic=True)
    if len(data) > max_bytes:
        name = type(value).__name__
        raise LimitExceededError(f"{name}: expected at most {max_bytes} bytes, found {len(data)}")
    return data


P = TypeVar("P", bound=Proto)


def _parse(proto: P, data: bytes, max_bytes: int) -> P:
    name = proto.DESCRIPTOR.name
    if len(data) > max_bytes:
        raise LimitExceededError(f"{name}: expected at most {max_bytes} bytes, found {len(data)}")
    try:
        proto.ParseFromString(data)
    except (DecodeError, ValueError) as error:
        raise ProtocolError(f"{name}: expected its encoding, found {len(data)} bytes of something else") from error
    return proto


def _decode(cls: type[T], data: bytes, proto: Proto, max_bytes: int, *, strict: bool) -> T:
    value = from_proto(cls, _parse(proto, data, max_bytes))
    if strict and _encode(value, type(proto)(), max_bytes) != data:
        raise ProtocolError(f"{cls.__name__}: expected its one encoding by this release, found other bytes or fields")
    return value
