# SPDX-License-Identifier: Apache-2.0
"""The background writer: one piece at a time, nothing forgotten, errors told to whoever trains."""

import threading
from functools import partial

import pytest

from federation.errors import DiskFullError
from site_agent.inner_loop.writer import BackgroundWriter, InlineWriter, Latest


def full() -> None:
    raise DiskFullError("training: expected room, found none left")


def test_work_goes_on_beside_and_the_next_piece_waits() -> None:
    writer, gate, done = BackgroundWriter(), threading.Event(), list[int]()

    def first() -> None:
        assert gate.wait(30)
        done.append(1)

    writer.submit(first)
    assert writer.is_busy
    writer.check()
    assert done == []
    gate.set()
    writer.submit(lambda: done.append(2))
    assert done[0] == 1
    writer.flush()
    assert done == [1, 2]
    assert not writer.is_busy
    writer.close()


@pytest.mark.parametrize("told", ["check", "flush", "submit"])
def test_an_error_is_told_once(told: str) -> None:
    writer = BackgroundWriter()
    writer.submit(full)
    while writer.is_busy:
        pass
    tell = partial(writer.submit, full) if told == "submit" else getattr(writer, told)
    with pytest.raises(DiskFullError):
        tell()
    writer.check()
    writer.close()


def test_closing_finishes_what_was_begun(caplog: pytest.LogCaptureFixture) -> None:
    writer, done = BackgroundWriter(), list[int]()
    writer.submit(lambda: done.append(1))
    writer.close()
    assert done == [1]
    failing = BackgroundWriter()
    failing.submit(full)
    failing.close()
    assert "expected room, found none left" in caplog.text


def test_inline_does_it_at_once() -> None:
    with pytest.raises(DiskFullError):
        InlineWriter().submit(full)


def test_the_newest_value_is_written_and_older_ones_are_left_out() -> None:
    begun, go_on, written = threading.Event(), threading.Event(), list[int]()

    def write(value: int) -> None:
        begun.set()
        assert go_on.wait(30)
        written.append(value)

    latest = Latest(write)
    latest.put(1)
    assert begun.wait(30)
    for value in (2, 3, 4):
        latest.put(value)
    assert written == []
    go_on.set()
    latest.close()
    assert written == [1, 4]


def test_what_a_value_raised_shows_at_a_later_one() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def write(value: int) -> None:
        begun.set()
        assert go_on.wait(30)
        if value == 1:
            raise DiskFullError("no room for 1")

    latest = Latest(write)
    latest.put(1)
    assert begun.wait(30)
    latest.put(2)
    go_on.set()
    latest.close()
    with pytest.raises(DiskFullError, match="no room for 1"):
        latest.put(3)
