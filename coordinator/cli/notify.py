# SPDX-License-Identifier: Apache-2.0
"""`coordinator notify …`: whether notices arrive where coordinator.toml sends them."""

import time
from pathlib import Path

import click

from coordinator.home import check_coordinator_directory
from coordinator.network_config import NETWORK_FILE, load_coordinator_config
from federation.durable.real import RealFileSystem
from federation.durations import count
from federation.errors import ConfigError, TransportError


@click.group()
def notify() -> None:
    """Notices: what somebody has to know of, sent to the webhooks of coordinator.toml."""


@notify.command("test")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
def notify_test(directory: Path) -> None:
    """Sends one line to each webhook of DIRECTORY's coordinator.toml, once, and says what became of it."""
    from coordinator.notices.trial import try_all  # HTTP: no other command waits for its import

    check_coordinator_directory(RealFileSystem(directory))
    sections = load_coordinator_config(directory).notifications
    if not sections:
        raise ConfigError(
            f"{directory / NETWORK_FILE}: expected at least one [[notifications]], found none",
            advice="docs/operations/notifications.md shows how to write one.",
        )
    failed = 0
    for label, fault in try_all(directory, sections, time.time()):
        failed += bool(fault)
        click.echo(f"{label}: {fault or 'sent'}")
    if failed:
        raise TransportError(f"{failed} of {count(len(sections), 'webhook')} did not take the line")
