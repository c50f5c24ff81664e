# SPDX-License-Identifier: Apache-2.0
"""What is known of a courier's round trip: in the manifest, declared by the site, measured by its agent. Pure.

A manifest adds `courier_round_trip_seconds` to a member's bounds and never changes; what the site measures does. Where
a carrier comes now and then, a longer way than the manifest allows for costs the site its rounds.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

NETWORK_SECONDS: Final = 60
"""What a courier over the network stays below, hiccups included: every bound has room for it, nothing need be added."""

MAX_SECONDS: Final = 366 * 86_400
"""What a manifest may add; a site that reports more reports nonsense."""


class Source(StrEnum):
    """Who says how long it is."""

    RUN = "as run.toml says"
    DECLARED = "as the site declares"
    MEASURED = "as its agent measured"


@dataclass(frozen=True, kw_only=True)
class KnownRoundTrip:
    """A round trip in seconds, and who says so."""

    seconds: int
    source: Source


@dataclass(frozen=True, kw_only=True)
class SiteRoundTrip:
    """What a site's newest report says, in seconds; 0: not declared, not measured (yet)."""

    declared_seconds: int = 0
    measured_seconds: int = 0

    def longest(self, added_seconds: int) -> KnownRoundTrip:
        """The longer of declared and measured, where it is longer than what run.toml adds."""
        found = KnownRoundTrip(seconds=added_seconds, source=Source.RUN)
        for seconds, source in (
            (self.declared_seconds, Source.DECLARED),
            (self.measured_seconds, Source.MEASURED),
        ):
            if is_longer(seconds, added_seconds) and seconds > found.seconds:
                found = KnownRoundTrip(seconds=min(seconds, MAX_SECONDS), source=source)
        return found

    def newest(self, added_seconds: int) -> KnownRoundTrip:
        """What was measured or, before anything was, what is declared; where it is longer than what is added."""
        known = SiteRoundTrip(measured_seconds=self.measured_seconds) if self.measured_seconds else self
        return known.longest(added_seconds)


def is_longer(seconds: int, added_seconds: int) -> bool:
    """Whether a round trip is longer than a manifest allows for; one of a network needs nothing added."""
    return seconds > (added_seconds or NETWORK_SECONDS)


def shortfall(site: str, added_seconds: int, known: KnownRoundTrip) -> str:
    """What is wrong, "" if nothing is; what to do about it depends on how far the run is."""
    if known.source is Source.RUN:
        return ""
    return (
        f"site {site}: its courier's round trip is {known.seconds} s, {known.source.value}, and {added_seconds} s are "
        f"added to its bounds: what it sends may come too late"
    )
