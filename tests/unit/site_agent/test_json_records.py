# SPDX-License-Identifier: Apache-2.0
"""Dataclasses as JSON files: round trips, types, tolerance towards neighbouring releases."""

from dataclasses import dataclass
from typing import Any

import pytest

from federation.durable.simulated import SimulatedFileSystem
from federation.errors import ProtocolError
from site_agent.jobs import EvaluationOrder, JobReport, JobState, OutcomeFile, RoundOrder, WorkOrder
from site_agent.json_records import decode, encode, read_record, write_record
from site_agent.observations import HumanAnswer


@dataclass(frozen=True, kw_only=True)
class Inner:
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Outer:
    number: int
    share: float
    inner: Inner | None
    rows: tuple[tuple[int, ...], ...]
    state: JobState
    extra: dict[str, Any]
    flag: bool = False


VALUE = Outer(
    number=3, share=0.1, inner=Inner(names=("ä", "b")), rows=((1, 2), ()), state=JobState.READY, extra={"k": [1]}
)


def test_a_round_trip_keeps_every_value() -> None:
    assert decode(Outer, encode(VALUE)) == VALUE
    assert decode(Outer, encode(Outer(**{**vars(VALUE), "inner": None}))).inner is None


def test_floats_keep_every_bit_and_whole_numbers_pass_as_floats() -> None:
    assert decode(Outer, encode(VALUE)).share.hex() == (0.1).hex()
    assert decode(Outer, encode(VALUE).replace(b'"share": 0.1', b'"share": 2')).share == 2.0


def test_a_pair_keeps_both_of_its_types() -> None:
    said = HumanAnswer(run="r", handles=((4, "slurm:-:17"), (6, "slurm:-:19")))
    assert decode(HumanAnswer, encode(said)) == said
    with pytest.raises(ProtocolError, match=r"handles\[0\]: expected a list of 2, found \[4\]"):
        decode(HumanAnswer, b'{"run": "r", "handles": [[4]]}')


def test_unknown_fields_are_ignored_and_defaults_fill_in() -> None:
    later = encode(VALUE).replace(b'"flag": false', b'"news": 1')
    assert decode(Outer, later) == VALUE


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (b'"number": 3', b'"number": "3"', "number: expected int, found '3'"),
        (b'"number": 3', b'"number": true', "number: expected int, found True"),
        (b'"number": 3', b'"other": 3', "expected a field number"),
        (b'"ready"', b'"rready"', "state: expected one of starting, ready, draining, ended, found 'rready'"),
        (b'"names": [', b'"names": [7, ', r"inner: names\[0\]: expected str, found 7"),
        (b"{", b"[", "expected JSON"),
    ],
    ids=["string", "bool", "missing", "enum", "list-item", "not-json"],
)
def test_another_type_is_refused_with_the_field(old: bytes, new: bytes, sentence: str) -> None:
    with pytest.raises(ProtocolError, match=sentence):
        decode(Outer, encode(VALUE).replace(old, new, 1), "x.json")


def test_numbers_that_json_does_not_have_are_not_written() -> None:
    with pytest.raises(ValueError):
        encode(JobReport(fencing=1, state=JobState.READY, loss=float("nan")))


def test_a_missing_file_is_none() -> None:
    fs = SimulatedFileSystem()
    assert read_record(fs, "a/b.json", Inner) is None
    write_record(fs, "a/b.json", Inner(names=()))
    assert read_record(fs, "a/b.json", Inner) == Inner(names=())


@pytest.mark.parametrize("kind", [WorkOrder, RoundOrder, OutcomeFile, EvaluationOrder, JobReport])
def test_an_empty_record_names_what_it_lacks(kind: type) -> None:
    with pytest.raises(ProtocolError, match="expected a field"):
        decode(kind, b"{}")
