# SPDX-License-Identifier: Apache-2.0
"""`site-agent courier set|show`: how this site's mailbox travels. A serving agent changes over at once."""

import time
from dataclasses import asdict
from pathlib import Path

import click

from federation.certificates import DAY_SECONDS
from federation.durable.real import RealFileSystem
from federation.durations import count, in_words
from federation.errors import FederationError
from federation.rpc import credentials
from federation.rpc.credentials import Certificates, Endpoint
from federation.rpc.status import CourierStatus
from site_agent import layout
from site_agent.cli.setup import AS_JSON, SITE_DIR, echo
from site_agent.courier import round_trip, spool
from site_agent.courier.choice import CourierKind, read_choice, read_status, write_choice
from site_agent.courier.round_trip import read_round_trip
from site_agent.site_config import load_site_config
from site_agent.views import read_view


@click.group()
def courier() -> None:
    """The courier: what carries messages between this site and the coordinator."""


@courier.command("set")
@click.argument("site_dir", type=SITE_DIR)
@click.argument("kind", type=click.Choice([kind.value for kind in CourierKind]))
@click.option("--endpoint", default=None, metavar="HOST:PORT", help="Where the coordinator listens, if that changed.")
@AS_JSON
def courier_set(site_dir: Path, kind: str, endpoint: str | None, as_json: bool) -> None:
    """Changes the courier, also in the middle of a run: nothing is lost, nothing is counted twice."""
    fs, chosen = RealFileSystem(site_dir), CourierKind(kind)
    config = load_site_config(site_dir)
    if endpoint is not None:
        credentials.write_endpoint(fs, Endpoint.parse(endpoint))
    if chosen is CourierKind.GRPC:
        now = time.time()
        credentials.require_endpoint(fs)
        credentials.trusted_issuer(credentials.require_rosters(fs, int(now * 1_000_000)).current)
        Certificates.read(fs).usable_for_enrolment(now)
    write_choice(fs, chosen)
    text = f"The courier is {chosen.value}."
    if chosen is CourierKind.SPOOL:
        text += f" Somebody has to carry {spool.where(fs, config.site)}."
        text += f"\nOn one machine: site-agent carrier {site_dir} COORDINATOR_DIR"
        here = f"USER@HOST:{Path(site_dir).absolute()}"
        text += f"\nFrom outside: site-agent carrier --remote {here} --site {config.site} COORDINATOR_DIR"
    echo({"courier": chosen.value, "endpoint": credentials.read_text(fs, credentials.ENDPOINT)}, text, as_json)


@courier.command("show")
@click.argument("site_dir", type=SITE_DIR)
@AS_JSON
def courier_show(site_dir: Path, as_json: bool) -> None:
    """Shows the chosen courier and what the agent last saw of it."""
    fs = RealFileSystem(site_dir)
    load_site_config(site_dir)
    echo(courier_facts(fs), "\n".join(courier_lines(fs, time.time())), as_json)


def courier_facts(fs: RealFileSystem) -> dict[str, object]:
    """The courier, for programs."""
    status, view = read_status(fs), read_view(fs)
    return {
        "mailbox": str(fs.real_path(layout.MAILBOX)),
        "messages_waiting": spool.waiting(fs),
        "heard_at_us": view.heard_at_us if view is not None else 0,
        "courier": read_choice(fs).value,
        "endpoint": credentials.read_text(fs, credentials.ENDPOINT),
        "certificate_days": _days_left(fs, time.time()),
        "status": asdict(status) if status is not None else None,
        "round_trip": {"declared_seconds": round_trip.declared_seconds(fs.root), **asdict(read_round_trip(fs))},
    }


def courier_lines(fs: RealFileSystem, now: float) -> list[str]:
    """The courier, for people."""
    travels = f"  {round_trip.sentence(read_round_trip(fs), round_trip.declared_seconds(fs.root))}"
    return [*_lines_of_chosen(fs, now), travels]


def _lines_of_chosen(fs: RealFileSystem, now: float) -> list[str]:
    chosen, status = read_choice(fs), read_status(fs)
    if chosen is CourierKind.SPOOL:
        return _spool_lines(fs, now)
    lines = [_grpc_line(fs, status, now)]
    if status is not None and status.courier == chosen and status.advice and not status.connected:
        lines.append(f"  {status.advice}")
    return lines + _certificate_lines(fs, status, now)


def _spool_lines(fs: RealFileSystem, now: float) -> list[str]:
    view = read_view(fs)
    heard = f"last heard {in_words(now - view.heard_at_us / 1e6)} ago" if view and view.heard_at_us else "never heard"
    return [
        f"courier spool: somebody carries {fs.real_path(layout.MAILBOX)}",
        f"  {count(spool.waiting(fs), 'message')} in its out/ not acknowledged yet; coordinator {heard}",
    ]


def _grpc_line(fs: RealFileSystem, status: CourierStatus | None, now: float) -> str:
    head = f"courier grpc to {credentials.read_text(fs, credentials.ENDPOINT) or 'nowhere'}: "
    if status is None or status.courier != CourierKind.GRPC:
        return head + "not started yet"
    since = in_words(now - status.since_us / 1e6)
    if status.connected:
        held_up = f"; HELD UP: {status.held_up}" if status.held_up else ""
        answer = in_words(now - status.last_contact_us / 1e6)
        limit = status.max_upload_bytes_per_second
        limited = f"; uploads limited to {limit:,} bytes/s" if limit else ""
        return head + f"connected for {since}, last answer {answer} ago{limited}{held_up}"
    if not status.sentence:
        return head + "not connected"
    contact = f"last answer {in_words(now - status.last_contact_us / 1e6)} ago" if status.last_contact_us else ""
    tries = ", ".join(filter(None, (f"for {since}", count(status.failures, "attempt"), contact)))
    return head + f"NOT CONNECTED ({tries}): {status.sentence}. What is to be sent waits in the mailbox"


def _certificate_lines(fs: RealFileSystem, status: CourierStatus | None, now: float) -> list[str]:
    days = _days_left(fs, now)
    if days is None:
        return ["  no certificate: run `site-agent enroll`"]
    words = f"{days:.1f} days left" if days > 0 else f"EXPIRED {in_words(-days * DAY_SECONDS)} ago"
    failed = status.renewal_failed if status is not None else ""
    return [f"  certificate: {words}; renewing it failed: {failed}" if failed else f"  certificate: {words}"]


def _days_left(fs: RealFileSystem, now: float) -> float | None:
    try:
        return Certificates.read(fs).days_left(now)
    except FederationError:
        return None
