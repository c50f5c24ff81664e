# SPDX-License-Identifier: Apache-2.0
"""The yardstick of `federation bench transfer`: a TLS stream of gRPC that carries bytes and does nothing with them.

As a program it serves one port of loopback until it is ended: `python -m federation.rpc.bare_stream`.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc

from federation import certificates

PIECE: Final = bytes(1024 * 1024)
_CONSORTIUM: Final = "bench"
_METHOD: Final = "/federation.bench.Stream/Send"
_TIMEOUT_SECONDS: Final = 600.0


async def _count(pieces: AsyncIterator[bytes], context: Any) -> bytes:
    total = 0
    async for piece in pieces:
        total += len(piece)
    return str(total).encode()


async def _serve() -> None:
    """Prints its port and the issuer's certificate (PEM, in hexadecimal)."""
    now = time.time()
    issuer_key, key = certificates.generate_tls_key(), certificates.generate_tls_key()
    issuer = certificates.Issuer(
        key=issuer_key, certificate=certificates.make_issuer("bench TLS issuer", issuer_key, now)
    )
    certificate = certificates.pem(issuer.issue_server(_CONSORTIUM, certificates.spki(key), now))
    server = grpc.aio.server()
    service, method = _METHOD.strip("/").split("/")
    handlers: dict[str, Any] = {method: grpc.stream_unary_rpc_method_handler(_count)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    credentials = grpc.ssl_server_credentials([(certificates.key_pem(key), certificate)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    print(port, certificates.pem(issuer.certificate).hex(), flush=True)
    await server.wait_for_termination()


def send(port: int, issuer_pem: bytes, num_pieces: int) -> float:
    """Sends so many messages of 1 MiB; returns the seconds until the answer."""
    return asyncio.run(_send(port, issuer_pem, num_pieces))


async def _send(port: int, issuer_pem: bytes, num_pieces: int) -> float:
    options = [
        ("grpc.ssl_target_name_override", certificates.server_name(_CONSORTIUM)),
        ("grpc.enable_http_proxy", 0),
    ]
    credentials = grpc.ssl_channel_credentials(issuer_pem)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        await asyncio.wait_for(channel.channel_ready(), 30.0)
        start = time.monotonic()
        call: Any = channel.stream_unary(_METHOD)  # bytes as they are: no serialiser on either end
        answer = await call(_pieces(num_pieces), timeout=_TIMEOUT_SECONDS)
        if int(answer) != num_pieces * len(PIECE):
            raise AssertionError(f"expected {num_pieces} pieces at the other end, found {answer!r} bytes")
        return time.monotonic() - start


async def _pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield PIECE


if __name__ == "__main__":
    sys.exit(asyncio.run(_serve()))
