# SPDX-License-Identifier: Apache-2.0
"""The dashboard's process: follows the directory, serves pages, tells viewers what has changed. One thread."""

import asyncio
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import uvicorn
from starlette.types import ASGIApp

from coordinator.dashboard.app import Dashboard
from coordinator.dashboard.assets import check_assets
from coordinator.dashboard.connections import DashboardProtocol
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
from federation.errors import CertificateError, ConfigError, FederationError
from federation.garbage import spare_what_is_loaded

LOG: Final = logging.getLogger("coordinator.dashboard")
LOOK_SECONDS: Final = 0.25
LIVENESS_SECONDS: Final = 2.0
JUDGE_SECONDS: Final = 1.0
STOP_SECONDS: Final = 2
MAX_CONNECTIONS: Final = 2000
MAX_FILES: Final = 2 * MAX_CONNECTIONS


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

    def other(self) -> str:
        """Where another dashboard of this directory answers, "" if none does."""
        noted = self._noted()
        parts = urlsplit(noted)
        try:
            socket.create_connection((parts.hostname or "", parts.port or 443), timeout=1.0).close()
        except (OSError, ValueError):
            return ""
        return "" if noted == self.url else noted

    def _noted(self) -> str:
        return self.fs.read(ADDRESS).decode(errors="replace").strip() if self.fs.exists(ADDRESS) else ""

    def run(self, parent: int = 0) -> None:
        """Serves until SIGTERM or SIGINT, or until the process with id `parent` is gone, if one is given."""
        config = web_config(self.dashboard.application())
        config.ssl = self._context
        self.fs.write(ADDRESS, self.url.encode())
        _allow_files()
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
            if self._noted() == self.url:  # else another one has begun meanwhile, and links name that
                self.fs.remove(ADDRESS)

    async def _follow(self, server: uvicorn.Server, parent: int) -> None:
        """Looks several times a second; viewers are told when the pace says so."""
        pace, lived, judged = Pace(), 0.0, 0.0
        while True:
            if parent and os.getppid() != parent:
                server.should_exit = True
            if server.should_exit:
                self.hub.close()
            now = time.monotonic()
            if now - lived >= LIVENESS_SECONDS:
                lived = now
                pace.heard(self._tried("reading the lock", self._lives))
                pace.heard(self._tried("loading the renewed certificate", self._certified))
            pace.heard(self._tried("reading the directory", self._refreshed))
            if now - judged >= JUDGE_SECONDS:
                judged = now
                pace.heard(self._tried("judging what is the case", self._judged))
            if pace.is_due(now):
                if pace.is_news:
                    self.gallery.forget()
                pace.told(now)
                await self.hub.changed()
            await asyncio.sleep(LOOK_SECONDS)

    def _tried(self, what: str, look: Callable[[], bool]) -> bool:
        """One look. Where it fails nothing else stops: each page says that it is old, and the log says why, once."""
        try:
            changed = look()
        except Exception as error:  # a disk that cannot be read, or our own bug
            why = str(error) if isinstance(error, FederationError) else "a fault of the dashboard; its log has it"
            changed = self.follower.fault(what, f"{what} failed: {why}; what follows from it is old")
            if changed:
                LOG.exception("%s failed", what)
            return changed
        return self.follower.fault(what, "") or changed

    def _lives(self) -> bool:
        before, self.gallery.liveness = self.gallery.liveness, self._watch.look()
        return self.gallery.liveness != before

    def _refreshed(self) -> bool:
        changed = self.follower.refresh()
        if changed:
            self.doors.membership = self._membership()
        return changed

    def _judged(self) -> bool:
        changed = self.watchman.look()
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
            self._files = (root / section.key, root / section.certificate)
        else:
            *files, self.fingerprint = self._own()
            self._files = (files[0], files[1])
        self._loaded = _changed_at(self._files)
        return server_context(*self._files, authority)

    def _certified(self) -> bool:
        """Takes a certificate that was renewed: who comes from now on sees the new one.

        Raises:
            ConfigError: it is none, or not of that key.
        """
        changed = _changed_at(self._files)
        if changed != self._loaded:
            server_context(*self._files, None)  # tried on another one first: half a change would serve nobody
            self._context.load_cert_chain(self._files[1], self._files[0])
            self._loaded = changed
        return False

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


def web_config(application: ASGIApp) -> uvicorn.Config:
    """How the web server is run. Addresses are those of connections: headers that name others are anybody's word."""
    config = uvicorn.Config(
        application,
        http=DashboardProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # strangers' bad requests would fill the log
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=STOP_SECONDS,
        limit_concurrency=MAX_CONNECTIONS,
        h11_max_incomplete_event_size=64 * 1024,
    )
    config.load()
    return config


def _changed_at(files: Iterable[Path]) -> tuple[int, ...]:
    """When each file was changed, 0 where there is none."""
    return tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in files)


def _allow_files() -> None:
    """As many open files as we may have: each viewer is one, and many systems allow 1,024 unless asked."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if most == resource.RLIM_INFINITY else min(MAX_FILES, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


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
