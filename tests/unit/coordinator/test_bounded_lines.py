# SPDX-License-Identifier: Apache-2.0
"""Lines that one process appends and another follows: each once and in order, whatever happens to the two files."""

import pytest

from coordinator.bounded_lines import MAX_FILE_BYTES, BoundedLines, Tail, paths, sites_of
from federation.durable.simulated import SimulatedFileSystem

DIRECTORY = "phases"
NEWER, OLDER = paths(DIRECTORY, "alpha")
SMALL = 200


@pytest.fixture
def fs() -> SimulatedFileSystem:
    return SimulatedFileSystem()


def line(number: int) -> str:
    return f"line {number}"


def add(fs: SimulatedFileSystem, *numbers: int, max_file_bytes: int = MAX_FILE_BYTES) -> None:
    """As a process does that has just been started."""
    BoundedLines(fs, DIRECTORY, max_file_bytes).add("alpha", [line(number) for number in numbers])


def append(fs: SimulatedFileSystem, data: bytes) -> None:
    """What a process wrote that was stopped in the middle of it."""
    appender = fs.appender(NEWER)
    appender.append(data)
    appender.close()


def following(fs: SimulatedFileSystem) -> Tail:
    return Tail(fs, DIRECTORY, "alpha")


def numbers(tail: Tail) -> list[int]:
    return [int(text.removeprefix(b"line ")) for text in tail.new()]


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_the_store_is_bounded(fs: SimulatedFileSystem) -> None:
    for number in range(100):
        add(fs, number, max_file_bytes=SMALL)
    assert fs.list(DIRECTORY) == ["alpha.1.jsonl", "alpha.jsonl"]
    assert SMALL / 2 < fs.size(OLDER) <= SMALL
    assert fs.size(NEWER) <= SMALL
    found = numbers(following(fs))
    assert found == list(range(found[0], 100))


def test_lines_that_are_too_much_for_a_file_are_kept_whole(fs: SimulatedFileSystem) -> None:
    add(fs, *range(100), max_file_bytes=SMALL)
    assert numbers(following(fs)) == list(range(100))
    add(fs, 100, max_file_bytes=SMALL)
    assert numbers(following(fs)) == list(range(101))


def test_no_lines_make_no_file(fs: SimulatedFileSystem) -> None:
    add(fs)
    assert not fs.exists(NEWER)


def test_a_newline_makes_no_second_line(fs: SimulatedFileSystem) -> None:
    BoundedLines(fs, DIRECTORY).add("alpha", ["one\ntwo", "three"])
    assert following(fs).new() == [b"one two", b"three"]


def test_a_torn_line_costs_itself_only(fs: SimulatedFileSystem) -> None:
    append(fs, b"line 1\nline 2\nli")
    tail = following(fs)
    assert numbers(tail) == [1, 2]
    add(fs, 3)
    assert tail.new() == [b"li", b"line 3"]


def test_a_file_that_is_gone_is_begun_anew(fs: SimulatedFileSystem) -> None:
    lines = BoundedLines(fs, DIRECTORY, SMALL)
    lines.add("alpha", ["x" * SMALL])
    fs.remove(NEWER)
    lines.add("alpha", [line(1)])
    assert numbers(following(fs)) == [1]


def test_sites_are_those_with_a_file_of_either_kind(fs: SimulatedFileSystem) -> None:
    assert sites_of(fs, DIRECTORY) == []
    BoundedLines(fs, DIRECTORY).add("beta", ["x"])
    add(fs, 1)
    fs.rename(NEWER, OLDER)
    fs.write(f"{DIRECTORY}/notes.txt", b"x")
    assert sites_of(fs, DIRECTORY) == ["alpha", "beta"]


# --- following it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 2, 7, 19])
def test_each_line_comes_once_over_many_changes_of_files(fs: SimulatedFileSystem, every: int) -> None:
    tail, seen = following(fs), list[int]()
    for number in range(300):
        add(fs, number, max_file_bytes=SMALL)
        if number % every == 0:
            seen += numbers(tail)
    seen += numbers(tail)
    assert seen == list(range(300))
    assert tail.new() == []


def test_a_new_file_that_outgrew_what_was_read_of_the_old_one_is_noticed(fs: SimulatedFileSystem) -> None:
    tail = following(fs)
    add(fs, 1, 2)
    assert numbers(tail) == [1, 2]
    add(fs, 3)
    fs.rename(NEWER, OLDER)
    add(fs, *range(4, 40))
    assert numbers(tail) == list(range(3, 40))


def test_a_new_file_that_is_shorter_than_the_old_one_is_noticed(fs: SimulatedFileSystem) -> None:
    tail = following(fs)
    add(fs, *range(40))
    assert numbers(tail) == list(range(40))
    fs.rename(NEWER, OLDER)
    add(fs, 40)
    assert numbers(tail) == [40]
    assert tail.new() == []


def test_before_there_is_a_file_there_are_no_lines(fs: SimulatedFileSystem) -> None:
    tail = following(fs)
    assert tail.new() == []
    append(fs, b"lin")
    assert tail.new() == []
    append(fs, b"e 1\n")
    assert numbers(tail) == [1]


@pytest.mark.parametrize("cut", range(1, len(line(2))))
def test_a_line_that_is_being_written_comes_when_it_is_whole(fs: SimulatedFileSystem, cut: int) -> None:
    tail, data = following(fs), f"{line(2)}\n".encode()
    add(fs, 1)
    append(fs, data[:cut])
    assert numbers(tail) == [1]
    assert tail.new() == []
    append(fs, data[cut:])
    assert numbers(tail) == [2]


def test_between_the_change_of_files_and_the_next_line_nothing_is_lost(fs: SimulatedFileSystem) -> None:
    tail = following(fs)
    add(fs, 1)
    assert numbers(tail) == [1]
    add(fs, 2)
    fs.rename(NEWER, OLDER)
    assert numbers(tail) == [2]
    assert tail.new() == []
    add(fs, 3)
    assert numbers(tail) == [3]
    assert tail.new() == []


def test_who_missed_two_changes_goes_on_with_what_is_there(fs: SimulatedFileSystem) -> None:
    tail = following(fs)
    add(fs, 1)
    assert numbers(tail) == [1]
    for number in (2, 3, 4):
        fs.rename(NEWER, OLDER)
        add(fs, number)
    assert numbers(tail) == [3, 4]
    add(fs, 5)
    assert numbers(tail) == [5]


@pytest.mark.parametrize(("kept", "torn"), [(0, []), (3, [b"lin"]), (21, []), (23, [b"li"])])
@pytest.mark.parametrize("older", ["none", "found", "followed"])
def test_of_a_file_that_was_cut_nothing_comes_twice(
    fs: SimulatedFileSystem, kept: int, torn: list[bytes], older: str
) -> None:
    tail, seen = following(fs), list[int]()
    if older != "none":
        add(fs, 8, 9)
        seen += numbers(tail) if older == "followed" else []
        fs.rename(NEWER, OLDER)
    add(fs, *range(5))
    assert seen + numbers(tail) == ([] if older == "none" else [8, 9]) + list(range(5))
    fs.truncate(NEWER, kept)
    assert tail.new() == []
    add(fs, 5)
    assert tail.new() == [*torn, b"line 5"]
    add(fs, 6)
    assert numbers(tail) == [6]


def test_a_file_that_was_cut_and_has_grown_again_is_noticed(fs: SimulatedFileSystem) -> None:
    tail = following(fs)
    add(fs, *range(5))
    assert numbers(tail) == list(range(5))
    fs.truncate(NEWER, fs.size(NEWER) // 5 * 3)
    add(fs, *range(10, 90))
    assert tail.new() == [], "what came between the cut and this look is given up: nobody can tell it from the rest"
    add(fs, 90)
    assert numbers(tail) == [90]


def test_a_file_that_is_out_of_sight_for_a_while_is_not_read_twice(fs: SimulatedFileSystem) -> None:
    tail = following(fs)
    add(fs, 1, 2)
    assert numbers(tail) == [1, 2]
    fs.rename(NEWER, "elsewhere")
    assert tail.new() == []
    fs.rename("elsewhere", NEWER)
    add(fs, 3)
    assert numbers(tail) == [3]


def test_a_file_that_was_replaced_is_read_from_its_beginning(fs: SimulatedFileSystem) -> None:
    tail = following(fs)
    add(fs, 1, 2)
    assert numbers(tail) == [1, 2]
    fs.remove(NEWER)
    assert tail.new() == []
    add(fs, 3, 4, 5)
    assert numbers(tail) == [3, 4, 5]


@pytest.mark.parametrize("followed", [False, True])
def test_files_that_change_while_they_are_read(
    fs: SimulatedFileSystem, monkeypatch: pytest.MonkeyPatch, followed: bool
) -> None:
    tail = following(fs)
    add(fs, 1)
    if followed:
        assert numbers(tail) == [1]
    fs.rename(NEWER, OLDER)
    add(fs, 2)
    read_range = fs.read_range

    def changing(path: str, offset: int, length: int) -> bytes:
        found = read_range(path, offset, length)
        if path == NEWER and offset == 0:
            monkeypatch.setattr(fs, "read_range", read_range)
            add(fs, 3)
            fs.rename(NEWER, OLDER)
            add(fs, 4)
        return found

    monkeypatch.setattr(fs, "read_range", changing)
    # The file before, of which nothing is new where it was followed, has gone under our hands.
    assert numbers(tail) + numbers(tail) == [2, 3, 4]
    assert tail.new() == []


def test_lines_may_hold_anything_but_a_newline(fs: SimulatedFileSystem) -> None:
    odd = [b"", b"\r", b"\xff\xfe", b"\x00", "\u2028".encode(), b"{" * 5000]
    append(fs, b"".join(part + b"\n" for part in odd))
    assert following(fs).new() == odd
