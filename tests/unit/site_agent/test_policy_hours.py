# SPDX-License-Identifier: Apache-2.0
"""Windows on the site's own clock: days, midnight, clock changes; maintenance in absolute time."""

from datetime import UTC, datetime, timedelta

import pytest

from site_agent.policy_hours import (
    HoursSection,
    MaintenanceSection,
    is_open,
    local_words,
    next_change,
    parse_window,
    reached,
)

MONDAY = datetime(2027, 3, 1, tzinfo=UTC)


def hours(*windows: str, zone: str = "UTC") -> HoursSection:
    return HoursSection(windows=windows, time_zone=zone)


def at(day: int, clock: str) -> datetime:
    hour, minute = map(int, clock.split(":"))
    return MONDAY + timedelta(days=day, hours=hour, minutes=minute)


@pytest.mark.parametrize(
    ("window", "day", "clock", "expected"),
    [
        ("20:00-06:00", 0, "19:59", False),
        ("20:00-06:00", 0, "20:00", True),
        ("20:00-06:00", 0, "05:59", True),
        ("20:00-06:00", 0, "06:00", False),
        ("mon-fri 20:00-06:00", 0, "05:00", False),  # Sunday's night is none of them
        ("mon-fri 20:00-06:00", 5, "05:00", True),  # Friday's reaches into Saturday
        ("mon-fri 20:00-06:00", 5, "20:00", False),
        ("sat,sun 00:00-24:00", 5, "00:00", True),
        ("sat,sun 00:00-24:00", 6, "23:59", True),
        ("sat,sun 00:00-24:00", 7, "00:00", False),
        ("fri-mon 08:00-09:00", 0, "08:30", True),
        ("fri-mon 08:00-09:00", 1, "08:30", False),
        ("fri-mon 08:00-09:00", 4, "08:30", True),
    ],
)
def test_a_window_belongs_to_the_day_on_which_it_begins(window: str, day: int, clock: str, expected: bool) -> None:
    assert is_open(hours(window), at(day, clock)) is expected


def test_without_windows_it_is_always_open_and_several_add_up() -> None:
    assert is_open(hours(), MONDAY)
    both = hours("mon 08:00-09:00", "mon 10:00-11:00")
    assert [is_open(both, at(0, clock)) for clock in ("08:30", "09:30", "10:30")] == [True, False, True]


def test_the_sites_own_clock_counts_through_its_clock_changes() -> None:
    night = hours("20:00-06:00", zone="Europe/Helsinki")
    winter, summer = datetime(2027, 3, 27, 18, 0, tzinfo=UTC), datetime(2027, 3, 28, 17, 0, tzinfo=UTC)
    for opening in (winter, summer):
        assert is_open(night, opening)
        assert not is_open(night, opening - timedelta(minutes=1))
    assert local_words(night, summer) == "sun 20:00"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "20:00",
        "8:00-9:00",
        "08:00-08:00",
        "24:00-06:00",
        "08:60-09:00",
        "mo 08:00-09:00",
        "mon-tue-wed 08:00-09:00",
    ],
)
def test_what_is_no_window(text: str) -> None:
    with pytest.raises(ValueError, match="times such as"):
        parse_window(text)


def test_the_next_opening_and_closing() -> None:
    night = hours("mon-fri 20:00-06:00")
    assert next_change(night, at(0, "12:00")) == at(0, "20:00")
    assert next_change(night, at(4, "21:30")) == at(5, "06:00")
    assert next_change(night, at(5, "06:00")) == at(7, "20:00")
    assert next_change(hours(), MONDAY) is None
    assert next_change(hours("00:00-24:00"), MONDAY) is None


def test_the_first_maintenance_that_a_job_would_meet() -> None:
    first = MaintenanceSection(begins_at=at(1, "06:00"), ends_at=at(1, "12:00"))
    second = MaintenanceSection(begins_at=at(2, "06:00"), ends_at=at(2, "12:00"), note="power")
    day = 86_400.0
    assert reached((second, first), at(0, "06:00"), 2 * day) is first
    assert reached((second, first), at(0, "06:00"), day) is None
    assert reached((second, first), at(1, "11:59"), 0.001) is first
    assert reached((second, first), at(1, "12:00"), day) is second
    assert second.words() == "maintenance from 2027-03-03 06:00 to 2027-03-03 12:00 UTC (power)"
