# SPDX-License-Identifier: Apache-2.0
"""A small HTTP CONNECT proxy on loopback: the only way out of some centres."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field


@dataclass
class ConnectProxy:
    """Use it as a context manager.

    Attributes:
        refuse: answer 403 to everybody.
        asked: request lines, in order.
        cut_after_bytes: a connection that has carried so many towards the server is cut; 0 for none.
        cut_after_seconds: one that is so old is cut; 0 for none.
        num_cut: so many were.
    """

    refuse: bool = False
    asked: list[str] = field(default_factory=list)
    relayed: bytearray = field(default_factory=bytearray)
    cut_after_bytes: int = 0
    cut_after_seconds: float = 0.0
    num_cut: int = 0

    def __enter__(self) -> ConnectProxy:
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    @property
    def url(self) -> str:
        """For `http_proxy`."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            found = client.recv(4096)
            if not found:
                return
            head += found
        line = head.partition(b"\r\n")[0].decode()
        self.asked.append(line)
        method, target, _ = line.split(" ")
        if self.refuse or method != "CONNECT":
            client.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
            client.close()
            return
        host, _, port = target.rpartition(":")
        server = socket.create_connection((host, int(port)))
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        if self.cut_after_seconds:
            timer = threading.Timer(self.cut_after_seconds, self._cut, (client, server))
            timer.daemon = True
            timer.start()
        threading.Thread(target=self._relay, args=(server, client), daemon=True).start()
        self._relay(client, server)

    def _relay(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            carried = 0
            while data := source.recv(65_536):
                self.relayed += data
                carried += len(data)
                target.sendall(data)
                if 0 < self.cut_after_bytes <= carried:
                    self._cut(source, target)
                    return
            target.shutdown(socket.SHUT_WR)

    def _cut(self, *ends: socket.socket) -> None:
        self.num_cut += 1
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
