# SPDX-License-Identifier: Apache-2.0
"""The split of text lines into training and held-out ones."""

from federation.text_split import Split, split_of

GOLDEN = [14, 22, 98]


def test_about_one_line_in_twenty_is_held_out() -> None:
    sides = [split_of(f"line {n}") for n in range(20_000)]
    assert 900 < sides.count(Split.HELD_OUT) < 1100


def test_surrounding_white_space_does_not_move_a_line() -> None:
    for n in range(200):
        assert split_of(f"line {n}") is split_of(f"  line {n}\r\n")


def test_the_split_never_changes() -> None:
    held_out = [n for n in range(100) if split_of(f"line {n}") is Split.HELD_OUT]
    assert held_out == GOLDEN
