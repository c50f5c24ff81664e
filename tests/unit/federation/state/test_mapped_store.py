# SPDX-License-Identifier: Apache-2.0
"""The mapped backend's own matters: no copies, files used again but never under a reader, damage, left-overs."""

import errno
from pathlib import Path

import numpy as np
import pytest

from federation.durable import posix
from federation.durable.real import RealFileSystem
from federation.errors import CorruptObjectError, DiskFullError
from federation.state.api import StateStore
from federation.state.mapped_store import MappedStateStore

SIZE = 1000


@pytest.fixture
def store(tmp_path: Path) -> MappedStateStore:
    return MappedStateStore(RealFileSystem(tmp_path), "mapped")


def write(store: StateStore, version: int, value: float, size: int = SIZE) -> None:
    part = np.full(size, value, np.float32)
    with store.create("run-1", 0, version, size) as writer:
        writer.write_chunk(0, part, part + 1, part + 2)
        writer.commit()


def values(store: StateStore, version: int) -> list[float]:
    reader = store.open("run-1", 0, version)
    assert reader is not None
    chunk = reader.view_chunk(0)
    assert all((array == array[0]).all() for array in chunk)
    return [float(array[0]) for array in chunk]


def inodes(tmp_path: Path, version: int) -> set[int]:
    return {path.stat().st_ino for path in (tmp_path / f"mapped/run-1/0/{version}").iterdir()}


def names(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "mapped/run-1/0").iterdir())


def test_the_files_are_raw_little_endian_numbers(store: MappedStateStore, tmp_path: Path) -> None:
    write(store, 3, 5.0)
    path = tmp_path / "mapped/run-1/0/3"
    assert sorted(file.name for file in path.iterdir()) == ["momentum.f32", "residual.f32", "theta.f32"]
    assert (path / "momentum.f32").read_bytes() == np.full(SIZE, 6, "<f4").tobytes()


def test_views_are_the_files_and_read_only(store: MappedStateStore, tmp_path: Path) -> None:
    write(store, 3, 5.0)
    reader = store.open("run-1", 0, 3)
    assert reader is not None
    view = reader.view_chunk(0).theta
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    with (tmp_path / "mapped/run-1/0/3/theta.f32").open("r+b") as file:
        file.write(np.float32(9).tobytes())
    assert view[0] == 9


def test_a_process_finds_what_another_wrote(store: MappedStateStore, tmp_path: Path) -> None:
    write(store, 3, 5.0)
    other = MappedStateStore(RealFileSystem(tmp_path), "mapped")
    assert other.versions("run-1", 0) == [3]
    assert values(other, 3) == [5, 6, 7]


def test_a_deleted_versions_files_are_written_again(store: MappedStateStore, tmp_path: Path) -> None:
    write(store, 1, 1.0)
    files = inodes(tmp_path, 1)
    store.delete("run-1", 0, 1)
    assert store.versions("run-1", 0) == []
    assert store.open("run-1", 0, 1) is None
    write(store, 2, 2.0)
    assert inodes(tmp_path, 2) == files
    assert values(store, 2) == [2, 3, 4]


def test_files_of_another_size_are_not_used_again(store: MappedStateStore, tmp_path: Path) -> None:
    write(store, 1, 1.0)
    store.delete("run-1", 0, 1)
    write(store, 2, 2.0, SIZE + 1)
    assert values(store, 2) == [2, 3, 4]
    assert names(tmp_path) == ["2"]


@pytest.mark.parametrize("held", ["reader", "view"])
def test_what_somebody_still_reads_is_never_overwritten(store: MappedStateStore, tmp_path: Path, held: str) -> None:
    write(store, 1, 1.0)
    reader = store.open("run-1", 0, 1)
    assert reader is not None
    kept = reader if held == "reader" else reader.view_chunk(0).momentum
    del reader
    store.delete("run-1", 0, 1)
    write(store, 2, 2.0)
    array = kept if isinstance(kept, np.ndarray) else kept.view_chunk(0).momentum
    assert (array == 2.0).all()
    assert len(names(tmp_path)) == 2
    del array, kept
    write(store, 3, 3.0)
    assert names(tmp_path) == ["2", "3"], "free now, and so used again"


def test_one_set_of_files_is_kept_and_no_more(store: MappedStateStore, tmp_path: Path) -> None:
    for version in (1, 2, 3):
        write(store, version, version)
    for version in (1, 2, 3):
        store.delete("run-1", 0, version)
    assert len(names(tmp_path)) == 1
    store.close()
    assert names(tmp_path) == []


def test_an_abandoned_writers_files_are_used_again(store: MappedStateStore, tmp_path: Path) -> None:
    with store.create("run-1", 0, 1, SIZE):
        pass
    (name,) = names(tmp_path)
    assert name.startswith(".tmp-")
    write(store, 1, 1.0)
    assert names(tmp_path) == ["1"]
    assert values(store, 1) == [1, 2, 3]


def test_what_a_killed_process_left_is_removed(store: MappedStateStore, tmp_path: Path) -> None:
    write(store, 1, 1.0)
    store.create("run-1", 0, 2, SIZE)
    again = MappedStateStore(RealFileSystem(tmp_path), "mapped")
    assert values(again, 1) == [1, 2, 3]
    assert names(tmp_path) == ["1"]


@pytest.mark.parametrize("left", [0, 4 * SIZE - 4, 4 * SIZE - 1])
def test_a_torn_file_is_noticed(store: MappedStateStore, tmp_path: Path, left: int) -> None:
    write(store, 1, 1.0)
    path = tmp_path / "mapped/run-1/0/1/residual.f32"
    path.write_bytes(path.read_bytes()[:left])
    other = MappedStateStore(RealFileSystem(tmp_path), "mapped")
    with pytest.raises(CorruptObjectError, match="three files of the same length"):
        other.open("run-1", 0, 1)
    write(other, 1, 4.0)
    assert values(other, 1) == [4, 5, 6]


def test_a_missing_file_is_noticed(store: MappedStateStore, tmp_path: Path) -> None:
    write(store, 1, 1.0)
    (tmp_path / "mapped/run-1/0/1/theta.f32").unlink()
    with pytest.raises(CorruptObjectError):
        MappedStateStore(RealFileSystem(tmp_path), "mapped").open("run-1", 0, 1)


def test_a_full_disk_is_met_before_anything_is_written(
    store: MappedStateStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write into mapped memory without room behind it would end the process."""

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(DiskFullError):
        store.create("run-1", 0, 1, SIZE)
    assert names(tmp_path) == []


def test_the_blocks_are_allocated_before_anything_is_written(store: MappedStateStore, tmp_path: Path) -> None:
    store.create("run-1", 0, 1, 10**6)
    files = list((tmp_path / "mapped/run-1/0").rglob("*.f32"))
    assert len(files) == 3
    assert all(file.stat().st_blocks * 512 >= 4 * 10**6 for file in files)


def test_a_version_goes_to_the_disk_when_asked_to(
    store: MappedStateStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[str, int, int]] = []

    def begin(descriptor: int, offset: int, length: int) -> None:
        begun.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, offset, length))

    write(store, 1, 0.5)
    monkeypatch.setattr(posix, "begin_writeback", begin)
    store.begin_sync("run-1", 0, 2)
    assert begun == []
    store.begin_sync("run-1", 0, 1)
    assert begun == [(f"{name}.f32", 0, 4 * SIZE) for name in ("theta", "momentum", "residual")]
