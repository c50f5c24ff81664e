# SPDX-License-Identifier: Apache-2.0
"""Files as memory: what maps, what is refused, and that scratch files have their blocks before they are written."""

import errno
from pathlib import Path

import pytest

from federation.durable.real import RealFileSystem
from federation.durable.simulated import SimulatedFileSystem
from federation.errors import DiskFullError, ObjectNotFoundError, StorageError


@pytest.fixture
def fs(tmp_path: Path) -> RealFileSystem:
    return RealFileSystem(tmp_path)


@pytest.mark.parametrize("data", [b"", b"x", b"abc" * 100_000])
def test_a_mapped_file_has_the_files_bytes(fs: RealFileSystem, data: bytes) -> None:
    fs.write("a/b", data)
    mapped = fs.map_file("a/b")
    assert mapped is not None
    assert mapped.readonly
    assert bytes(mapped) == data


def test_what_cannot_be_mapped(fs: RealFileSystem, tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFoundError):
        fs.map_file("none")
    fs.mkdir("directory")
    with pytest.raises(StorageError):
        fs.map_file("directory")
    fs.write("file", b"x")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(StorageError):
        fs.map_file("link")
    with pytest.raises(ValueError, match="path"):
        fs.map_file("../file")


def test_a_simulated_disk_maps_nothing() -> None:
    simulated = SimulatedFileSystem()
    simulated.write("a", b"x")
    assert simulated.map_file("a") is None


def test_scratch_is_memory_and_file_at_once(fs: RealFileSystem, tmp_path: Path) -> None:
    fs.mkdir("d")
    scratch = fs.scratch_file("d/a", 10_000)
    assert (scratch.is_new, bytes(scratch.memory)) == (True, bytes(10_000))
    scratch.write_at(5, memoryview(b"abc"))
    assert scratch.memory[4:9] == b"\0abc\0"
    assert (tmp_path / "d/a").read_bytes()[4:9] == b"\0abc\0"
    again = fs.scratch_file("d/a", 10_000)
    assert (again.is_new, again.memory[5:8]) == (False, b"abc")
    longer = fs.scratch_file("d/a", 20_000)
    assert (longer.memory[5:8], len(longer.memory)) == (b"abc", 20_000)
    with pytest.raises(TypeError):
        scratch.memory[0] = 1
    scratch.close()
    scratch.close()
    assert scratch.memory[5:8] == b"abc"


def test_scratch_without_room_or_directory(fs: RealFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ObjectNotFoundError):
        fs.scratch_file("d/a", 10)
    fs.mkdir("d")
    with pytest.raises(ValueError, match="at least 1 byte"):
        fs.scratch_file("d/a", 0)

    def full(*arguments: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(DiskFullError, match="10 more bytes"):
        fs.scratch_file("d/a", 10)


def test_scratch_directories_are_moved_and_never_listed_under_a_scratch_name(fs: RealFileSystem) -> None:
    name = f"d/{fs.scratch_name()}"
    fs.mkdir(name)
    fs.scratch_file(f"{name}/a", 10)
    assert fs.list("d") == []
    fs.move_scratch(name, "d/1")
    assert fs.list("d") == ["1"]
    with pytest.raises(ObjectNotFoundError):
        fs.move_scratch(name, "d/2")
    fs.move_scratch("d/1", name)
    assert fs.remove_temporaries("d") == 1
