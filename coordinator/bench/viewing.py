# SPDX-License-Identifier: Apache-2.0
"""People who look at a dashboard, as their browsers do: an address and a session of their own, TLS, a stream of
changes, charts fetched again after each change. All in one event loop: their own cost can be told apart."""

import asyncio
import re
import secrets
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import quote, urlencode

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.dashboard.links import Grant, make_token
from coordinator.dashboard.sessions import COOKIE
from federation.errors import PeerUnavailableError
from federation.roster_document import Role

CHART_PAUSE_SECONDS: Final = 3.0
"""As `static/charts.js` rests between two fetches of a chart."""

_LINK_SECONDS: Final = 3600
_LINE_BYTES: Final = 64 * 1024
_NUMBER: Final = re.compile(rb'data: \{"number": ([0-9]+)')
_LEAVES: Final = re.compile(rb"Leaves in the ledger</dt><dd>([0-9,]+)")
_CHART: Final = re.compile(rb'data-chart=\\?"([^"\\]+)')


@dataclass(frozen=True, kw_only=True)
class Target:
    """A dashboard and what opens it.

    Attributes:
        host, port: where it listens.
        context: trusts its certificate.
        key: of `operator`, whom the roster names; signs each viewer's link.
    """

    host: str
    port: int
    context: ssl.SSLContext
    consortium: str
    operator: str
    key: Ed25519PrivateKey

    @property
    def url(self) -> str:
        """Of the dashboard, without a slash at the end."""
        return f"https://{self.host}:{self.port}"

    def token(self) -> str:
        """The secret of a new link."""
        expires_at_us = int((time.time() + _LINK_SECONDS) * 1e6)
        grant = Grant(
            consortium=self.consortium,
            operator=self.operator,
            role=Role.VIEWER,
            expires_at_us=expires_at_us,
            nonce=secrets.token_hex(16),
        )
        return make_token(grant, self.key)


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """One frame. `at`: unix seconds; `number`: the view's; `num_leaves`: 0 where the page does not say."""

    at: float
    viewer: str
    address: str
    number: int
    num_leaves: int


@dataclass(kw_only=True)
class Received:
    """What all viewers together were sent, headers included."""

    arrivals: list[Arrival] = field(default_factory=list)
    num_bytes: int = 0
    num_charts: int = 0


@dataclass(kw_only=True)
class Connection:
    """One kept-alive connection of HTTP/1.1 over TLS."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    host: str
    received: Received
    cookie: str = ""

    @classmethod
    async def open(cls, target: Target, source: str, received: Received, cookie: str = "") -> Self:
        """Connects from an address of this machine."""
        reader, writer = await asyncio.open_connection(
            target.host, target.port, ssl=target.context, local_addr=(source, 0), limit=_LINE_BYTES
        )
        return cls(reader=reader, writer=writer, host=target.host, received=received, cookie=cookie)

    async def get(self, path: str) -> bytes:
        """The body of an answer.

        Raises:
            PeerUnavailableError: another status than 200.
        """
        headers = await self.ask("GET", path)
        return await self._exactly(int(headers["content-length"]))

    async def enter(self, token: str) -> str:
        """Uses a link up; returns the session's cookie."""
        headers = await self.ask("POST", "/enter", urlencode({"token": token}).encode(), expected=303)
        await self._exactly(int(headers.get("content-length", "0")))
        self.cookie = headers["set-cookie"].partition(";")[0]
        if not self.cookie.startswith(f"{COOKIE}="):
            raise PeerUnavailableError(f"dashboard: expected a session, found the cookie {self.cookie[:40]!r}")
        return self.cookie

    async def ask(self, method: str, path: str, body: bytes = b"", expected: int = 200) -> dict[str, str]:
        """Sends a request and reads the answer's headers."""
        lines = [
            f"{method} {path} HTTP/1.1",
            f"host: {self.host}",
            f"cookie: {self.cookie}",
            "accept: */*",
            "accept-encoding: gzip",
        ]
        if body:
            lines += ["content-type: application/x-www-form-urlencoded", f"content-length: {len(body)}"]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.received.num_bytes += len(head)
        first, *rest = head.decode("latin-1").split("\r\n")
        status = int(first.split()[1])
        if status != expected:
            raise PeerUnavailableError(f"dashboard: {path[:80]}: expected status {expected}, found {status}")
        pairs = (line.partition(":") for line in rest if line)
        return {name.lower(): value.strip() for name, _, value in pairs}

    async def frame(self) -> bytes:
        """The next event of a stream: the server sends each as a chunk of its own. Raises EOFError: it is over."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        if not size:
            raise asyncio.IncompleteReadError(b"", 1)
        return (await self._exactly(size + 2))[:-2]

    async def _exactly(self, size: int) -> bytes:
        data = await self.reader.readexactly(size)
        self.received.num_bytes += size
        return data

    def close(self) -> None:
        """Drops the connection."""
        self.writer.transport.abort()


@dataclass(kw_only=True)
class Viewer:
    """One person with one page open. `source`: an own loopback address, since the dashboard limits each address."""

    target: Target
    source: str
    address: str
    received: Received
    _charts: tuple[str, ...] = ()
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def look(self, opened: Callable[[], None]) -> None:
        """Comes in, opens the page, follows it until cancelled. `opened` is called when the stream has begun."""
        page = await Connection.open(self.target, self.source, self.received)
        try:
            cookie = await page.enter(self.target.token())
            self._charts = charts_of(await page.get(self.address))
            stream = await Connection.open(self.target, self.source, self.received, cookie)
            try:
                await stream.ask("GET", f"/events?page={quote(self.address, safe='')}")
                opened()
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._follow(stream))
                    both.create_task(self._draw(cookie))
            finally:
                stream.close()
        finally:
            page.close()

    async def _follow(self, stream: Connection) -> None:
        while True:
            data = await stream.frame()
            number = _NUMBER.search(data, 0, 80)
            if number is None:
                continue
            leaves = _LEAVES.search(data)
            size = int(leaves[1].replace(b",", b"")) if leaves else 0
            arrival = Arrival(
                at=time.time(), viewer=self.source, address=self.address, number=int(number[1]), num_leaves=size
            )
            self.received.arrivals.append(arrival)
            self._changed.set()

    async def _draw(self, cookie: str) -> None:
        """Every chart of the page, after each change, with the script's rest in between."""
        while self._charts:
            await self._changed.wait()
            self._changed.clear()
            # The server drops a connection that was idle for a few seconds; a browser then opens another one, too.
            connection = await Connection.open(self.target, self.source, self.received, cookie)
            try:
                for chart in self._charts:
                    await connection.get(chart)
                    self.received.num_charts += 1
            finally:
                connection.close()
            await asyncio.sleep(CHART_PAUSE_SECONDS)


def charts_of(html: bytes) -> tuple[str, ...]:
    """Addresses of the figures of a page's charts."""
    return tuple(match[1].decode().replace("&amp;", "&") for match in _CHART.finditer(html))
