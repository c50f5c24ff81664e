# SPDX-License-Identifier: Apache-2.0
"""The spool's size, found out a few entries at a time."""

import os
from pathlib import Path

from site_agent.metrics.spool_meter import SpoolMeter


def test_a_walk_takes_as_many_looks_as_it_needs(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for number in range(5):
        (tmp_path / "below" / f"{number}").write_bytes(b"x" * 10)
    meter = SpoolMeter(tmp_path)
    assert [meter.look(3), meter.look(3)] == [None, None]
    assert meter.look(3) == 50
    (tmp_path / "new").write_bytes(b"x" * 7)
    assert meter.look(3) == 50, "the newest whole walk"
    assert meter.look(100) == 57


def test_a_file_of_two_names_counts_once_and_links_do_not_lead_out(tmp_path: Path) -> None:
    spool, outside = tmp_path / "spool", tmp_path / "outside"
    spool.mkdir(), outside.mkdir()
    (outside / "large").write_bytes(b"x" * 1000)
    (spool / "payload").write_bytes(b"x" * 10)
    os.link(spool / "payload", spool / "blob")
    (spool / "link").symlink_to(outside)
    found = SpoolMeter(spool).look()
    assert found == 10 + os.lstat(spool / "link").st_size


def test_a_spool_that_is_not_there_or_empty_holds_nothing(tmp_path: Path) -> None:
    assert SpoolMeter(tmp_path / "none").look() == 0
    assert SpoolMeter(tmp_path).look() == 0


def test_what_goes_away_meanwhile_counts_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1").write_bytes(b"x" * 10)
    (tmp_path / "b").write_bytes(b"x" * 5)
    meter = SpoolMeter(tmp_path)
    assert meter.look(1) is None
    (tmp_path / "a" / "1").unlink()
    (tmp_path / "a").rmdir()
    assert meter.look() == 5
