# SPDX-License-Identifier: Apache-2.0
"""Threads and wake-ups: one peer's slow disk holds nobody else up, and no change is missed."""

import asyncio
import threading

import pytest

from coordinator.network_config import LimitsSection
from coordinator.rpc import workers as module
from coordinator.rpc.changes import Changes, wait_until
from coordinator.rpc.server import call_limits, mailbox_limits
from coordinator.rpc.workers import NUM_WORKERS, Workers

PATIENCE = 20.0


def test_a_peer_whose_files_are_slow_leaves_threads_for_the_others() -> None:
    release = threading.Event()

    async def scene() -> str:
        workers = Workers()
        slow = [asyncio.create_task(workers.run("lumi", release.wait, PATIENCE)) for _ in range(4 * NUM_WORKERS)]
        try:
            return await asyncio.wait_for(workers.run("jupiter", lambda: "served"), PATIENCE)
        finally:
            release.set()
            await asyncio.gather(*slow)
            workers.close()

    assert asyncio.run(scene()) == "served"


def test_a_call_that_is_cut_off_leaves_its_file_operation_to_end(caplog: pytest.LogCaptureFixture) -> None:
    began, release, ended = threading.Event(), threading.Event(), threading.Event()

    def operation() -> None:
        began.set()
        release.wait(PATIENCE)
        ended.set()
        raise OSError("nobody hears this")

    async def scene() -> None:
        workers = Workers()
        call = asyncio.create_task(workers.run("lumi", operation))
        await asyncio.to_thread(began.wait, PATIENCE)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        release.set()
        await asyncio.to_thread(workers.close)

    asyncio.run(scene())
    assert ended.is_set()
    assert caplog.text == ""


def test_peers_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TURNSTILES", 4)

    async def scene() -> int:
        workers = Workers()
        for number in range(20):
            await workers.run(f"site-{number}", lambda: None)
        workers.close()
        return len(workers._turnstiles)

    assert asyncio.run(scene()) <= 4


def test_a_change_between_looking_and_waiting_is_not_missed() -> None:
    async def scene() -> float:
        changes, now = Changes(), asyncio.get_running_loop().time
        change = changes.subscribe()
        changes.announce()
        began = now()
        await wait_until(change, PATIENCE)
        return now() - began

    assert asyncio.run(scene()) < PATIENCE / 2


def test_who_begins_to_wait_after_a_change_waits_for_the_next_one() -> None:
    async def scene() -> bool:
        changes = Changes()
        changes.announce()
        change = changes.subscribe()
        await wait_until(change, 0.0)
        return change.is_set()

    assert not asyncio.run(scene())


def test_limits_are_those_of_coordinator_toml() -> None:
    limits = LimitsSection(
        calls_per_second=7.0,
        bytes_per_second=2e6,
        max_streams_per_peer=9,
        max_pending_bytes=11,
        max_pending_files=101,
        max_blob_bytes=13,
    )
    calls, mailbox = call_limits(limits), mailbox_limits(limits)
    assert (calls.calls_per_second, calls.bytes_per_second, calls.max_open_calls) == (7.0, 2e6, 9)
    assert (mailbox.max_pending_bytes, mailbox.max_pending_files, mailbox.max_blob_bytes) == (11, 101, 13)


def test_what_is_for_one_peer_wakes_that_peer_alone() -> None:
    async def waits() -> list[bool]:
        changes = Changes()
        events = [changes.subscribe("lumi"), changes.subscribe("jupiter"), changes.subscribe()]
        changes.announce("lumi")
        first = [event.is_set() for event in events]
        changes.announce()
        assert not changes.subscribe("lumi").is_set()
        return first + [event.is_set() for event in events]

    assert asyncio.run(waits()) == [True, False, False, True, True, True]
