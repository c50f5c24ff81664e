# SPDX-License-Identifier: Apache-2.0
"""What every `FileSystem` does, whatever lies below it: one suite, run on both backends."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from federation.durable.real import RealFileSystem
from federation.durable.sequences import SequencedFileSystem
from federation.durable.simulated import SimulatedFileSystem
from federation.errors import LimitExceededError, ObjectNotFoundError, StorageError


@pytest.fixture(params=["real", "simulated"])
def fs(request: pytest.FixtureRequest, tmp_path: Path) -> SequencedFileSystem:
    if request.param == "real":
        return RealFileSystem(tmp_path / "not" / "made" / "yet")
    return SimulatedFileSystem(seed=1)


def all_names(fs: SequencedFileSystem, path: str = "") -> list[str]:
    """Every file below a directory, temporaries too."""
    found = []
    for name, is_directory in fs._disk.scan(path):
        child = f"{path}/{name}" if path else name
        found += all_names(fs, child) if is_directory else [child]
    return found


def test_write_makes_directories_and_replaces(fs: SequencedFileSystem) -> None:
    fs.write("a/b/c", b"first")
    fs.write("a/b/c", b"second, longer")
    assert fs.read("a/b/c") == b"second, longer"
    assert fs.size("a/b/c") == 14
    assert all_names(fs) == ["a/b/c"]


def test_an_empty_file_is_a_file(fs: SequencedFileSystem) -> None:
    fs.write("empty", b"")
    assert fs.exists("empty")
    assert (fs.read("empty"), fs.size("empty"), fs.read_range("empty", 0, 9)) == (b"", 0, b"")


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", "a\0b"])
def test_a_path_out_of_the_root_is_refused(fs: SequencedFileSystem, path: str) -> None:
    for operation in (
        fs.read,
        fs.size,
        fs.remove,
        fs.mkdir,
        fs.remove_tree,
        fs.appender,
        lambda p: fs.random_writer(p, 1),
    ):
        with pytest.raises(ValueError, match="path: expected"):
            operation(path)
    with pytest.raises(ValueError, match="path: expected"):
        fs.write(path, b"")
    with fs.writer() as writer, pytest.raises(ValueError, match="path: expected"):
        writer.publish(path)
    assert all_names(fs) == []


@pytest.mark.parametrize("missing", ["gone", "gone/deeper"])
def test_what_is_missing_is_named(fs: SequencedFileSystem, missing: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: fs.read(missing),
        lambda: fs.size(missing),
        lambda: fs.read_range(missing, 0, 1),
        lambda: fs.truncate(missing, 0),
        lambda: fs.link(missing, "target"),
        lambda: fs.rename(missing, "target"),
        lambda: fs.publish_tree(missing, "target"),
        lambda: fs.sync_paths([missing]),
    ]
    for call in calls:
        with pytest.raises(ObjectNotFoundError, match="gone"):
            call()
    fs.remove(missing)
    fs.remove_tree(missing)
    assert not fs.exists(missing)
    assert fs.list(missing) == []


def test_max_bytes_is_a_limit_not_a_cut(fs: SequencedFileSystem) -> None:
    fs.write("f", b"12345")
    assert fs.read("f", max_bytes=5) == b"12345"
    with pytest.raises(LimitExceededError, match="at most 4 bytes"):
        fs.read("f", max_bytes=4)


def test_ranges(fs: SequencedFileSystem) -> None:
    fs.write("f", b"0123456789")
    assert fs.read_range("f", 3, 4) == b"3456"
    assert fs.read_range("f", 8, 4) == b"89"
    assert fs.read_range("f", 10, 4) == b""
    assert fs.read_range("f", 99, 4) == b""
    with pytest.raises(ValueError, match="offset and length"):
        fs.read_range("f", -1, 4)


def test_list_is_sorted_and_leaves_temporaries_out(fs: SequencedFileSystem) -> None:
    for name in ("b", "a", "c/d"):
        fs.write(name, b"")
    with fs.writer() as writer:
        writer.write(b"unfinished")
        assert fs.list("") == ["a", "b", "c"]
    assert fs.list("c") == ["d"]
    assert fs.list("a") == []


def test_create_wins_once(fs: SequencedFileSystem) -> None:
    assert fs.create("keys/one", b"mine", mode=0o600)
    assert not fs.create("keys/one", b"theirs")
    assert fs.read("keys/one") == b"mine"
    assert all_names(fs) == ["keys/one"]


def test_writer_publishes_under_a_name_known_late(fs: SequencedFileSystem) -> None:
    with fs.writer() as writer:
        for piece in (b"ab", bytearray(b"cd"), memoryview(b"ef")):
            writer.write(piece)
        writer.publish("deep/name")
    assert fs.read("deep/name") == b"abcdef"
    assert all_names(fs) == ["deep/name"]
    writer.discard()
    assert fs.exists("deep/name")
    with pytest.raises(ValueError, match="writer: expected one that is open"):
        writer.write(b"more")


def test_writer_publish_replaces(fs: SequencedFileSystem) -> None:
    fs.write("name", b"old")
    with fs.writer() as writer:
        writer.write(b"new")
        writer.publish("name")
    assert fs.read("name") == b"new"


def test_writer_left_without_publish_leaves_nothing(fs: SequencedFileSystem) -> None:
    def write_half() -> None:
        with fs.writer() as writer:
            writer.write(b"half")
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        write_half()
    assert all_names(fs) == []


def test_appender_continues_where_the_file_ends(fs: SequencedFileSystem) -> None:
    for data in (b"one,", b"two,"):
        appender = fs.appender("log/0.seg")
        appender.append(data)
        appender.sync()
        appender.close()
        appender.close()
    assert fs.read("log/0.seg") == b"one,two,"


def test_truncate_cuts_and_appending_goes_on(fs: SequencedFileSystem) -> None:
    fs.write("log", b"0123456789")
    fs.truncate("log", 4)
    appender = fs.appender("log")
    appender.append(b"ab")
    appender.close()
    assert fs.read("log") == b"0123ab"
    with pytest.raises(ValueError, match="length from 0 to 6"):
        fs.truncate("log", 7)


def test_random_writer_fills_a_file_in_any_order(fs: SequencedFileSystem) -> None:
    writer = fs.random_writer("d/f", 10)
    assert fs.read("d/f") == bytes(10)
    for offset, data in ((7, b"hij"), (0, bytearray(b"ab")), (3, memoryview(b"d"))):
        writer.write_at(offset, data)
    writer.sync()
    writer.close()
    writer.close()
    assert fs.read("d/f") == b"ab\0d\0\0\0hij"
    again = fs.random_writer("d/f", 10)
    again.write_at(1, b"BC")
    again.close()
    assert fs.read("d/f") == b"aBCd\0\0\0hij"
    assert all_names(fs) == ["d/f"]


def test_random_writer_keeps_the_length(fs: SequencedFileSystem) -> None:
    writer = fs.random_writer("f", 4)
    for offset, data in ((3, b"xy"), (-1, b"x"), (5, b"")):
        with pytest.raises(ValueError, match="f: expected to stay in 0 to 4"):
            writer.write_at(offset, data)
    writer.write_at(0, b"abcd")
    writer.write_at(4, b"")
    writer.close()
    fs.random_writer("f", 6).close()
    assert fs.read("f") == b"abcd\0\0"
    fs.random_writer("f", 2).close()
    assert fs.read("f") == b"ab"
    with pytest.raises(ValueError, match="length from 0"):
        fs.random_writer("f", -1)


def test_random_writer_takes_no_space_before_it_is_written(tmp_path: Path) -> None:
    fs = RealFileSystem(tmp_path)
    fs.random_writer("sparse", 1 << 40).close()
    assert fs.size("sparse") == 1 << 40
    assert (tmp_path / "sparse").stat().st_blocks < 1000


def test_link_is_a_second_name_and_an_existing_target_stays(fs: SequencedFileSystem) -> None:
    fs.write("a", b"content")
    fs.link("a", "x/y/b")
    fs.remove("a")
    assert fs.read("x/y/b") == b"content"
    fs.write("c", b"other")
    fs.link("c", "x/y/b")
    assert fs.read("x/y/b") == b"content"


def test_replacing_one_name_leaves_the_other_name_of_the_same_file(fs: SequencedFileSystem) -> None:
    fs.write("a", b"old")
    fs.link("a", "b")
    fs.write("a", b"new")
    assert (fs.read("a"), fs.read("b")) == (b"new", b"old")


def test_rename_moves_files_and_directories(fs: SequencedFileSystem) -> None:
    fs.write("d/one", b"1")
    fs.write("d/sub/two", b"2")
    fs.rename("d/one", "e/f/one")
    fs.rename("d", "e/moved")
    assert all_names(fs) == ["e/f/one", "e/moved/sub/two"]
    fs.write("d/again", b"3")
    assert fs.read("d/again") == b"3"


def test_rename_onto_another_name_of_the_same_file_leaves_one_name(fs: SequencedFileSystem) -> None:
    fs.write("a", b"same")
    fs.link("a", "b")
    fs.rename("b", "a")
    assert all_names(fs) == ["a"]
    fs.rename("a", "a")
    assert fs.read("a") == b"same"


def test_rename_replaces_a_file_but_no_directory(fs: SequencedFileSystem) -> None:
    fs.write("a", b"a")
    fs.write("b", b"b")
    fs.mkdir("empty")
    fs.mkdir("other")
    fs.rename("a", "b")
    assert fs.read("b") == b"a"
    for source in ("b", "other"):
        with pytest.raises(StorageError, match="empty: expected no directory"):
            fs.rename(source, "empty")


def test_a_file_where_a_directory_should_be_is_an_error(fs: SequencedFileSystem) -> None:
    fs.write("f", b"")
    with pytest.raises(StorageError):
        fs.write("f/below", b"")
    with pytest.raises(StorageError, match="expected a directory"):
        fs.mkdir("f")


def test_mkdir_is_a_claim_that_one_wins(fs: SequencedFileSystem) -> None:
    assert fs.mkdir("allocations/a1/claim")
    assert not fs.mkdir("allocations/a1/claim")
    assert fs.exists("allocations/a1/claim")
    assert fs.mkdir("allocations/a2")


def test_concurrent_claims_have_one_winner(tmp_path: Path) -> None:
    won: list[int] = []
    start = threading.Barrier(8)

    def claim(number: int) -> None:
        fs = RealFileSystem(tmp_path)
        start.wait(timeout=30)
        if fs.mkdir("claim") and fs.create("owner", b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert RealFileSystem(tmp_path).read("owner") == b"%d" % won[0]


def test_publish_tree(fs: SequencedFileSystem) -> None:
    fs.write("tmp/state/zarr.json", b"{}")
    fs.write("tmp/state/c/0", b"chunk")
    fs.publish_tree("tmp/state", "state/run/3")
    assert all_names(fs) == ["state/run/3/c/0", "state/run/3/zarr.json"]
    fs.mkdir("tmp/empty")
    with pytest.raises(StorageError, match="expected nothing there"):
        fs.publish_tree("tmp/empty", "state/run/3")


def test_remove_tree_leaves_nothing_and_the_name_can_be_used_again(fs: SequencedFileSystem) -> None:
    for name in ("state/3/a", "state/3/c/0", "state/4/a"):
        fs.write(name, b"x")
    fs.remove_tree("state/3")
    assert all_names(fs) == ["state/4/a"]
    fs.write("state/3/a", b"again")
    assert fs.read("state/3/a") == b"again"
    fs.remove_tree("state")
    assert (all_names(fs), fs.exists("state")) == ([], False)


def test_remove_temporaries_clears_what_a_killed_process_left(fs: SequencedFileSystem) -> None:
    fs.write("keep", b"")
    abandoned = fs.writer()
    abandoned.write(b"half")
    fs._disk.make_directory(".tmp-half-removed")
    fs.write(".tmp-half-removed/x", b"")
    assert fs.remove_temporaries("") == 2
    assert all_names(fs) == ["keep"]


def test_sync_paths_accepts_what_others_wrote(fs: SequencedFileSystem) -> None:
    fs.write("in/a", b"1")
    fs.write("in/b", b"2")
    fs.sync_paths(["in/a", "in/b"])
    fs.sync_paths([])
    assert fs.free_bytes() > 0


def test_place_replaces_for_readers(fs: SequencedFileSystem) -> None:
    fs.place("a/b", b"first")
    fs.place("a/b", b"second")
    assert (fs.read("a/b"), all_names(fs)) == (b"second", ["a/b"])


def test_stage_is_durable_and_takes_the_place_of_a_torn_one(fs: SequencedFileSystem) -> None:
    fs.stage("a/b", b"torn")
    fs.stage("a/b", b"whole")
    after = fs.crash() if isinstance(fs, SimulatedFileSystem) else fs
    assert after.read("a/b") == b"whole"


def test_a_name_that_is_not_synced_is_one_or_the_other(fs: SequencedFileSystem) -> None:
    fs.write("d/a", b"x")
    fs.rename("d/a", "d/b", sync_names=False)
    assert fs.list("d") == ["b"]
    after = fs.crash() if isinstance(fs, SimulatedFileSystem) else fs
    (name,) = after.list("d")
    assert after.read(f"d/{name}") == b"x"


def test_a_fingerprint_survives_a_rename_and_nothing_else(tmp_path: Path) -> None:
    fs = RealFileSystem(tmp_path)
    fs.write("a", b"x")
    first = fs.fingerprint("a")
    fs.rename("a", "b")
    assert fs.fingerprint("b") == first
    fs.write("b", b"x")
    assert fs.fingerprint("b") != first
