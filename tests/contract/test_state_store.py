# SPDX-License-Identifier: Apache-2.0
"""What every store of (theta, m, r) promises."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from federation.chunks import CHUNK_ELEMENTS
from federation.durable.real import RealFileSystem
from federation.golden import inputs
from federation.state.api import StateChunk, StateStore
from federation.state.mapped_store import MappedStateStore
from federation.state.memory_store import MemoryStateStore
from federation.state.tiered_store import TieredStateStore
from federation.state.zarr_store import CHUNKS_PER_SHARD, ZarrStateStore

LENGTHS = [1, 1000, CHUNK_ELEMENTS, CHUNK_ELEMENTS + 1]


STORES: dict[str, Callable[[RealFileSystem], StateStore]] = {
    "memory": lambda fs: MemoryStateStore(),
    "zarr": ZarrStateStore,
    "mapped": MappedStateStore,
    "tiered": TieredStateStore,
    "tiered, in the foreground": lambda fs: TieredStateStore(fs, in_background=False),
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateStore]:
    found = STORES[request.param](RealFileSystem(tmp_path))
    yield found
    found.close()


def chunks_of(num_elements: int, seed: int = 0) -> list[StateChunk]:
    parts = []
    for start in range(0, num_elements, CHUNK_ELEMENTS):
        size = min(CHUNK_ELEMENTS, num_elements - start)
        parts.append(StateChunk(*(inputs.usual(seed + start + i, size) for i in range(3))))
    return parts


def write(store: StateStore, version: int, num_elements: int, *, seed: int = 0, durable: bool = True) -> None:
    with store.create("run-1", 2, version, num_elements) as writer:
        for index, chunk in enumerate(chunks_of(num_elements, seed)):
            writer.write_chunk(index, *chunk)
        writer.commit(durable=durable)


def read(store: StateStore, version: int) -> bytes:
    reader = store.open("run-1", 2, version)
    assert reader is not None
    parts = [reader.read_chunk(i) for i in range(reader.grid.num_chunks)]
    return b"".join(array.tobytes() for part in parts for array in part)


def expected(num_elements: int, seed: int = 0) -> bytes:
    return b"".join(array.tobytes() for part in chunks_of(num_elements, seed) for array in part)


@pytest.mark.parametrize("num_elements", LENGTHS)
@pytest.mark.parametrize("durable", [True, False])
def test_what_was_written_is_read_to_the_bit(store: StateStore, num_elements: int, durable: bool) -> None:
    write(store, 3, num_elements, durable=durable)
    reader = store.open("run-1", 2, 3)
    assert reader is not None
    assert reader.grid.num_elements == num_elements
    assert read(store, 3) == expected(num_elements)


def test_more_than_one_shard(store: StateStore) -> None:
    num_elements = (CHUNKS_PER_SHARD + 1) * CHUNK_ELEMENTS + 5
    zeros = np.zeros(CHUNK_ELEMENTS, np.float32)
    with store.create("run-1", 0, 1, num_elements) as writer:
        for index in range(writer.grid.num_chunks):
            size = writer.grid.num_real(index)
            writer.write_chunk(index, np.full(size, index, np.float32), zeros[:size], zeros[:size] - index)
        writer.commit()
    reader = store.open("run-1", 0, 1)
    assert reader is not None
    for index in range(reader.grid.num_chunks):
        theta, momentum, residual = reader.read_chunk(index)
        assert theta.size == momentum.size == residual.size == reader.grid.num_real(index)
        assert (theta == index).all()
        assert not momentum.any()
        assert (residual == -index).all()


def test_negative_zeros_and_subnormals_survive(store: StateStore) -> None:
    special = np.array([-0.0, 2.0**-149, -(2.0**-149), 0.0], np.float32)
    with store.create("run-1", 0, 1, 4) as writer:
        writer.write_chunk(0, special, np.full(4, -0.0, np.float32), np.zeros(4, np.float32))
        writer.commit()
    reader = store.open("run-1", 0, 1)
    assert reader is not None
    chunk = reader.read_chunk(0)
    assert chunk.theta.tobytes() == special.tobytes()
    assert chunk.momentum.tobytes() == np.full(4, -0.0, np.float32).tobytes()
    assert chunk.residual.tobytes() == bytes(16)


def test_nothing_is_visible_before_the_commit(store: StateStore) -> None:
    with store.create("run-1", 2, 3, 10) as writer:
        writer.write_chunk(0, *chunks_of(10)[0])
        assert store.open("run-1", 2, 3) is None
        assert store.versions("run-1", 2) == []
    assert store.open("run-1", 2, 3) is None
    assert store.versions("run-1", 2) == []


def test_versions_are_listed_ascending_by_number(store: StateStore) -> None:
    for version in (10, 9, 0):
        write(store, version, 5)
    assert store.versions("run-1", 2) == [0, 9, 10]
    assert store.versions("run-1", 1) == []
    assert store.versions("other", 2) == []


def test_versions_stand_beside_each_other(store: StateStore) -> None:
    write(store, 1, 100, seed=1)
    write(store, 2, 100, seed=2)
    assert (read(store, 1), read(store, 2)) == (expected(100, 1), expected(100, 2))


def test_a_version_written_again_replaces_the_damaged_one(store: StateStore) -> None:
    write(store, 1, 100, seed=1)
    write(store, 1, 100, seed=2)
    assert read(store, 1) == expected(100, 2)
    assert store.versions("run-1", 2) == [1]


def test_an_abandoned_attempt_does_not_hold_up_the_next(store: StateStore) -> None:
    first = store.create("run-1", 2, 1, 100)
    first.write_chunk(0, *chunks_of(100, 1)[0])
    # No discard: the process died here.
    write(store, 1, 100, seed=2)
    assert read(store, 1) == expected(100, 2)


def test_delete_removes_one_version(store: StateStore) -> None:
    write(store, 1, 5)
    write(store, 2, 5)
    store.delete("run-1", 2, 1)
    store.delete("run-1", 2, 1)
    assert store.open("run-1", 2, 1) is None
    assert store.versions("run-1", 2) == [2]


def test_what_is_read_is_the_callers(store: StateStore) -> None:
    write(store, 1, 100)
    reader = store.open("run-1", 2, 1)
    assert reader is not None
    for array in reader.read_chunk(0):
        array[:] = 7
    assert read(store, 1) == expected(100)


def test_inputs_are_copied(store: StateStore) -> None:
    chunk = chunks_of(100)[0]
    with store.create("run-1", 2, 1, 100) as writer:
        writer.write_chunk(0, *chunk)
        for array in chunk:
            array[:] = 7
        writer.commit()
    assert read(store, 1) == expected(100)


def test_chunks_out_of_order_or_of_another_length_are_bugs(store: StateStore) -> None:
    full, short = np.zeros(CHUNK_ELEMENTS, np.float32), np.zeros(5, np.float32)
    with store.create("run-1", 2, 1, CHUNK_ELEMENTS + 5) as writer:
        with pytest.raises(ValueError, match="expected 0 with"):
            writer.write_chunk(1, short, short, short)
        with pytest.raises(ValueError, match="expected 0 with"):
            writer.write_chunk(0, full, full, short)
        writer.write_chunk(0, full, full, full)
        with pytest.raises(ValueError, match="expected 2 chunks before the commit, found 1"):
            writer.commit()
        writer.write_chunk(1, short, short, short)
        with pytest.raises(ValueError, match="expected 2 with 0 elements"):
            writer.write_chunk(2, short, short, short)


@pytest.mark.parametrize("index", [-1, 1])
def test_chunks_outside_the_grid_are_bugs(store: StateStore, index: int) -> None:
    write(store, 1, 5)
    reader = store.open("run-1", 2, 1)
    assert reader is not None
    with pytest.raises(IndexError, match="expected 0 to 0"):
        reader.read_chunk(index)


def test_reserved_chunks_are_filled_in_any_order_by_any_thread(store: StateStore) -> None:
    num_elements = 3 * CHUNK_ELEMENTS + 5
    chunks = chunks_of(num_elements)

    def fill(index: int) -> None:
        for target, part in zip(writer.reserve(index), chunks[index], strict=True):
            assert target.shape == part.shape
            target[:] = part
        writer.filled(index)

    with store.create("run-1", 2, 3, num_elements) as writer:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(fill, (3, 1, 0, 2)))
        writer.commit()
    assert read(store, 3) == expected(num_elements)


def test_a_chunk_that_was_reserved_and_not_filled_is_missing(store: StateStore) -> None:
    with store.create("run-1", 2, 1, CHUNK_ELEMENTS + 5) as writer:
        writer.reserve(0)
        for array in writer.reserve(1):
            array.fill(1)
        writer.filled(1)
        with pytest.raises(ValueError, match="expected 2 chunks before the commit"):
            writer.commit()
        with pytest.raises(KeyError):
            writer.filled(1)
        with pytest.raises(IndexError):
            writer.reserve(2)
    assert store.versions("run-1", 2) == []


def test_a_view_has_the_chunks_elements(store: StateStore) -> None:
    write(store, 1, CHUNK_ELEMENTS + 5)
    reader = store.open("run-1", 2, 1)
    assert reader is not None
    for index in range(2):
        for view, array in zip(reader.view_chunk(index), reader.read_chunk(index), strict=True):
            assert view.tobytes() == array.tobytes()


def test_a_view_outlives_its_version(store: StateStore) -> None:
    write(store, 1, 100, seed=1)
    reader = store.open("run-1", 2, 1)
    assert reader is not None
    view = reader.view_chunk(0)
    del reader
    store.delete("run-1", 2, 1)
    write(store, 2, 100, seed=2)
    assert b"".join(array.tobytes() for array in view) == expected(100, 1)


def test_pruning_keeps_what_is_current_and_where_a_rebuild_begins(store: StateStore) -> None:
    for version in range(5):
        write(store, version, 5, seed=version)
    store.prune("run-1", 2, current={3, 4}, in_force=[0, 1, 2, 3, 4])
    kept = store.versions("run-1", 2)
    assert {0, 3, 4} <= set(kept)
    assert 2 not in kept
    for version in (0, 3, 4):
        assert read(store, version) == expected(5, version)


def test_versions_outlive_the_store(store: StateStore, tmp_path: Path) -> None:
    """All but those in memory, whatever the end of the process was like."""
    write(store, 1, CHUNK_ELEMENTS + 5)
    again = reopened(store, tmp_path)
    assert read(again, 1) == expected(CHUNK_ELEMENTS + 5)
    again.close()
    assert read(reopened(store, tmp_path), 1) == expected(CHUNK_ELEMENTS + 5)


def reopened(store: StateStore, tmp_path: Path) -> StateStore:
    return store if isinstance(store, MemoryStateStore) else type(store)(RealFileSystem(tmp_path))  # type: ignore[call-arg]


def disk_bytes(root: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in root.rglob("*"))


def test_no_version_takes_more_of_the_disk_than_was_said_before(store: StateStore, tmp_path: Path) -> None:
    num_elements, directories = CHUNK_ELEMENTS + 5000, 256 * 1024
    for version in range(6):
        wanted, before = store.bytes_wanted("run-1", 2, num_elements), disk_bytes(tmp_path)
        write(store, version, num_elements, seed=version)
        if isinstance(store, TieredStateStore):
            store.drain()
        assert disk_bytes(tmp_path) - before <= wanted + directories
        store.prune("run-1", 2, current=[version, version - 1], in_force=range(version + 1))


def test_what_is_wanted_of_the_disk_is_little_once_versions_are_there(tmp_path: Path) -> None:
    store, num_elements = TieredStateStore(RealFileSystem(tmp_path), in_background=False), CHUNK_ELEMENTS
    assert store.bytes_wanted("run-1", 2, num_elements) == (36 + 24) * num_elements
    for version in range(4):
        write(store, version, num_elements)
        store.prune("run-1", 2, current=[version, version - 1], in_force=range(version + 1))
    assert store.bytes_wanted("run-1", 2, num_elements) == 12 * num_elements  # a durable copy beside the last one
    store.close()
