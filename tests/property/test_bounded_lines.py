# SPDX-License-Identifier: Apache-2.0
"""Whoever looks at least once per change of files reads every line of a bounded store once, in order."""

from hypothesis import given
from hypothesis import strategies as st

from coordinator.bounded_lines import BoundedLines, Tail, paths
from federation.durable.simulated import SimulatedFileSystem

STEPS = st.lists(st.one_of(st.just("look"), st.just("change"), st.integers(1, 4), st.binary(min_size=1, max_size=9)))


@given(STEPS)
def test_every_line_is_read_once(steps: list[str | int | bytes]) -> None:
    fs = SimulatedFileSystem()
    lines, tail = BoundedLines(fs, "d"), Tail(fs, "d", "s")
    newer, older = paths("d", "s")
    written: list[bytes] = []
    read: list[bytes] = []
    torn = b""
    for step in steps:
        if isinstance(step, int):
            written += [torn] if torn else []
            torn = b""
            some = [f"{len(written) + number}" for number in range(step)]
            lines.add("s", some)
            written += [text.encode() for text in some]
        elif isinstance(step, bytes):
            torn += step.replace(b"\n", b"")
            appender = fs.appender(newer)
            appender.append(step.replace(b"\n", b""))
            appender.close()
        else:
            read += tail.new()
        if step == "change" and fs.exists(newer):
            torn = b""  # nobody ends that line any more
            fs.rename(newer, older)
    assert read + tail.new() == written
    assert tail.new() == []
