# SPDX-License-Identifier: Apache-2.0
"""The proxy that other tests put between two ends does what they rely on."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from recording_proxy import Cut, RecordingProxy

SENT = bytes(range(256)) * 400


@pytest.fixture
def echo() -> Iterator[str]:
    """The address of a server that sends back, in capitals of its own, what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                try:
                    while data := client.recv(65_536):
                        client.sendall(bytes(byte ^ 1 for byte in data))
                except OSError:
                    pass  # cut

        thread = threading.Thread(target=serve)
        thread.start()
        yield "127.0.0.1:{1}".format(*listener.getsockname())
        thread.join()


def answered(address: str, data: bytes) -> bytes:
    """What comes back until the end of the stream. Raises ConnectionResetError."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 20) as client:
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        found = b""
        while len(found) < len(data) and (more := client.recv(65_536)):
            found += more
        sender.join()
        return found


def test_it_keeps_both_directions(echo: str) -> None:
    with RecordingProxy(echo) as proxy:
        assert answered(proxy.address, SENT) == bytes(byte ^ 1 for byte in SENT)
    (connection,) = proxy.connections
    assert (bytes(connection.up), connection.was_cut) == (SENT, False)
    assert bytes(connection.down) == bytes(byte ^ 1 for byte in SENT)


@pytest.mark.parametrize("count", [0, 1, 1000, 65_537])
def test_it_cuts_after_exactly_so_many_bytes(echo: str, count: int) -> None:
    with RecordingProxy(echo, lambda number: Cut(down=count, reset=False)) as proxy:
        assert len(answered(proxy.address, SENT[: count + 1])) == count
    assert (len(proxy.connections[0].down), proxy.num_cut) == (count, 1)


def test_a_cut_by_a_reset_is_one(echo: str) -> None:
    with RecordingProxy(echo, lambda number: Cut(up=1000)) as proxy, pytest.raises(ConnectionResetError):
        answered(proxy.address, SENT[:1001])
    assert (len(proxy.connections[0].up), proxy.num_cut) == (1000, 1)


def test_it_can_be_slow(echo: str) -> None:
    start = time.monotonic()
    with RecordingProxy(echo, bytes_per_second=4 * len(SENT)) as proxy:
        assert len(answered(proxy.address, SENT)) == len(SENT)
    assert 0.15 < time.monotonic() - start < 20
