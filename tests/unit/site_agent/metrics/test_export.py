# SPDX-License-Identifier: Apache-2.0
"""The file that an agent leaves for node_exporter: whole at any time, not too often, never in the way."""

import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from one_site import START, OneSite
from prometheus_client.parser import text_string_to_metric_families

from federation.durable.real import RealFileSystem
from federation.durable.simulated import SimulatedFileSystem
from federation.errors import DiskFullError
from site_agent import layout
from site_agent.courier.choice import CourierKind, write_choice
from site_agent.metrics.export import WRITE_SECONDS, MetricsExport
from site_agent.site_config import SiteConfig

CONFIG = SiteConfig(site="alpha", data_dir="data", languages=("de",))


@pytest.fixture
def world(tmp_path: Path) -> OneSite:
    found = OneSite(SimulatedFileSystem(), SimulatedFileSystem(), tmp_path)
    found.coordinator.create()
    found.coordinator.start()
    found.steps(3)
    return found


@pytest.fixture
def export(world: OneSite, tmp_path: Path) -> Iterator[MetricsExport]:
    found = MetricsExport(RealFileSystem(tmp_path), CONFIG, listens=True)
    yield found
    found.close()


def written(root: Path) -> dict[str, float]:
    """Values of the file by name, of families with one sample."""
    families = text_string_to_metric_families((root / layout.METRICS).read_text())
    return {s.name: s.value for family in families for s in family.samples if len(family.samples) == 1}


def test_the_file_is_that_of_the_newest_pass_and_anybody_may_read_it(
    world: OneSite, export: MetricsExport, tmp_path: Path
) -> None:
    RealFileSystem(tmp_path).place(f"{layout.BLOBS}/some", b"x" * 10)
    export.look(world.agent, START + 5, 0.0)
    found = written(tmp_path)
    assert found["federation_agent_pass_timestamp_seconds"] == START + 5
    assert found["federation_agent_ledger_leaves"] == world.coordinator.ledger.size
    assert found["federation_agent_spool_bytes"] == 10
    assert stat.S_IMODE((tmp_path / layout.METRICS).stat().st_mode) & 0o444 == 0o444
    assert [path.name for path in (tmp_path / "metrics").iterdir()] == ["federation.prom"]


def test_it_is_written_every_fifteen_seconds_at_most(world: OneSite, export: MetricsExport, tmp_path: Path) -> None:
    for seconds in (0.0, 1.0, WRITE_SECONDS - 0.1):
        export.look(world.agent, START + seconds, seconds)
        assert written(tmp_path)["federation_agent_pass_timestamp_seconds"] == START
    export.look(world.agent, START + WRITE_SECONDS, WRITE_SECONDS)
    assert written(tmp_path)["federation_agent_pass_timestamp_seconds"] == START + WRITE_SECONDS


def test_an_agent_that_ends_writes_at_once(world: OneSite, export: MetricsExport, tmp_path: Path) -> None:
    export.look(world.agent, START, 0.0)
    export.write(world.agent, START + 1, 1.0)
    assert written(tmp_path)["federation_agent_pass_timestamp_seconds"] == START + 1


def test_a_courier_that_dials_has_a_state_and_a_certificate(
    world: OneSite, export: MetricsExport, tmp_path: Path
) -> None:
    export.look(world.agent, START, 0.0)
    assert "federation_agent_courier_connected" not in written(tmp_path)
    write_choice(RealFileSystem(tmp_path), CourierKind.GRPC)
    export.write(world.agent, START, 1.0)
    assert "federation_agent_courier_connected" not in written(tmp_path), "it has not run yet"


def test_a_full_disk_is_said_once_and_stops_nobody(
    world: OneSite, export: MetricsExport, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise DiskFullError("metrics/federation.prom: no space left")

    monkeypatch.setattr(RealFileSystem, "place", full)
    with caplog.at_level(logging.WARNING, "site_agent"):
        export.look(world.agent, START, 0.0)
        export.look(world.agent, START, 100.0)
    assert [record.getMessage() for record in caplog.records].count(
        "metrics: metrics/federation.prom: no space left"
    ) == 1


def test_an_agent_before_its_first_pass_has_nothing_to_tell(tmp_path: Path, world: OneSite) -> None:
    world.agent.close()
    fresh = world.start_agent()
    MetricsExport(RealFileSystem(tmp_path), CONFIG, listens=False).write(fresh, START, 0.0)
    assert not (tmp_path / layout.METRICS).exists()


def test_without_a_key_nothing_listens(export: MetricsExport) -> None:
    assert export.port == 0
