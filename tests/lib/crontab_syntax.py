# SPDX-License-Identifier: Apache-2.0
"""The part of crontab(5) that files here use: comments, settings, five fields of time and a command."""

import re
from dataclasses import dataclass
from typing import Final

FIELDS: Final = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 7)}
_SETTING: Final = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)\s*=\s*"?([^"]*)"?')
_ITEM: Final = re.compile(r"(\*|(\d+)(?:-(\d+))?)(?:/(\d+))?")


@dataclass(frozen=True)
class Line:
    """One line that starts something."""

    times: tuple[str, ...]
    command: str


@dataclass(frozen=True)
class Crontab:
    """A parsed file; `options` are what scrontab takes from its #SCRON lines."""

    settings: dict[str, str]
    lines: tuple[Line, ...]
    options: tuple[str, ...]


def parse_crontab(text: str) -> Crontab:
    """Raises ValueError with the line that cron would not take."""
    settings: dict[str, str] = {}
    lines, options = [], []
    if not text.endswith("\n"):
        raise ValueError("the last line has no end: cron would not see it")
    for line in map(str.strip, text.splitlines()):
        if line.startswith("#SCRON"):
            options.append(line.removeprefix("#SCRON").strip())
        elif not line or line.startswith("#"):
            continue
        elif (setting := _SETTING.fullmatch(line)) is not None:
            settings[setting[1]] = setting[2]
        else:
            lines.append(_line(line))
    return Crontab(settings=settings, lines=tuple(lines), options=tuple(options))


def _line(line: str) -> Line:
    *times, command = line.split(None, 5)
    if len(times) != 5:
        raise ValueError(f"expected five fields and a command, found {line!r}")
    for field, (low, high) in zip(times, FIELDS.values(), strict=True):
        for item in field.split(","):
            _check(item, low, high, line)
    if re.search(r"(?<!\\)%", command):
        raise ValueError(f"a % that is not escaped ends the command: {line!r}")
    return Line(times=tuple(times), command=command)


def _check(item: str, low: int, high: int, line: str) -> None:
    found = _ITEM.fullmatch(item)
    numbers = [int(text) for text in found.groups()[1:3] if text] if found else []
    step = int(found[4]) if found and found[4] else 1
    if found is None or not all(low <= number <= high for number in numbers) or not 1 <= step <= high:
        raise ValueError(f"{item!r} is not between {low} and {high}: {line!r}")
