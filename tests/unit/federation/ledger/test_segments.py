# SPDX-License-Identifier: Apache-2.0
"""Segment files: leaves over several files, cutting, damage."""

import pytest

from federation.durable.simulated import SimulatedFileSystem
from federation.errors import CorruptObjectError, DiskFullError
from federation.ledger.frames import encode_record
from federation.ledger.segments import LEAVES_PER_SEGMENT, Segments


def leaf(number: int) -> bytes:
    return f"leaf {number}".encode()


def filled(fs: SimulatedFileSystem, count: int) -> Segments:
    segments = Segments(fs, "s")
    segments.append([leaf(number) for number in range(count)])
    return segments


def loaded(fs: SimulatedFileSystem, size: int, *, writable: bool = True) -> tuple[Segments, list[bytes]]:
    segments = Segments(fs, "s")
    return segments, list(segments.load(size, writable=writable))


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 512, 700])
def test_leaves_are_read_again_from_any_number_of_files(count: int) -> None:
    fs = SimulatedFileSystem()
    filled(fs, count)
    segments, found = loaded(fs.crash(), count)
    assert found == [leaf(number) for number in range(count)]
    assert [segments.leaf(index) for index in range(count)] == found


def test_one_fsync_for_each_file_touched() -> None:
    fs = SimulatedFileSystem()
    segments = filled(fs, 250)
    steps: list[str] = []
    fs.hook = lambda step, path: steps.append(step)
    segments.append([leaf(250), leaf(251)])
    assert steps.count("sync-file") == 1


def test_old_leaves_are_read_from_disk() -> None:
    fs = SimulatedFileSystem()
    segments = filled(fs, 8 * LEAVES_PER_SEGMENT)
    assert segments.leaf(3) == leaf(3)
    assert segments.leaf(5 * LEAVES_PER_SEGMENT) == leaf(5 * LEAVES_PER_SEGMENT)


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_leaf_outside(index: int) -> None:
    with pytest.raises(IndexError):
        filled(SimulatedFileSystem(), 3).leaf(index)


@pytest.mark.parametrize("size", [0, 5, 255, 256, 300, 512])
def test_what_lies_beyond_the_checkpoint_is_cut(size: int) -> None:
    fs = SimulatedFileSystem()
    filled(fs, 600)
    segments, _ = loaded(fs, size)
    segments.append([b"another"])
    _, found = loaded(fs.crash(), size + 1)
    assert found == [*(leaf(number) for number in range(size)), b"another"]


def test_reading_cuts_nothing() -> None:
    fs = SimulatedFileSystem()
    filled(fs, 600)
    before = fs.operations
    loaded(fs, 5, writable=False)
    assert fs.operations == before


def test_a_torn_tail_is_cut_and_written_over() -> None:
    fs = SimulatedFileSystem()
    filled(fs, 3)
    fs.write("s/000000.seg", fs.read("s/000000.seg") + encode_record(b"torn")[:-2])
    segments, _ = loaded(fs, 3)
    segments.append([leaf(3)])
    assert loaded(fs, 4)[1][3] == leaf(3)


def test_damage_names_leaf_and_file() -> None:
    fs = SimulatedFileSystem()
    filled(fs, 300)
    content = bytearray(fs.read("s/000001.seg"))
    content[2 * len(encode_record(leaf(256))) + 9] ^= 1
    fs.write("s/000001.seg", bytes(content))
    with pytest.raises(CorruptObjectError, match=r"leaf 258 in s/000001.seg.*damaged"):
        loaded(fs, 300)


def test_a_missing_file_names_its_first_leaf() -> None:
    fs = SimulatedFileSystem()
    filled(fs, 600)
    fs.remove("s/000001.seg")
    with pytest.raises(CorruptObjectError, match=r"leaf 256 in s/000001.seg.*missing"):
        loaded(fs, 600)


@pytest.mark.parametrize("room", range(0, 120, 7))
def test_a_full_disk_adds_nothing(room: int) -> None:
    fs = SimulatedFileSystem()
    segments = filled(fs, 254)
    fs.fail_writes_after(room)
    with pytest.raises(DiskFullError):
        segments.append([b"x" * 30] * 4)
    assert segments.size == 254
    fs.fail_writes_after(None)
    segments.append([leaf(254), leaf(255), leaf(256)])
    assert loaded(fs.crash(), 257)[1] == [leaf(number) for number in range(257)]
