# SPDX-License-Identifier: Apache-2.0
"""Durations and counts as people say them."""

from typing import Final

_UNITS: Final = (("days", 86_400), ("hours", 3_600), ("minutes", 60))


def in_words(seconds: float) -> str:
    """`3 days`, `90 minutes`, `1 second`: a whole number of the largest unit that there are two of; never negative."""
    for unit, length in _UNITS:
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return count(max(round(seconds), 0), "second")


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 message`, `2 messages`; `plural` is given where it is not the noun with an s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
