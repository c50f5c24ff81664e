# SPDX-License-Identifier: Apache-2.0
"""Words of others on a terminal: nothing that moves a cursor, nothing without end."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from federation.terminal_text import MAX_CHARS, one_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a site\nof two\r\n\tlines", "a site of two lines"),
        (
            "\x1b[2J\x1b]0;owned\x07",
            "\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}]0;owned\N{REPLACEMENT CHARACTER}",
        ),
        ("\u202egnp.exe", "\N{REPLACEMENT CHARACTER}gnp.exe"),
        ("zero\u200bwidth", "zero\N{REPLACEMENT CHARACTER}width"),
        ("\ud800", "\N{REPLACEMENT CHARACTER}"),
        ("Plzeň žluťoučký 東京", "Plzeň žluťoučký 東京"),
        (None, "None"),
        (12, "12"),
    ],
)
def test_what_becomes_of_characters(text: object, shown: str) -> None:
    assert one_line(text) == shown


def test_ten_megabytes_are_cut_and_counted() -> None:
    found = one_line("x" * 10_000_000)
    assert found == "x" * MAX_CHARS + f"… ({10_000_000 - MAX_CHARS} more characters)"


def test_spaces_within_a_line_can_be_kept() -> None:
    assert printable("  a  b\n\x1b") == "  a  b \N{REPLACEMENT CHARACTER}"


def test_markup_and_emoji_codes_are_letters() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="truecolor")
    console.print(Text(one_line("[red]evil[/red] :skull: [link=http://x]y[/link]")))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "[red]evil[/red] :skull: [link=http://x]y[/link]\n"


@given(st.text(), st.integers(min_value=0, max_value=50))
def test_nothing_else_comes_out(text: str, limit: int) -> None:
    found = one_line(text, limit)
    assert found.isprintable()
    assert len(found) <= limit + 40
