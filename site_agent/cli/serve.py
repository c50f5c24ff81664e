# SPDX-License-Identifier: Apache-2.0
"""`site-agent serve` and `site-agent tick`: run the agent of a directory, until told to stop or once."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import click

from federation import log
from federation.directory_hold import held
from federation.directory_lock import DirectoryLock
from federation.durable.real import RealFileSystem
from federation.errors import FederationError
from federation.garbage import spare_what_is_loaded
from federation.stopping import StopOnSignals
from site_agent import layout
from site_agent.attention import Attention
from site_agent.cli.setup import SITE_DIR
from site_agent.courier.choice import CourierKind, read_choice
from site_agent.courier.switch import CourierSwitch
from site_agent.credentials_watch import CredentialsWatch
from site_agent.driver import Agent
from site_agent.setup import open_agent
from site_agent.site_config import SiteConfig, load_site_config

MAX_TICKS: Final = 64
"""Passes of one `tick`: each one does what the one before made possible."""

SYNC_SECONDS: Final = 600.0
"""Of one `tick`, for each of its two exchanges; what does not fit waits for the next one."""

TAKE_OVER = click.option(
    "--take-over", is_flag=True, help="The agent that holds this directory certainly runs no more (its host is gone)."
)
VERBOSE = click.option("--verbose", is_flag=True, help="Log more.")
NEVER: Final = 0.0


@click.command()
@click.argument("site_dir", type=SITE_DIR)
@click.option("--poll-seconds", type=float, default=None, help="Between two passes when idle.  [default: site.toml's]")
@click.option(
    "--for-seconds",
    type=click.FloatRange(min=0),
    default=NEVER,
    help="Stop by itself after so long, where long processes are ended; 0 for never.",
)
@TAKE_OVER
@VERBOSE
def serve(site_dir: Path, poll_seconds: float | None, for_seconds: float, take_over: bool, verbose: bool) -> None:
    """Serves the site of SITE_DIR; SIGTERM or Ctrl-C stops the agent, never its jobs.

    While another agent holds SITE_DIR and nothing tells whether it still runs, this one watches; it takes over after
    `[agent] lock_stale_seconds` without a sign of life.
    """
    from site_agent.metrics.export import MetricsExport

    stop, arrived = StopOnSignals(seconds=for_seconds), threading.Event()
    with _opened(site_dir, take_over, verbose, stop) as (agent, config, lock):
        click.echo(f"site {config.site}: ledger copy has {agent.copy.size} leaves, epoch {agent.state.epoch}")
        pause = poll_seconds if poll_seconds is not None else config.agent.poll_seconds
        attention = Attention(agent.fs.exists, arrived, ended=lambda: stop.requested)
        fs = RealFileSystem(site_dir)
        with (
            closing(CourierSwitch(fs, config, arrived, agent.blobs.vouch)) as courier,
            closing(MetricsExport(fs, config, listens=True)) as metrics,
        ):
            agent.executor.on_posted = courier.posted
            expiring = CredentialsWatch(agent.fs, site_dir, config.credentials)
            spare_what_is_loaded()
            while not stop.requested:
                lock.check()
                arrived.clear()
                expiring.look(time.time(), time.monotonic(), dials=courier.dials)
                busy = _pass(agent, courier)
                metrics.look(agent, time.time(), time.monotonic())
                if not busy:
                    attention.rest(pause, agent.awaited())


def _pass(agent: Agent, courier: CourierSwitch) -> bool:
    """One look at everything; returns whether anything happened."""
    now = time.time()
    courier.follow()
    courier.take_rosters(agent.rosters, int(now * 1_000_000))
    busy = agent.tick(now)
    if busy:
        courier.posted()
    return busy


@click.command()
@click.argument("site_dir", type=SITE_DIR)
@TAKE_OVER
@VERBOSE
def tick(site_dir: Path, take_over: bool, verbose: bool) -> None:
    """Does what there is to do for the site of SITE_DIR, once: for cron, where nothing may run for long."""
    from site_agent.metrics.export import MetricsExport

    with _opened(site_dir, take_over, verbose) as (agent, config, lock):
        fs = RealFileSystem(site_dir)
        _sync(fs, config)
        for _ in range(MAX_TICKS):
            lock.check()
            if not agent.tick(time.time()):
                break
        _sync(fs, config)
        MetricsExport(fs, config, listens=False).write(agent, time.time(), time.monotonic())


def _sync(fs: RealFileSystem, config: SiteConfig) -> None:
    """Over gRPC, if the site chose it. A coordinator that is away is no failure: work here goes on, files wait."""
    if read_choice(fs) is not CourierKind.GRPC:
        return
    from site_agent.courier import grpc

    try:
        grpc.sync(fs, config, SYNC_SECONDS)
    except FederationError as error:
        click.echo(f"courier: {error.diagnostics()}", err=True)


@contextmanager
def _opened(
    site_dir: Path, take_over: bool, verbose: bool, stop: StopOnSignals | None = None
) -> Iterator[tuple[Agent, SiteConfig, DirectoryLock]]:
    """The locked directory's agent; a clean end releases it, so that the next process begins no new epoch.

    Args:
        stop: of a service, which may wait for the directory; None: it is free, or this fails at once.
    """
    log.configure("DEBUG" if verbose else "INFO")
    fs = RealFileSystem(site_dir)
    hold = held(
        fs,
        base=layout.LOCK,
        stale_seconds=load_site_config(site_dir).agent.lock_stale_seconds,
        force=take_over,
        patient=stop is not None,
        rest=stop.rest if stop is not None else time.sleep,
        ended=lambda: stop is not None and stop.requested,
    )
    with hold as lock:
        try:
            log.open_security_log(fs.real_path(layout.SECURITY_LOG))
            agent, config = open_agent(site_dir, time.time_ns() // 1000, new_epoch=lock.taken_over)
        except Exception:
            lock.release()
            raise
        agent.executor.guard = lock.check
        yield agent, config, lock
        agent.close()
        lock.release()
