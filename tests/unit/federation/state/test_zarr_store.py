# SPDX-License-Identifier: Apache-2.0
"""The zarr backend's own matters: layout on disk, damage, left-overs, a full disk."""

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from federation.chunks import CHUNK_ELEMENTS
from federation.durable.real import RealFileSystem
from federation.errors import CorruptObjectError, DiskFullError, StorageError
from federation.golden import inputs
from federation.state import zarr_store
from federation.state.zarr_store import ZarrStateStore

NUM_ELEMENTS = CHUNK_ELEMENTS + 500


@pytest.fixture
def store(tmp_path: Path) -> ZarrStateStore:
    return ZarrStateStore(RealFileSystem(tmp_path))


def write(store: ZarrStateStore) -> None:
    with store.create("run-1", 0, 1, NUM_ELEMENTS) as writer:
        for index in range(writer.grid.num_chunks):
            writer.write_chunk(index, *(inputs.usual(s, writer.grid.num_real(index)) for s in range(3)))
        writer.commit()


def read_all(store: ZarrStateStore) -> None:
    reader = store.open("run-1", 0, 1)
    assert reader is not None
    for index in range(reader.grid.num_chunks):
        reader.read_chunk(index)


def test_any_zarr_implementation_can_read_it(store: ZarrStateStore, tmp_path: Path) -> None:
    write(store)
    group = zarr.open_group(tmp_path / "state/run-1/0/1", mode="r")
    assert sorted(group.array_keys()) == ["momentum", "residual", "theta"]
    assert group["theta"].shape == (NUM_ELEMENTS,)
    assert group["theta"].chunks == (CHUNK_ELEMENTS,)
    assert group["theta"][:CHUNK_ELEMENTS].tobytes() == inputs.usual(0, CHUNK_ELEMENTS).tobytes()
    assert dict(group.attrs)["num_elements"] == NUM_ELEMENTS


def test_each_shard_goes_to_the_disk_as_it_is_written(store: ZarrStateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(zarr_store, "write_out", lambda path: written.append("/".join(path.parts[-3:])))
    monkeypatch.setattr(zarr_store, "CHUNKS_PER_SHARD", 1)
    write(store)
    assert written == [f"{name}/c/{shard}" for shard in (0, 1) for name in ("theta", "momentum", "residual")]


def test_nothing_temporary_stays(store: ZarrStateStore, tmp_path: Path) -> None:
    write(store)
    with store.create("run-1", 0, 2, 10):
        pass
    assert [path.name for path in (tmp_path / "state/run-1/0").iterdir()] == ["1"]


def test_a_flipped_bit_is_noticed(store: ZarrStateStore, tmp_path: Path) -> None:
    write(store)
    shard = next(path for path in (tmp_path / "state/run-1/0/1/theta/c").rglob("*") if path.is_file())
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CorruptObjectError, match="expected a readable version"):
        read_all(store)


def test_a_torn_shard_is_noticed(store: ZarrStateStore, tmp_path: Path) -> None:
    write(store)
    shard = next(path for path in (tmp_path / "state/run-1/0/1/residual/c").rglob("*") if path.is_file())
    shard.write_bytes(shard.read_bytes()[:-1000])
    with pytest.raises(CorruptObjectError, match="expected a readable version"):
        read_all(store)


@pytest.mark.parametrize("content", [b"", b"{", b"{}"])
def test_damaged_metadata_is_noticed(store: ZarrStateStore, tmp_path: Path, content: bytes) -> None:
    write(store)
    (tmp_path / "state/run-1/0/1/zarr.json").write_bytes(content)
    with pytest.raises(CorruptObjectError):
        store.open("run-1", 0, 1)


def test_a_missing_array_is_noticed(store: ZarrStateStore, tmp_path: Path) -> None:
    write(store)
    (tmp_path / "state/run-1/0/1/theta/zarr.json").unlink()
    with pytest.raises(CorruptObjectError):
        store.open("run-1", 0, 1)


def test_a_version_under_another_number_is_noticed(store: ZarrStateStore, tmp_path: Path) -> None:
    write(store)
    (tmp_path / "state/run-1/0/1").rename(tmp_path / "state/run-1/0/2")
    with pytest.raises(CorruptObjectError, match="expected version 2"):
        store.open("run-1", 0, 2)


@pytest.mark.parametrize(("code", "error"), [(errno.ENOSPC, DiskFullError), (errno.EIO, StorageError)])
def test_a_failed_write_is_ours_and_leaves_nothing(
    store: ZarrStateStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[StorageError]
) -> None:
    part = np.zeros(10, np.float32)

    class FullArray:
        def __setitem__(self, key: Any, value: Any) -> None:
            raise OSError(code, "it failed")

    with store.create("run-1", 0, 1, 10) as writer:
        monkeypatch.setattr(writer, "_arrays", [FullArray()] * 3)
        with pytest.raises(error, match="it failed"):
            writer.write_chunk(0, part, part, part)
    assert list((tmp_path / "state/run-1/0").iterdir()) == []
