# SPDX-License-Identifier: Apache-2.0
"""`coordinator dashboard serve` as a process, links to it, and the pages that a browser walks through."""

import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from services import LIBRARY, Service, command_line, wait_for

import coordinator
from coordinator.bench.generated import Generated, generate
from coordinator.bench.setting import AUDITOR, CONSORTIUM, VIEWER
from coordinator.dashboard.links import ADDRESS, Grant, make_token
from coordinator.dashboard.public_fields import PUBLIC_FIELDS
from coordinator.network_config import NETWORK_FILE
from federation.roster_document import Role

START_SECONDS = 60.0
ROOT = Path(coordinator.__file__).parents[1]


@dataclass(kw_only=True)
class DashboardProcess:
    """A dashboard of a coordinator's directory. `listen` with a port keeps its address over a restart."""

    directory: Path
    listen: str = "127.0.0.1:0"
    log: Path | None = None
    service: Service | None = None
    url: str = ""

    def start(self) -> Self:
        """Returns when it says where it is."""
        address = self.directory / ADDRESS
        words = command_line("coordinator", "dashboard", "serve", self.directory, "--listen", self.listen)
        argv = [words[0], "-X", "utf8", *words[1:]]  # in an interpreter of its own, as it runs at a coordinator's
        log = self.log or self.directory.parent / f"{self.directory.name}-dashboard.log"
        extra = {"PYTHONPATH": os.pathsep.join((str(LIBRARY), str(ROOT)))}
        self.service = Service(name="dashboard", argv=argv, log=log, extra=extra)
        address.unlink(missing_ok=True)  # of one that was killed
        self.service.start()
        wait_for(address.exists, START_SECONDS, "the dashboard's address", self.service.supervise, log.parent)
        self.url = address.read_text().strip()
        self.listen = self.url.removeprefix("https://")
        return self

    def stop(self) -> int:
        """By SIGTERM; its exit code."""
        service, self.service = self.service, None
        return service.stop() if service else 0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def small(directory: Path, **changed: object) -> Generated:
    """A generated history of four sites whose last leaf is of now."""
    made = {"num_rounds": 12, "num_sites": 4, "seed": 3, "now_us": time.time_ns() // 1000}
    return generate(directory, **{**made, **changed})  # type: ignore[arg-type]


def token_of(found: Generated, role: Role = Role.VIEWER, *, seconds: float = 600) -> str:
    """What stands behind the # of a link that a viewer, or the auditor, of a generated consortium gives."""
    operator = AUDITOR if role is Role.AUDITOR else VIEWER
    grant = Grant(
        consortium=CONSORTIUM,
        operator=operator,
        role=role,
        expires_at_us=int((time.time() + seconds) * 1e6),
        nonce=secrets.token_hex(8),
    )
    return make_token(grant, found.consortium.key(f"operator/{operator}"))


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A generated consortium and its dashboard."""

    generated: Generated
    dashboard: DashboardProcess

    @property
    def url(self) -> str:
        """Where browsers find it."""
        return self.dashboard.url

    @property
    def directory(self) -> Path:
        """The coordinator's."""
        return self.generated.directory

    def token(self, role: Role = Role.VIEWER, *, seconds: float = 600) -> str:
        """What stands behind the # of a new link."""
        return token_of(self.generated, role, seconds=seconds)


def shown(directory: Path, **changed: object) -> Iterator[Shown]:
    """Serves a generated consortium, with a page for everybody."""
    generated = small(directory, **changed)  # type: ignore[arg-type]
    file = directory / NETWORK_FILE
    file.write_text(file.read_text().replace("public = []", f"public = {json.dumps(PUBLIC_FIELDS)}"))
    with DashboardProcess(directory=directory) as dashboard:
        yield Shown(generated=generated, dashboard=dashboard)
    generated.close()


def slug(path: str) -> str:
    """A file's name for a page."""
    return re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-") or "overview"
