# SPDX-License-Identifier: Apache-2.0
"""Admission's checks 3 to 8, one defect at a time, and which of two defects counts."""

import math
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from federation import leaves as lv
from federation.admission import Finding, allocation_number, check_payload, check_update
from federation.chunks import CHUNK_ELEMENTS
from federation.codecs.payload import encode_vector
from federation.codecs.registry import get_codec
from federation.golden import inputs
from federation.manifest import Manifest
from federation.merkle import blob_digest
from federation.messages import Update
from federation.rounds import Federation, fold
from federation.testing.manifests import manifest_of, plan_of, table_of

SIZE = 300
BASE, MANIFEST = "aa" * 32, "bb" * 32
TOKENS_PER_STEP = 16
"""batch_size * sequence_length of the test manifest."""


def manifest(codec: str = "int4", size: int = SIZE) -> Manifest:
    plan = plan_of({"alpha": 8, "beta": 8, "gamma": 8}, num_fragments=2, tau=2, theta_digests=[BASE, "cc" * 32])
    return manifest_of(plan, [table_of([("a", (size,))]), table_of([("b", (5,))])], up=codec)


def body_opened() -> lv.RoundOpenedV1:
    return lv.RoundOpenedV1(
        run="run-1",
        round=0,
        fragment=0,
        base_version=0,
        base_digest=BASE,
        lr_position=0,
        invitations=tuple(lv.Invitation(site=site, allocation="a3", num_steps=4) for site in ("alpha", "beta")),
        sentence="",
    )


def federation(*more: lv.Body) -> Federation:
    """Round 0 is open; alpha and beta are invited with allocation a3 for 4 steps, gamma is not."""
    start = {"run": "run-1", "operator": "op", "command": ""}
    bodies: list[lv.Body] = [
        lv.RunCreatedV1(manifest_digest=MANIFEST, plan=manifest().plan, **start),
        lv.RunApprovedV1(**start),
        lv.RunStartedV1(**start),
        body_opened(),
        *more,
    ]
    return fold([lv.Leaf(at_us=0, body=body) for body in bodies])


def payload(codec: str = "int4", size: int = SIZE, seed: int = 1) -> bytes:
    return encode_vector(get_codec(codec), inputs.usual(seed, size))


def update(data: bytes | None = None, codec: str = "int4") -> Update:
    data = payload() if data is None else data
    return Update(
        consortium="test",
        run="run-1",
        manifest_digest=MANIFEST,
        round=0,
        fragment=0,
        base_digest=BASE,
        site="alpha",
        allocation="a3",
        codec=codec,
        weight_tokens=60,
        new_tokens=64,
        num_steps=4,
        payload_digest=blob_digest(data),
        payload_bytes=len(data),
    )


def verdict(of: Update, outcome: lv.Outcome = lv.Outcome.ADMITTED, reason: lv.Reason = lv.Reason.NONE) -> lv.VerdictV1:
    return lv.VerdictV1(
        run=of.run,
        round=of.round,
        site=of.site,
        outcome=outcome,
        reason=reason,
        sentence="as decided",
        update_digest="dd" * 32,
        payload_digest=of.payload_digest,
        payload_bytes=of.payload_bytes,
        weight_tokens=of.weight_tokens,
        new_tokens=of.new_tokens,
        num_steps=of.num_steps,
        norm=2.5,
    )


def reader(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: data[offset : offset + length]


def check(of: Update, state: Federation | None = None) -> Finding:
    return check_update(of, state or federation(), manifest())


def test_a_good_update_passes() -> None:
    assert check(update()) == Finding()
    assert check(update()).passed


@pytest.mark.parametrize("number", [3, 4, 12])
def test_a_successor_allocation_may_finish_the_round(number: int) -> None:
    assert check(replace(update(), allocation=f"a{number}")).passed


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"consortium": "other"}, lv.Reason.WRONG_MANIFEST, "found other/run-1"),
        ({"run": "run-2"}, lv.Reason.WRONG_MANIFEST, "found test/run-2"),
        ({"manifest_digest": "ee" * 32}, lv.Reason.WRONG_MANIFEST, "found eeeeeeeeeeee"),
        ({"site": "delta"}, lv.Reason.NOT_INVITED, "expected a member"),
        ({"site": "gamma"}, lv.Reason.NOT_INVITED, "expected one invited to round 0"),
        ({"round": 1}, lv.Reason.WRONG_ROUND, "expected one below 1, found 1"),
        ({"fragment": 1}, lv.Reason.WRONG_FRAGMENT, "expected 0, found 1"),
        ({"base_digest": "ee" * 32}, lv.Reason.STALE_BASE, "expected aaaaaaaaaaaa"),
        ({"allocation": "a2"}, lv.Reason.WRONG_ALLOCATION, "expected a3 or a later one, found a2"),
        ({"allocation": "a03"}, lv.Reason.WRONG_ALLOCATION, "found a03"),
        ({"allocation": "b9"}, lv.Reason.WRONG_ALLOCATION, "found b9"),
        ({"codec": "fp32"}, lv.Reason.WRONG_CODEC, "expected int4, found fp32"),
        ({"codec": "x\ny"}, lv.Reason.WRONG_CODEC, r"found 'x\\ny'"),
        ({"num_steps": 5}, lv.Reason.WRONG_STEPS, "expected 4, found 5"),
        ({"payload_bytes": 197}, lv.Reason.WRONG_LENGTH, "expected 198, found 197"),
        ({"new_tokens": 0}, lv.Reason.WRONG_TOKENS, "new tokens: expected 1 to 64, found 0"),
        ({"new_tokens": 65}, lv.Reason.WRONG_TOKENS, "found 65"),
        ({"weight_tokens": 0}, lv.Reason.WRONG_TOKENS, "weight tokens: expected 1 to 160, found 0"),
        ({"weight_tokens": (8 + 2) * TOKENS_PER_STEP + 1}, lv.Reason.WRONG_TOKENS, "found 161"),
        ({"weight_tokens": -(2**62)}, lv.Reason.WRONG_TOKENS, "weight tokens"),
    ],
)
def test_one_defect_is_named(change: dict[str, object], reason: lv.Reason, words: str) -> None:
    found = check(replace(update(), **change))  # type: ignore[arg-type]
    assert found.reason is reason
    assert not found.passed
    assert not found.seen_before
    assert re.search(words, found.sentence), found.sentence


def test_a_hostile_value_cannot_fill_the_sentence() -> None:
    found = check(replace(update(), codec="x" * 10_000))
    assert len(found.sentence) < 200


@pytest.mark.parametrize("outcome", [lv.Outcome.ADMITTED, lv.Outcome.REJECTED])
def test_the_same_update_again_has_the_same_answer(outcome: lv.Outcome) -> None:
    reason = lv.Reason.NONE if outcome is lv.Outcome.ADMITTED else lv.Reason.NORM_TOO_LARGE
    found = check(update(), federation(verdict(update(), outcome, reason)))
    assert found == Finding(reason=reason, sentence="as decided", norm=2.5, seen_before=True)


def test_the_same_update_after_the_seal_has_the_same_answer() -> None:
    sealed = lv.RoundSealedV1(run="run-1", round=0, updates=(), sentence="")
    assert check(update(), federation(verdict(update()), sealed)).seen_before


def test_another_digest_is_equivocation() -> None:
    found = check(update(payload(seed=2)), federation(verdict(update())))
    assert found.reason is lv.Reason.SECOND_DIGEST
    assert not found.seen_before


def test_another_digest_is_equivocation_even_with_further_defects() -> None:
    second = replace(update(payload(seed=2)), codec="fp32", num_steps=9)
    assert check(second, federation(verdict(update()))).reason is lv.Reason.SECOND_DIGEST


@pytest.mark.parametrize("name", ["weight_tokens", "new_tokens", "num_steps", "payload_bytes"])
def test_another_weight_for_the_same_payload_is_equivocation(name: str) -> None:
    second = replace(update(), **{name: 1})  # type: ignore[arg-type]
    assert check(second, federation(verdict(update()))).reason is lv.Reason.SECOND_DIGEST


def test_after_a_verdict_without_update_it_is_late() -> None:
    missed = replace(verdict(update(), lv.Outcome.MISSED, lv.Reason.UPLOAD_TOO_LONG), payload_digest="")
    found = check(update(), federation(missed))
    assert found.reason is lv.Reason.LATE
    assert "missed, upload-too-long" in found.sentence


@pytest.mark.parametrize(
    "end",
    [
        lv.RoundSealedV1(run="run-1", round=0, updates=(), sentence=""),
        lv.RoundAbandonedV1(run="run-1", round=0, reason=lv.Reason.OPERATOR, sentence=""),
    ],
)
def test_after_the_end_of_the_round_it_is_late(end: lv.Body) -> None:
    found = check(update(), federation(end))
    assert found.reason is lv.Reason.LATE
    assert "expected open" in found.sentence


@pytest.mark.parametrize(
    ("text", "number"), [("a1", 1), ("a12", 12), ("a0", 0), ("a01", 0), ("12", 0), ("a-1", 0), ("a1\n", 0), ("", 0)]
)
def test_allocation_numbers(text: str, number: int) -> None:
    assert allocation_number(text) == number


@pytest.mark.parametrize("codec", ["fp32", "bf16", "int8", "int4"])
def test_a_good_payload_passes_with_its_norm(codec: str) -> None:
    data = payload(codec)
    found = check_payload(update(data, codec), manifest(codec), reader(data))
    decoded = get_codec(codec).decode(data, SIZE).astype(np.float64)
    assert found.passed
    assert found.norm == pytest.approx(float(np.linalg.norm(decoded)), rel=1e-14)


def test_norm_and_digest_over_several_chunks() -> None:
    size = CHUNK_ELEMENTS + 77
    data = np.ones(size, np.float32).tobytes()
    found = check_payload(update(data, "fp32"), manifest("fp32", size), reader(data))
    assert found == Finding(norm=math.sqrt(size))


def changed(data: bytes, position: int, value: int) -> bytes:
    return data[:position] + bytes([value]) + data[position + 1 :]


def test_5_another_byte_is_another_digest() -> None:
    data = payload()
    found = check_payload(update(data), manifest(), reader(changed(data, 50, data[50] ^ 1)))
    assert found.reason is lv.Reason.PAYLOAD_DIGEST


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"\0", lambda d: b""])
def test_5_bytes_missing_or_added(change: Callable[[bytes], bytes]) -> None:
    data = payload()
    found = check_payload(update(data), manifest(), reader(change(data)))
    assert found.reason is lv.Reason.PAYLOAD_DIGEST


def test_5_outranks_6() -> None:
    data = payload()
    found = check_payload(update(data), manifest(), reader(changed(data, 1, 0xFF)))
    assert found.reason is lv.Reason.PAYLOAD_DIGEST


def test_6_a_broken_bound() -> None:
    data = changed(payload(), 1, 0xFF)
    found = check_payload(update(data), manifest(), reader(data))
    assert found.reason is lv.Reason.MALFORMED_PAYLOAD
    assert "chunk 0: int4: block 0" in found.sentence


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_7_non_finite_values(value: float) -> None:
    x = np.ones(SIZE, np.float32)
    x[17] = value
    data = x.tobytes()
    found = check_payload(update(data, "fp32"), manifest("fp32"), reader(data))
    assert found.reason is lv.Reason.NON_FINITE
    assert "element 17" in found.sentence


@pytest.mark.parametrize(("where", "chunk"), [(0, 0), (-1, 1)])
def test_7_in_one_chunk_of_two(where: int, chunk: int) -> None:
    x = np.ones(CHUNK_ELEMENTS + 9, np.float32)
    x[where] = np.nan
    data = x.tobytes()
    found = check_payload(update(data, "fp32"), manifest("fp32", x.size), reader(data))
    assert found.reason is lv.Reason.NON_FINITE
    assert f"chunk {chunk}:" in found.sentence


@pytest.mark.parametrize(("bound", "reason"), [(5.0, lv.Reason.NONE), (4.999, lv.Reason.NORM_TOO_LARGE)])
def test_8_norm(bound: float, reason: lv.Reason) -> None:
    data = np.array([3, 4], np.float32).tobytes()
    agreed = replace(manifest("fp32", 2), max_update_norm=bound)
    found = check_payload(update(data, "fp32"), agreed, reader(data))
    assert (found.reason, found.norm) == (reason, 5.0)
    assert found.passed or found.sentence == "norm: expected at most 4.999, found 5"


def test_a_norm_beyond_fp32_is_still_a_number() -> None:
    data = np.full(SIZE, 3e38, np.float32).tobytes()
    found = check_payload(update(data, "fp32"), manifest("fp32"), reader(data))
    assert found.reason is lv.Reason.NORM_TOO_LARGE
    assert math.isfinite(found.norm)
