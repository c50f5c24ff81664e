# SPDX-License-Identifier: Apache-2.0
"""Checks of what leads out of a site and of what its directory lies on: egress, proxy, round trip, inodes, credentials.

See `site_agent.doctor`.
"""

import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from federation.errors import DiskFullError
from federation.rpc.status import Greeting
from federation.site_profile import load_profile
from site_agent.courier.round_trip import RoundTrip, read_round_trip, sentence
from site_agent.credentials_watch import CHANNEL, ROSTER, Countdown, Standing, countdowns
from site_agent.doctor_case import NEEDS_CONFIGURATION, Answer, Case, Check, Verdict

MIN_FREE_INODES: Final = 20_000
"""A run leaves a few files per round and allocation."""

PROBE: Final = "state/doctor.probe"
PROBE_BYTES: Final = 64 * 1024

_PROXIES: Final = ("https_proxy", "http_proxy", "HTTPS_PROXY", "HTTP_PROXY")
_TO_SPOOL: Final = (
    "Run `site-agent courier set SITE_DIR spool`, and let somebody outside run `site-agent carrier --remote`."
)


def network(case: Case) -> Answer:
    """Whether the courier fits what the centre lets out."""
    if case.config is None:
        return NEEDS_CONFIGURATION
    egress = load_profile(case.config.profile).network.egress_class.value
    return fit_of_courier(
        egress,
        uses_grpc=case.uses_grpc,
        answered=isinstance(case.probed, Greeting),
        in_job=bool(os.environ.get("SLURM_JOB_ID")),
    )


def fit_of_courier(egress: str, *, uses_grpc: bool, answered: bool, in_job: bool) -> Answer:
    """The answer for an egress class; a coordinator that has answered is a better witness than any profile. Pure."""
    courier = "grpc" if uses_grpc else "spool"
    found = f"egress class {egress} and courier {courier}"
    if not uses_grpc:
        more = "" if egress == "C" else "; grpc would need no carrier"
        return Verdict.OK, f"{found}: fits{more}", ""
    if answered:
        return Verdict.OK, f"{found}: the coordinator answered", ""
    if egress == "C":
        return Verdict.WARNING, f"{found}: by its profile nothing goes out from this centre", _TO_SPOOL
    if egress == "B" and in_job:
        advice = "Let the agent run on a login or serial node: see docs/operations/agent-modes.md."
        return Verdict.WARNING, f"{found}: by its profile compute nodes reach nothing outside", advice
    return Verdict.OK, f"{found}: by its profile there is a way out", ""


def proxy(case: Case) -> Answer:
    """What the gRPC courier goes through; never a password."""
    if case.config is None:
        return NEEDS_CONFIGURATION
    section = case.config.courier
    return way_out(
        section.http_proxy,
        section.connect_to,
        os.environ,
        uses_grpc=case.uses_grpc,
        answered=isinstance(case.probed, Greeting),
    )


def way_out(
    http_proxy: str, connect_to: str, environment: Mapping[str, str], *, uses_grpc: bool, answered: bool
) -> Answer:
    """What is dialled, and whether a proxy of the environment was forgotten. Pure."""
    if not uses_grpc:
        return Verdict.OK, "none is needed: the courier is the spool", ""
    if http_proxy and connect_to:
        advice = "Empty one of courier.http_proxy and courier.connect_to in site.toml."
        return Verdict.FAILED, "http_proxy and connect_to are both set", advice
    if http_proxy or connect_to:
        host = urlsplit(http_proxy).hostname if http_proxy else connect_to
        words = f"goes through {host}" if http_proxy else f"dials {host} in the coordinator's place"
        return (Verdict.OK if answered else Verdict.WARNING), words, "" if answered else "Is it there? See `courier`."
    name = next((name for name in _PROXIES if environment.get(name)), "")
    if name and not answered:
        advice = f'Set courier.http_proxy in site.toml ("http://HOST:PORT"); {name} itself does not count.'
        return Verdict.WARNING, f"none in site.toml, while {name} is set here", advice
    return Verdict.OK, "none", ""


def round_trip(case: Case) -> Answer:
    """Declared against measured."""
    if case.config is None:
        return NEEDS_CONFIGURATION
    declared = case.config.courier.round_trip_seconds
    return fit_of_round_trip(read_round_trip(case.fs), declared, uses_grpc=case.uses_grpc)


def fit_of_round_trip(measured: RoundTrip, declared: float, *, uses_grpc: bool) -> Answer:
    """The answer for what was measured. Pure."""
    words = sentence(measured, declared).removeprefix("round trip: ")
    if declared and measured.num_samples and measured.max_seconds > declared:
        advice = "Raise courier.round_trip_seconds and tell the runs' operator; or let the carrier come more often."
        return Verdict.WARNING, words, advice
    if not uses_grpc and not declared:
        advice = "Set courier.round_trip_seconds in site.toml: how long until a carried message's answer is back."
        return Verdict.WARNING, words, advice
    return Verdict.OK, words, ""


def inodes(case: Case) -> Answer:
    """Free inodes of the file system below the site's directory."""
    found = os.statvfs(case.fs.root)
    return enough_inodes(found.f_files, found.f_favail)


def enough_inodes(total: int, free: int) -> Answer:
    """The answer for counts of statvfs; some file systems do not count. Pure."""
    if not total:
        return Verdict.OK, "the file system counts no inodes", ""
    words = f"{free:,} inodes free"
    if free < MIN_FREE_INODES:
        advice = f"Make room for at least {MIN_FREE_INODES:,} files, or ask the centre for a larger quota of inodes."
        return Verdict.FAILED, words, advice
    return Verdict.OK, words, ""


def writing(case: Case) -> Answer:
    """A file is written, read and removed: a quota shows in nothing else."""
    data = bytes(PROBE_BYTES)
    try:
        case.fs.write(PROBE, data)
        same = case.fs.read(PROBE) == data
    except DiskFullError as error:
        advice = "Make room in the site's directory, or ask for a larger quota; inodes have one of their own."
        return Verdict.FAILED, str(error), advice
    finally:
        if case.fs.exists(PROBE):
            case.fs.remove(PROBE)
    if not same:
        return Verdict.FAILED, "what was written is not what is read", "Move the site to another file system."
    return Verdict.OK, "a file was written, fsynced and read", ""


def credentials(case: Case) -> Answer:
    """What `[[credentials]]` names; certificate and roster are checks of their own."""
    if case.config is None:
        return NEEDS_CONFIGURATION
    entries = case.config.credentials
    found = countdowns(case.fs, case.directory, entries, case.now, dials=case.uses_grpc)
    return worst_credential([item for item in found if item.name not in (CHANNEL, ROSTER)])


def worst_credential(found: list[Countdown]) -> Answer:
    """The most urgent one decides. Pure."""
    if not found:
        return Verdict.OK, "none is named in site.toml", ""
    worst = max(found, key=lambda item: list(Standing).index(item.standing))
    words = "; ".join(f"{item.name} {item.sentence}" for item in found)
    verdicts = {Standing.FINE: Verdict.OK, Standing.EXPIRING: Verdict.WARNING}
    return verdicts.get(worst.standing, Verdict.FAILED), words, worst.what_to_do


CHECKS: Final[dict[str, Check]] = {
    "network": network,
    "proxy": proxy,
    "round trip": round_trip,
    "inodes": inodes,
    "writing": writing,
    "credentials": credentials,
}
