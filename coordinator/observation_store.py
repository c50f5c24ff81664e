# SPDX-License-Identifier: Apache-2.0
"""Keeps the newest report of each site across restarts, so that bounds go on running. Bounded: one file a site."""

import json
from dataclasses import asdict

from pydantic import TypeAdapter, ValidationError

from coordinator.observations import Observations, SiteSeen
from federation.durable import FileSystem

_SEEN: TypeAdapter[SiteSeen] = TypeAdapter(SiteSeen)
STATUS = "status"


def save(fs: FileSystem, site: str, seen: SiteSeen) -> None:
    """Writes a site's newest report; not durably, for the next one replaces it, and each site reports again."""
    fs.place(f"{STATUS}/{site}.json", json.dumps(asdict(seen), separators=(",", ":")).encode())


def forget(fs: FileSystem, site: str) -> None:
    """Removes a site's report, if there is one."""
    if fs.exists(f"{STATUS}/{site}.json"):
        fs.remove(f"{STATUS}/{site}.json")


def read_seen(fs: FileSystem, path: str) -> SiteSeen:
    """One file of a site's newest report.

    Raises:
        ObjectNotFoundError: there is none.
        ValidationError: it is of another release, or no report.
    """
    return _SEEN.validate_json(fs.read(path))


def load(fs: FileSystem) -> Observations:
    """What was known before a restart. An unreadable file is as good as none: the site will report again."""
    sites: dict[str, SiteSeen] = {}
    for name in fs.list(STATUS):
        try:
            sites[name.removesuffix(".json")] = read_seen(fs, f"{STATUS}/{name}")
        except ValidationError:
            continue
    return Observations(sites=sites)
