# SPDX-License-Identifier: Apache-2.0
"""Lines measured in a terminal's cells."""

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from federation.cli.lines import MIN_WIDTH, age, clip, first_lines, listed, moment, wrapped


def test_a_sentence_is_wrapped_with_its_indentation() -> None:
    lines = wrapped("! one two three four five six", 20, indent=2)
    assert [line.plain for line in lines] == ["! one two three four", "  five six"]


def test_a_word_that_fits_nowhere_is_broken() -> None:
    assert [line.plain for line in wrapped("x" * 50, 20)] == ["x" * 20, "x" * 20, "x" * 10]


@given(st.text(max_size=400), st.integers(1, 120), st.integers(0, 8))
def test_no_line_is_wider_and_no_letter_is_lost(text: str, width: int, indent: int) -> None:
    lines = wrapped(text, width, indent=indent, limit=1000)
    assert all(cell_len(line.plain) <= max(width, MIN_WIDTH) for line in lines)
    assert all(line.plain.isprintable() for line in lines)
    kept = "".join(c for c in text if c.isprintable() and not c.isspace())
    shown = "".join(line.plain for line in lines).replace(" ", "").replace("\N{REPLACEMENT CHARACTER}", "")
    assert shown == kept.replace("\N{REPLACEMENT CHARACTER}", "")


@given(st.text(max_size=100), st.integers(2, 40))
def test_a_clipped_name_is_no_wider(text: str, cells: int) -> None:
    assert cell_len(clip(text, cells)) <= cells


def test_a_name_that_fits_is_whole() -> None:
    assert clip("a" * 40, 40) == "a" * 40
    assert clip("a" * 41, 40) == "a" * 39 + "…"


def test_lines_that_are_left_out_are_told() -> None:
    lines = [Text("one one"), Text("two two"), Text("three")]
    assert [line.plain for line in first_lines(lines, 2)] == ["one one", "two t …"]
    assert first_lines(lines, None) == first_lines(lines, 3) == lines
    assert first_lines(lines, 0) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (-5, "0s"), (119, "119s"), (120, "2m"), (7199, "120m"), (7200, "2h"), (172_800, "2d")],
)
def test_ages(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_what_is_no_duration() -> None:
    assert [age(seconds) for seconds in (nan, inf, 1e300, None)] == ["?"] * 4


def test_moments() -> None:
    assert moment(1_790_000_000) == "2026-09-21 14:13 UTC"
    assert [moment(at) for at in (nan, inf, -1.0, 1e300)] == ["?"] * 4


def test_a_list_has_an_end() -> None:
    assert listed(["a", "b", "c"], 2) == "a, b and 1 more"
    assert listed(["a", "b"], 2) == "a, b"
