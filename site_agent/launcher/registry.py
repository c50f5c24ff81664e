# SPDX-License-Identifier: Apache-2.0
"""The launchers that site.toml asks for, one per trainer that a manifest may name."""

import sys
from pathlib import Path

from federation.durable.real import RealFileSystem
from site_agent.launcher.api import Launcher
from site_agent.launcher.local import LocalLauncher
from site_agent.launcher.slurm.commands import SlurmCommands
from site_agent.launcher.slurm.control import ControlJob
from site_agent.launcher.slurm.launcher import SlurmLauncher, SlurmSite
from site_agent.launcher.slurm.watch import Watch
from site_agent.site_config import SiteConfig


def open_launchers(config: SiteConfig, fs: RealFileSystem, tag: str) -> dict[str, Launcher]:
    """A launcher per trainer name.

    Args:
        fs: of the agent's directory.
        tag: tells this site's jobs from those of any other directory of the same user.
    """
    isolate = config.job.isolate_network
    if config.launcher == "local":
        return {
            name: LocalLauncher(module=entry.module, isolate_network=isolate) for name, entry in config.trainers.items()
        }
    site = open_slurm(config, fs, tag)
    return {name: SlurmLauncher(site, entry.module, isolate_network=isolate) for name, entry in config.trainers.items()}


def _data_dirs(config: SiteConfig, site_dir: Path) -> tuple[str, ...]:
    """What a container must see of the site's data, absolute."""
    sets = (str(found.path) for found in config.data.data_sets(site_dir))
    return (str(config.data_path(site_dir)), *sets) if config.data_dir else tuple(sets)


def open_slurm(config: SiteConfig, fs: RealFileSystem, tag: str) -> SlurmSite:
    """What the Slurm launchers of a site share."""
    settings = config.slurm
    commands = SlurmCommands(settings.bin_dir, settings.command_timeout_seconds)
    control = ControlJob(fs, commands, settings, f"federation-control-{tag}") if settings.control_job else None
    return SlurmSite(
        site_dir=str(fs.root),
        data_dirs=_data_dirs(config, fs.root),
        seconds_limit=config.job.seconds_limit,
        python=sys.executable,
        settings=settings,
        commands=commands,
        control=control,
        watch=Watch(commands, control, poll_seconds=settings.poll_seconds, has_accounting=settings.has_accounting),
    )
