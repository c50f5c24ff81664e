# SPDX-License-Identifier: Apache-2.0
"""Answers scrapes over HTTP, on threads of its own: it hands out what the agent left, and touches nothing else."""

import socket
import threading
from collections.abc import Iterable
from http import HTTPStatus
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from federation.errors import ConfigError
from federation.exposition import Sample, exposition

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PATH: Final = "/metrics"
MAX_CONNECTIONS: Final = 8
"""At the same time; a further one is closed at once."""

IDLE_SECONDS: Final = 10
"""A connection that says nothing for so long is closed."""


class MetricsServer:
    """Listens from the moment it is made until it is closed."""

    def __init__(self, host: str, port: int) -> None:
        """
        Args:
            host: an address of this machine, or a name of one.
            port: 0 for any free one.

        Raises:
            ConfigError: nobody can listen there.
        """
        self._samples: tuple[Sample, ...] = ()
        try:
            self._server = _Server(host, port)
        except OSError as error:
            raise ConfigError(
                f"site.toml: metrics.listen: expected an address and a free port of this machine, found {host}:{port}: "
                f"{error.strerror or error}",
                advice="Choose another port; each agent of a machine needs its own.",
            ) from error
        self._server.set_app(self._answer)
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def show(self, samples: Iterable[Sample]) -> None:
        """What scrapes get from now on."""
        self._samples = tuple(samples)

    def close(self) -> None:
        """Listens no longer."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, request: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        if request["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _plain(start, HTTPStatus.METHOD_NOT_ALLOWED)
        if request["PATH_INFO"] != PATH:
            return _plain(start, HTTPStatus.NOT_FOUND)
        found = exposition(self._samples, request.get("HTTP_ACCEPT", ""))
        start("200 OK", [("Content-Type", found.content_type), ("Content-Length", str(len(found.body)))])
        return [] if request["REQUEST_METHOD"] == "HEAD" else [found.body]


def _plain(start: "StartResponse", status: HTTPStatus) -> Iterable[bytes]:
    start(f"{status.value} {status.phrase}", [("Content-Type", "text/plain"), ("Allow", "GET, HEAD")])
    return [f"{status.phrase}: metrics are at {PATH}\n".encode()]


class _Handler(WSGIRequestHandler):
    """Says nothing in the agent's log, and does not wait for ever."""

    timeout = IDLE_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def address_string(self) -> str:
        return str(self.client_address[0])


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """As of the base class, but nobody's name is asked for: that can take minutes without a name server."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that goes away in mid-answer is no news."""
