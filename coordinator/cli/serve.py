# SPDX-License-Identifier: Apache-2.0
"""`coordinator serve`: runs the coordinator of a directory until it is told to stop."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

import click

from coordinator import malloc
from coordinator.dashboard_process import DashboardProcess, dashboard_command
from coordinator.home import check_coordinator_directory
from coordinator.network_config import load_coordinator_config
from coordinator.service import Coordinator
from coordinator.startup import open_coordinator
from federation.directory_hold import held
from federation.directory_lock import DirectoryLock
from federation.durable.real import RealFileSystem
from federation.durations import count
from federation.errors import ConfigError
from federation.garbage import spare_what_is_loaded
from federation.log import configure, open_security_log
from federation.rpc.credentials import Endpoint
from federation.stopping import StopOnSignals


class Serving(Protocol):
    """The network as the loop sees it."""

    @property
    def arrived(self) -> threading.Event:
        """Set when there is something to receive."""

    def after_step(self, busy: bool) -> None:
        """The driver has made a step; `busy`: something happened."""


class NoNetwork:
    """Mailboxes are carried by others."""

    def __init__(self) -> None:
        self.arrived = threading.Event()

    def after_step(self, busy: bool) -> None:
        """Nobody waits."""


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--listen",
    default=None,
    metavar="ADDRESS:PORT",
    help='Where others reach it; port 0: any free one; "": no network.  [default: as coordinator.toml says]',
)
@click.option("--poll-seconds", default=0.1, show_default=True, help="How often mailboxes are looked at when idle.")
@click.option(
    "--take-over", is_flag=True, help="The process that holds this directory certainly runs no more (its host is gone)."
)
@click.option("--verbose", is_flag=True, help="Log more.")
def serve(directory: Path, listen: str | None, poll_seconds: float, take_over: bool, verbose: bool) -> None:
    """Serves the coordinator of DIRECTORY; SIGTERM or Ctrl-C stops it between two steps."""
    check_coordinator_directory(RealFileSystem(directory))
    configure("DEBUG" if verbose else "INFO")
    open_security_log(directory / "security.log")
    malloc.limit_arenas()
    stop = StopOnSignals()
    hold = held(RealFileSystem(directory), force=take_over, patient=True, rest=stop.rest, ended=lambda: stop.requested)
    with hold as lock, lock:
        coordinator = open_coordinator(directory, time.time())
        with closing(coordinator), _network(coordinator, directory, listen) as network:
            coordinator.on_work_done = network.arrived.set
            leaves = count(coordinator.ledger.size, "leaf", "leaves")
            click.echo(f"coordinator of {coordinator.consortium}: ledger has {leaves}")
            spare_what_is_loaded()
            with _dashboard(directory) as dashboard:
                _loop(coordinator, lock, stop, network, dashboard, poll_seconds)


@contextmanager
def _network(coordinator: Coordinator, directory: Path, listen: str | None) -> Iterator[Serving]:
    section = load_coordinator_config(directory).network
    if listen is not None:
        section = section.model_copy(update={"listen": checked_listen(listen)})
    if not section.listen:
        yield NoNetwork()
        return
    from coordinator.rpc.serving import Network  # gRPC: no other command waits for its import

    network = Network(coordinator, section)
    click.echo(f"listening on {network.address}")
    try:
        yield network
    finally:
        network.stop()


@contextmanager
def _dashboard(directory: Path) -> Iterator[DashboardProcess | None]:
    """The dashboard's process, if coordinator.toml wants one."""
    if not load_coordinator_config(directory).dashboard.listen:
        yield None
        return
    with DashboardProcess(dashboard_command(directory)) as process:
        yield process


def _loop(
    coordinator: Coordinator,
    lock: DirectoryLock,
    stop: StopOnSignals,
    network: Serving,
    dashboard: DashboardProcess | None,
    poll_seconds: float,
) -> None:
    while not stop.requested:
        lock.check()
        if dashboard is not None:
            dashboard.look()
        busy = coordinator.step(time.time())
        network.after_step(busy)
        if not busy:
            stop.rest(poll_seconds, network.arrived)
            network.arrived.clear()


def checked_listen(text: str) -> str:
    """ADDRESS:PORT; port 0 lets the operating system choose. Raises ConfigError."""
    host, _, port = text.rpartition(":")
    try:
        Endpoint.parse(f"{host}:1" if port == "0" else text)
    except ConfigError as error:
        raise ConfigError(
            f"--listen: expected ADDRESS:PORT, found {text!r:.80}", advice="For example 0.0.0.0:443"
        ) from error
    return text
