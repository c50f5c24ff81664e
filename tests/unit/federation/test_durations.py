# SPDX-License-Identifier: Apache-2.0
"""Durations and counts as people say them."""

import pytest

from federation.durations import count, in_words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5.0, "0 seconds"),
        (0.4, "0 seconds"),
        (1.2, "1 second"),
        (60.0, "60 seconds"),
        (119.0, "119 seconds"),
        (120.0, "2 minutes"),
        (5400.0, "90 minutes"),
        (7200.0, "2 hours"),
        (86_400.0, "24 hours"),
        (3 * 86_400.0, "3 days"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_counts() -> None:
    assert [count(n, "blob") for n in (0, 1, 2)] == ["0 blobs", "1 blob", "2 blobs"]
    assert [count(n, "leaf", "leaves") for n in (1, 2)] == ["1 leaf", "2 leaves"]
