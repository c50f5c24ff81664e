# SPDX-License-Identifier: Apache-2.0
"""Keeps the chosen courier running beside a serving agent, and changes over when the operator chooses anew."""

import logging
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from federation.durable.real import RealFileSystem
from federation.errors import FederationError
from federation.log import in_one_line
from federation.mailbox.ends import Vouch
from federation.roster import TrustedRosters
from federation.rpc import credentials
from federation.rpc.status import CourierStatus
from site_agent import layout
from site_agent.courier import spool
from site_agent.courier.choice import CourierKind, read_choice, write_status
from site_agent.courier.watched import WatchedFile
from site_agent.site_config import SITE_FILE, SiteConfig, load_courier_section

if TYPE_CHECKING:
    from federation.rpc.thread import CourierThread

LOG: Final = logging.getLogger("site_agent")
STATUS_SECONDS: Final = 5.0
"""Between two writes of a status in which only numbers changed."""

RESTART_SECONDS: Final = 5.0
"""Between two attempts to start a courier that cannot even begin: keys or configuration are missing."""


class CourierSwitch:
    """The courier of one serving agent. All public methods are the agent's thread's."""

    def __init__(
        self, fs: RealFileSystem, config: SiteConfig, arrived: threading.Event, vouch: Vouch | None = None
    ) -> None:
        """
        Args:
            config: site.toml as it is now; changes of its `[courier]` are noticed.
            arrived: set when there is something to receive, so that the agent looks at once.
            vouch: `BlobStore.vouch` of the agent's store.
        """
        self._fs, self._config, self._arrived, self._vouch = fs, config, arrived, vouch
        self._section = WatchedFile(fs, SITE_FILE, lambda: load_courier_section(fs.root), config.courier)
        self._choice = WatchedFile.unread(fs, layout.COURIER, lambda: read_choice(fs), CourierKind.SPOOL)
        endpoint = lambda: credentials.read_text(fs, credentials.ENDPOINT)  # noqa: E731
        self._endpoint = WatchedFile.unread(fs, credentials.ENDPOINT, endpoint, "")
        self._thread: CourierThread | None = None
        self._chosen: tuple[CourierKind, str] | None = None
        self._retry_at = 0.0
        self._status = self._told = spool.status(time.time_ns() // 1000)
        self._told_at = -STATUS_SECONDS
        self._writing = threading.Lock()

    def follow(self) -> None:
        """Starts, stops or restarts the courier if the operator chose anew since the last call. Never raises.

        Called with each pass of the agent: while no file has changed, three are looked at and none is read.
        """
        self._read_config()
        self._look(self._choice)
        self._look(self._endpoint)
        chosen = (self._choice.value, self._endpoint.value)
        dials = chosen[0] is CourierKind.GRPC
        due = self._thread is None and dials and time.monotonic() >= self._retry_at
        if chosen != self._chosen or due:
            if chosen != self._chosen:
                LOG.info("courier: %s", " to ".join(filter(None, chosen)) if dials else chosen[0].value)
            self._stop_thread()
            self._chosen = chosen
            self._start()
        self._tell()

    @property
    def dials(self) -> bool:
        """Whether the chosen courier is gRPC."""
        return self._choice.value is CourierKind.GRPC

    def posted(self) -> None:
        """The agent did something: there may be something to send."""
        if self._thread is not None:
            self._thread.wake()

    def take_rosters(self, rosters: TrustedRosters, now_us: int) -> None:
        """Roster versions that the courier brought while the agent runs."""
        while self._fs.exists(layout.roster_path(rosters.current.version + 1)):
            version = rosters.current.version + 1
            try:
                rosters.update(self._fs.read(layout.roster_path(version)), now_us)
            except FederationError as error:
                LOG.warning("roster version %d: %s", version, error)
                return
            LOG.info("roster version %d is in force", version)

    def close(self) -> None:
        """Ends the courier; what it received is durable."""
        self._stop_thread()
        self._status = replace(self._status, connected=False)
        self._tell(at_once=True)

    def _read_config(self) -> None:
        """Takes over `[courier]` of site.toml if the file has changed; one with mistakes in it changes nothing."""
        if not self._look(self._section):
            return
        section, before = self._section.value, self._config.courier
        self._config = self._config.model_copy(update={"courier": section})
        if (section.http_proxy, section.connect_to) != (before.http_proxy, before.connect_to):
            self._chosen = None  # the line goes another way: begin anew
        if section.max_upload_bytes_per_second != before.max_upload_bytes_per_second:
            LOG.info("courier: max_upload_bytes_per_second is %d", section.max_upload_bytes_per_second)
            if self._thread is not None:
                self._thread.limit_upload(section.max_upload_bytes_per_second)

    def _look(self, file: WatchedFile[Any]) -> bool:
        try:
            return file.look()
        except FederationError as error:
            LOG.warning("courier: %s", in_one_line(error))
            return False

    def _start(self) -> None:
        now_us = time.time_ns() // 1000
        self._status = spool.status(now_us)
        if self._chosen is None or self._chosen[0] is CourierKind.SPOOL:
            return
        try:
            from site_agent.courier import grpc

            self._thread = grpc.start(self._fs, self._config, self._arrived, self._write, self._vouch)
        except FederationError as error:
            self._retry_at = time.monotonic() + RESTART_SECONDS
            LOG.warning("courier: %s", in_one_line(error))
            self._status = CourierStatus(
                courier=CourierKind.GRPC.value, since_us=now_us, failures=1, sentence=str(error), advice=error.advice
            )

    def _stop_thread(self) -> None:
        if self._thread is not None:
            self._thread.stop()
            self._status = self._thread.current_status()
            self._thread = None

    def _tell(self, *, at_once: bool = False) -> None:
        """Writes the status where commands find it: at once when words change, seldom when only numbers do.

        A pass of the agent can be long, so the courier's thread writes it by itself when the connection changes.
        """
        status = self._thread.current_status() if self._thread is not None else self._status
        if status == self._told:
            return
        if at_once or _words(status) != _words(self._told) or time.monotonic() - self._told_at >= STATUS_SECONDS:
            self._write()

    def _write(self, changed: CourierStatus | None = None) -> None:
        """From either thread; `changed` is what the courier's thread has to say, else it is asked under the lock."""
        with self._writing:
            status = changed or (self._thread.current_status() if self._thread is not None else self._status)
            try:
                write_status(self._fs, status)
            except FederationError as error:
                LOG.warning("courier: %s", error)
                return
            self._told, self._told_at = status, time.monotonic()


def _words(status: CourierStatus) -> tuple[object, ...]:
    """What of a status is told at once when it changes."""
    limit = status.max_upload_bytes_per_second
    return status.courier, status.connected, status.sentence, status.endpoint, limit
