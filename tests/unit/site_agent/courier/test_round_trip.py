# SPDX-License-Identifier: Apache-2.0
"""The courier's round trip: from the pass that posted to the pass that saw the acknowledgement."""

import pytest

from federation.durable.simulated import SimulatedFileSystem
from site_agent import layout
from site_agent.courier.round_trip import MAX_SAMPLES, RoundTrip, RoundTripMeter, read_round_trip, sentence


def test_a_message_is_timed_until_its_acknowledgement_is_seen() -> None:
    fs = SimulatedFileSystem()
    meter = RoundTripMeter(fs, last_sequence=4)
    meter.note(4, 4, 100.0)
    assert read_round_trip(fs) == RoundTrip()
    meter.note(6, 4, 101.0)
    meter.note(7, 4, 111.0)
    meter.note(7, 5, 120.0)
    assert meter.measured(120.0).num_samples == 0
    meter.note(7, 7, 131.0)
    assert meter.measured(131.0) == RoundTrip(
        num_samples=2, median_seconds=25.0, max_seconds=30.0, newest_at_us=131_000_000
    )
    assert read_round_trip(fs) == meter.measured(131.0)


def test_what_was_posted_before_this_process_is_not_timed() -> None:
    meter = RoundTripMeter(SimulatedFileSystem(), last_sequence=9)
    meter.note(9, 9, 5.0)
    assert meter.measured(5.0).num_samples == 0


def test_a_clock_that_was_set_back_gives_no_sample() -> None:
    meter = RoundTripMeter(SimulatedFileSystem(), last_sequence=0)
    meter.note(1, 0, 1000.0)
    meter.note(1, 1, 10.0)
    assert meter.measured(10.0) == RoundTrip()


def test_the_newest_samples_count_and_the_file_is_written_now_and_then() -> None:
    fs = SimulatedFileSystem()
    meter, now = RoundTripMeter(fs, last_sequence=0), 0.0
    for number in range(1, 2 * MAX_SAMPLES):
        meter.note(number, number - 1, now)
        now += 1.0 if number >= MAX_SAMPLES else 50.0
        meter.note(number, number, now)
    assert meter.measured(now).max_seconds == 1.0
    assert read_round_trip(fs).num_samples == MAX_SAMPLES
    assert read_round_trip(fs).newest_at_us < meter.measured(now).newest_at_us


def test_another_releases_file_is_as_none() -> None:
    fs = SimulatedFileSystem()
    fs.write(layout.ROUND_TRIP, b'{"other": 1}')
    assert read_round_trip(fs) == RoundTrip()


@pytest.mark.parametrize(
    ("samples", "declared", "words"),
    [
        (0, 0, ("not declared", "not measured yet")),
        (0, 1800, ("declared 30 minutes", "not measured yet")),
        (3, 0, ("not declared", "measured 2.5 s (median), 40 seconds (longest) over 3 messages")),
        (3, 60, ("declared 60 seconds",)),
        (3, 30, ("LONGER THAN DECLARED",)),
    ],
)
def test_what_a_person_reads(samples: int, declared: int, words: tuple[str, ...]) -> None:
    said = sentence(RoundTrip(num_samples=samples, median_seconds=2.5, max_seconds=40.0), declared)
    assert all(word in said for word in words), said
    assert ("LONGER" in said) == (0 < declared < 40 and samples > 0)


def test_what_the_process_before_measured_counts_until_this_one_has_timed_a_message() -> None:
    fs = SimulatedFileSystem()
    assert RoundTripMeter(fs, last_sequence=0).usual_seconds == 0.0
    first = RoundTripMeter(fs, last_sequence=0)
    first.note(1, 0, 100.0)
    first.note(1, 1, 1000.0)
    assert first.usual_seconds == 900.0
    second = RoundTripMeter(fs, last_sequence=1)
    assert second.usual_seconds == 900.0
    second.note(2, 1, 2000.0)
    second.note(2, 2, 2060.0)
    assert second.usual_seconds == 60.0


def test_one_stall_does_not_make_the_way_longer() -> None:
    assert RoundTrip(num_samples=9, median_seconds=6.0, max_seconds=574.0).usual_seconds == 12.0
    assert RoundTrip(num_samples=9, median_seconds=900.0, max_seconds=1500.0).usual_seconds == 1500.0
