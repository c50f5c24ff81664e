# SPDX-License-Identifier: Apache-2.0
"""Counts down what expires at a site, and says when only a person can go on: certificates, the roster, and what
`[[credentials]]` of site.toml names. Nothing is renewed here, and nothing of it leaves the site.
"""

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from math import inf, isinf
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

from federation import certificates
from federation.durable.api import FileSystem
from federation.durations import in_words
from federation.errors import CertificateError, FederationError
from federation.rpc import credentials
from federation.rpc.credentials import RENEW_DAYS, Certificates
from site_agent.credential_settings import CredentialEntry

LOG: Final = logging.getLogger("site_agent")

LOOK_SECONDS: Final = 60.0
"""Between two looks of a serving agent."""

MAX_FILE_BYTES: Final = 64 * 1024
CHANNEL, ROSTER = "channel certificate", "roster"
CHANNEL_WARN_SECONDS: Final = (RENEW_DAYS - 1) * certificates.DAY_SECONDS
"""A day after it should have been renewed by itself."""

ROSTER_WARN_SECONDS: Final = 30 * certificates.DAY_SECONDS

_CHANNEL_ADVICE: Final = "Ask an operator of the consortium for a new invite, then run `site-agent enroll`."
_CHANNEL_RENEWS: Final = "It is renewed by itself once the coordinator can be reached: see the courier."
_ROSTER_ADVICE: Final = "Ask the consortium's root key holders for a renewed roster."


class Standing(StrEnum):
    """How urgent a credential is."""

    FINE = "fine"
    EXPIRING = "expiring"
    WAITING_FOR_HUMAN = "waiting-for-human"
    """It has expired, or cannot be read, and no program can mend that."""


@dataclass(frozen=True, kw_only=True)
class Credential:
    """One thing that expires; times are seconds since 1970.

    Attributes:
        expires_at: None if it is not known; `problem` says why.
        warn_seconds: before that, it counts as expiring.
        renews_itself: the agent renews it, also after it expired.
    """

    name: str
    expires_at: float | None
    warn_seconds: float
    what_to_do: str
    problem: str = ""
    renews_itself: bool = False


@dataclass(frozen=True, kw_only=True)
class Countdown:
    """What there is to say of a credential; `seconds_left` is negative once it has expired, None if unknown."""

    name: str
    standing: Standing
    seconds_left: float | None
    sentence: str
    what_to_do: str

    @property
    def line(self) -> str:
        """For people."""
        match self.standing:
            case Standing.FINE:
                return f"{self.name}: {self.sentence}"
            case Standing.EXPIRING:
                return f"{self.name}: {self.sentence}. {self.what_to_do}"
            case _:
                return f"WAITS FOR A HUMAN: {self.name} {self.sentence}. {self.what_to_do}"


def countdown(credential: Credential, now: float) -> Countdown:
    """How a credential stands at `now`. Pure."""
    left = None if credential.expires_at is None else credential.expires_at - now
    if left is None:
        standing, sentence = Standing.WAITING_FOR_HUMAN, credential.problem
    elif left <= 0:
        standing, sentence = Standing.WAITING_FOR_HUMAN, f"expired {in_words(-left)} ago"
    else:
        standing = Standing.EXPIRING if left <= credential.warn_seconds else Standing.FINE
        sentence = "never expires" if isinf(left) else f"{in_words(left)} left"
    if credential.renews_itself and standing is Standing.WAITING_FOR_HUMAN:
        standing = Standing.EXPIRING
    what_to_do = "" if standing is Standing.FINE else credential.what_to_do
    return Countdown(
        name=credential.name, standing=standing, seconds_left=_finite(left), sentence=sentence, what_to_do=what_to_do
    )


def _finite(seconds: float | None) -> float | None:
    return None if seconds is None or isinf(seconds) else seconds


def read_credentials(
    fs: FileSystem, site_dir: Path, entries: Iterable[CredentialEntry], now: float, *, dials: bool
) -> list[Credential]:
    """Everything that expires here, in the order in which people are told; reads files, never raises.

    Args:
        entries: `[[credentials]]`.
        dials: the courier is gRPC, so that the channel certificate matters.
    """
    found = [_channel(fs, now)] if dials else []
    return [*found, _roster(fs, now), *(_declared(entry, site_dir) for entry in entries)]


def countdowns(
    fs: FileSystem, site_dir: Path, entries: Iterable[CredentialEntry], now: float, *, dials: bool
) -> list[Countdown]:
    """As `read_credentials`, at `now`."""
    return [countdown(found, now) for found in read_credentials(fs, site_dir, entries, now, dials=dials)]


class CredentialsWatch:
    """Tells the log, once each time, when a credential begins to matter or no longer does."""

    def __init__(self, fs: FileSystem, site_dir: Path, entries: Sequence[CredentialEntry]) -> None:
        """Looks at nothing yet."""
        self._fs, self._site_dir, self._entries = fs, site_dir, entries
        self._standings: dict[str, Standing] = {}
        self._looked_at = -inf

    def look(self, now: float, monotonic: float, *, dials: bool) -> None:
        """Reads anew if that is due; `monotonic`: seconds of a clock that never goes back."""
        if monotonic - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = monotonic
        for found in countdowns(self._fs, self._site_dir, self._entries, now, dials=dials):
            if found.standing is not self._standings.get(found.name, Standing.FINE):
                LOG.log(logging.INFO if found.standing is Standing.FINE else logging.WARNING, "%s", found.line)
            self._standings[found.name] = found.standing


def _channel(fs: FileSystem, now: float) -> Credential:
    expires_at, problem = None, "is not there"
    try:
        left = Certificates.read(fs).days_left(now)
        expires_at = None if left is None else now + left * certificates.DAY_SECONDS
    except FederationError as error:
        problem = str(error)
    renews = expires_at is not None and _can_renew(fs, now)
    return Credential(
        name=CHANNEL,
        expires_at=expires_at,
        warn_seconds=CHANNEL_WARN_SECONDS,
        what_to_do=_CHANNEL_RENEWS if renews else _CHANNEL_ADVICE,
        problem=problem,
        renews_itself=renews,
    )


def _can_renew(fs: FileSystem, now: float) -> bool:
    try:
        Certificates.read(fs).usable_for_enrolment(now)
    except FederationError:
        return False
    return True


def _roster(fs: FileSystem, now: float) -> Credential:
    expires_at, problem = None, ""
    try:
        expires_at = credentials.require_rosters(fs, int(now * 1_000_000)).current.expires_at_us / 1e6
    except FederationError as error:
        problem = str(error)
    return Credential(
        name=ROSTER,
        expires_at=expires_at,
        warn_seconds=ROSTER_WARN_SECONDS,
        what_to_do=_ROSTER_ADVICE,
        problem=problem,
    )


def _declared(entry: CredentialEntry, site_dir: Path) -> Credential:
    expires_at, problem = None, ""
    try:
        expires_at = entry.expires_at.timestamp() if entry.expires_at else read_expiry(site_dir / entry.expires_file)
    except (ValueError, OverflowError):
        problem = f"{entry.expires_file} tells no date"
    except OSError as error:
        problem = f"cannot be read: {entry.expires_file}: {error.strerror}"
    return Credential(
        name=entry.name,
        expires_at=expires_at,
        warn_seconds=entry.warn_hours * 3600,
        what_to_do=entry.what_to_do,
        problem=problem,
    )


def read_expiry(path: Path) -> float:
    """When what a file tells of expires, in seconds since 1970; infinity for an SSH certificate that never does.

    Raises:
        OSError: it cannot be read.
        ValueError: it tells no date.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        data = file.read(MAX_FILE_BYTES).strip()
    if b"-cert-v01@openssh.com " in data:
        return _ssh_expiry(data)
    if data.startswith(b"-----BEGIN CERTIFICATE"):
        try:
            return certificates.read_certificate(data).not_valid_after_utc.timestamp()
        except CertificateError as error:
            raise ValueError(str(error)) from error
    text = data.decode("ascii")
    if text.isdigit():
        return float(text)
    date = datetime.fromisoformat(text)
    if date.tzinfo is None:
        raise ValueError("a date without a time zone")
    return date.timestamp()


def _ssh_expiry(data: bytes) -> float:
    """`Valid: … to …` of `ssh-keygen -L`, without a process, and without its local time."""
    try:
        found = load_ssh_public_identity(data)
    except Exception as error:  # of cryptography: several kinds for damage and for what it does not know
        raise ValueError("no SSH certificate that can be read") from error
    if not isinstance(found, SSHCertificate):
        raise ValueError("no SSH certificate")
    return inf if found.valid_before >= 2**63 else float(found.valid_before)


def _without_waiting(path: str, flags: int) -> int:
    """A pipe in the file's place must not hold up the agent."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
