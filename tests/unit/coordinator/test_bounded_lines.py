# SPDX-License-Identifier: Apache-2.0
"""Lines per site in a bounded store: none is lost but the oldest, whoever ended in the middle of one."""

from coordinator.bounded_lines import BoundedLines, FollowedLines
from federation.durable.simulated import SimulatedFileSystem

NEWER = "phases/alps.jsonl"


def torn(fs: SimulatedFileSystem, data: bytes) -> None:
    appender = fs.appender(NEWER)
    appender.append(data)
    appender.close()


def test_a_line_that_follows_a_torn_one_is_whole() -> None:
    fs = SimulatedFileSystem()
    BoundedLines(fs, "phases").add("alps", ["one"])
    torn(fs, b"tw")
    BoundedLines(fs, "phases").add("alps", ["three"])
    assert list(FollowedLines(fs, "phases").new("alps")) == ["one", "tw", "three"]


def test_lines_are_followed_over_a_change_of_files() -> None:
    fs = SimulatedFileSystem()
    store, followed = BoundedLines(fs, "phases", max_file_bytes=200), FollowedLines(fs, "phases")
    found, given = [], []
    for number in range(60):
        line = f"line number {number}"
        store.add("alps", [line])
        given.append(line)
        if number % 3 == 2:
            found += followed.new("alps")
    assert found == given
    assert sum(len(fs.read(f"phases/{name}")) for name in fs.list("phases")) <= 400
