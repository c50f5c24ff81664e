# SPDX-License-Identifier: Apache-2.0
"""Where notices go: what coordinator.toml says, with the secrets from their files."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from coordinator.notices.config import EXPECTED_URL, NotificationSection, host_of, names_of, url_fault
from coordinator.notices.formats import PlatformKind
from coordinator.notices.memory import Saying
from coordinator.notices.notice import Severity
from federation.errors import ConfigError

MAX_SECRET_BYTES: Final = 4096
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, kw_only=True)
class Target:
    """One place where people read. `url` and `token` are secrets and are never shown."""

    name: str
    kind: PlatformKind
    url: str = field(repr=False)
    token: str = field(default="", repr=False)
    room: str = ""
    min_severity: Severity = Severity.WARNING
    runs: frozenset[str] = frozenset()
    proxy: str = field(default="", repr=False)
    ca_file: str = ""

    @property
    def label(self) -> str:
        """Name, kind and host: what may be shown."""
        return f"{self.name} ({self.kind.value}, {host_of(self.url)})"

    def wants(self, saying: Saying) -> bool:
        """Whether it is said there: bad enough, and of a run that is asked for or of none."""
        run = saying.notice.subject_run
        return saying.severity.rank >= self.min_severity.rank and (not self.runs or not run or run in self.runs)


def load_targets(directory: Path, sections: Sequence[NotificationSection]) -> tuple[Target, ...]:
    """Reads the files that hold secrets.

    Raises:
        ConfigError: one is missing, can be read by others, or does not hold what it should.
    """
    pairs = zip(names_of(sections), sections, strict=True)
    return tuple(_target(directory, name, section) for name, section in pairs)


def _target(directory: Path, name: str, section: NotificationSection) -> Target:
    url = section.url
    if section.url_file:
        url = read_secret(directory / section.url_file, "an address")
        if fault := url_fault(url, is_base=section.kind == "matrix"):
            raise ConfigError(f"{directory / section.url_file}: expected {EXPECTED_URL}, found {fault}")
    ca_file = directory / section.ca_file if section.ca_file else None
    if ca_file is not None and not ca_file.is_file():
        raise ConfigError(f"{ca_file}: expected a file with certificates (PEM), found none")
    return Target(
        name=name,
        kind=PlatformKind(section.kind),
        url=url,
        token=read_secret(directory / section.token_file, "a token") if section.token_file else "",
        room=section.room,
        min_severity=Severity(section.min_severity),
        runs=frozenset(section.runs),
        proxy=section.proxy,
        ca_file=str(ca_file) if ca_file is not None else "",
    )


def read_secret(path: Path, what: str) -> str:
    """The one word that a file holds, which nobody but its owner may read.

    Raises:
        ConfigError: it is missing, no file, open to others, too long, or not one printable word.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # a pipe must not block
            status = os.fstat(file.fileno())
            data = file.read(MAX_SECRET_BYTES + 1) if stat.S_ISREG(status.st_mode) else b""
    except OSError as error:
        raise ConfigError(f"{path}: expected a file with {what}, found: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path}: expected a file with {what}, found another kind")
    if status.st_mode & _OTHERS:
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigError(
            f"{path}: expected a file that only its owner can read, found mode {mode:04o}",
            advice=f"Make it so: chmod 600 {path}. If others may have read it, ask for a new secret.",
        )
    text = data.decode("ascii", errors="replace").strip()
    if not text or len(data) > MAX_SECRET_BYTES or not text.isprintable() or not text.isascii() or " " in text:
        raise ConfigError(
            f"{path}: expected {what}, one word of at most {MAX_SECRET_BYTES} bytes, found something else"
        )
    return text
