# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: N802 - methods have the names of the RPCs
"""The Control service: windows for people. Whatever changes something travels as a signed command by the courier."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from coordinator.rpc.changes import Changes, wait_until
from coordinator.rpc.documents import Documents
from coordinator.rpc.interceptor import Caller
from federation.errors import UsageError
from federation.ids import is_slug
from federation.v1 import courier_pb2 as pb
from federation.v1 import courier_pb2_grpc as pb_grpc

MIN_INTERVAL_SECONDS: Final = 0.2
MAX_INTERVAL_SECONDS: Final = 60.0

LOOK_AGAIN_SECONDS: Final = 5.0
"""Reports of sites change a document without a leaf."""


class ControlService(pb_grpc.ControlServicer):
    """Documents of the driver."""

    def __init__(self, documents: Documents, changes: Changes) -> None:
        self._documents = documents
        self._changes = changes

    async def Status(self, request: pb.StatusRequest, caller: Caller) -> pb.StatusReply:
        """The coordinator's status."""
        return pb.StatusReply(document=await self._document(""))

    async def Watch(self, request: pb.WatchRequest, caller: Caller) -> AsyncIterator[pb.WatchReply]:
        """A run's document at once, and another one each time that it changes."""
        if not is_slug(request.run):
            raise UsageError(f"run: expected an id, found {request.run!r:.80}")
        interval = min(max(request.interval_ms / 1000, MIN_INTERVAL_SECONDS), MAX_INTERVAL_SECONDS)
        sent = None
        while True:
            change = self._changes.subscribe()
            document = await self._document(request.run)
            if document != sent:
                yield pb.WatchReply(document=document)
                sent = document
                await asyncio.sleep(interval)
            else:
                await wait_until(change, max(interval, LOOK_AGAIN_SECONDS))

    async def _document(self, subject: str) -> str:
        # Shielded: others may wait for the same document.
        return await asyncio.shield(asyncio.wrap_future(self._documents.ask(subject)))
