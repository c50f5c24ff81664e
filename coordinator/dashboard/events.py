# SPDX-License-Identifier: Apache-2.0
"""Server-sent events: each viewer's page, sent again when it has changed; made once for all who look at it."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from math import inf
from typing import Final

from coordinator.dashboard.gallery import FRESH_SECONDS, Gallery
from coordinator.dashboard.links import Visitor
from federation.errors import FederationError, LimitExceededError

LOG: Final = logging.getLogger("coordinator.dashboard")

PUSH_SECONDS: Final = 1.0
"""Shortest time between two changes of a page: what happens meanwhile comes together."""

KEEP_ALIVE_SECONDS: Final = 15.0
MAX_VIEWERS: Final = 1000
HELLO: Final = b"event: hello\ndata: {}\n\n"
GONE: Final = b"event: gone\ndata: {}\n\n"
_KEEP_ALIVE: Final = b": still here\n\n"


@dataclass
class Pace:
    """When viewers are told: of news at most once in `PUSH_SECONDS`, of what only time changes in `FRESH_SECONDS`.

    Attributes:
        is_news: something was heard that nobody was told.
    """

    is_news: bool = False
    _told_at: float = -inf

    def heard(self, is_news: bool = True) -> None:
        """Takes in whether something has changed."""
        self.is_news = self.is_news or is_news

    def is_due(self, now: float) -> bool:
        """Whether viewers are to be told now (seconds of a clock that never goes back)."""
        return now - self._told_at >= (PUSH_SECONDS if self.is_news else FRESH_SECONDS)

    def told(self, now: float) -> None:
        """Viewers have been told everything."""
        self.is_news, self._told_at = False, now


@dataclass(eq=False)
class Viewer:
    """One open stream. It holds the newest frame only: who reads slowly skips what is old."""

    address: str
    auditor: bool
    who: Callable[[], Visitor | None]
    frame: bytes = b""
    sent: str = ""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def give(self, frame: bytes) -> None:
        """Replaces what was not sent yet."""
        self.frame = frame
        self.arrived.set()


@dataclass
class Hub:
    """All open streams. One thread: that of the event loop."""

    gallery: Gallery
    clock: Callable[[], float]
    viewers: set[Viewer] = field(default_factory=set)
    closing: bool = False

    def check_room(self) -> None:
        """Raises LimitExceededError: there are as many viewers as there may be."""
        if len(self.viewers) >= MAX_VIEWERS:
            raise LimitExceededError(f"expected at most {MAX_VIEWERS} viewers at once")

    async def stream(self, viewer: Viewer) -> AsyncIterator[bytes]:
        """The frames of one viewer, until it leaves or may look no more. The first one has the page as it is now."""
        self.viewers.add(viewer)
        try:
            yield HELLO
            self._give([viewer])
            while not self.closing:
                frame = await _next(viewer)
                if viewer.who() is None:
                    yield GONE
                    return
                yield frame
        finally:
            self.viewers.discard(viewer)

    def close(self) -> None:
        """Ends all streams: whoever stops the server would wait for them in vain."""
        self.closing = True
        for viewer in self.viewers:
            viewer.arrived.set()

    def changed(self) -> None:
        """Gives every viewer its page as it is now, where that differs from what it has."""
        self._give(list(self.viewers))

    def _give(self, viewers: list[Viewer]) -> None:
        frames: dict[tuple[str, bool], tuple[str, bytes]] = {}
        for viewer in viewers:
            key = (viewer.address, viewer.auditor)
            if key not in frames:
                frames[key] = self._frame(*key)
            main, frame = frames[key]
            if frame and main != viewer.sent:
                viewer.sent = main
                viewer.give(frame)

    def _frame(self, address: str, auditor: bool) -> tuple[str, bytes]:
        try:
            shown = self.gallery.show(address, auditor, self.clock())
        except FederationError:  # a page that is no more: what is shown stays
            return "", b""
        except Exception:  # our own bug: it must not end the changes of all other pages
            LOG.exception("%.200s could not be shown", address)
            return "", b""
        data = json.dumps({"number": shown.number, "html": shown.main}, ensure_ascii=False)
        return shown.main, f"event: main\ndata: {data}\n\n".encode()


async def _next(viewer: Viewer) -> bytes:
    try:
        await asyncio.wait_for(viewer.arrived.wait(), KEEP_ALIVE_SECONDS)
    except TimeoutError:
        return _KEEP_ALIVE
    viewer.arrived.clear()
    frame, viewer.frame = viewer.frame, b""
    return frame or _KEEP_ALIVE
