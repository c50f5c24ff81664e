# SPDX-License-Identifier: Apache-2.0
"""A whole coordinator behind the network: commands of an operator, open streams of a site, a flood beside them."""

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from network_bench import DAY, Driven, Who, answered, collect, outcome

from federation.blobs.store import BlobStore
from federation.certificates import spki
from federation.durable.real import RealFileSystem
from federation.errors import FederationError, RevokedError, UsageError
from federation.ids import COORDINATOR
from federation.mailbox.ends import InEnd, OutEnd
from federation.mailbox.mailbox import Mailbox
from federation.messages import Command, CommandKind, CommandReply
from federation.rpc import loop
from federation.rpc.errors import error_from
from federation.tls_keys import generate_tls_key
from federation.v1 import courier_pb2 as pb
from federation.v1 import courier_pb2_grpc as pb_grpc

PATIENCE = 30.0
BASE = "mailbox/coordinator"


@pytest.fixture
def driven(tmp_path: Path) -> Iterator[Driven]:
    with Driven(tmp_path / "coordinator") as driven:
        yield driven


@dataclass
class Operator:
    """Alice at another machine: a mailbox, and a courier as simple as can be."""

    driven: Driven
    directory: Path

    def __post_init__(self) -> None:
        self.fs, consortium = RealFileSystem(self.directory), self.driven.consortium
        key = consortium.key("operator/alice")
        self.mailbox = Mailbox(self.fs, BASE, BlobStore(self.fs), "alice", COORDINATOR, consortium.name, key)
        self.stub = self.driven.stub(pb_grpc.CourierStub, Who.OPERATOR)

    def command(self, command: Command) -> CommandReply:
        """Posts a command and waits for its reply."""
        self.mailbox.post(command)
        offered, inside = OutEnd(self.fs, BASE).look(), InEnd(self.fs, BASE)
        messages = [pb.CarriedMessage(name=n, data=self.fs.read(f"{BASE}/out/{n}")) for n in offered.names.values()]
        push = pb.PushRequest(
            messages=messages, first_offered=offered.first_offered, next_sequence=offered.next_sequence
        )
        answered(lambda: self.stub.Push(push, timeout=PATIENCE))
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            have = [pb.NumberRange(first=first, last=last) for first, last in inside.have()]
            pull = pb.PullRequest(have=have, received_through=inside.received_through(), wait_ms=10_000)
            reply = answered(lambda pull=pull: self.stub.Pull(pull, timeout=PATIENCE))
            for message in reply.messages:
                inside.accept(message.name, message.data)
            found = self._reply(command.id)
            if found is not None:
                return found
        raise AssertionError("expected a reply, found none")

    def _reply(self, command: str) -> CommandReply | None:
        public = self.driven.consortium.public("coordinator")
        for received in self.mailbox.collect(public, time.time_ns() // 1000):
            body = received.message.body
            self.mailbox.done(received.sequence)
            if isinstance(body, CommandReply) and body.id == command:
                return body
        return None


@pytest.fixture
def alice(driven: Driven, tmp_path: Path) -> Operator:
    return Operator(driven, tmp_path / "alice")


def test_a_command_travels_and_its_reply_comes_back(driven: Driven, alice: Operator) -> None:
    reply = alice.command(Command(id="c1", kind=CommandKind.SITE_DRAIN, subject="lumi"))
    assert (reply.ok, reply.sentence) == (True, "done")
    assert driven.coordinator.state.drained == frozenset({"lumi"})


def test_an_invite_comes_back_as_a_document_and_its_token_is_good(driven: Driven, alice: Operator) -> None:
    token, public = bytes(32), spki(generate_tls_key())
    reply = alice.command(
        Command(
            id="c1",
            kind=CommandKind.SITE_INVITE,
            subject="mare",
            token_digest=hashlib.sha256(token).hexdigest(),
            public=public,
            expires_at_us=int((time.time() + DAY) * 1e6),
        )
    )
    assert reply.ok, reply.sentence
    document = json.loads(reply.document)
    assert (document["id"], document["endpoint"]) == ("mare", driven.network.address)


def test_a_revocation_ends_the_sites_open_stream_and_its_next_call(driven: Driven, alice: Operator) -> None:
    site = driven.stub(pb_grpc.CourierStub, Who.SITE)

    async def wait_for_end() -> FederationError:
        request = pb.PullRequest(wait_ms=60_000)
        try:
            while True:
                reply = await site.Pull(request, timeout=PATIENCE)
                request.received_through = max(request.received_through, reply.next_sequence - 1)
                request.acknowledgement_digest = (
                    hashlib.sha256(reply.acknowledgement).digest()
                    if reply.acknowledgement
                    else request.acknowledgement_digest
                )
        except grpc.aio.AioRpcError as error:
            return error_from(error)

    waiting = loop.start(wait_for_end())
    reply = alice.command(Command(id="c1", kind=CommandKind.SITE_REVOKE, subject="lumi"))
    assert reply.ok, reply.sentence
    assert type(waiting.result(PATIENCE)) is RevokedError
    with pytest.raises(RevokedError):
        answered(lambda: site.Push(pb.PushRequest(), timeout=PATIENCE))
    other = driven.stub(pb_grpc.CourierStub, Who.SITE, "leonardo")
    answered(lambda: other.Negotiate(pb.NegotiateRequest(protocol_versions=[1]), timeout=PATIENCE))


def test_people_see_the_drivers_documents(driven: Driven) -> None:
    control = driven.stub(pb_grpc.ControlStub, Who.VIEWER)
    status = answered(lambda: control.Status(pb.StatusRequest(), timeout=PATIENCE))
    assert json.loads(status.document)["consortium"] == "eu"

    async def watched() -> list[Any]:
        return await collect(control.Watch(pb.WatchRequest(run="nobody"), timeout=PATIENCE), 1)

    with pytest.raises(UsageError, match="nobody"):
        outcome(watched())


def test_a_flood_of_one_site_does_not_hold_up_the_driver_or_an_operator(driven: Driven, alice: Operator) -> None:
    site = driven.stub(pb_grpc.CourierStub, Who.SITE)
    stopped = asyncio.Event()

    async def flood() -> int:
        count = 0

        async def one() -> None:
            nonlocal count
            while not stopped.is_set():
                with suppress(grpc.aio.AioRpcError):
                    await site.Push(pb.PushRequest(acknowledgement=bytes(200_000)), timeout=PATIENCE)
                count += 1

        await asyncio.gather(*(one() for _ in range(100)))
        return count

    flooding = loop.start(flood())
    try:
        began = time.monotonic()
        for site_id in ("jupiter", "leonardo", "lumi"):
            reply = alice.command(Command(id=f"drain-{site_id}", kind=CommandKind.SITE_DRAIN, subject=site_id))
            assert reply.ok, reply.sentence
        assert time.monotonic() - began < PATIENCE
    finally:
        loop.network_loop().call_soon_threadsafe(stopped.set)
    assert flooding.result(PATIENCE) > 100
    assert driven.slowest_step < 5.0
