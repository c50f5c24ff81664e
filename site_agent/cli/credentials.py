# SPDX-License-Identifier: Apache-2.0
"""What `site-agent status` says of everything that expires."""

from dataclasses import asdict
from pathlib import Path

from federation.durable.api import FileSystem
from site_agent.courier.choice import CourierKind, read_choice
from site_agent.credentials_watch import CHANNEL, Countdown, Standing, countdowns
from site_agent.site_config import load_site_config


def credential_countdowns(fs: FileSystem, site_dir: Path, now: float) -> list[Countdown]:
    """All of them, at `now` (seconds since 1970). Raises ConfigError."""
    dials = read_choice(fs) is CourierKind.GRPC
    return countdowns(fs, site_dir, load_site_config(site_dir).credentials, now, dials=dials)


def credential_lines(found: list[Countdown]) -> list[str]:
    """For people: the most urgent first. A channel certificate that is fine is a line of the courier's already."""
    order = list(Standing)
    shown = [item for item in found if item.standing is not Standing.FINE or item.name != CHANNEL]
    return [item.line for item in sorted(shown, key=lambda item: -order.index(item.standing))]


def credential_facts(found: list[Countdown]) -> list[dict[str, object]]:
    """For programs."""
    return [asdict(item) for item in found]
