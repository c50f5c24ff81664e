# SPDX-License-Identifier: Apache-2.0
"""A link that is slow by as much as it says, counts what passes, and ends quietly."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from federation.bench.counted_link import MODULE, Carried, CountedLink
from federation.bench.shaped_link import Line
from federation.demo.children import environment


@pytest.fixture
def echo() -> Iterator[str]:
    """HOST:PORT of a server that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    while data := connection.recv(65536):
                        connection.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def exchange(address: str, num_bytes: int) -> float:
    """Seconds until so many bytes have come back."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        began = time.monotonic()
        threading.Thread(target=connection.sendall, args=(bytes(num_bytes),), daemon=True).start()
        left = num_bytes
        while left:
            left -= len(connection.recv(65536))
        return time.monotonic() - began


def test_blocks_follow_each_other_and_arrive_after_the_delay() -> None:
    line = Line(bits_per_second=8e6, delay=0.25, now=lambda: 10.0)
    assert [line.arrival(500_000), line.arrival(500_000)] == [10.75, 11.25]
    assert line.num_bytes == 1_000_000


def test_a_line_without_a_rate_only_delays() -> None:
    assert Line(bits_per_second=0, delay=0.5, now=lambda: 1.0).arrival(10**9) == 1.5


def test_bytes_take_their_time_and_are_counted(echo: str) -> None:
    with CountedLink(echo, environment(), "--rate", "8e6", "--round-trip", "0.2") as link:
        # There and back overlap but for the buffers: at least one way's bytes and a round trip.
        assert exchange(link.address, 400_000) > 0.4 + 0.2
        assert link.carried() == Carried(up=400_000, down=400_000)


def test_it_ends_quietly_while_somebody_is_connected(echo: str) -> None:
    argv = [sys.executable, "-P", "-m", MODULE, echo]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, env=environment(), text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
            _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")
