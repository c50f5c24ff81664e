# SPDX-License-Identifier: Apache-2.0
"""Watches a counter that its owner raises: has it stood still for long enough, by the watcher's own clock?

No two clocks are ever compared. What a watcher saw is kept in a small file, named after the clock that it was seen by,
so that short processes of one boot (from cron) watch together.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum

from pydantic import TypeAdapter, ValidationError

from federation.durable.api import FileSystem
from federation.errors import ObjectNotFoundError, StorageError

SEEN_SUFFIX = ".seen"
_MAX_BYTES = 4096


class Standing(StrEnum):
    """What the counter says of its owner."""

    UNKNOWN = "unknown"
    """Seen for the first time."""

    RISING = "rising"
    """It rose since it was last seen."""

    STANDING = "standing"
    """It has not risen for a while, too short to mean anything."""

    STILL = "still"
    """It has stood still for so long that its owner is taken for dead."""


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """A counter's value, and when it was first seen, in seconds of the watcher's clock."""

    number: int
    count: int
    at_seconds: float


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What one more look came to; `still_seconds`: it has not risen for so long, as far as was watched."""

    standing: Standing
    still_seconds: float
    seen: Sighting


_SIGHTING: TypeAdapter[Sighting] = TypeAdapter(Sighting)


def judge(before: Sighting | None, now: Sighting, asked_at_seconds: float, stale_seconds: float) -> Judgement:
    """Compares two looks at a counter.

    Args:
        now: what was read, and when the answer was there.
        asked_at_seconds: when it was asked for: between that and the end of the look before, nothing was raised.
        stale_seconds: after so long it counts as still.
    """
    if before is None or before.number != now.number:
        return Judgement(standing=Standing.UNKNOWN, still_seconds=0.0, seen=now)
    if before.count != now.count:
        return Judgement(standing=Standing.RISING, still_seconds=0.0, seen=now)
    elapsed = asked_at_seconds - before.at_seconds
    if elapsed < 0:  # not the clock that it was seen by
        return Judgement(standing=Standing.UNKNOWN, still_seconds=0.0, seen=now)
    standing = Standing.STILL if elapsed >= stale_seconds else Standing.STANDING
    return Judgement(standing=standing, still_seconds=elapsed, seen=before)


def look(
    fs: FileSystem, counter: str, seen: str, number: int, stale_seconds: float, clock: Callable[[], float]
) -> Judgement:
    """Reads a counter once more, and remembers what has to be remembered.

    Args:
        counter: path of the counter's file, which is opened anew: attributes may come from a cache, content does not.
        seen: path of this watcher's own file.
        number: whose counter it is.
    """
    before = _read_sighting(fs, seen)
    asked_at = clock()
    count = read_counter(fs, counter)
    now = Sighting(number=number, count=count, at_seconds=clock())
    found = judge(before, now, asked_at, stale_seconds)
    if found.seen != before:
        _keep(fs, seen, found.seen)
    return found


def read_counter(fs: FileSystem, path: str) -> int:
    """A counter's value, -1 as long as there is none."""
    try:
        text = fs.read(path, max_bytes=_MAX_BYTES)
    except ObjectNotFoundError:
        return -1
    return int(text) if text.isdigit() else -1


def seen_name(clock: str) -> str:
    """Name of the file of all watchers that share a clock."""
    return hashlib.sha256(clock.encode()).hexdigest()[:16] + SEEN_SUFFIX


def _read_sighting(fs: FileSystem, path: str) -> Sighting | None:
    try:
        return _SIGHTING.validate_json(fs.read(path, max_bytes=_MAX_BYTES))
    except (ObjectNotFoundError, ValidationError):
        return None


def _keep(fs: FileSystem, path: str, seen: Sighting) -> None:
    """Best effort: who cannot remember watches for longer."""
    try:
        fs.place(path, json.dumps(asdict(seen)).encode())
    except StorageError:
        return
