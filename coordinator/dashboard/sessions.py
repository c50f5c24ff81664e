# SPDX-License-Identifier: Apache-2.0
"""Short sessions after a one-time link. In memory: after a restart of the dashboard everybody needs a new link."""

import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from coordinator.dashboard.links import Visitor

COOKIE: Final = "__Host-dashboard"
"""The prefix makes browsers refuse it from anything but this host, over TLS, for all paths."""

IDLE_SECONDS: Final = 2 * 3600.0
LONGEST_SECONDS: Final = 12 * 3600.0
MAX_SESSIONS: Final = 10_000


@dataclass(kw_only=True)
class _Session:
    visitor: Visitor
    begun: float
    used: float


@dataclass
class Sessions:
    """By the digest of their secrets. Time is an argument, in seconds of any clock that does not go back."""

    _sessions: OrderedDict[bytes, _Session] = field(default_factory=OrderedDict)

    def begin(self, visitor: Visitor, now: float) -> str:
        """A new session's secret, for the cookie."""
        secret = secrets.token_urlsafe(32)
        self._sessions[_digest(secret)] = _Session(visitor=visitor, begun=now, used=now)
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return secret

    def find(self, secret: str, now: float) -> Visitor | None:
        """Who it is, None if the session is over or there never was one."""
        key = _digest(secret)
        found = self._sessions.get(key)
        if found is None:
            return None
        if now - found.used > IDLE_SECONDS or now - found.begun > LONGEST_SECONDS:
            del self._sessions[key]
            return None
        found.used = now
        return found.visitor

    def end(self, secret: str) -> None:
        """Ends a session."""
        self._sessions.pop(_digest(secret), None)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
