# SPDX-License-Identifier: Apache-2.0
"""What is left after a power loss: everything that was promised, and nothing half-done under a final name."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from federation.durable.disk import parent_of
from federation.durable.simulated import SimulatedCrash, SimulatedFileSystem
from federation.durable.simulated_disk import SimulatedDisk
from federation.errors import DiskFullError

NUM_SEEDS = 60

Operation = Callable[[SimulatedFileSystem], object]


def outcomes_after_crash(prepare: Operation, observe: Callable[[SimulatedFileSystem], object]) -> list[object]:
    """What `observe` sees after preparing, then losing power, for many seeds."""
    found = []
    for seed in range(NUM_SEEDS):
        fs = SimulatedFileSystem(seed)
        prepare(fs)
        found.append(observe(fs.crash()))
    return found


def crash_everywhere(
    prepare: Operation, operation: Operation, check: Callable[[SimulatedFileSystem], object]
) -> list[object]:
    """Loses power before every single step of `operation`, for many seeds; returns what `check` saw."""
    steps: list[str] = []
    fs = SimulatedFileSystem()
    prepare(fs)
    fs.hook = lambda step, path: steps.append(step)
    operation(fs)
    seen = []
    for crash_at in range(len(steps)):
        for seed in range(NUM_SEEDS):
            fs = SimulatedFileSystem(seed)
            prepare(fs)
            fs.hook = crash_before(crash_at + 1)
            with pytest.raises(SimulatedCrash):
                operation(fs)
            seen.append(check(fs.crash()))
    return seen


def crash_before(number: int) -> Callable[[str, str], None]:
    """A hook that stops the machine at its `number`-th step from now on, counted from 1."""
    left = [number]

    def hook(step: str, path: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise SimulatedCrash(f"before {step} of {path}")

    return hook


def put(fs: SimulatedFileSystem, path: str, *pieces: bytes) -> None:
    with fs.writer() as writer:
        for piece in pieces:
            writer.write(piece)
        writer.publish(path)


def content(path: str) -> Callable[[SimulatedFileSystem], bytes | None]:
    return lambda fs: fs.read(path) if fs.exists(path) else None


def nothing(fs: SimulatedFileSystem) -> None:
    """No preparation."""


# What had returned before the power loss is there.


def test_completed_operations_survive_every_power_loss() -> None:
    def everything(fs: SimulatedFileSystem) -> None:
        fs.write("w/deep/file", b"w")
        fs.create("c/file", b"c")
        put(fs, "b/ab/file", b"b")
        appender = fs.appender("log/0")
        appender.append(b"leaf")
        appender.sync()
        fs.link("w/deep/file", "l/second")
        fs.write("old", b"r")
        fs.rename("old", "r/new")
        fs.mkdir("m/claim")
        fs.write_unsynced("tmp/t/x", b"x")
        fs.write_unsynced("tmp/t/sub/y", b"y")
        fs.publish_tree("tmp/t", "p/tree")
        fs.write_unsynced("in/blobs/f", b"f")
        fs.sync_paths(["in/blobs/f"])

    expected = {
        "w/deep/file": b"w",
        "c/file": b"c",
        "b/ab/file": b"b",
        "log/0": b"leaf",
        "l/second": b"w",
        "r/new": b"r",
        "p/tree/x": b"x",
        "p/tree/sub/y": b"y",
        "in/blobs/f": b"f",
    }
    for seed in range(NUM_SEEDS):
        fs = SimulatedFileSystem(seed)
        everything(fs)
        after = fs.crash()
        assert {path: after.read(path) for path in expected} == expected
        assert after.exists("m/claim")
        assert not after.exists("old")


def test_truncate_is_durable() -> None:
    def prepare(fs: SimulatedFileSystem) -> None:
        fs.write("log", b"0123456789")
        fs.truncate("log", 4)

    assert set(outcomes_after_crash(prepare, content("log"))) == {b"0123"}


def test_removed_tree_stays_removed() -> None:
    def prepare(fs: SimulatedFileSystem) -> None:
        fs.write("state/3/a", b"a")
        fs.remove_tree("state/3")

    assert set(outcomes_after_crash(prepare, lambda fs: fs.exists("state/3"))) == {False}


# What was not fsynced may be lost, torn, or there: all of it happens.


def test_appended_bytes_without_sync_may_be_torn_but_synced_ones_never() -> None:
    def prepare(fs: SimulatedFileSystem) -> None:
        appender = fs.appender("log")
        appender.append(b"durable|")
        appender.sync()
        appender.append(b"ABCDEFGH")

    found = set(outcomes_after_crash(prepare, content("log")))
    assert all(isinstance(data, bytes) and data.startswith(b"durable|") for data in found)
    tails = {data[8:] for data in found if isinstance(data, bytes)}
    assert {b"", b"ABCDEFGH"} <= tails
    assert any(b"ABCDEFGH".startswith(tail) and 0 < len(tail) < 8 for tail in tails)
    assert any(len(tail) == 8 and tail.endswith(b"\0") for tail in tails)


def test_a_file_of_others_without_sync_may_be_gone_or_torn() -> None:
    found = set(outcomes_after_crash(lambda fs: fs.write_unsynced("in/m", b"message"), content("in/m")))
    assert {None, b"", b"message"} <= found


def test_fsynced_content_without_its_directory_entry_is_lost() -> None:
    def prepare(fs: SimulatedFileSystem) -> None:
        fs.mkdir("d")
        fs.write_unsynced("d/f", b"content")
        fs._disk.sync_file("d/f")

    assert set(outcomes_after_crash(prepare, content("d/f"))) == {None, b"content"}


def test_a_synced_directory_under_an_unsynced_one_is_lost_with_it() -> None:
    def prepare(fs: SimulatedFileSystem) -> None:
        fs.write_unsynced("a/b/f", b"content")
        for step in ("a/b", "a"):
            fs._disk.sync_directory(step)
        fs._disk.sync_file("a/b/f")

    assert set(outcomes_after_crash(prepare, content("a/b/f"))) == {None, b"content"}


def test_a_removed_file_may_be_back_until_its_directory_is_synced() -> None:
    def remove(fs: SimulatedFileSystem) -> None:
        fs.write("d/f", b"content")
        fs.remove("d/f")

    def remove_and_sync(fs: SimulatedFileSystem) -> None:
        remove(fs)
        fs.write("d/other", b"")

    assert set(outcomes_after_crash(remove, content("d/f"))) == {None, b"content"}
    assert set(outcomes_after_crash(remove_and_sync, content("d/f"))) == {None}


def test_names_are_lost_independently() -> None:
    def prepare(fs: SimulatedFileSystem) -> None:
        fs.mkdir("d")
        for name in ("a", "b"):
            fs.write_unsynced(f"d/{name}", b"")

    found = set(outcomes_after_crash(prepare, lambda fs: tuple(fs.list("d"))))
    assert found == {(), ("a",), ("b",), ("a", "b")}


def test_an_unsynced_truncation_may_be_undone() -> None:
    def prepare(fs: SimulatedFileSystem) -> None:
        fs.write("log", b"0123456789")
        fs._disk.truncate("log", 4)

    assert set(outcomes_after_crash(prepare, content("log"))) == {b"0123456789", b"0123"}


def test_an_unsynced_rename_between_directories_never_loses_the_file() -> None:
    def prepare(fs: SimulatedFileSystem) -> None:
        fs.write("a/f", b"x")
        fs.mkdir("b")
        fs._disk.rename("a/f", "b/f")

    def both(fs: SimulatedFileSystem) -> tuple[object, object]:
        return content("a/f")(fs), content("b/f")(fs)

    assert set(outcomes_after_crash(prepare, both)) == {(b"x", None), (None, b"x"), (b"x", b"x")}


def test_two_names_of_one_file_are_one_file_after_a_crash() -> None:
    fs = SimulatedFileSystem()
    fs.write("a", b"content")
    fs.link("a", "b")
    after = fs.crash()
    appender = after.appender("a")
    appender.append(b"+")
    assert after.read("b") == b"content+"


# An operation that a crash interrupts happened or did not.


def test_write_is_atomic() -> None:
    seen = crash_everywhere(
        lambda fs: fs.write("d/f", b"old content"), lambda fs: fs.write("d/f", b"new"), content("d/f")
    )
    assert set(seen) == {b"old content", b"new"}


def test_first_write_is_atomic() -> None:
    assert set(crash_everywhere(nothing, lambda fs: fs.write("d/f", b"new"), content("d/f"))) == {None, b"new"}


def test_create_is_atomic() -> None:
    assert set(crash_everywhere(nothing, lambda fs: fs.create("d/f", b"new"), content("d/f"))) == {None, b"new"}


def test_publish_is_atomic() -> None:
    def publish(fs: SimulatedFileSystem) -> None:
        put(fs, "blobs/ab/abc", b"one,", b"two")

    assert set(crash_everywhere(nothing, publish, content("blobs/ab/abc"))) == {None, b"one,two"}


def test_rename_keeps_one_of_the_two_names() -> None:
    def both(fs: SimulatedFileSystem) -> tuple[object, object]:
        return content("a/f")(fs), content("b/f")(fs)

    seen = crash_everywhere(lambda fs: fs.write("a/f", b"x"), lambda fs: fs.rename("a/f", "b/f"), both)
    # Both names at once is what a crash between the two directories' fsyncs leaves; neither never.
    assert set(seen) == {(b"x", None), (None, b"x"), (b"x", b"x")}


def test_publish_tree_is_atomic() -> None:
    def prepare(fs: SimulatedFileSystem) -> None:
        fs.mkdir("tmp")
        fs.write_unsynced("tmp/t/meta", b"meta")
        fs.write_unsynced("tmp/t/c/0", b"chunk")

    def tree(fs: SimulatedFileSystem) -> tuple[object, ...]:
        return fs.exists("state/3"), content("state/3/meta")(fs), content("state/3/c/0")(fs)

    seen = crash_everywhere(prepare, lambda fs: fs.publish_tree("tmp/t", "state/3"), tree)
    assert set(seen) == {(False, None, None), (True, b"meta", b"chunk")}


def test_remove_tree_is_atomic() -> None:
    def prepare(fs: SimulatedFileSystem) -> None:
        for name in ("a", "b", "c/d"):
            fs.write(f"state/3/{name}", b"x")

    def names(fs: SimulatedFileSystem) -> tuple[str, ...]:
        return tuple(fs.list("state/3") + fs.list("state/3/c"))

    seen = crash_everywhere(prepare, lambda fs: fs.remove_tree("state/3"), names)
    assert set(seen) == {(), ("a", "b", "c", "d")}


def test_truncate_cuts_all_or_nothing() -> None:
    seen = crash_everywhere(lambda fs: fs.write("log", b"0123456789"), lambda fs: fs.truncate("log", 4), content("log"))
    assert set(seen) == {b"0123456789", b"0123"}


# A killed process leaves the page cache; what the next one finds must still be made durable.


def test_kill_loses_nothing_visible_and_makes_nothing_durable() -> None:
    found = set()
    for seed in range(NUM_SEEDS):
        fs = SimulatedFileSystem(seed)
        fs.write_unsynced("f", b"content")
        after = fs.kill()
        assert after.read("f") == b"content"
        found.add(content("f")(after.crash()))
    assert {None, b"content"} <= found


def write_and_link(fs: SimulatedFileSystem, source: str, target: str) -> None:
    fs.write(source, b"x")
    fs.link(source, target)


FOUND_IN_PLACE: dict[str, tuple[Operation, Operation, str]] = {
    "create": (lambda fs: fs.create("d/e/f", b"x"), lambda fs: fs.create("d/e/f", b"x"), "d/e/f"),
    "write": (lambda fs: fs.mkdir("d/e"), lambda fs: fs.write("d/e/f", b"x"), "d/e/f"),
    "mkdir": (lambda fs: fs.mkdir("d/e/f"), lambda fs: fs.mkdir("d/e/f"), "d/e/f"),
    "link": (
        lambda fs: write_and_link(fs, "s", "d/e/f"),
        lambda fs: fs.link("s", "d/e/f") if fs.exists("s") else fs.write("d/e/f", b"x"),
        "d/e/f",
    ),
    "appender": (lambda fs: fs.appender("d/e/f").append(b"x"), lambda fs: fs.appender("d/e/f"), "d/e/f"),
    "sync_paths": (
        lambda fs: fs.write("d/e/f", b"x"),
        lambda fs: fs.sync_paths(["d/e/f"]) if fs.exists("d/e/f") else fs.write("d/e/f", b"x"),
        "d/e/f",
    ),
}


@pytest.mark.parametrize("name", FOUND_IN_PLACE)
def test_what_a_killed_process_left_is_durable_once_found(name: str) -> None:
    first, second, path = FOUND_IN_PLACE[name]
    fs = SimulatedFileSystem()
    first(fs)
    num_steps = fs.operations
    for killed_at in range(1, num_steps + 2):  # the last one: after the final step
        for seed in range(NUM_SEEDS):
            fs = SimulatedFileSystem(seed)
            fs.hook = crash_before(killed_at)
            with suppress(SimulatedCrash):
                first(fs)
            again = fs.kill()
            second(again)
            visible = content(path)(again) if name != "mkdir" else again.exists(path)
            after = again.crash()
            assert (content(path)(after) if name != "mkdir" else after.exists(path)) == visible


def test_link_makes_the_content_of_others_durable() -> None:
    def prepare(fs: SimulatedFileSystem) -> None:
        fs.write_unsynced("in/f", b"content")
        fs.link("in/f", "d/f")

    assert set(outcomes_after_crash(prepare, content("d/f"))) == {b"content"}


def test_create_makes_a_name_of_others_durable() -> None:
    def prepare(fs: SimulatedFileSystem) -> None:
        fs.write_unsynced("d/e/f", b"")
        assert not fs.create("d/e/f", b"mine")

    assert set(outcomes_after_crash(prepare, content("d/e/f"))) == {b""}


def rename_away(fs: SimulatedFileSystem) -> None:
    fs.rename("d", "elsewhere")


def remove_all(fs: SimulatedFileSystem) -> None:
    fs.remove_tree("d")


@pytest.mark.parametrize("vanish", [rename_away, remove_all])
def test_a_directory_that_is_gone_is_made_again_durably(vanish: Operation) -> None:
    def prepare(fs: SimulatedFileSystem) -> None:
        fs.mkdir("d/e")
        vanish(fs)
        fs.appender("d/e/log")

    assert set(outcomes_after_crash(prepare, content("d/e/log"))) == {b""}


def test_what_was_known_of_a_directory_does_not_hold_for_what_replaces_it() -> None:
    def prepare(fs: SimulatedFileSystem) -> None:
        fs.mkdir("e/sub")
        fs._disk.remove_directory("e/sub")  # as another process would
        fs._disk.remove_directory("e")
        fs.write_unsynced("d/sub/f", b"")
        fs.rename("d", "e")
        fs.write("e/sub/g", b"content")

    assert set(outcomes_after_crash(prepare, content("e/sub/g"))) == {b"content"}


# File systems that cannot do everything.


class WithoutLinks(SimulatedDisk):
    """No hard links."""

    def link(self, source: str, target: str) -> bool:
        return False


class ManyDevices(WithoutLinks):
    """Every directory is a device of its own."""

    def rename(self, source: str, target: str) -> bool:
        return parent_of(source) == parent_of(target) and super().rename(source, target)


@pytest.mark.parametrize("disk", [WithoutLinks, ManyDevices])
def test_copies_instead_of_links_and_renames_are_durable(disk: type[SimulatedDisk]) -> None:
    for seed in range(NUM_SEEDS):
        fs = SimulatedFileSystem(_disk=disk(seed))
        fs.write("a", b"content")
        fs.link("a", "l/a")
        put(fs, "p/a", b"content")
        fs.create("c/a", b"content")
        assert not fs.create("c/a", b"other")
        assert [name for name, _ in fs._disk.scan("")] == ["a", "c", "l", "p"]
        after = fs.crash()
        assert [after.read(f"{name}/a") for name in "lpc"] == [b"content"] * 3


@pytest.mark.parametrize("disk", [WithoutLinks, ManyDevices])
def test_copies_are_atomic(disk: type[SimulatedDisk]) -> None:
    def copy(fs: SimulatedFileSystem) -> None:
        fs.link("a", "l/a")
        put(fs, "p/a", b"content")

    for crash_at in range(1, 40):
        for seed in range(NUM_SEEDS):
            fs = SimulatedFileSystem(_disk=disk(seed))
            fs.write("a", b"content")
            fs.hook = crash_before(crash_at)
            with suppress(SimulatedCrash):
                copy(fs)
            after = fs.crash()
            assert {content(path)(after) for path in ("l/a", "p/a")} <= {None, b"content"}


def test_a_copy_that_does_not_fit_leaves_nothing() -> None:
    fs = SimulatedFileSystem(_disk=WithoutLinks(0))
    fs.write("a", b"content")
    fs.mkdir("d")
    fs.fail_writes_after(3)
    with pytest.raises(DiskFullError):
        fs.link("a", "d/a")
    assert fs._disk.scan("d") == []


# The machine itself.


def test_a_machine_that_is_down_changes_nothing_on_the_way_out() -> None:
    fs = SimulatedFileSystem()
    fs.mkdir("d")

    def stop(step: str, path: str) -> None:
        if step == "sync-file":
            raise SimulatedCrash("power")

    fs.hook = stop
    with pytest.raises(SimulatedCrash):
        put(fs, "d/f", b"x")
    with pytest.raises(SimulatedCrash):
        fs.read("d/f")
    with pytest.raises(SimulatedCrash):
        fs.write("g", b"")
    assert [name for name, _ in fs.kill()._disk.scan("")] == [".tmp-1", "d"]


def test_power_off_and_the_old_instance_after_a_crash() -> None:
    fs = SimulatedFileSystem()
    fs.write("f", b"x")
    appender = fs.appender("log")
    after = fs.crash()
    for zombie in (lambda: fs.read("f"), lambda: fs.write("f", b"y"), lambda: appender.append(b"y"), appender.sync):
        with pytest.raises(SimulatedCrash):
            zombie()
    after.power_off()
    with pytest.raises(SimulatedCrash):
        after.exists("f")


def test_the_same_seed_gives_the_same_disk() -> None:
    def run(seed: int) -> dict[str, bytes]:
        fs = SimulatedFileSystem(seed)
        for number in range(20):
            fs.write_unsynced(f"f{number}", b"some content")
        after = fs.crash()
        return {name: after.read(name) for name in after.list("")}

    assert run(7) == run(7)
    assert run(7) != run(8)


def test_hook_and_counter_see_every_step() -> None:
    fs = SimulatedFileSystem()
    fs.mkdir("d")
    before = fs.operations
    steps: list[tuple[str, str]] = []
    fs.hook = lambda step, path: steps.append((step, path))
    fs.write("d/f", b"x")
    assert [step for step, _ in steps] == ["create-file", "write", "sync-file", "rename", "sync-directory"]
    assert fs.operations - before == 5
    assert steps[-1] == ("sync-directory", "d")


def test_a_full_disk_leaves_nothing_half_written() -> None:
    fs = SimulatedFileSystem()
    fs.write("f", b"old")
    appender = fs.appender("log")
    appender.append(b"whole")
    fs.fail_writes_after(4)
    assert fs.free_bytes() == 4
    with pytest.raises(DiskFullError, match="room for 5 more bytes, found 4"):
        fs.write("f", b"12345")
    with pytest.raises(DiskFullError):
        appender.append(b"12345")
    with pytest.raises(DiskFullError):
        put(fs, "g", b"123", b"45")
    assert (fs.read("f"), fs.read("log")) == (b"old", b"whole")
    assert [name for name, _ in fs._disk.scan("")] == ["f", "log"]
    fs.fail_writes_after(None)
    fs.write("f", b"12345")


def test_large_content_is_not_copied() -> None:
    fs = SimulatedFileSystem()
    data = bytes(1024)
    fs.write("a", data)
    fs.link("a", "b")
    assert fs.read("b") is data
    assert fs.crash().read("b") is data


def test_changes_without_any_sync_are_written_back_in_the_end() -> None:
    fs = SimulatedFileSystem()
    for number in range(3000):
        fs.write_unsynced(f"{number:05}", b"")
    assert len(fs._simulated.directories[""].pending) <= 1024
    assert {f"{number:05}" for number in range(1900)} <= set(fs.crash().list(""))


def test_overwrites_without_a_sync_are_lost_kept_or_torn_each_by_itself() -> None:
    def prepare(fs: SimulatedFileSystem) -> None:
        writer = fs.random_writer("f", 8)
        writer.write_at(0, b"aaaa")
        writer.sync()
        writer.write_at(0, b"bb")
        writer.write_at(4, b"cc")

    found = set(outcomes_after_crash(prepare, lambda fs: (fs.read_range("f", 0, 4), fs.read_range("f", 4, 4))))
    assert set(outcomes_after_crash(prepare, lambda fs: fs.read_range("f", 0, 4))) == {b"aaaa", b"baaa", b"bbaa"}
    seconds = set(outcomes_after_crash(prepare, lambda fs: fs.read_range("f", 4, 4)))
    assert seconds == {b"\0\0\0\0", b"c\0\0\0", b"cc\0\0"}
    assert {(b"aaaa", b"cc\0\0"), (b"bbaa", b"\0\0\0\0")} <= found


def test_a_random_writer_is_durable_when_it_is_open_and_when_it_is_synced() -> None:
    def prepare(fs: SimulatedFileSystem) -> None:
        fs.random_writer("d/f", 4)

    def write(fs: SimulatedFileSystem) -> None:
        writer = fs.random_writer("d/f", 4)
        writer.write_at(1, b"xy")
        writer.sync()

    assert set(outcomes_after_crash(prepare, lambda fs: fs.read("d/f"))) == {bytes(4)}
    assert set(outcomes_after_crash(write, lambda fs: fs.read("d/f"))) == {b"\0xy\0"}
