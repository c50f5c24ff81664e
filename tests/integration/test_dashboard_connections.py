# SPDX-License-Identifier: Apache-2.0
"""Connections to the dashboard that keep it waiting: nobody needs a session to open one."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from coordinator.dashboard import connections
from coordinator.dashboard.server import web_config

SECONDS = 0.4
LIMIT = 20.0


class Answers:
    """An application: `/slow` answers after longer than a request may take, `/endless` never ends."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await asyncio.sleep(3 * SECONDS)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"transfer-encoding", b"chunked")]})
        while scope["path"] == "/endless" and not self.ended.is_set():
            await send({"type": "http.response.body", "body": bytes(2**20), "more_body": True})
            if (await asyncio.wait_for(_peek(receive), LIMIT)) == "http.disconnect":
                self.ended.set()
        await send({"type": "http.response.body", "body": b"done"})


async def _peek(receive: Any) -> str:
    """What has happened to the connection, "" for nothing yet."""
    try:
        async with asyncio.timeout(0.01):
            return str((await receive())["type"])
    except TimeoutError:
        return ""


@asynccontextmanager
async def served(application: Any) -> AsyncIterator[int]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(web_config(application))
    task = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        await task


async def asked(port: int, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**16)
    writer.write(data)
    await writer.drain()
    return reader, writer


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", SECONDS)
    monkeypatch.setattr(connections, "STALL_SECONDS", SECONDS)


@pytest.mark.parametrize(
    "data",
    [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: x\r\n", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n"],
    ids=["nothing", "half a line", "half a head", "half a form"],
)
def test_a_request_that_never_comes_whole_ends_its_connection(data: bytes) -> None:
    async def tried() -> None:
        async with served(Waiting()) as port:
            reader, writer = await asked(port, data)
            assert await asyncio.wait_for(_rest(reader), LIMIT) == b""
            writer.close()

    asyncio.run(tried())


class Waiting:
    """An application that answers nothing before it has the whole request."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


def test_a_form_that_drips_after_its_answer_ends_its_connection() -> None:
    async def tried() -> None:
        async with served(Answers()) as port:
            head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999\r\n\r\n"
            reader, writer = await asked(port, head)
            rest = asyncio.create_task(_rest(reader))
            try:
                async with asyncio.timeout(LIMIT):
                    while not rest.done():
                        writer.write(b"x")
                        await writer.drain()
                        await asyncio.sleep(0.05)
            except ConnectionError:
                pass
            assert b"done" in await asyncio.wait_for(rest, LIMIT)
            writer.close()

    asyncio.run(tried())


def test_an_answer_may_take_longer_than_a_request_and_another_request_may_follow() -> None:
    async def tried() -> None:
        async with served(Answers()) as port:
            reader, writer = await asked(port, b"")
            for _ in range(3):
                writer.write(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
                await asyncio.wait_for(reader.readuntil(b"done\r\n0\r\n\r\n"), LIMIT)
            writer.close()

    asyncio.run(tried())


def test_who_does_not_read_does_not_keep_us() -> None:
    async def tried() -> None:
        application = Answers()
        async with served(application) as port:
            _, writer = await asked(port, b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n")
            await asyncio.wait_for(application.ended.wait(), LIMIT)
            writer.close()

    asyncio.run(tried())
