# SPDX-License-Identifier: Apache-2.0
from dataclasses import dataclass, replace
from enum import StrEnum

import pytest

from federation.errors import LimitExceededError, ProtocolError
from federation.leaves import Invitation, Reason, RoundAbandonedV1, RoundOpenedV1, StateRecordedV1
from federation.messages import LanguageTokens, RunBudget, SiteFacts, SiteStatus, StartChange
from federation.v1 import leaves_pb2, roster_pb2, telemetry_pb2
from federation.wire.convert import MAX_ITEMS, from_proto, snake_case, to_proto

ABANDONED = RoundAbandonedV1(run="run-1", round=3, reason=Reason.NO_QUORUM, sentence="1 of 2 sites")
RECORDED = StateRecordedV1(run="run-1", round=3, fragment=0, momentum_digest="ab" * 32, residual_digest="")


def test_snake_case() -> None:
    assert snake_case("RoundOpenedV1") == "round_opened_v1"
    assert snake_case("Command") == "command"


def test_digests_are_raw_bytes_on_the_wire() -> None:
    proto = leaves_pb2.StateRecordedV1()
    to_proto(RECORDED, proto)
    assert (proto.momentum_digest, proto.residual_digest) == (b"\xab" * 32, b"")
    assert from_proto(StateRecordedV1, proto) == RECORDED


@pytest.mark.parametrize("digest", ["AB" * 32, "ab" * 31, "../../etc/passwd", "zz" * 32, "ab" * 33])
def test_what_is_no_digest_is_not_written(digest: str) -> None:
    with pytest.raises(ProtocolError, match="hexadecimal"):
        to_proto(replace(RECORDED, momentum_digest=digest), leaves_pb2.StateRecordedV1())


@pytest.mark.parametrize("length", [1, 31, 33, 64])
def test_what_is_no_digest_is_not_read(length: int) -> None:
    proto = leaves_pb2.StateRecordedV1(run="r", momentum_digest=b"x" * length)
    with pytest.raises(ProtocolError, match="expected a digest of 32 bytes"):
        from_proto(StateRecordedV1, proto)


def test_a_list_of_digests_has_no_empty_one() -> None:
    with pytest.raises(ProtocolError, match="digest"):
        from_proto(SiteStatus, telemetry_pb2.SiteStatus(blobs_wanted=[b""]))


@pytest.mark.parametrize("run", ["", "../run", "Run", "a/b", "x" * 41, "run\n"])
def test_ids_are_checked_in_both_directions(run: str) -> None:
    with pytest.raises(ProtocolError, match="expected an id"):
        to_proto(replace(ABANDONED, run=run), leaves_pb2.RoundAbandonedV1())
    proto = leaves_pb2.RoundAbandonedV1(run=run, reason=leaves_pb2.REASON_NO_QUORUM)
    with pytest.raises(ProtocolError, match="expected an id"):
        from_proto(RoundAbandonedV1, proto)


@pytest.mark.parametrize("code", [0, 4711])
def test_unspecified_and_unknown_codes_are_refused(code: int) -> None:
    with pytest.raises(ProtocolError, match="expected a code"):
        from_proto(RoundAbandonedV1, leaves_pb2.RoundAbandonedV1(run="r", reason=code))  # type: ignore[arg-type]


def test_a_status_of_an_agent_that_tells_no_facts_has_none() -> None:
    old = telemetry_pb2.SiteStatus(ledger_size=3, software="hpc-federation 0.5.0")
    assert from_proto(SiteStatus, telemetry_pb2.SiteStatus.FromString(old.SerializeToString())).facts is None
    proto = telemetry_pb2.SiteStatus()
    to_proto(SiteStatus(ledger_size=3), proto)
    assert not proto.HasField("facts")


def test_facts_survive_the_way_and_nothing_known_stays_nothing_known() -> None:
    told = SiteFacts(
        profile="lumi",
        num_accelerators=8,
        next_change=StartChange.MAINTENANCE,
        next_change_seconds=7,
        budgets=(RunBudget(run="run-1", gpu_hours_effective=1.5, native_unit="gpu-hours"),),
        language_tokens=(LanguageTokens(run="run-1", language="fi", tokens=0),),
    )
    for facts in (told, SiteFacts()):
        proto = telemetry_pb2.SiteStatus()
        to_proto(SiteStatus(ledger_size=3, facts=facts), proto)
        read = telemetry_pb2.SiteStatus.FromString(proto.SerializeToString())
        assert from_proto(SiteStatus, read).facts == facts
    assert (SiteFacts().queue_wait_seconds, RunBudget(run="r").forecast_gpu_hours) == (-1, -1.0)


def test_sentences_are_bounded_in_both_directions() -> None:
    to_proto(replace(ABANDONED, sentence="x" * 500), leaves_pb2.RoundAbandonedV1())
    with pytest.raises(LimitExceededError, match="500 characters"):
        to_proto(replace(ABANDONED, sentence="x" * 501), leaves_pb2.RoundAbandonedV1())
    proto = leaves_pb2.RoundAbandonedV1(run="r", reason=leaves_pb2.REASON_NO_QUORUM, sentence="x" * 501)
    with pytest.raises(LimitExceededError, match="500 characters"):
        from_proto(RoundAbandonedV1, proto)


def test_repeated_fields_are_bounded() -> None:
    proto = telemetry_pb2.SiteStatus()
    for _ in range(MAX_ITEMS + 1):
        proto.allocations.add()
    with pytest.raises(LimitExceededError, match="items"):
        from_proto(SiteStatus, proto)


@pytest.mark.parametrize("number", [-1, 2**64, 1.5, "3", None])
def test_numbers_that_do_not_fit_are_named(number: object) -> None:
    with pytest.raises(ProtocolError, match=r"RoundAbandonedV1\.round"):
        to_proto(replace(ABANDONED, round=number), leaves_pb2.RoundAbandonedV1())  # type: ignore[arg-type]


def test_a_nested_value_of_another_class_is_refused() -> None:
    opened = RoundOpenedV1(
        run="r",
        round=0,
        fragment=0,
        base_version=0,
        base_digest="",
        lr_position=0,
        invitations=(ABANDONED,),  # type: ignore[arg-type]
        sentence="",
    )
    with pytest.raises(ProtocolError, match="expected a Invitation, found a RoundAbandonedV1"):
        to_proto(opened, leaves_pb2.RoundOpenedV1())


class Colour(StrEnum):
    """An enum that no proto knows."""

    RED = "red"


@dataclass(frozen=True, kw_only=True)
class RootKey:
    """Same name as the proto, one field too many."""

    public: bytes
    colour: str


def test_a_field_without_counterpart_is_our_own_bug() -> None:
    with pytest.raises(TypeError, match="colour"):
        to_proto(RootKey(public=b"", colour="red"), roster_pb2.RootKey())


def _class(name: str, **hints: type) -> type:
    made = type(name, (), {"__annotations__": hints})
    return dataclass(frozen=True, kw_only=True)(made)


@pytest.mark.parametrize(
    "cls",
    [
        _class("RootKey", public=int),
        _class("RootKey", public=tuple[bytes, ...]),
        _class("RootKey"),
        _class("Other", public=bytes),
    ],
    ids=["type", "repeated", "missing", "name"],
)
def test_differing_types_are_our_own_bug(cls: type) -> None:
    with pytest.raises(TypeError):
        from_proto(cls, roster_pb2.RootKey())


def test_a_differing_enum_is_our_own_bug() -> None:
    cls = _class("RoundAbandonedV1", run=str, round=int, reason=Colour, sentence=str)
    with pytest.raises(TypeError, match="Colour"):
        from_proto(cls, leaves_pb2.RoundAbandonedV1())


def test_invitation_round_trip() -> None:
    invitation = Invitation(site="lumi", allocation="a1", num_steps=30)
    proto = leaves_pb2.Invitation()
    to_proto(invitation, proto)
    assert from_proto(Invitation, proto) == invitation
