# SPDX-License-Identifier: Apache-2.0
"""The streams of changes: what a viewer is sent, and when; nobody's page or pace is another one's trouble."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from dashboard_bench import WORKS, Bench

from coordinator.dashboard import events
from coordinator.dashboard.events import GONE, HELLO, PUSH_SECONDS, Pace, Viewer
from coordinator.dashboard.gallery import FRESH_SECONDS
from coordinator.dashboard.links import Visitor
from federation.errors import LimitExceededError
from federation.roster_document import Role

ALICE = Visitor(name="alice", role=Role.VIEWER)
STILL_HERE = b": still here\n\n"
SECONDS = 10.0
"""Less than a stream rests for."""


def looking_at(address: str, *, auditor: bool = False, who: Callable[[], Visitor | None] = lambda: ALICE) -> Viewer:
    return Viewer(address=address, auditor=auditor, who=who)


def say(bench: Bench, words: str) -> None:
    """Lets every page change: each says whether the coordinator works."""
    bench.gallery.liveness = replace(WORKS, works=False, sentence=words)
    bench.gallery.forget()
    bench.hub.changed()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), SECONDS))  # type: ignore[arg-type]


async def joined(bench: Bench, viewer: Viewer) -> AsyncIterator[bytes]:
    """The stream of a viewer that has its page as it is now."""
    stream = bench.hub.stream(viewer)
    assert await anext(stream) == HELLO
    assert "<h1>" in await html(stream)
    return stream


async def html(stream: AsyncIterator[bytes]) -> str:
    """What the next frame shows."""
    frame = (await anext(stream)).decode()
    event, data, *rest = frame.split("\n")
    assert (event, rest) == ("event: main", ["", ""]), frame
    return str(json.loads(data.removeprefix("data: "))["html"])


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has nothing to be told is told so at once."""
    monkeypatch.setattr(events, "KEEP_ALIVE_SECONDS", 0.02)


def test_a_viewer_gets_its_page_and_then_its_changes(bench: Bench) -> None:
    async def scenario() -> None:
        stream = bench.hub.stream(looking_at("/sites"))
        assert await anext(stream) == HELLO
        shown = bench.gallery.show("/sites", False, bench.clock())
        assert await html(stream) == shown.main
        say(bench, "it went for a walk")
        assert "It went for a walk" in await html(stream)

    run(scenario)


def test_a_slow_viewer_gets_the_newest_page_only(bench: Bench, quiet: None) -> None:
    async def scenario() -> None:
        slow, quick = await joined(bench, looking_at("/")), await joined(bench, looking_at("/"))
        for words in ("first", "second", "third"):
            say(bench, words)
            assert words.capitalize() in await html(quick)
        found = await html(slow)
        assert "Third" in found
        assert "First" not in found
        assert await anext(slow) == STILL_HERE

    run(scenario)


def test_an_equal_page_is_not_sent_again(bench: Bench, quiet: None) -> None:
    async def scenario() -> None:
        stream = await joined(bench, looking_at("/ledger"))
        bench.hub.changed()
        bench.gallery.forget()
        bench.hub.changed()
        assert await anext(stream) == STILL_HERE
        say(bench, "something else")
        assert "Something else" in await html(stream)

    run(scenario)


def test_a_page_is_made_once_for_all_who_look_at_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    show, made = bench.gallery.show, list[tuple[str, bool]]()

    def counted(address: str, auditor: bool, now: float) -> Any:
        made.append((address, auditor))
        return show(address, auditor, now)

    async def scenario() -> None:
        viewers = [looking_at("/", auditor=number % 2 == 0) for number in range(20)]
        streams = [await joined(bench, viewer) for viewer in viewers]
        monkeypatch.setattr(bench.gallery, "show", counted)
        say(bench, "news")
        assert sorted(made) == [("/", False), ("/", True)]
        for stream in streams:
            assert "News" in await html(stream)

    run(scenario)


@pytest.mark.parametrize("address", ["/run/none", "/sites"])
def test_a_page_that_cannot_be_made_does_not_end_the_others(
    bench: Bench, quiet: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    show = bench.gallery.show

    def broken(asked: str, auditor: bool, now: float) -> Any:
        if asked == "/sites":
            raise RuntimeError("a bug of ours")
        return show(asked, auditor, now)

    async def scenario() -> None:
        monkeypatch.setattr(bench.gallery, "show", broken)
        without = bench.hub.stream(looking_at(address))
        assert await anext(without) == HELLO
        assert await anext(without) == STILL_HERE
        whole = await joined(bench, looking_at("/"))
        say(bench, "news")
        assert "News" in await html(whole)
        assert await anext(without) == STILL_HERE

    with caplog.at_level(logging.ERROR):
        run(scenario)
    assert [record.exc_info is not None for record in caplog.records] == [True] * 2 * (address == "/sites")


@pytest.mark.parametrize("news", [False, True])
def test_who_may_look_no_more_is_told_so_and_nothing_else(bench: Bench, quiet: None, news: bool) -> None:
    async def scenario() -> None:
        someone: list[Visitor | None] = [ALICE]
        stream = await joined(bench, looking_at("/", who=lambda: someone[0]))
        someone[0] = None
        if news:
            say(bench, "not for them")
        assert [frame async for frame in stream] == [GONE]
        assert bench.hub.viewers == set()

    run(scenario)


def test_who_leaves_is_forgotten(bench: Bench) -> None:
    async def scenario() -> None:
        stream: Any = await joined(bench, looking_at("/"))
        assert len(bench.hub.viewers) == 1
        await stream.aclose()
        assert bench.hub.viewers == set()

    run(scenario)


def test_closing_ends_all_streams_at_once(bench: Bench) -> None:
    async def scenario() -> None:
        streams = [await joined(bench, looking_at(address)) for address in ("/", "/sites")]

        async def rest(stream: AsyncIterator[bytes]) -> int:
            return len([frame async for frame in stream])

        waiting = [asyncio.ensure_future(rest(stream)) for stream in streams]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        bench.hub.close()
        assert all(count <= 1 for count in await asyncio.gather(*waiting))
        assert [frame async for frame in bench.hub.stream(looking_at("/"))] == [HELLO]
        assert bench.hub.viewers == set()

    run(scenario)


def test_there_is_room_for_so_many_and_no_more(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_VIEWERS", 2)

    async def scenario() -> None:
        first: Any = await joined(bench, looking_at("/"))
        bench.hub.check_room()
        second: Any = await joined(bench, looking_at("/"))
        with pytest.raises(LimitExceededError, match="at most 2 viewers"):
            bench.hub.check_room()
        await first.aclose()
        bench.hub.check_room()
        await second.aclose()

    run(scenario)


def test_who_finds_no_room_is_told_so(viewer: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_VIEWERS", 2)
    viewer.hub.viewers = {looking_at("/"), looking_at("/")}
    answer = viewer.get("/events?page=/")
    assert answer.status_code == 429
    assert "at most 2 viewers" in answer.text


# --- when they are told -----------------------------------------------------------------------------------------------


def moments(news_at: Callable[[float], bool], seconds: float) -> list[float]:
    """When viewers are told who looks every quarter of a second."""
    pace, found = Pace(), []
    for quarter in range(int(seconds * 4)):
        now = 1000.0 + quarter / 4
        pace.heard(news_at(now - 1000.0))
        if pace.is_due(now):
            pace.told(now)
            found.append(now - 1000.0)
    return found


def test_without_news_viewers_are_told_every_so_often() -> None:
    assert moments(lambda at: False, 4 * FRESH_SECONDS) == [number * FRESH_SECONDS for number in range(4)]


def test_a_lot_of_news_comes_together() -> None:
    assert moments(lambda at: True, 10.0) == [number * PUSH_SECONDS for number in range(10)]


def test_news_after_a_while_is_told_at_once_and_once() -> None:
    assert moments(lambda at: at == 2.25, 5.0) == [0.0, 2.25]


def test_news_right_after_something_was_told_waits_and_is_not_forgotten() -> None:
    assert moments(lambda at: at == 0.25, 5.0) == [0.0, PUSH_SECONDS]


def test_news_are_told_once() -> None:
    pace = Pace()
    pace.heard(False)
    assert not pace.is_news
    pace.heard()
    pace.heard(False)
    assert pace.is_news
    pace.told(5.0)
    assert not pace.is_news
