# SPDX-License-Identifier: Apache-2.0
"""`coordinator serve`: runs the coordinator of a directory until it is told to stop."""

import signal
import threading
import time
from pathlib import Path

import click

from coordinator.service import Coordinator
from coordinator.startup import open_coordinator
from federation.directory_lock import DirectoryLock, this_process
from federation.durable.real import RealFileSystem
from federation.log import configure, open_security_log


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--poll-seconds", default=0.1, show_default=True, help="How often mailboxes are looked at when idle.")
@click.option(
    "--take-over", is_flag=True, help="The process that holds this directory certainly runs no more (its host is gone)."
)
@click.option("--verbose", is_flag=True, help="Log more.")
def serve(directory: Path, poll_seconds: float, take_over: bool, verbose: bool) -> None:
    """Serves the coordinator of DIRECTORY; SIGTERM or Ctrl-C stops it between two steps."""
    configure("DEBUG" if verbose else "INFO")
    open_security_log(directory / "security.log")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with DirectoryLock(RealFileSystem(directory), this_process(), force=take_over) as lock:
        coordinator = open_coordinator(directory, time.time())
        click.echo(f"coordinator of {coordinator.consortium}: ledger has {coordinator.ledger.size} leaves")
        _loop(coordinator, lock, stop, poll_seconds)


def _loop(coordinator: Coordinator, lock: DirectoryLock, stop: threading.Event, poll_seconds: float) -> None:
    while not stop.is_set():
        lock.check()
        if not coordinator.step(time.time()):
            stop.wait(poll_seconds)
