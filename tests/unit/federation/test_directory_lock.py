# SPDX-License-Identifier: Apache-2.0
"""One process per directory: who is refused, who takes over, and what an owner that was taken for dead notices."""

import json
import re
from dataclasses import replace

import pytest

from federation.directory_hold import pulse, watch
from federation.directory_lock import DirectoryLock, Owner, find_holder, this_process
from federation.durable.simulated import SimulatedFileSystem
from federation.errors import DirectoryBusyError
from federation.lock_owner import boot_seconds, certainly_gone, certainly_runs
from federation.lock_watch import Judgement, Sighting, Standing, judge, read_counter, seen_name

STALE = 100.0
HERE = Owner(host="login1", boot="b1", pid=10, start_ticks=5, machine="m1", pid_namespace="7", clock="b1-0")
THERE = Owner(host="login2", boot="b2", pid=10, start_ticks=5, machine="m2", pid_namespace="7", clock="b2-0")


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def fs() -> SimulatedFileSystem:
    return SimulatedFileSystem()


def take(fs: SimulatedFileSystem, me: Owner, clock: Clock, stale_seconds: float = STALE) -> DirectoryLock:
    return DirectoryLock(fs, me, lambda *_: False, stale_seconds=stale_seconds, clock=clock)


def refused(fs: SimulatedFileSystem, me: Owner, clock: Clock, stale_seconds: float = STALE) -> str:
    with pytest.raises(DirectoryBusyError) as found:
        take(fs, me, clock, stale_seconds)
    return f"{found.value} {found.value.advice}"


# --- the counter ------------------------------------------------------------------------------------------------------


def sighting(count: int, at: float, number: int = 1) -> Sighting:
    return Sighting(number=number, count=count, at_seconds=at)


@pytest.mark.parametrize(
    ("before", "now", "asked_at", "standing", "seconds"),
    [
        (None, sighting(3, 10.0), 10.0, Standing.UNKNOWN, 0.0),
        (sighting(3, 10.0), sighting(4, 20.0), 20.0, Standing.RISING, 0.0),
        (sighting(3, 10.0), sighting(3, 109.9), 109.9, Standing.STANDING, 99.9),
        (sighting(3, 10.0), sighting(3, 110.0), 110.0, Standing.STILL, 100.0),
        (sighting(3, 10.0), sighting(3, 120.0), 109.0, Standing.STANDING, 99.0),  # a read that took eleven seconds
        (sighting(3, 10.0), sighting(3, 500.0, number=2), 500.0, Standing.UNKNOWN, 0.0),
        (sighting(3, 10.0), sighting(3, 5.0), 5.0, Standing.UNKNOWN, 0.0),  # another clock
        (sighting(-1, 10.0), sighting(-1, 110.0), 110.0, Standing.STILL, 100.0),
    ],
)
def test_a_counter_is_judged_by_two_looks(
    before: Sighting | None, now: Sighting, asked_at: float, standing: Standing, seconds: float
) -> None:
    found = judge(before, now, asked_at, STALE)
    assert (found.standing, found.still_seconds) == (standing, pytest.approx(seconds))
    kept = before if standing in (Standing.STANDING, Standing.STILL) else now
    assert found == Judgement(standing=standing, still_seconds=found.still_seconds, seen=kept or now)


@pytest.mark.parametrize(("data", "value"), [(b"17", 17), (b"", -1), (b"seventeen", -1), (b"\xff", -1)])
def test_a_counter_that_cannot_be_read_has_not_risen(fs: SimulatedFileSystem, data: bytes, value: int) -> None:
    fs.write("lock/1.beat", data)
    assert read_counter(fs, "lock/1.beat") == value
    assert read_counter(fs, "lock/2.beat") == -1


# --- who may take it --------------------------------------------------------------------------------------------------


def test_a_directory_that_was_left_is_free_at_once(fs: SimulatedFileSystem) -> None:
    clock = Clock()
    with take(fs, THERE, clock) as first:
        assert not first.taken_over
    second = take(fs, HERE, clock)
    assert not second.taken_over
    second.check()
    assert fs.list("lock") == ["2"]


def test_another_host_takes_over_only_after_the_counter_stood_still_for_its_own_time(fs: SimulatedFileSystem) -> None:
    mine, theirs = Clock(), Clock()
    theirs.now = 1e9  # clocks of two hosts have nothing to do with one another
    owner = take(fs, THERE, theirs)
    assert "not known yet" in refused(fs, HERE, mine)
    for _ in range(20):
        mine.now, theirs.now = mine.now + 15, theirs.now + 15
        owner.check()
        said = refused(fs, HERE, mine)
        assert "found process 10 on login2" in said
        assert "its counter is rising" in said
        assert "It is at work" in said
    mine.now += STALE - 1
    assert "has stood still for 99 of 100 s" in refused(fs, HERE, mine)
    assert "takes over after" in refused(fs, HERE, mine)
    mine.now += 1
    assert take(fs, HERE, mine).taken_over
    with pytest.raises(DirectoryBusyError, match="process 10 on login1"):
        owner.check()
    owner.beat()  # neither disturbs the new owner
    owner.release()
    assert find_holder(fs, THERE, clock=theirs) is not None


def test_the_longer_patience_of_both_counts(fs: SimulatedFileSystem) -> None:
    clock = Clock()
    take(fs, THERE, clock, stale_seconds=1000.0)
    refused(fs, HERE, clock)
    clock.now = 999.0
    assert "999 of 1000 s" in refused(fs, HERE, clock)
    clock.now = 1000.0
    assert take(fs, HERE, clock).taken_over


def test_processes_from_cron_watch_together_but_not_with_another_boot(fs: SimulatedFileSystem) -> None:
    clock, rebooted = Clock(), replace(HERE, boot="b3", clock="b3-0")
    take(fs, THERE, clock)
    refused(fs, HERE, clock)
    clock.now = STALE
    refused(fs, rebooted, clock)
    assert take(fs, replace(HERE, pid=11), clock).taken_over
    assert [name for name in fs.list("lock") if name.endswith(".seen")] == []


def test_an_owner_without_a_counter_is_never_taken_for_dead(fs: SimulatedFileSystem) -> None:
    clock = Clock()
    old = {"host": "login2", "boot": "b2", "pid": 10, "start_ticks": 5, "released": False}
    fs.write("lock/4", json.dumps(old).encode())
    for _ in range(3):
        said = refused(fs, HERE, clock)
        assert "found process 10 on login2" in said
        assert "--take-over" in said
        clock.now += 10 * STALE
    assert DirectoryLock(fs, HERE, force=True, clock=clock).taken_over


def test_an_owner_that_cannot_be_read_is_not_taken_for_dead(fs: SimulatedFileSystem) -> None:
    fs.write("lock/1", b"{")
    for _ in range(2):
        assert "another process that has just started" in refused(fs, HERE, Clock())


def test_what_a_later_release_adds_does_not_matter(fs: SimulatedFileSystem) -> None:
    take(fs, THERE, Clock())
    known = json.loads(fs.read("lock/1"))
    fs.write("lock/1", json.dumps(known | {"released": True, "colour": "green"}).encode())
    assert not take(fs, HERE, Clock()).taken_over


def test_a_finder_that_was_slow_gives_its_number_back(fs: SimulatedFileSystem) -> None:
    """It found number 1 dead and fell asleep; meanwhile 2 came and went, and 3 is at work."""
    clock = Clock()
    take(fs, THERE, clock)

    def sleep_through(*_: object) -> bool:
        with DirectoryLock(fs, HERE, lambda *_: True, clock=clock):
            pass
        owners.append(take(fs, THERE, clock))
        return True

    owners: list[DirectoryLock] = []
    with pytest.raises(DirectoryBusyError):
        DirectoryLock(fs, HERE, sleep_through, clock=clock)
    owners[0].check()
    assert [name for name in fs.list("lock") if name.isdigit()] == ["3"]


def test_a_full_disk_stops_the_counter_and_not_the_owner(
    fs: SimulatedFileSystem, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    owner = take(fs, THERE, clock)
    fs.fail_writes_after(0)
    for _ in range(3):
        clock.now += STALE
        owner.check()
    assert [record.name for record in caplog.records] == ["federation.lock"]
    fs.fail_writes_after(None)
    owner.check()
    assert read_counter(fs, "lock/1.beat") >= 1


def test_the_counter_costs_a_write_now_and_then(fs: SimulatedFileSystem) -> None:
    clock = Clock()
    owner = take(fs, THERE, clock)
    before = fs.operations
    for _ in range(100):
        owner.check()
    assert fs.operations == before
    clock.now += owner.beat_seconds
    owner.check()
    assert fs.operations > before


# --- what can be told from here ---------------------------------------------------------------------------------------


def test_what_is_known_of_processes_of_this_machine() -> None:
    me = this_process()
    assert certainly_runs(me, me)
    assert not certainly_gone(me, me)
    recycled = replace(me, start_ticks=me.start_ticks - 1)
    assert certainly_gone(recycled, me)
    assert not certainly_runs(recycled, me)
    elsewhere = replace(me, pid_namespace="another container's", pid=1, start_ticks=1)
    assert not certainly_gone(elsewhere, me)
    assert not certainly_runs(elsewhere, me)
    assert boot_seconds() <= boot_seconds()


@pytest.mark.parametrize(
    ("owner", "gone"),
    [
        (replace(HERE, boot="before"), True),
        (replace(HERE, boot="before", machine=""), False),  # every container is called localhost
        (replace(HERE, boot="before", machine="m2"), False),
        (THERE, False),
    ],
)
def test_a_reboot_ends_the_processes_of_the_same_machine_alone(owner: Owner, gone: bool) -> None:
    assert certainly_gone(owner, HERE) is gone


def test_names_of_watchers_hold_nothing_of_the_host() -> None:
    assert re.fullmatch(r"[0-9a-f]{16}\.seen", seen_name(this_process().clock))


# --- services ---------------------------------------------------------------------------------------------------------


def foreign(fs: SimulatedFileSystem, stale_seconds: float) -> DirectoryLock:
    return DirectoryLock(fs, THERE, stale_seconds=stale_seconds, clock=Clock())


def test_a_service_watches_until_the_owner_counts_as_dead(fs: SimulatedFileSystem) -> None:
    foreign(fs, 0.05)
    rests: list[float] = []
    watch(fs, stale_seconds=0.01, rest=rests.append)
    assert rests
    assert set(rests) == {0.05 / 40}


def test_a_service_does_not_wait_for_one_that_is_at_work(fs: SimulatedFileSystem) -> None:
    owner = foreign(fs, 1000.0)
    with pytest.raises(DirectoryBusyError, match="its counter is rising"):
        watch(fs, rest=lambda _: owner.beat())


def test_a_rise_long_ago_is_no_sign_of_life(fs: SimulatedFileSystem) -> None:
    owner = foreign(fs, 0.05)
    assert find_holder(fs, this_process(), stale_seconds=0.01) is not None
    owner.beat()
    watch(fs, stale_seconds=0.01, rest=lambda _: None)


def test_a_service_that_is_told_to_stop_stops_watching(fs: SimulatedFileSystem) -> None:
    foreign(fs, 1000.0)
    asked = iter([False, False, True])
    with pytest.raises(DirectoryBusyError, match="stood still"):
        watch(fs, rest=lambda _: None, ended=lambda: next(asked))


def test_a_counter_rises_by_itself_during_a_long_pass(fs: SimulatedFileSystem) -> None:
    lock = DirectoryLock(fs, this_process(), stale_seconds=0.08)
    with pulse(lock):
        deadline = boot_seconds() + 20
        while read_counter(fs, "lock/1.beat") < 3:
            assert boot_seconds() < deadline
    count = read_counter(fs, "lock/1.beat")
    lock.release()
    assert read_counter(fs, "lock/1.beat") == count
