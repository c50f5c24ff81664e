# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest

from federation import wire
from federation.errors import LimitExceededError, ProtocolError, UnknownLeafError
from federation.leaves import Leaf, Reason, RosterInstalledV1, RunCompletedV1
from federation.limits import DEFAULT_LIMITS
from federation.messages import Acknowledgement, Header, LedgerTail, Message, RoundDeclined, Update
from federation.v1 import leaves_pb2, message_pb2, update_pb2

LEAF = Leaf(at_us=5, body=RunCompletedV1(run="run-1"))
HEADER = Header(consortium="eu", sender="lumi", recipient="coordinator", sequence=1, received_through=0, epoch=1)
MESSAGE = Message(header=HEADER, body=RoundDeclined(run="run-1", round=4, reason=Reason.POLICY, sentence="no"))
UPDATE = Update(
    consortium="eu",
    run="run-1",
    manifest_digest="01" * 32,
    round=2,
    fragment=0,
    base_digest="02" * 32,
    site="lumi",
    allocation="a1",
    codec="int8",
    weight_tokens=10,
    new_tokens=5,
    num_steps=3,
    payload_digest="03" * 32,
    payload_bytes=99,
)
UNKNOWN_FIELD = b"\xc8\x3e\x01"  # field 1001, varint 1


def test_a_leaf_with_an_unknown_field_stops_the_fold() -> None:
    inner = leaves_pb2.Leaf.FromString(wire.leaf_to_bytes(LEAF))
    inner.run_completed_v1.MergeFromString(UNKNOWN_FIELD)
    for data in (wire.leaf_to_bytes(LEAF) + UNKNOWN_FIELD, inner.SerializeToString()):
        with pytest.raises(UnknownLeafError) as caught:
            wire.leaf_from_bytes(data)
        assert "another release" in caught.value.diagnostics()


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", leaves_pb2.Leaf(at_us=5).SerializeToString(), b"\x08\x05" + b"\xba\x3e\x00"],
    ids=["empty", "junk", "no-body", "unknown-type"],
)
def test_a_leaf_of_an_unknown_type_stops_the_fold(data: bytes) -> None:
    with pytest.raises(UnknownLeafError):
        wire.leaf_from_bytes(data)


def test_a_leaf_has_one_encoding() -> None:
    data = wire.leaf_to_bytes(LEAF)
    at, body = data[:2], data[2:]
    assert wire.leaf_from_bytes(at + body) == LEAF
    longer_varint = b"\x08\x85\x00" + body
    for other in (body + at, at + at + body, longer_varint):
        assert leaves_pb2.Leaf.FromString(other) == leaves_pb2.Leaf.FromString(data)
        with pytest.raises(UnknownLeafError):
            wire.leaf_from_bytes(other)


def test_an_empty_body_is_not_lost() -> None:
    message = Message(header=HEADER, body=Acknowledgement())
    assert wire.message_from_bytes(wire.message_to_bytes(message)) == message


def test_a_message_may_say_more_than_this_release_knows() -> None:
    assert wire.message_from_bytes(wire.message_to_bytes(MESSAGE) + UNKNOWN_FIELD) == MESSAGE


def test_a_message_with_an_unknown_body_is_refused() -> None:
    proto = message_pb2.Message.FromString(wire.message_to_bytes(MESSAGE))
    proto.ClearField("round_declined")
    with pytest.raises(ProtocolError, match="type that this release knows"):
        wire.message_from_bytes(proto.SerializeToString() + b"\xba\x3e\x00")


def test_a_message_without_header_is_refused() -> None:
    proto = message_pb2.Message.FromString(wire.message_to_bytes(MESSAGE))
    proto.ClearField("header")
    with pytest.raises(ProtocolError):
        wire.message_from_bytes(proto.SerializeToString())


@pytest.mark.parametrize(
    "changes", [{"protocol_version": 2}, {"protocol_version": 0}, {"algorithm": "ml-dsa"}, {"encryption": "hpke"}]
)
def test_another_protocol_is_refused_before_the_body_is_read(changes: dict[str, object]) -> None:
    other = replace(MESSAGE, header=replace(HEADER, **changes))  # type: ignore[arg-type]
    proto = message_pb2.Message.FromString(wire.message_to_bytes(other))
    proto.round_declined.run = "../not an id"
    with pytest.raises(ProtocolError, match=r"^message: expected"):
        wire.message_from_bytes(proto.SerializeToString())


def test_signed_documents_of_a_site_are_strict() -> None:
    data = wire.update_to_bytes(UPDATE)
    assert wire.update_from_bytes(data) == UPDATE
    with pytest.raises(ProtocolError, match="one encoding"):
        wire.update_from_bytes(data + UNKNOWN_FIELD)
    assert update_pb2.Update.FromString(data).payload_digest == b"\x03" * 32


def test_limits_on_the_way_in_and_out() -> None:
    with pytest.raises(LimitExceededError):
        wire.leaf_from_bytes(b"\xff" * (DEFAULT_LIMITS.max_leaf_bytes + 1))
    with pytest.raises(LimitExceededError):
        wire.message_from_bytes(b"\xff" * (DEFAULT_LIMITS.max_envelope_bytes + 1))
    sites = tuple(f"site-{number:030d}" for number in range(40_000))
    with pytest.raises(LimitExceededError):
        wire.leaf_to_bytes(Leaf(at_us=0, body=RosterInstalledV1(version=1, digest="", sites=sites)))
    tail = LedgerTail(first_index=0, leaves=(b"x" * DEFAULT_LIMITS.max_envelope_bytes,), checkpoint=b"")
    with pytest.raises(LimitExceededError):
        wire.message_to_bytes(Message(header=HEADER, body=tail))


def test_sentences_can_be_made_to_fit() -> None:
    assert wire.clip_sentence("short") == "short"
    clipped = wire.clip_sentence("x" * 501)
    assert len(clipped) == 500
    assert clipped.endswith("…")
    declined = replace(MESSAGE, body=RoundDeclined(run="r", round=0, reason=Reason.POLICY, sentence=clipped))
    assert wire.message_from_bytes(wire.message_to_bytes(declined)) == declined
