# SPDX-License-Identifier: Apache-2.0
"""What the loop around the driver does with the network, if there is one."""

import json
import threading
import time
from typing import Any

from coordinator.home import load_issuers
from coordinator.network_config import NetworkSection
from coordinator.rpc.membership import membership_of
from coordinator.rpc.server import NetworkServer
from coordinator.service import Coordinator
from coordinator.views import answer_query
from federation.errors import ConfigError, UsageError
from federation.leaves import InviteIssuedV1
from federation.messages import Query, QueryKind


class Network:
    """A server beside the driver."""

    def __init__(self, coordinator: Coordinator, network: NetworkSection) -> None:
        """Opens the port.

        Raises:
            ConfigError: no issuers, a roster that does not name them, or a port that cannot be opened.
        """
        self._coordinator = coordinator
        issuers = load_issuers(coordinator.fs)
        if issuers is None:
            raise ConfigError(
                "this directory has no TLS issuer, so it cannot listen",
                advice="`coordinator init` of this release makes one; have its request signed into the next roster.",
            )
        membership = membership_of(coordinator)
        self._server = NetworkServer(
            coordinator.fs, network=network, issuers=issuers, membership=membership, vouch=coordinator.blobs.vouch
        )
        coordinator.invites = self._invite
        coordinator.on_change = lambda: self._server.update(membership_of(coordinator))
        coordinator.on_publish = self._server.wake
        coordinator.courtesy.idle_seconds = self._server.idle_seconds
        self.address = self._server.start()

    def after_step(self, busy: bool) -> None:
        """Wakes who waits for something new, and answers who asked for a document."""
        if busy:
            self._server.wake()
        self._server.documents.answer(lambda subject: document_of(self._coordinator, subject))

    @property
    def arrived(self) -> threading.Event:
        """Set when the network has brought something."""
        return self._server.arrived

    def stop(self) -> None:
        """Closes the port."""
        self._coordinator.on_change = lambda: None
        self._coordinator.on_publish = lambda _: None
        self._server.stop()

    def _invite(self, invite: InviteIssuedV1, public: bytes) -> dict[str, Any]:
        return self._server.desk.invite_document(invite, public, time.time())


def document_of(coordinator: Coordinator, subject: str) -> str:
    """JSON of a run's document, or of the status if the subject is empty.

    Raises:
        UsageError: no run of that name.
    """
    kind = QueryKind.RUN if subject else QueryKind.STATUS
    reply, _ = answer_query(coordinator, Query(id="watch", kind=kind, subject=subject))
    if not reply.ok:
        raise UsageError(reply.sentence)
    return json.dumps(json.loads(reply.document), sort_keys=True)
