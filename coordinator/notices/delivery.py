# SPDX-License-Identifier: Apache-2.0
"""One attempt to say one thing at one place, over HTTP.

Certificates are always verified, no redirect is followed (it would carry the secret elsewhere), no proxy is used but a
configured one, and of the answer only status and headers are read.
"""

import asyncio
import ssl
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Final

import httpx2

from coordinator.notices.formats import WebRequest, request
from coordinator.notices.memory import Saying
from coordinator.notices.targets import Target
from coordinator.notices.text import plain
from federation.errors import ConfigError, TransportError

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 10.0
ANSWERS_AT_MOST: Final = 3
"""So many times the patience for one part of an answer is what all of it may take: who sends a byte now and then would
hold up everything that is still to be said there."""

_THIS_ONE: Final = (400, 413, 422)
"""Statuses that speak of what was sent; sent again it would be refused again."""


class NotTakenError(TransportError):
    """It was not taken, or nobody said so; another try may be worth it.

    Attributes:
        retry_after_seconds: what the other end asks for; None if it does not say.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class RefusedError(TransportError):
    """The other end will never take this one."""

    retryable = False


class Delivery:
    """Says things at one target. Not for a thread that runs a loop."""

    def __init__(self, target: Target, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        """Opens nothing yet. Raises ConfigError: the target's `ca_file` holds no certificates."""
        self._target = target
        self._seconds = answer_seconds
        self._tls = _trusted(target)

    def send(self, saying: Saying, now: float) -> None:
        """Says it once.

        Args:
            now: unix seconds, for an answer that names a date.

        Raises:
            NotTakenError: it was not taken now, or the answer is not known.
            RefusedError: it never will be.
        """
        target = self._target
        made = request(target.kind, target.url, saying, token=target.token, room=target.room)
        try:
            status, retry_after = self._exchange(made)
        except (httpx2.TimeoutException, TimeoutError):
            raise NotTakenError(f"no answer within {self._seconds:g} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            raise NotTakenError(_words(error, target)) from None
        if 200 <= status < 300:
            return
        if status in _THIS_ONE:
            raise RefusedError(f"answered {status}: it does not take this message")
        raise NotTakenError(_status_words(status), retry_after_seconds=retry_after_seconds(retry_after, now))

    def _exchange(self, made: WebRequest) -> tuple[int, str]:
        """Status and `Retry-After`. On a loop of its own: only there a time for all of it can be set."""
        return asyncio.run(self._answer(made))

    async def _answer(self, made: WebRequest) -> tuple[int, str]:
        headers, method, url = dict(made.headers), made.method, made.url
        async with (
            asyncio.timeout(ANSWERS_AT_MOST * self._seconds),
            self._client() as client,
            client.stream(method, url, headers=headers, content=made.body) as response,
        ):
            return response.status_code, response.headers.get("Retry-After", "")

    def _client(self) -> httpx2.AsyncClient:
        """One for each try: a kept connection may be cut while it rests, and then nobody knows what was taken."""
        return httpx2.AsyncClient(
            verify=self._tls,
            timeout=httpx2.Timeout(self._seconds, connect=min(CONNECT_SECONDS, self._seconds)),
            follow_redirects=False,
            trust_env=False,
            proxy=self._target.proxy or None,
        )


def retry_after_seconds(text: str, now: float) -> float | None:
    """What a `Retry-After` header asks for, as seconds or as a date (RFC 9110); None if it says nothing usable."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return max(seconds, 0.0) if isfinite(seconds) else None


def _trusted(target: Target) -> ssl.SSLContext:
    """The system's authorities, or those of a file alone."""
    if not target.ca_file:
        return httpx2.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=target.ca_file)
    except OSError as error:
        reason = plain(str(error), 100)
        raise ConfigError(f"{target.ca_file}: expected certificates (PEM), found: {reason}") from None


def _status_words(status: int) -> str:
    match status:
        case 401 | 403:
            return f"answered {status}: its address or token is not accepted"
        case 404 | 410:
            return f"answered {status}: there is no such webhook or room any more"
        case _ if 300 <= status < 400:
            return f"answered {status}: it points elsewhere, and that is not followed"
        case _:
            return f"answered {status}"


def _words(error: Exception, target: Target) -> str:
    """What went wrong, without the secret that an address is."""
    text = str(error)
    for secret in (target.url, target.token, target.proxy):
        text = text.replace(secret, "…") if secret else text
    return f"{type(error).__name__}: {plain(text, 150)}"
