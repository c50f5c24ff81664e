# SPDX-License-Identifier: Apache-2.0
"""What a carrier goes over and over again: between one site's directory and the coordinator's."""

import logging
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final

from federation.durable.real import RealFileSystem
from federation.durations import count, in_words
from federation.errors import ConfigError, FederationError, LoginRefusedError
from federation.log import in_one_line
from federation.mailbox.carrier import carry_both
from site_agent import layout
from site_agent.carrier.login_rest import LoginRest, login_wait_seconds
from site_agent.carrier.over_ssh import RemoteMailboxes
from site_agent.site_config import SITE_FILE

LOG: Final = logging.getLogger("site_agent")

FIRST_WAIT_SECONDS: Final = 5.0
MAX_WAIT_SECONDS: Final = 600.0

_COORDINATORS: Final = ("keys/coordinator.pem", "ledger")
"""The second one is for a carrier that may not look into keys/."""

_OTHERS: Final = {SITE_FILE: "a site's", "keys/operator.pem": "an operator's"}


class BackOff:
    """How long to rest after failures in a row: doubling, longer after a refused login."""

    def __init__(self) -> None:
        self._failures = 0
        self._is_login = False

    @property
    def seconds(self) -> float:
        """Until the next attempt; 0 after none failed."""
        if not self._failures:
            return 0.0
        if self._is_login:
            return login_wait_seconds(self._failures)
        return min(FIRST_WAIT_SECONDS * 2.0 ** min(self._failures - 1, 20), MAX_WAIT_SECONDS)

    def failed(self, error: FederationError) -> None:
        """Counts a failure; one of another kind begins anew."""
        is_login = isinstance(error, LoginRefusedError)
        self._failures = self._failures + 1 if is_login == self._is_login else 1
        self._is_login = is_login

    def succeeded(self) -> None:
        """Forgets the failures."""
        self._failures = 0


class AnyRoute(ABC):
    """Carries, and says in the log what a person needs to know once."""

    def __init__(self, site: str, coordinator: Path) -> None:
        self._site, self._coordinator = site, coordinator
        self._has_brought, self._complaint = False, ""

    @abstractmethod
    def carry(self) -> int:
        """Both ways; how many files were brought. Raises FederationError."""

    def carry_once(self) -> int:
        """As `carry`, by a process that does nothing else and is started again and again."""
        return self.carry()

    @property
    def wait_seconds(self) -> float:
        """How long to rest at least before the next attempt."""
        return 0.0

    def carry_or_log(self) -> int:
        """As `carry`; a failure counts as nothing brought, and is logged once."""
        try:
            require_coordinator(self._coordinator)
            brought = self.carry()
        except FederationError as error:
            self._failed(error)
            return 0
        if (brought and not self._has_brought) or (self._complaint and (brought or self.wait_seconds)):
            LOG.info("site %s: carried %s; this goes on", self._site, count(brought, "file"))
            self._has_brought, self._complaint = True, ""
        return brought

    def _failed(self, error: FederationError) -> None:
        if str(error) != self._complaint:
            LOG.warning("site %s: nothing could be carried, it is tried again: %s", self._site, in_one_line(error))
        self._complaint = str(error)


class Route(AnyRoute):
    """Between one site's directory and the coordinator's, both on this machine."""

    def __init__(self, site_dir: Path, site: str, coordinator: Path) -> None:
        super().__init__(site, coordinator)
        self._site_dir = site_dir

    def carry(self) -> int:
        """Both ways; how many files were brought. Raises StorageError."""
        here, there = RealFileSystem(self._site_dir), RealFileSystem(self._coordinator)
        return carry_both(here, layout.MAILBOX, there, f"mailbox/{self._site}")


class RemoteRoute(AnyRoute):
    """Between a site's directory on another machine and the coordinator's on this one."""

    def __init__(self, site: str, coordinator: Path, mailboxes: RemoteMailboxes, rest: LoginRest) -> None:
        super().__init__(site, coordinator)
        self._mailboxes, self._rest = mailboxes, rest
        self._back_off = BackOff()

    @property
    def wait_seconds(self) -> float:
        return self._back_off.seconds

    def carry(self) -> int:
        """Both ways, with one login at most. Raises LoginRefusedError, TransportError, StorageError."""
        brought = self._mailboxes.carry()
        self._back_off.succeeded()
        if self._complaint:
            LOG.info("site %s: the carrier works again", self._site)
            self._complaint = ""
        return brought

    def carry_once(self) -> int:
        self._rest.expect_over()
        try:
            brought = self.carry()
        except LoginRefusedError as error:
            self._rest.refused(error)
            raise
        self._rest.accepted()
        return brought

    def _failed(self, error: FederationError) -> None:
        self._back_off.failed(error)
        if str(error) != self._complaint:
            super()._failed(error)
            LOG.warning("site %s: the next attempt is in %s", self._site, in_words(self.wait_seconds))


def require_coordinator(directory: Path) -> None:
    """Raises ConfigError if it is somebody else's: nothing would ever look at a mailbox there."""
    fs = RealFileSystem(directory)
    if any(fs.exists(name) for name in _COORDINATORS):
        return
    found = next((words for name, words in _OTHERS.items() if fs.exists(name)), "another one")
    raise ConfigError(
        f"{fs.root}: expected the coordinator's directory, found {found}",
        advice="Name it last: site-agent carrier SITE_DIR... COORDINATOR_DIR",
    )
