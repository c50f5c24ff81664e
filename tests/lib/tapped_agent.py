# SPDX-License-Identifier: Apache-2.0
"""The `site-agent` command with a tap: whatever it signs for its mailbox, every blob that it offers and every request
that its courier makes is also appended to the file that TAP names, before it is encrypted. With UNGUARDED set, nothing
is kept from going out.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc.aio

from federation.mailbox.outbox import Outbox
from site_agent import executor

TAP, UNGUARDED = "FEDERATION_TEST_TAP", "FEDERATION_TEST_UNGUARDED"
_MARK = b"\n---- tapped ----\n"


def tapped(path: Path) -> list[bytes]:
    """What was tapped so far."""
    return path.read_bytes().split(_MARK)[1:] if path.exists() else []


def _tap(data: bytes) -> None:
    with Path(os.environ[TAP]).open("ab") as file:
        file.write(_MARK + data)


def _tap_mailbox() -> None:
    signed = Outbox._signed
    post = Outbox.post

    def tapped_signed(self: Outbox, *arguments: Any) -> bytes:
        raw = signed(self, *arguments)
        _tap(b"mailbox " + raw)
        return raw

    def tapped_post(self: Outbox, body: Any, header: Any) -> int:
        for digest in header.blobs:
            _tap(b"blob " + self._fs.read(self._blobs.path(digest)))
        return post(self, body, header)

    Outbox._signed = tapped_signed  # type: ignore[method-assign]
    Outbox.post = tapped_post  # type: ignore[method-assign]


def _tap_channels() -> None:
    channel: Any = grpc.aio._channel.Channel
    for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
        setattr(channel, kind, _tapped_call(getattr(channel, kind)))


def _tapped_call(call: Callable[..., Any]) -> Callable[..., Any]:
    def tapped_call(self: Any, method: Any, request_serializer: Any = None, *rest: Any, **more: Any) -> Any:
        def serializer(request: Any) -> bytes:
            raw = request_serializer(request) if request_serializer else request
            _tap(f"rpc {method} ".encode() + bytes(raw))
            return bytes(raw)

        return call(self, method, serializer, *rest, **more)

    return tapped_call


def main() -> None:
    """Entry point in place of `site_agent.cli.main.main`."""
    _tap_mailbox()
    _tap_channels()
    if os.environ.get(UNGUARDED):
        executor.outgoing_sentence = lambda reason, local="": local  # type: ignore[attr-defined]
        executor.check_outgoing = lambda body: None  # type: ignore[attr-defined]
    from site_agent.cli.main import main as run

    run()
