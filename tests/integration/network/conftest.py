# SPDX-License-Identifier: Apache-2.0
"""A server with little patience and narrow limits, one site that misbehaves, and another one that must not notice."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from network_bench import PIECE, Bench, Who, subject_of

from coordinator.network_config import LimitsSection
from coordinator.rpc.interceptor import Timing
from federation.v1 import courier_pb2_grpc as pb_grpc


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr("coordinator.rpc.server.RECHECK_SECONDS", 3600.0)  # a change is acted upon at once, not then
    timing = Timing(message_seconds=1.0, call_seconds={"/federation.v1.Courier/Pull": 60.0}, default_call_seconds=10.0)
    limits = LimitsSection(calls_per_second=10_000.0, max_pending_bytes=8 * PIECE, max_blob_bytes=4 * PIECE)
    with Bench(directory=tmp_path, timing=timing, limits=limits, handshake_seconds=1.0) as bench:
        yield bench


@pytest.fixture
def site(bench: Bench) -> pb_grpc.CourierStub:
    return pb_grpc.CourierStub(bench.channel_of(Who.SITE))


@pytest.fixture
def other(bench: Bench) -> pb_grpc.CourierStub:
    return pb_grpc.CourierStub(bench.channel(subject_of(Who.SITE, "leonardo")))
