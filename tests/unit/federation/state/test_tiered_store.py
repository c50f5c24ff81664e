# SPDX-License-Identifier: Apache-2.0
"""Two tiers: which copy is read, what is copied when, what is kept, and what a failed copy means."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federation.durable.real import RealFileSystem
from federation.errors import DiskFullError
from federation.state import tiered_store, zarr_store
from federation.state.api import StateStore
from federation.state.tiered_store import TieredStateStore
from federation.state.zarr_store import ZarrStateStore

SIZE = 1000
WAIT_SECONDS = 30


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TieredStateStore]:
    found = TieredStateStore(RealFileSystem(tmp_path), in_background=False)
    yield found
    found.close()


class Gate:
    """Holds up the background's copies where they begin."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.open, self.reached, self.real = threading.Event(), threading.Event(), ZarrStateStore.create
        patch.setattr(tiered_store, "SMALL_ELEMENTS", 0)
        patch.setattr(ZarrStateStore, "create", lambda *arguments: self._create(*arguments))

    def _create(self, *arguments: Any) -> Any:
        self.reached.set()
        assert self.open.wait(WAIT_SECONDS)
        return self.real(*arguments)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    found = Gate(monkeypatch)
    yield found
    found.open.set()


@pytest.fixture
def behind(gate: Gate, tmp_path: Path) -> Iterator[TieredStateStore]:
    """A store with its background, which the gate holds up."""
    found = TieredStateStore(RealFileSystem(tmp_path))
    yield found
    gate.open.set()
    found.close()


def write(store: StateStore, version: int, value: float, *, durable: bool = True) -> None:
    part = np.full(SIZE, value, np.float32)
    with store.create("run-1", 0, version, SIZE) as writer:
        writer.write_chunk(0, part, part + 1, part + 2)
        writer.commit(durable=durable)


def value(store: StateStore, version: int) -> float | None:
    reader = store.open("run-1", 0, version)
    return None if reader is None else float(reader.read_chunk(0).theta[0])


def tiers(store: TieredStateStore) -> tuple[list[int], list[int]]:
    return store.mapped.versions("run-1", 0), store.durable.versions("run-1", 0)


def test_only_durable_versions_are_copied(store: TieredStateStore) -> None:
    write(store, 1, 1.0)
    write(store, 2, 2.0, durable=False)
    assert tiers(store) == ([1, 2], [1])
    assert store.versions("run-1", 0) == [1, 2]


def test_the_mapped_copy_is_read_and_behind_it_the_durable_one(store: TieredStateStore) -> None:
    write(store, 1, 1.0)
    write(store.durable, 1, 7.0)
    assert value(store, 1) == 1.0
    assert store.drop_copy("run-1", 0, 1)
    assert value(store, 1) == 7.0
    assert not store.drop_copy("run-1", 0, 1)
    assert value(store, 1) == 7.0


def test_the_last_copy_is_not_dropped(store: TieredStateStore) -> None:
    write(store, 1, 1.0, durable=False)
    assert not store.drop_copy("run-1", 0, 1)
    assert value(store, 1) == 1.0


def test_delete_removes_both(store: TieredStateStore) -> None:
    write(store, 1, 1.0)
    store.delete("run-1", 0, 1)
    assert tiers(store) == ([], [])


def test_each_tier_keeps_its_own(store: TieredStateStore) -> None:
    for version in range(6):
        write(store, version, version, durable=version % 2 == 0)
    store.prune("run-1", 0, current={4, 5}, in_force=[0, 1, 2, 3, 4, 5])
    assert tiers(store) == ([4, 5], [0, 4])


def test_after_a_rollback_the_newest_durable_version_in_force_is_kept(store: TieredStateStore) -> None:
    for version in range(6):
        write(store, version, version, durable=version % 2 == 0)
    store.prune("run-1", 0, current={2, 3}, in_force=[0, 1, 2, 3])
    assert tiers(store) == ([2, 3], [0, 2])


def test_nobody_waits_for_the_copy(behind: TieredStateStore, gate: Gate) -> None:
    write(behind, 1, 1.0)
    assert gate.reached.wait(WAIT_SECONDS)
    assert tiers(behind) == ([1], [])
    assert value(behind, 1) == 1.0
    gate.open.set()
    behind.drain()
    assert tiers(behind) == ([1], [1])
    assert value(behind.durable, 1) == 1.0


def test_what_is_copied_is_not_overwritten_meanwhile(behind: TieredStateStore, gate: Gate) -> None:
    """The mapped version is pruned and its successor written while the copy has not begun."""
    write(behind, 1, 1.0)
    behind.prune("run-1", 0, current={2, 3}, in_force=[0, 1, 2, 3])
    write(behind, 2, 2.0, durable=False)
    write(behind, 3, 3.0, durable=False)
    gate.open.set()
    behind.drain()
    assert value(behind.durable, 1) == 1.0


def test_a_version_deleted_meanwhile_is_not_copied(behind: TieredStateStore, gate: Gate) -> None:
    write(behind, 1, 1.0)
    assert gate.reached.wait(WAIT_SECONDS)
    behind.delete("run-1", 0, 1)
    gate.open.set()
    behind.drain()
    assert tiers(behind) == ([], [])


def test_a_copy_under_way_ends_with_the_store_and_leaves_nothing(
    behind: TieredStateStore, gate: Gate, tmp_path: Path
) -> None:
    write(behind, 1, 1.0)
    write(behind, 2, 2.0)
    assert gate.reached.wait(WAIT_SECONDS)
    closing = threading.Thread(target=behind.close)
    closing.start()
    assert behind._background._stopping.wait(WAIT_SECONDS)
    gate.open.set()
    closing.join(WAIT_SECONDS)
    assert not closing.is_alive()
    assert tiers(behind) == ([1, 2], [])
    assert not [path for path in (tmp_path / "state/run-1/0").iterdir() if path.is_dir()]


@pytest.mark.parametrize("error", [DiskFullError("no room"), RuntimeError("our own bug")])
def test_a_failed_copy_is_logged_and_the_next_one_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    monkeypatch.setattr(tiered_store, "SMALL_ELEMENTS", 0)
    store, real = TieredStateStore(RealFileSystem(tmp_path)), ZarrStateStore.create

    def full(*arguments: Any) -> Any:
        raise error

    monkeypatch.setattr(ZarrStateStore, "create", full)
    with caplog.at_level(logging.ERROR):
        write(store, 1, 1.0)
        store.drain()
    assert "no room" in caplog.text or "our own bug" in caplog.text
    assert value(store, 1) == 1.0
    monkeypatch.setattr(ZarrStateStore, "create", real)
    write(store, 2, 2.0)
    store.drain()
    assert tiers(store) == ([1, 2], [2])
    store.close()


def test_small_versions_are_copied_at_once(tmp_path: Path) -> None:
    store = TieredStateStore(RealFileSystem(tmp_path))
    write(store, 1, 1.0)
    assert tiers(store) == ([1], [1])
    store.close()


def test_a_version_deleted_as_its_copy_appears_is_not_kept(
    store: TieredStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = zarr_store._ZarrWriter._commit

    def late(self: Any, *, durable: bool) -> None:
        store.delete("run-1", 0, 1)
        real(self, durable=durable)

    monkeypatch.setattr(zarr_store._ZarrWriter, "_commit", late)
    write(store, 1, 1.0)
    assert tiers(store) == ([], [])


def test_copies_do_not_pile_up(behind: TieredStateStore, gate: Gate) -> None:
    """One under way and the newest one; those between are left out."""
    for version in range(1, 5):
        write(behind, version, version)
        assert gate.reached.wait(WAIT_SECONDS)
    gate.open.set()
    behind.drain()
    assert tiers(behind) == ([1, 2, 3, 4], [1, 4])
