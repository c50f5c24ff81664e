# SPDX-License-Identifier: Apache-2.0
"""The dashboard's process: follows the directory, serves pages, tells viewers what has changed. One thread."""

import asyncio
import logging
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from coordinator.dashboard.app import Dashboard
from coordinator.dashboard.assets import check_assets
from coordinator.dashboard.doors import Doors
from coordinator.dashboard.events import Hub, Pace
from coordinator.dashboard.follower import Follower
from coordinator.dashboard.gallery import Gallery
from coordinator.dashboard.identity import CLIENT_AUTHORITY, own_identity, server_context
from coordinator.dashboard.links import ADDRESS
from coordinator.dashboard.liveness import LivenessWatch
from coordinator.dashboard.settings import DashboardSection
from coordinator.dashboard.watchman import Watchman
from coordinator.home import ENROLMENT_ISSUER
from coordinator.network_config import CoordinatorConfig
from coordinator.notices.notifier import open_notifier
from coordinator.rpc.membership import Membership
from federation.certificates import der, pem, read_certificate
from federation.durable.real import RealFileSystem
from federation.errors import CertificateError, ConfigError
from federation.garbage import spare_what_is_loaded

LOG: Final = logging.getLogger("coordinator.dashboard")
LOOK_SECONDS: Final = 0.25
LIVENESS_SECONDS: Final = 2.0
JUDGE_SECONDS: Final = 1.0
STOP_SECONDS: Final = 2


class CertificateProtocol(H11Protocol):
    """Hands a client's certificate, which the TLS layer has verified, on to the requests of its connection."""

    def connection_made(self, transport: Any) -> None:
        """A connection: its certificate never changes."""
        super().connection_made(transport)
        found = transport.get_extra_info("ssl_object")
        certificate = found.getpeercert(binary_form=True) if found is not None else None
        self.app_state = {**self.app_state, "certificate": certificate or b""}


@dataclass
class DashboardServer:
    """One dashboard of one coordinator's directory."""

    fs: RealFileSystem
    config: CoordinatorConfig
    section: DashboardSection
    fingerprint: str = ""

    def __post_init__(self) -> None:
        """Reads the whole directory once.

        Raises:
            ConfigError: no roster, no charts' library, or an address or certificate that cannot be used.
        """
        check_assets()
        self.follower = Follower(self.fs)
        self.follower.refresh()
        self._watch = LivenessWatch(self.fs)
        gallery = Gallery(
            fs=self.fs, follower=self.follower, public=tuple(self.section.public), liveness=self._watch.look()
        )
        self.gallery = gallery
        notifier = open_notifier(self.fs.root, self.config)
        self.watchman = Watchman(fs=self.fs, follower=self.follower, notifier=notifier)
        self.hub = Hub(gallery=gallery, clock=time.time)
        tls, enrolment = self._issuers()
        self.doors = Doors(fs=self.fs, membership=self._membership(), tls_issuer=tls, enrolment_issuer=enrolment)
        self.dashboard = Dashboard(
            doors=self.doors, gallery=gallery, hub=self.hub, clock=time.time, metrics=self.watchman.metrics
        )
        self._context = self._tls()
        self._socket = _listening(self.section.listen)
        host, port = self._socket.getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def run(self, parent: int = 0) -> None:
        """Serves until SIGTERM or SIGINT, or until the process with id `parent` is gone, if one is given."""
        config = uvicorn.Config(
            self.dashboard.application(),
            http=CertificateProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_SECONDS,
            limit_concurrency=2000,
            h11_max_incomplete_event_size=64 * 1024,
        )
        config.load()
        config.ssl = self._context
        self.fs.write(ADDRESS, self.url.encode())
        spare_what_is_loaded()
        server = uvicorn.Server(config)
        signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again at its end, before our own clearing up
        asyncio.run(self._serve(server, parent))

    async def _serve(self, server: uvicorn.Server, parent: int) -> None:
        following = asyncio.create_task(self._follow(server, parent))
        try:
            await server.serve(sockets=[self._socket])
        finally:
            following.cancel()
            self.watchman.close()
            self.fs.remove(ADDRESS)

    async def _follow(self, server: uvicorn.Server, parent: int) -> None:
        """Looks several times a second; viewers are told when the pace says so."""
        pace, liveness_at, judged = Pace(), 0.0, 0.0
        while True:
            if parent and os.getppid() != parent:
                server.should_exit = True
            if server.should_exit:
                self.hub.close()
            now = time.monotonic()
            if now - liveness_at >= LIVENESS_SECONDS:
                liveness, liveness_at = self._watch.look(), now
                pace.heard(liveness != self.gallery.liveness)
                self.gallery.liveness = liveness
            if self._refreshed():
                self.doors.membership = self._membership()
                pace.heard()
            if now - judged >= JUDGE_SECONDS:
                judged = now
                pace.heard(self._judged())
            if pace.is_due(now):
                if pace.is_news:
                    self.gallery.forget()
                pace.told(now)
                self.hub.changed()
            await asyncio.sleep(LOOK_SECONDS)

    def _refreshed(self) -> bool:
        try:
            return self.follower.refresh()
        except Exception:  # our own bug: what is shown grows old, and the log says why
            LOG.exception("the directory could not be read")
            return False

    def _judged(self) -> bool:
        try:
            changed = self.watchman.look()
        except Exception:  # our own bug: pages go on
            LOG.exception("it could not be judged what is the case")
            return False
        self.gallery.told = self.watchman.told
        return changed

    def _membership(self) -> Membership:
        view = self.follower.view
        return Membership(
            consortium=view.consortium,
            roster=view.rosters.current,
            rosters=(),
            revoked=view.state.revoked,
            invites={},
            ledger_size=view.state.size,
        )

    def _issuers(self) -> tuple[bytes, bytes]:
        """Certificates of the issuers: of TLS as the roster names it, of enrolment as it lies here."""
        tls = self.follower.view.rosters.current.tls_issuer
        path = f"{ENROLMENT_ISSUER}.crt"
        if not tls or not self.fs.exists(path):
            return b"", b""
        try:
            return tls, der(read_certificate(self.fs.read(path)))
        except CertificateError:
            return b"", b""

    def _tls(self) -> Any:
        section, authority = self.section, None
        if self.doors.tls_issuer:
            self.fs.write(CLIENT_AUTHORITY, pem(read_certificate(self.doors.tls_issuer)))
            authority = self.fs.real_path(CLIENT_AUTHORITY)
        if section.certificate:
            root = self.fs.root
            return server_context(root / section.key, root / section.certificate, authority)
        key, certificate, self.fingerprint = self._own()
        return server_context(key, certificate, authority)

    def _own(self) -> tuple[Path, Path, str]:
        names = {self.section.listen.rpartition(":")[0].strip("[]"), self.section.host}
        return own_identity(self.fs, {name for name in names if name})

    @property
    def url(self) -> str:
        """Where browsers find it."""
        if self.section.url:
            return self.section.url.rstrip("/")
        host, _, port = self.address.rpartition(":")
        return f"https://{'127.0.0.1' if host in ('0.0.0.0', '[::]') else host}:{port}"


def _listening(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = socket.create_server((host, int(port)), family=family, backlog=512)
        # asyncio does it only for sockets made with this protocol's number. An answer's headers and its body are two
        # writes: without it the second waits for the first one's delayed acknowledgement, 40 ms.
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return found
    except OSError as error:
        raise ConfigError(
            f"dashboard: cannot listen on {listen}: {error.strerror or error}",
            advice="Is the port taken, or below 1024, or is it not an address of this machine?",
        ) from error
