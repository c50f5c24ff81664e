# SPDX-License-Identifier: Apache-2.0
"""The launcher that site.toml asks for."""

from federation.errors import ConfigError
from site_agent.launcher.api import Launcher
from site_agent.launcher.local import LocalLauncher
from site_agent.site_config import SITE_FILE, SiteConfig


def open_launcher(config: SiteConfig, trainer: str) -> Launcher:
    """A launcher for jobs of one trainer, by the name that a manifest gives it.

    Raises:
        ConfigError: site.toml does not know the trainer.
    """
    entry = config.trainers.get(trainer)
    if entry is None:
        known = ", ".join(sorted(config.trainers)) or "none"
        raise ConfigError(f"{SITE_FILE}: trainers: expected one named {trainer}, found {known}")
    return LocalLauncher(module=entry.module, isolate_network=config.job.isolate_network)
