# SPDX-License-Identifier: Apache-2.0
"""When jobs may start at this site: daily windows on its own clock, and maintenance at absolute times. Pure.

A window belongs to the day on which it begins: "fri 20:00-06:00" ends on Saturday morning. Clock changes are the time
zone's: a window from 02:00 to 03:00 is missed in the night that skips this hour, and comes twice in the one that
repeats it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo, field_validator

from federation.config import Section

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_OF_DAY: Final = 24 * 60
WINDOW_WORDS: Final = 'times such as "20:00-06:00", "mon-fri 18:30-08:00" or "sat,sun 00:00-24:00"'
_CLOCK: Final = r"([01][0-9]|2[0-4]):([0-5][0-9])"
_WINDOW: Final = re.compile(rf"(?:([a-z]{{3}}(?:[,-][a-z]{{3}})*) )?{_CLOCK}-{_CLOCK}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Window:
    """One daily window. `days` count from 0 for Monday; `begins`, `ends` are minutes of the day, up to 1440.

    One whose end is not after its begin reaches into the next day.
    """

    days: frozenset[int]
    begins: int
    ends: int

    def holds(self, weekday: int, minute: int) -> bool:
        """Whether this minute of that day lies inside."""
        if self.begins < self.ends:
            return weekday in self.days and self.begins <= minute < self.ends
        before = (weekday - 1) % 7
        return (weekday in self.days and minute >= self.begins) or (before in self.days and minute < self.ends)


def parse_window(text: str) -> Window:
    """A window as policy.toml writes it.

    Raises:
        ValueError: it is none; the message says what was expected.
    """
    found = _WINDOW.fullmatch(text)
    if found is None:
        raise ValueError(WINDOW_WORDS)
    begins, ends = (60 * int(found[i]) + int(found[i + 1]) for i in (2, 4))
    if begins >= MINUTES_OF_DAY or ends > MINUTES_OF_DAY or begins == ends:
        raise ValueError(f"{WINDOW_WORDS}, with an end that differs from the begin")
    return Window(days=_days(found[1]) if found[1] else frozenset(range(7)), begins=begins, ends=ends)


def _days(text: str) -> frozenset[int]:
    """Weekdays of "mon-fri,sun"; a range may go over the week's end."""
    days: set[int] = set()
    for part in text.split(","):
        first, *last = part.split("-")
        if len(last) > 1 or not {first, *last} <= set(DAYS):
            raise ValueError(f"{WINDOW_WORDS}, with days from {', '.join(DAYS)}")
        begin, end = DAYS.index(first), DAYS.index(last[0] if last else first)
        days |= {(begin + i) % 7 for i in range((end - begin) % 7 + 1)}
    return frozenset(days)


def _check_window(value: str) -> str:
    parse_window(value)
    return value


def _check_zone(value: str) -> str:
    try:
        zone_of(value)
    except (OSError, ValueError, KeyError):  # KeyError: ZoneInfoNotFoundError
        raise ValueError("a time zone that this machine knows, such as Europe/Helsinki or UTC") from None
    return value


def _check_aware(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time with its offset, such as 2027-03-01T06:00:00+02:00")
    return value


WindowText = Annotated[str, StringConstraints(max_length=100), AfterValidator(_check_window)]
ZoneName = Annotated[str, StringConstraints(max_length=100), AfterValidator(_check_zone)]
Moment = Annotated[datetime, AfterValidator(_check_aware)]


class HoursSection(Section):
    """`[hours]`: when new jobs may start; without windows at any time.

    `drain`: jobs that run when the last window closes are told to end; else they go on to their wall time.
    """

    windows: Annotated[tuple[WindowText, ...], Field(strict=False, max_length=100)] = ()
    time_zone: ZoneName = "UTC"
    drain: bool = False


class MaintenanceSection(Section):
    """`[[maintenance]]`: no job runs from `begins_at` to `ends_at`; one that could reach into it does not start."""

    begins_at: Moment
    ends_at: Moment
    note: Annotated[str, StringConstraints(max_length=200)] = ""

    @field_validator("ends_at")
    @classmethod
    def _check_order(cls, value: datetime, info: ValidationInfo) -> datetime:
        begins_at = info.data.get("begins_at")
        if begins_at is not None and value <= begins_at:
            raise ValueError(f"a time after begins_at, {begins_at.isoformat()}")
        return value

    def words(self) -> str:
        """`maintenance from 2027-03-01 04:00 to 2027-03-01 16:00 UTC (new cooling)`."""
        begin, end = (f"{at.astimezone(UTC):%Y-%m-%d %H:%M}" for at in (self.begins_at, self.ends_at))
        return f"maintenance from {begin} to {end} UTC" + (f" ({self.note})" if self.note else "")


def zone_of(name: str) -> tzinfo:
    """The time zone of that name; UTC needs no database. Raises KeyError, OSError or ValueError for another one."""
    return UTC if name == "UTC" else ZoneInfo(name)


def is_open(hours: HoursSection, now: datetime) -> bool:
    """Whether new jobs may start by the clock alone. `now` carries its time zone."""
    local = now.astimezone(zone_of(hours.time_zone))
    windows = map(parse_window, hours.windows)
    return not hours.windows or any(w.holds(local.weekday(), 60 * local.hour + local.minute) for w in windows)


def local_words(hours: HoursSection, now: datetime) -> str:
    """`wed 12:34` on the site's clock."""
    local = now.astimezone(zone_of(hours.time_zone))
    return f"{DAYS[local.weekday()]} {local:%H:%M}"


def next_change(hours: HoursSection, now: datetime) -> datetime | None:
    """The first whole minute, in UTC, at which the windows open or close; None if they never do within 8 days."""
    current = is_open(hours, now)
    minute = now.astimezone(UTC).replace(second=0, microsecond=0)
    later = (minute + timedelta(minutes=i) for i in range(1, 8 * MINUTES_OF_DAY))
    return next((at for at in later if is_open(hours, at) != current), None) if hours.windows else None


def reached(maintenance: Iterable[MaintenanceSection], now: datetime, seconds: float) -> MaintenanceSection | None:
    """The first maintenance that a job which runs from now for so long would meet, None if there is none."""
    end = now + timedelta(seconds=seconds)
    met = (m for m in maintenance if now < m.ends_at and m.begins_at < end)
    return min(met, key=lambda m: m.begins_at, default=None)


def latest_start_seconds(
    hours: HoursSection,
    maintenance: Iterable[MaintenanceSection],
    now: datetime,
    wall_seconds: float,
    limit_seconds: float,
) -> float:
    """How much later than now a job may begin, at most `limit_seconds`: to the minute at which the hours end.

    Its wall time has to be over before maintenance begins, as if it were submitted then.
    """
    begins = ((m.begins_at - now).total_seconds() for m in maintenance if now < m.ends_at)
    limit = min((at - wall_seconds for at in begins), default=limit_seconds)
    limit = max(0.0, min(limit, limit_seconds))
    if not hours.windows:
        return limit
    minutes = range(1, int(limit // 60) + 1)
    closed = next((i for i in minutes if not is_open(hours, now + timedelta(minutes=i))), None)
    return limit if closed is None else 60.0 * (closed - 1)
