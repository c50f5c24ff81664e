# SPDX-License-Identifier: Apache-2.0
"""Which round trip counts: declared, measured, or what run.toml adds; and who is said to say so."""

import pytest

from federation.round_trips import MAX_SECONDS, NETWORK_SECONDS, SiteRoundTrip, Source, is_longer, shortfall


@pytest.mark.parametrize(
    ("added", "declared", "measured", "seconds", "source"),
    [
        (0, 0, 0, 0, Source.RUN),
        (1800, 0, 0, 1800, Source.RUN),
        (1800, 1200, 600, 1800, Source.RUN),
        (1800, 1800, 1800, 1800, Source.RUN),
        (1800, 2400, 0, 2400, Source.DECLARED),
        (1800, 2400, 1900, 2400, Source.DECLARED),
        (1800, 1900, 2400, 2400, Source.MEASURED),
        (1800, 0, 1801, 1801, Source.MEASURED),
        (0, 0, NETWORK_SECONDS, 0, Source.RUN),
        (0, 0, NETWORK_SECONDS + 1, NETWORK_SECONDS + 1, Source.MEASURED),
        (0, 2**64 - 1, 0, MAX_SECONDS, Source.DECLARED),
    ],
)
def test_the_longest_of_what_is_known(added: int, declared: int, measured: int, seconds: int, source: Source) -> None:
    found = SiteRoundTrip(declared_seconds=declared, measured_seconds=measured).longest(added)
    assert (found.seconds, found.source) == (seconds, source)
    assert bool(shortfall("spool", added, found)) is (source is not Source.RUN)


@pytest.mark.parametrize(
    ("declared", "measured", "source"),
    [(2400, 0, Source.DECLARED), (2400, 600, Source.RUN), (600, 2400, Source.MEASURED)],
)
def test_what_was_measured_counts_more_than_what_is_declared(declared: int, measured: int, source: Source) -> None:
    assert SiteRoundTrip(declared_seconds=declared, measured_seconds=measured).newest(1800).source is source


def test_a_courier_over_the_network_needs_nothing_added() -> None:
    assert not is_longer(NETWORK_SECONDS, 0)
    assert is_longer(NETWORK_SECONDS, 30), "whoever adds something means it"


def test_the_sentence_has_both_numbers_and_who_says_so() -> None:
    said = shortfall("spool", 600, SiteRoundTrip(measured_seconds=2400).newest(600))
    assert said.startswith("site spool: its courier's round trip is 2400 s, as its agent measured, and 600 s are added")
