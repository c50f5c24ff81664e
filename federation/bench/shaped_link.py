# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that behaves like a link of some rate and delay, and counts what goes over it.

`python -m federation.bench.shaped_link HOST:PORT [--rate BITS_PER_SECOND] [--round-trip SECONDS]` prints the port it
listens on, then serves until it is ended; `{"up": n, "down": n}` is printed at each line that it reads.

All connections share one queue in each direction. A block of n bytes that comes when the line is free leaves it
n / rate seconds later and arrives half a round trip after that, which is what a token bucket without burst and a delay
line do. What lies under way is bounded by the bandwidth-delay product and a router's buffer, so a sender is slowed down
as by a real link. TLS passes through untouched.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

READ_BYTES: Final = 16 * 1024
BUFFER_BYTES: Final = 256 * 1024
"""A router's queue, beyond the bytes that are in flight."""


@dataclass(kw_only=True)
class Line:
    """One direction of the link.

    Attributes:
        bits_per_second: 0 for as fast as it goes.
        delay: one way, in seconds.
        num_bytes: carried so far.
    """

    bits_per_second: float
    delay: float
    now: Callable[[], float]
    num_bytes: int = 0
    _free_at: float = 0.0

    def arrival(self, num_bytes: int) -> float:
        """When a block that is sent now arrives at the far end."""
        self.num_bytes += num_bytes
        self._free_at = max(self._free_at, self.now()) + (
            8 * num_bytes / self.bits_per_second if self.bits_per_second else 0.0
        )
        return self._free_at + self.delay

    @property
    def max_queued_blocks(self) -> int:
        """Blocks of one connection that may be under way."""
        in_flight = self.bits_per_second / 8 * self.delay
        return int((in_flight + BUFFER_BYTES) // READ_BYTES) if self.bits_per_second else 64


class ShapedLink:
    """Listens on loopback and carries every connection to one address."""

    def __init__(self, host: str, port: int, *, bits_per_second: float = 0.0, round_trip_seconds: float = 0.0) -> None:
        self._target = (host, port)
        now, delay = asyncio.get_running_loop().time, round_trip_seconds / 2
        self.up = Line(bits_per_second=bits_per_second, delay=delay, now=now)
        self.down = Line(bits_per_second=bits_per_second, delay=delay, now=now)

    async def start(self) -> int:
        """Opens a port of 127.0.0.1 and returns it."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=READ_BYTES)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target, limit=READ_BYTES)
        except OSError:
            writer.close()
            return
        with suppress(asyncio.CancelledError):  # at the process's end, which is no error of this connection
            await asyncio.gather(_carry(self.up, reader, far_writer), _carry(self.down, far_reader, writer))
        far_writer.close()
        writer.close()


async def _carry(line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction of one connection; the end of the stream travels like a block."""
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(line.max_queued_blocks)
    delivering = asyncio.ensure_future(_deliver(under_way, writer))
    try:
        while data := await reader.read(READ_BYTES):
            await under_way.put((line.arrival(len(data)), data))
    except OSError:
        pass
    await under_way.put((line.arrival(0), b""))
    await delivering


async def _deliver(under_way: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    alive = True
    while True:
        at, data = await under_way.get()
        await asyncio.sleep(max(0.0, at - loop.time()))
        if alive:
            try:
                writer.write(data) if data else writer.write_eof()
                await writer.drain()
            except (OSError, RuntimeError):
                alive = False  # the reader's side goes on until it notices
        if not data:
            return


async def _serve(host: str, port: int, bits_per_second: float, round_trip_seconds: float) -> None:
    link = ShapedLink(host, port, bits_per_second=bits_per_second, round_trip_seconds=round_trip_seconds)
    print(await link.start(), flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps({"up": link.up.num_bytes, "down": link.down.num_bytes}), flush=True)


def main() -> None:
    """The process; it ends with its standard input."""
    parser = argparse.ArgumentParser(prog="python -m federation.bench.shaped_link")
    parser.add_argument("target", help="HOST:PORT")
    parser.add_argument("--rate", type=float, default=0.0, help="bits per second, 0: unlimited")
    parser.add_argument("--round-trip", type=float, default=0.0, help="seconds")
    arguments = parser.parse_args()
    host, _, port = arguments.target.rpartition(":")
    asyncio.run(_serve(host, int(port), arguments.rate, arguments.round_trip))


if __name__ == "__main__":
    main()
