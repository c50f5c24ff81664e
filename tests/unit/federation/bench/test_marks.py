# SPDX-License-Identifier: Apache-2.0
"""Marks: written by one process, read by another one while that goes on."""

import subprocess
import sys
import time
from pathlib import Path

from federation.bench.marks import Marks
from federation.trace import TRACE_VARIABLE, Trace, mark


def test_marks_are_read_as_they_are_written(tmp_path: Path) -> None:
    trace, marks = Trace(tmp_path / "marks.jsonl"), Marks(tmp_path / "marks.jsonl")
    before = time.monotonic()
    trace.mark("one", {"round": 3})
    assert [(m["mark"], m["round"]) for m in marks.all()] == [("one", 3)]
    trace.mark("two", {"round": 3, "site": "lumi"})
    assert [m["mark"] for m in marks.all()] == ["one", "two"]
    assert before <= marks.all()[0]["at"] <= marks.all()[1]["at"] <= time.monotonic()


def test_a_line_that_is_not_finished_waits(tmp_path: Path) -> None:
    path, marks = tmp_path / "marks.jsonl", Marks(tmp_path / "marks.jsonl")
    assert marks.all() == []
    path.write_bytes(b'{"mark": "a", "at": 1, "round": 0}\n{"mark": "b", "at"')
    assert [m["mark"] for m in marks.all()] == ["a"]
    with path.open("ab") as more:
        more.write(b': 2, "round": 0}\n')
    assert [m["mark"] for m in marks.all()] == ["a", "b"]


def test_the_first_mark_of_a_round_counts(tmp_path: Path) -> None:
    trace, marks = Trace(tmp_path / "marks.jsonl"), Marks(tmp_path / "marks.jsonl")
    for number, what in ((0, "first"), (1, "first"), (0, "again")):
        trace.mark("applied", {"round": number, "what": what})
    assert {n: m["what"] for n, m in marks.by_round("applied").items()} == {0: "first", 1: "first"}
    assert marks.of("other") == []


def test_nothing_is_written_unless_it_is_asked_for(tmp_path: Path) -> None:
    mark("nobody-asked")
    path = tmp_path / "asked.jsonl"
    code = "from federation.trace import mark; mark('asked', round=1)"
    subprocess.run([sys.executable, "-c", code], env={TRACE_VARIABLE: str(path)}, check=True)
    assert [(m["mark"], m["round"]) for m in Marks(path).all()] == [("asked", 1)]
