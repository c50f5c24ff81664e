# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy on loopback that keeps every byte of both directions, and can be slow or cut connections off.

It understands nothing of what it carries. Several tests at once use their own; it runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

_CHUNK_BYTES = 64 * 1024
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: what is not delivered yet is dropped, and the other end sees a reset."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """When a connection is cut: as soon as so many bytes have passed up or down; None: never for that direction.

    `reset`: by a reset, as a firewall or a crash does; else both ends see an orderly end of the stream.
    """

    up: int | None = None
    down: int | None = None
    reset: bool = True


NEVER = Cut()


@dataclass(kw_only=True)
class Connection:
    """One connection as it was carried. `up`: to the server. `was_cut`: the proxy ended it by its plan."""

    cut: Cut
    up: bytearray = field(default_factory=bytearray)
    down: bytearray = field(default_factory=bytearray)
    was_cut: bool = False


class _CutError(Exception):
    """The plan's bytes have passed."""


class RecordingProxy:
    """Use it as a context manager; dial `address` instead of the server.

    Attributes:
        connections: in the order in which they were accepted.
    """

    def __init__(
        self, server: str, plan: Callable[[int], Cut] = lambda number: NEVER, *, bytes_per_second: float = 0.0
    ) -> None:
        """
        Args:
            server: HOST:PORT.
            plan: when to cut connection `number`, counted from 0.
            bytes_per_second: of each direction of each connection; 0: as fast as it goes.
        """
        host, _, port = server.rpartition(":")
        self._server = (host, int(port))
        self._plan = plan
        self._bytes_per_second = bytes_per_second
        self.connections: list[Connection] = []
        self.address = ""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._left = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),), name="proxy")

    def __enter__(self) -> RecordingProxy:
        self._thread.start()
        assert self._ready.wait(30), "the proxy did not open its port"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._left.set)
        self._thread.join()
        self._loop.close()

    @property
    def num_cut(self) -> int:
        """Connections that were cut."""
        return sum(connection.was_cut for connection in self.connections)

    async def _run(self) -> None:
        listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = "127.0.0.1:{1}".format(*listener.sockets[0].getsockname())
        self._ready.set()
        await self._left.wait()
        listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.append(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(cut=self._plan(len(self.connections)))
        self.connections.append(connection)
        ends = [writer]
        try:
            from_server, to_server = await asyncio.open_connection(*self._server)
            ends.append(to_server)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._relay(reader, to_server, connection.up, connection.cut.up))
                both.create_task(self._relay(from_server, writer, connection.down, connection.cut.down))
        except* _CutError:
            connection.was_cut = True
        except* OSError:
            pass  # one end is gone: so is the other one
        finally:
            for end in ends:
                _end(end, reset=connection.was_cut and connection.cut.reset)

    async def _relay(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, record: bytearray, limit: int | None
    ) -> None:
        target.transport.set_write_buffer_limits(high=0)  # what is recorded has gone on
        while limit is None or len(record) < limit:
            room = _CHUNK_BYTES if limit is None else min(limit - len(record), _CHUNK_BYTES)
            data = await source.read(room)
            if not data:
                target.write_eof()
                return
            record += data
            target.write(data)
            await target.drain()
            if self._bytes_per_second:
                await asyncio.sleep(len(data) / self._bytes_per_second)
        raise _CutError


def _end(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    if reset:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
