# SPDX-License-Identifier: Apache-2.0
"""What only the POSIX backend can get wrong: descriptors, modes, errno, foreign files, a failing fsync."""

import errno
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from federation.durable import posix
from federation.durable.posix import EXIT_FSYNC_FAILED
from federation.durable.real import RealFileSystem
from federation.errors import DiskFullError, ObjectNotFoundError, StorageError


@pytest.fixture
def fs(tmp_path: Path) -> RealFileSystem:
    return RealFileSystem(tmp_path / "root")


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Last part of the real path of everything that is fsynced, in order."""
    found: list[str] = []
    real_fsync = os.fsync

    def record(descriptor: int) -> None:
        found.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    return found


def kinds(names: list[str]) -> list[str]:
    return ["temporary" if name.startswith(".tmp-") else name for name in names]


def test_reading_makes_no_directory(fs: RealFileSystem) -> None:
    assert (fs.list(""), fs.exists("x"), fs.free_bytes() > 0) == ([], False, True)
    assert not fs.root.exists()


def test_write_syncs_content_then_directory_entries_once(fs: RealFileSystem, synced: list[str], tmp_path: Path) -> None:
    fs.write("d/f", b"x")
    assert kinds(synced) == [tmp_path.name, "root", "temporary", "d"]
    synced.clear()
    fs.write("d/f", b"y")
    assert kinds(synced) == ["temporary", "d"]


def test_long_files_are_on_their_way_to_the_disk_while_they_are_written(
    fs: RealFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[int, int]] = []
    monkeypatch.setattr(posix, "_PART_BYTES", 10)
    monkeypatch.setattr(posix, "_WRITE_BYTES", 5)
    monkeypatch.setattr(posix, "begin_writeback", lambda _, offset, length: begun.append((offset, length)))
    fs.write("f", bytes(25))
    assert (begun, fs.read("f")) == ([(0, 10), (10, 10)], bytes(25))
    begun.clear()
    with fs.writer() as writer:
        for size in (4, 4, 4, 9, 1):
            writer.write(b"x" * size)
        writer.publish("g")
    assert (begun, fs.read("g")) == ([(0, 12), (12, 10)], b"x" * 22)


def test_appender_syncs_the_file_itself(fs: RealFileSystem, synced: list[str]) -> None:
    appender = fs.appender("log")
    synced.clear()
    appender.append(b"x")
    assert synced == []
    appender.sync()
    assert synced == ["log"]
    appender.close()


def test_publish_tree_syncs_all_of_it(fs: RealFileSystem, synced: list[str]) -> None:
    (fs.root / "tmp/t/c").mkdir(parents=True)
    (fs.root / "tmp/t/c/0").write_bytes(b"chunk")
    (fs.root / "tmp/t/meta").write_bytes(b"meta")
    fs.publish_tree("tmp/t", "state/3")
    assert synced[:4] == ["0", "c", "meta", "t"]
    assert synced[-2:] == ["state", "tmp"]
    assert (fs.real_path("state/3") / "c/0").read_bytes() == b"chunk"


def test_modes(fs: RealFileSystem) -> None:
    fs.create("key", b"secret", mode=0o600)
    assert stat.S_IMODE(fs.real_path("key").stat().st_mode) == 0o600


def test_hard_links_are_used(fs: RealFileSystem) -> None:
    fs.write("a", b"x")
    fs.link("a", "b")
    assert fs.real_path("a").stat().st_ino == fs.real_path("b").stat().st_ino


@pytest.mark.parametrize("code", [errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP, errno.EMLINK])
def test_without_hard_links_content_is_copied(fs: RealFileSystem, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    fs.write("a", b"x" * 3_000_000)
    monkeypatch.setattr(os, "link", refuse)
    fs.link("a", "d/b")
    assert fs.read("d/b") == b"x" * 3_000_000
    assert fs.create("key", b"mine", mode=0o600)
    assert not fs.create("key", b"theirs")
    assert fs.read("key") == b"mine"
    assert stat.S_IMODE(fs.real_path("key").stat().st_mode) == 0o600
    assert [name for name, _ in fs._disk.scan("")] == ["a", "d", "key"]


def test_publish_across_devices_copies_then_renames(fs: RealFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    real_rename = os.rename
    refused: list[str] = []

    def refuse_across(source: str | Path, target: str | Path) -> None:
        if Path(source).parent != Path(target).parent:
            refused.append(Path(target).name)
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        real_rename(source, target)

    monkeypatch.setattr(os, "rename", refuse_across)
    with fs.writer() as writer:
        writer.write(b"x" * 2_000_000)
        writer.publish("scratch/f")
    assert fs.read("scratch/f") == b"x" * 2_000_000
    assert refused == ["f"]
    assert [name for name, _ in fs._disk.scan("")] == ["scratch"]
    with pytest.raises(StorageError, match="device"):
        fs.rename("scratch/f", "elsewhere/f")


def test_a_directory_that_others_removed_is_made_again(fs: RealFileSystem) -> None:
    fs.write("d/e/f", b"x")
    fs.real_path("d/e/f").unlink()
    fs.real_path("d/e").rmdir()
    fs.write("d/e/f", b"y")
    assert fs.read("d/e/f") == b"y"


def test_disk_full_says_how_many_bytes_and_undoes_a_part(fs: RealFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    appender = fs.appender("log")
    appender.append(b"whole")
    fs.write("f", b"old")
    real_write = os.write

    def fill(descriptor: int, data: bytes | memoryview) -> int:
        if len(data) > 3:
            return real_write(descriptor, bytes(data[:3]))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", fill)
    with pytest.raises(DiskFullError, match="room for 6 more bytes"):
        appender.append(b"123456")
    with pytest.raises(DiskFullError):
        fs.write("f", b"123456")
    with pytest.raises(DiskFullError), fs.writer() as writer:
        writer.write(b"123456")
    monkeypatch.undo()
    appender.append(b"+more")
    assert (fs.read("log"), fs.read("f")) == (b"whole+more", b"old")
    assert [name for name, _ in fs._disk.scan("")] == ["f", "log"]


def test_a_file_size_limit_of_the_kernel_undoes_a_part_too(fs: RealFileSystem) -> None:
    appender = fs.appender("log")
    appender.append(b"x" * 1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
    try:
        with pytest.raises(StorageError, match="log: expected to use it"):
            appender.append(b"y" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert fs.size("log") == 1000


@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory"])
def test_only_regular_files_are_opened(fs: RealFileSystem, tmp_path: Path, kind: str) -> None:
    fs.mkdir("in")
    planted = fs.real_path("in/m")
    (tmp_path / "secret").write_bytes(b"secret")
    if kind == "symlink":
        planted.symlink_to(tmp_path / "secret")
    elif kind == "fifo":
        os.mkfifo(planted)
    else:
        planted.mkdir()
    for call in (lambda: fs.read("in/m"), lambda: fs.read_range("in/m", 0, 1), lambda: fs.sync_paths(["in/m"])):
        with pytest.raises(StorageError):
            call()
    with pytest.raises(ObjectNotFoundError, match="regular file"):
        fs.size("in/m")
    with pytest.raises(StorageError):
        fs.appender("in/m")
    assert fs.list("in") == ["m"]


def test_remove_tree_does_not_follow_links(fs: RealFileSystem, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"x")
    fs.write("d/f", b"")
    (fs.root / "d/link").symlink_to(outside)
    fs.remove_tree("d")
    assert (outside / "precious").read_bytes() == b"x"
    assert not fs.exists("d")


def test_descriptors_are_given_back(fs: RealFileSystem) -> None:
    fs.write("f", b"x")
    os.mkfifo(fs.real_path("fifo"))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(20):
        fs.sync_paths(["f"])
        with pytest.raises(StorageError):
            fs.read("fifo")
        fs.write("f", b"x")
        fs.read("f")
        fs.read_range("f", 0, 1)
        fs.create(f"c{number}", b"")
        with fs.writer() as writer:
            writer.write(b"x")
        with pytest.raises(ObjectNotFoundError):
            fs.read("missing")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


FAILING_FSYNC = """
import errno, os, sys
from pathlib import Path
from federation.durable.real import RealFileSystem

def fail(descriptor):
    raise OSError({code}, os.strerror({code}))

fs = RealFileSystem(Path(sys.argv[1]))
fs.write("before", b"")
os.fsync = fail
try:
    fs.write("after", b"")
finally:
    print("still alive")
"""


def test_a_failed_fsync_ends_the_process_with_a_sentence(tmp_path: Path) -> None:
    program = FAILING_FSYNC.format(code=errno.EIO)
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_FSYNC_FAILED == 74
    assert done.stderr.startswith("fsync of .tmp-")
    assert done.stderr.count("\n") == 1
    assert "still alive" not in done.stdout
    assert not (tmp_path / "after").exists()


def test_an_fsync_that_has_nothing_to_do_is_no_failure(tmp_path: Path) -> None:
    program = FAILING_FSYNC.format(code=errno.EROFS)
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "still alive\n")
