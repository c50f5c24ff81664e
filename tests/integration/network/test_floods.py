# SPDX-License-Identifier: Apache-2.0
"""Floods from one site and from strangers: each uses up its own share alone, and the others' calls go on."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
from network_bench import PATIENCE, Bench, Who, is_served, subject_of
from raw_peer import closed, connect, secured, tls_context

from coordinator.network_config import LimitsSection
from federation.rpc import loop
from federation.v1 import courier_pb2 as pb
from federation.v1 import courier_pb2_grpc as pb_grpc


async def _flood(stub: pb_grpc.CourierStub, count: int) -> list[str]:
    async def one() -> str:
        try:
            await stub.Pull(pb.PullRequest(wait_ms=1000), timeout=PATIENCE)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"

    return list(await asyncio.gather(*(one() for _ in range(count))))


def test_a_thousand_streams_of_one_peer_hold_nobody_up(
    bench: Bench, site: pb_grpc.CourierStub, other: pb_grpc.CourierStub
) -> None:
    flood = loop.start(_flood(site, 1000))
    most, times = 0, []
    while not flood.done():
        began = time.monotonic()
        assert is_served(other)
        times.append(time.monotonic() - began)
        most = max(most, bench.server._gate.num_open)
    ends = flood.result()
    assert most <= bench.limits.max_streams_per_peer + 1
    assert set(ends) <= {"OK", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}  # the last: refused by HTTP/2's own limit
    assert ends.count("OK") < 900
    assert sorted(times)[len(times) // 2] < 1.0
    assert max(times) < 5.0


def test_a_site_at_full_speed_uses_its_own_share_alone(tmp_path: Path) -> None:
    with Bench(directory=tmp_path, limits=LimitsSection(calls_per_second=20.0)) as bench:
        site = pb_grpc.CourierStub(bench.channel_of(Who.SITE))
        other = pb_grpc.CourierStub(bench.channel(subject_of(Who.SITE, "leonardo")))
        began = time.monotonic()
        flood = loop.start(_calls(site, 600))
        for _ in range(20):
            assert is_served(other)
        ends = flood.result(60)
        allowed = 40 + 20 * (time.monotonic() - began)
    assert 32 <= ends.count("OK") <= allowed + 1 < 600
    assert "RESOURCE_EXHAUSTED" in ends


async def _calls(stub: pb_grpc.CourierStub, count: int) -> list[str]:
    async def one() -> str:
        try:
            await stub.Negotiate(pb.NegotiateRequest(protocol_versions=[1]), timeout=60)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"

    return list(await asyncio.gather(*(one() for _ in range(count))))


def test_strangers_do_not_hold_up_a_members_calls(bench: Bench, tmp_path: Path, other: pb_grpc.CourierStub) -> None:
    anonymous = tls_context(bench, None, tmp_path, ("h2",))

    def stranger(_: int) -> None:
        with suppress(OSError), secured(bench, anonymous) as peer:
            closed(peer)

    times = []
    with ThreadPoolExecutor(16) as pool, ExitStack() as stalled:
        for _ in range(200):
            stalled.enter_context(connect(bench)).sendall(b"\x16\x03\x01\x00")
        flood = [pool.submit(stranger, number) for number in range(300)]
        while not all(found.done() for found in flood):
            began = time.monotonic()
            assert is_served(other)
            times.append(time.monotonic() - began)
    assert sorted(times)[len(times) // 2] < 1.0
    assert not bench.server.arrived.is_set()
