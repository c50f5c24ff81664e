# SPDX-License-Identifier: Apache-2.0
"""Notices that the operator has changed policy.toml under a serving agent."""

import logging
from pathlib import Path
from typing import Final

from federation.errors import ConfigError
from federation.log import in_one_line
from site_agent.manifests import ManifestJudge
from site_agent.policy import POLICY_FILE, load_policy
from site_agent.site_config import SiteConfig
from site_agent.site_policy import judge_of

LOG: Final = logging.getLogger("site_agent")


class PolicyWatch:
    """One site's policy.toml since the agent read it. A file with mistakes changes nothing, and the log says so."""

    def __init__(self, directory: Path, config: SiteConfig, consortium: str) -> None:
        self._directory, self._config, self._consortium = directory, config, consortium
        self._seen = self._fingerprint()

    def changed(self) -> ManifestJudge | None:
        """The judge of a policy that differs from the one read last, None if there is no such one."""
        found = self._fingerprint()
        if found == self._seen:
            return None
        self._seen = found
        try:
            judge = judge_of(self._config, load_policy(self._directory), self._consortium)
        except ConfigError as error:
            LOG.warning("the policy of before stays in force: %s", in_one_line(error))
            return None
        LOG.info("%s has changed and is in force", POLICY_FILE)
        return judge

    def _fingerprint(self) -> tuple[int, ...]:
        """What differs when an editor has written the file; () while there is none."""
        try:
            found = (self._directory / POLICY_FILE).stat()
        except OSError:
            return ()
        return (found.st_mtime_ns, found.st_size, found.st_ino)
