# SPDX-License-Identifier: Apache-2.0
"""The coordinator's server: one port, mutual TLS, every call through one gate. It runs beside the driver.

The two share files, a membership snapshot that is replaced whole, questions for documents, and two wake-up calls:
`wake` (the driver has published something) and `arrived` (the network has brought something).
"""

import asyncio
import json
import logging
import resource
import threading
import time
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from coordinator.home import TLS_KEY
from coordinator.network_config import LimitsSection, NetworkSection
from coordinator.rpc import tls
from coordinator.rpc.changes import Changes
from coordinator.rpc.control_service import ControlService
from coordinator.rpc.courier_desk import CourierDesk
from coordinator.rpc.courier_service import CourierService
from coordinator.rpc.documents import Documents
from coordinator.rpc.enrolment import EnrolmentDesk
from coordinator.rpc.enrolment_service import EnrolmentService
from coordinator.rpc.gate import CallLimits, Gate
from coordinator.rpc.interceptor import Guard, Timing
from coordinator.rpc.membership import Membership
from coordinator.rpc.piece_budget import PieceBudget
from coordinator.rpc.rates import Complaints
from coordinator.rpc.workers import Workers
from federation.certificates import Issuers, der, load_tls_key
from federation.durable.api import FileSystem
from federation.errors import ConfigError
from federation.log import SECURITY_LOGGER
from federation.mailbox.ends import MailboxLimits, Vouch
from federation.rpc import loop
from federation.rpc.channel import MAX_FRAME_BYTES, MAX_MESSAGE_BYTES
from federation.v1 import courier_pb2, courier_pb2_grpc

LOG = logging.getLogger("coordinator.rpc")

NETWORK_STATUS: Final = "status/network.json"
SERVICES: Final = tuple(courier_pb2.DESCRIPTOR.services_by_name.values())

MAX_STREAMS_PER_CONNECTION: Final = 64
MAX_CONNECTIONS: Final = 4096
MAX_CALLS: Final = 4096
"""At a time, over all peers, those included that wait for their refusal."""

MAX_OPEN_FILES: Final = 16_384
MAX_METADATA_BYTES: Final = 16 * 1024
LOOKAHEAD_BYTES: Final = 128 * 1024
"""Received and not yet asked for, of one stream. Who asks for a piece gets room for the whole of it at once, so that a
stream carries 1 MiB for each round trip."""

HANDSHAKE_SECONDS: Final = 10.0
RECHECK_SECONDS: Final = 1.0
"""How soon an open stream ends after its certificate has expired."""

STOP_SECONDS: Final = 2.0


class NetworkServer:
    """One server. `start`, `update`, `wake` and `stop` belong to the driver's thread."""

    def __init__(
        self,
        fs: FileSystem,
        *,
        network: NetworkSection,
        issuers: Issuers,
        membership: Membership,
        timing: Timing | None = None,
        handshake_seconds: float = HANDSHAKE_SECONDS,
        vouch: Vouch | None = None,
        pieces: PieceBudget | None = None,
    ) -> None:
        """Reads the TLS key of a coordinator's directory.

        Args:
            vouch: `BlobStore.vouch` of the store that takes blobs over from the mailboxes.
            pieces: how many pieces all calls may have in memory; the usual number if None.

        Raises:
            ConfigError: there is none, or the roster in force names other keys than lie here.
        """
        self._fs = fs
        self._network = network
        key = load_tls_key(fs, TLS_KEY)
        tls.check_certified(membership.roster, key, issuers)
        self._identity = tls.ServerIdentity(membership.consortium, key, issuers)
        self._handshake_seconds = handshake_seconds
        self.arrived = threading.Event()
        self.documents = Documents(self.arrived.set)
        self.desk = EnrolmentDesk(fs, issuers, membership.consortium, network.invited_to)
        self._gate = Gate(
            membership,
            tls_issuer=der(issuers.tls.certificate),
            enrolment_issuer=der(issuers.enrolment.certificate),
            limits=call_limits(network.limits),
        )
        complaints = Complaints(logging.getLogger(SECURITY_LOGGER))
        self._guard = Guard(self._gate, timing or Timing(), complaints, pieces or PieceBudget())
        self._courier = CourierDesk(fs, mailbox_limits(network.limits), vouch)
        self._workers = Workers()
        self._changes = Changes()
        self._courier_service = CourierService(
            self._courier, self._workers, self._changes, self._membership, self.arrived.set
        )
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self._watchdog: asyncio.Task[None] | None = None
        self.address = ""

    def start(self) -> str:
        """Opens the port. Returns the address, with the port that was found if 0 was asked for.

        Raises:
            ConfigError: the address cannot be listened on.
        """
        self.address = loop.wait_for(self._open(self._network.listen))
        if not self._network.endpoint:
            self.desk.endpoint = self.address
        document = {
            "address": self.address,
            "endpoint": self.desk.endpoint,
            "certificate_not_after_us": self._identity.not_after_us,
            "started_at_us": time.time_ns() // 1000,
        }
        self._fs.write(NETWORK_STATUS, json.dumps(document, sort_keys=True).encode())
        return self.address

    def update(self, membership: Membership) -> None:
        """Judges all calls by this from now on, open ones too."""
        self._gate.membership = membership
        self._courier.forget(membership.revoked)
        loop.network_loop().call_soon_threadsafe(self._gate.recheck)

    def wake(self, peer: str = "") -> None:
        """The driver has published something, for one peer or for all: who waits looks again."""
        loop.network_loop().call_soon_threadsafe(self._changes.announce, peer)

    def idle_seconds(self) -> float:
        """For how long no piece of a blob has come or gone."""
        return time.monotonic() - self._courier_service.last_piece

    def stop(self) -> None:
        """Ends all calls, closes the port, and makes durable what has arrived."""
        loop.wait_for(self._close())
        self._workers.close()
        self._courier.close()
        self._fs.remove(NETWORK_STATUS)

    async def _open(self, listen: str) -> str:
        _allow_open_files()
        server = grpc.aio.server(
            interceptors=(self._guard,), options=self._options(), maximum_concurrent_rpcs=MAX_CALLS
        )
        self._add_services(server)
        try:
            port = server.add_secure_port(listen, self._identity.credentials())
        except RuntimeError as error:
            raise ConfigError(
                f"cannot listen on {listen}, as --listen or else [network] listen of coordinator.toml says",
                advice="Is the port taken, or below 1024, or is it not an address of this machine?",
            ) from error
        await server.start()
        for name in ("", *(service.full_name for service in SERVICES)):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._server, self._watchdog = server, asyncio.create_task(self._recheck_for_ever())
        return f"{listen.rpartition(':')[0]}:{port}"

    def _add_services(self, server: grpc.aio.Server) -> None:
        courier = self._courier_service
        enrolment = EnrolmentService(self.desk, self._workers, self._membership)
        control = ControlService(self.documents, self._changes)
        add: Any = courier_pb2_grpc
        add.add_CourierServicer_to_server(courier, server)
        add.add_EnrolmentServicer_to_server(enrolment, server)
        add.add_ControlServicer_to_server(control, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)

    def _options(self) -> list[tuple[str, int]]:
        return [
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_metadata_size", MAX_METADATA_BYTES),
            ("grpc.absolute_max_metadata_size", 2 * MAX_METADATA_BYTES),
            ("grpc.max_concurrent_streams", MAX_STREAMS_PER_CONNECTION),
            ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
            ("grpc.server_handshake_timeout_ms", round(self._handshake_seconds * 1000)),
            # What a caller may send ahead of what was asked for, beside `PieceBudget`. Left to itself gRPC raises it
            # while storing is slower than the network, up to whole payloads of all sites at once.
            ("grpc.http2.lookahead_bytes", LOOKAHEAD_BYTES),
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.max_frame_size", MAX_FRAME_BYTES),
            ("grpc.max_connection_idle_ms", 600_000),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_ping_strikes", 3),
        ]

    def _membership(self) -> Membership:
        return self._gate.membership

    async def _recheck_for_ever(self) -> None:
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            try:
                self._gate.recheck()
            except Exception:  # our own bug must not let expired certificates stay
                LOG.exception("open calls were not judged again")

    async def _close(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
        await self._health.enter_graceful_shutdown()
        if self._server is not None:
            await self._server.stop(STOP_SECONDS)


def _allow_open_files() -> None:
    """Strangers' connections count too, until their handshakes fail: there must be room for the others."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def call_limits(limits: LimitsSection) -> CallLimits:
    """What coordinator.toml says about calls."""
    return CallLimits(
        calls_per_second=limits.calls_per_second,
        bytes_per_second=limits.bytes_per_second,
        max_open_calls=limits.max_streams_per_peer,
    )


def mailbox_limits(limits: LimitsSection) -> MailboxLimits:
    """What coordinator.toml says about mailboxes."""
    return MailboxLimits(
        max_pending_bytes=limits.max_pending_bytes,
        max_pending_files=limits.max_pending_files,
        max_blob_bytes=limits.max_blob_bytes,
    )
