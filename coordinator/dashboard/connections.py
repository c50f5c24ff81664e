# SPDX-License-Identifier: Apache-2.0
"""Connections of browsers: whose they are, and how long one may keep us waiting. Nobody needs a session to open one."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS: Final = 20.0
"""In which a request has to come, with all that belongs to it."""

STALL_SECONDS: Final = 60.0
"""So long somebody may read nothing of what we have for them."""


class DashboardProtocol(H11Protocol):
    """Hands a client's certificate, which the TLS layer has verified, on to the requests of its connection.

    Ends connections that send no whole request in time, and those that do not read their answer.
    """

    _waits: asyncio.TimerHandle | None = None
    _stalls: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A connection: its certificate never changes."""
        super().connection_made(transport)
        found = transport.get_extra_info("ssl_object")
        certificate = found.getpeercert(binary_form=True) if found is not None else None
        self.app_state = {**self.app_state, "certificate": certificate or b""}
        self._expect_request()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request. What comes within an answer that goes on begins no other one."""
        if self._waits is None and (self.cycle is None or self.cycle.response_complete):
            self._expect_request()
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body:
            self._request_is_here()

    def on_response_complete(self) -> None:
        """An answer is whole; how long nothing may follow it the web server knows."""
        self._request_is_here()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Somebody reads more slowly than we write."""
        super().pause_writing()
        self._is_read()
        self._stalls = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """They have read."""
        self._is_read()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever made it."""
        super().connection_lost(exc)
        self._request_is_here()
        self._is_read()

    def _expect_request(self) -> None:
        self._waits = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _request_is_here(self) -> None:
        if self._waits is not None:
            self._waits.cancel()
            self._waits = None

    def _is_read(self) -> None:
        if self._stalls is not None:
            self._stalls.cancel()
            self._stalls = None
