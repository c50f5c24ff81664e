# SPDX-License-Identifier: Apache-2.0
"""Refused logins, remembered from one call of a carrier to the next: a centre locks accounts that try too often.

cron's interval is pause enough after anything else that went wrong, but cron knows nothing of a login that only a human
can make work again. So that one is tried as seldom as by a carrier that stays, unless what it logs in with has changed.
"""

import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from federation.durable.real import RealFileSystem
from federation.durations import count, in_words
from federation.errors import LoginRefusedError, ProtocolError, StorageError
from federation.mailbox.layout import LOGIN_REST
from site_agent.json_records import read_record, write_record

FIRST_LOGIN_WAIT_SECONDS: Final = 60.0
"""After a refused login."""
MAX_LOGIN_WAIT_SECONDS: Final = 1800.0


def login_wait_seconds(num_refused: int) -> float:
    """How long to rest after so many refused logins in a row."""
    return min(FIRST_LOGIN_WAIT_SECONDS * 2.0 ** min(num_refused - 1, 20), MAX_LOGIN_WAIT_SECONDS)


@dataclass(frozen=True, kw_only=True)
class RefusedLogins:
    """What the file says.

    Attributes:
        num_refused: in a row.
        next_at: unix seconds, this machine's clock.
        credential: fingerprint of what was refused.
        sentence: why.
    """

    num_refused: int
    next_at: float
    credential: str
    sentence: str


class LoginRest:
    """The file beside the mailbox that a carrier fills. Losing it costs one login attempt."""

    def __init__(self, coordinator: Path, site: str, credential: str, clock: Callable[[], float]) -> None:
        """`credential`: see `credential_of`. `clock`: unix seconds."""
        self._fs, self._path = RealFileSystem(coordinator), f"mailbox/{site}/{LOGIN_REST}"
        self._credential, self._clock = credential, clock

    def expect_over(self) -> None:
        """Raises LoginRefusedError if it is too early for another attempt; nothing is tried then."""
        last, now = self._last(), self._clock()
        if last is None or not 0 < last.next_at - now <= MAX_LOGIN_WAIT_SECONDS:  # else somebody has set the clock
            return
        refused = "the last login was" if last.num_refused == 1 else f"{count(last.num_refused, 'login')} in a row were"
        raise LoginRefusedError(
            f"no login is tried for {in_words(last.next_at - now)}, since {refused} refused: {last.sentence}",
            advice="A new key, certificate, option or known_hosts is tried at once. After a renewal that changed none "
            f"of them, remove {self._fs.real_path(self._path)}.",
        )

    def refused(self, error: LoginRefusedError) -> None:
        """Counts one, and sets the time of the next attempt."""
        last = self._last()
        number = last.num_refused + 1 if last is not None else 1
        next_at = self._clock() + login_wait_seconds(number)
        found = RefusedLogins(
            num_refused=number, next_at=next_at, credential=self._credential, sentence=str(error)[:1000]
        )
        with suppress(StorageError):  # a full disk is no reason to hide why nothing was carried
            write_record(self._fs, self._path, found)

    def accepted(self) -> None:
        """Forgets them."""
        if self._fs.exists(self._path):
            self._fs.remove(self._path)

    def _last(self) -> RefusedLogins | None:
        """The newest refusal of exactly this credential."""
        try:
            last = read_record(self._fs, self._path, RefusedLogins)
        except (ProtocolError, StorageError):  # another release's, or no file: written anew
            return None
        return last if last is not None and last.credential == self._credential else None


def credential_of(address: str, identity: str, options: Iterable[str]) -> str:
    """Changes with whatever a human changes to make a login work again, as far as this machine can see it."""
    ssh = Path.home() / ".ssh"
    files = (ssh / "config", ssh / "known_hosts", *((identity, f"{identity}-cert.pub") if identity else ()))
    parts = [address, identity, *options, *(_look(Path(file)) for file in files)]
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()


def _look(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return "none"
    return f"{found.st_mtime_ns} {found.st_size} {found.st_ino}"
