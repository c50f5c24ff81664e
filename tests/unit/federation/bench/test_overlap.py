# SPDX-License-Identifier: Apache-2.0
"""Overlap's figures: every second of a training thread is counted once, and H and tau follow from the probes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from federation.bench.counted_link import Carried
from federation.bench.marks import Mark, Marks
from federation.bench.model import model_of
from federation.bench.overlap import Link, Trained, covering_steps, inner_steps
from federation.bench.overlap_marks import PHASES, commit_seconds, site_time
from federation.bench.setting import WorldSetting
from federation.errors import ConfigError, JobFailedError

STEPS, STEP, GAP = 4, 0.5, 0.25
"""Windows of four steps of half a second, and a quarter of a second between two windows."""

WINDOW = STEPS * STEP + GAP


def windows(number: int) -> Iterator[Mark]:
    """A site's inner steps, without a pause inside a window."""
    for window in range(number):
        for step in range(STEPS):
            at = 100 + window * WINDOW + step * STEP
            queued = float(STEPS * window + step)  # one second inside each step, none between them
            yield {"mark": "step-begin", "at": at, "round": window, "step": step, "queued": queued}
            yield {"mark": "step-end", "at": at + STEP, "round": window, "step": step, "queued": queued + 1}


def span(phase: str, window: int, seconds: float) -> Mark:
    """Something that was over at the end of the gap after a window."""
    return {"mark": "span", "at": 100 + (window + 1) * WINDOW, "phase": phase, "seconds": seconds}


def marks_of(directory: Path, *marks: Mark, name: str = "job") -> Marks:
    (directory / name).write_text("".join(json.dumps(mark) + "\n" for mark in marks))
    return Marks(directory / name)


def test_the_share_of_inner_steps_is_what_they_took_of_whole_windows(tmp_path: Path) -> None:
    found = site_time(marks_of(tmp_path, *windows(9)), 2, 8)
    assert (found.num_windows, found.wall_seconds, found.step_seconds) == (6, 6 * WINDOW, 6 * STEPS * STEP)
    assert found.utilisation == pytest.approx(2.0 / 2.25)
    assert found.idle_seconds_per_window == pytest.approx(GAP)


def test_every_second_between_steps_belongs_to_one_phase(tmp_path: Path) -> None:
    spans = [span("commit", 3, 0.125), span("encode", 4, 0.0625), span("merge", 4, 0.0625)]
    found = site_time(marks_of(tmp_path, *windows(9), *spans), 2, 8)
    assert set(found.phase_seconds) == {*PHASES, "other"}
    assert found.phase_seconds["commit"] == 0.125
    assert found.phase_seconds["encode"] == found.phase_seconds["merge"] == 0.0625
    assert found.phase_seconds["other"] == pytest.approx(6 * GAP - 0.25)
    assert sum(found.phase_seconds.values()) + found.step_seconds == pytest.approx(found.wall_seconds)
    assert sum(found.shares.values()) == pytest.approx(1 - found.utilisation)


def test_what_is_written_beside_training_is_no_wait(tmp_path: Path) -> None:
    found = site_time(marks_of(tmp_path, *windows(9), span("writing", 4, 1.5)), 2, 8)
    assert found.writing_seconds == (1.5,)
    assert found.phase_seconds["other"] == pytest.approx(6 * GAP)


def test_waits_for_a_processor_count_between_steps_only(tmp_path: Path) -> None:
    marks = list(windows(9))
    assert site_time(marks_of(tmp_path, *marks), 2, 8).queued_seconds == 0
    later = [{**mark, "queued": mark["queued"] + 0.25 * (mark["round"] + (mark["step"] >= 2))} for mark in marks]
    assert site_time(marks_of(tmp_path, *later), 2, 8).queued_seconds == pytest.approx(6 * 0.25)


def test_first_and_last_windows_do_not_count(tmp_path: Path) -> None:
    outside = [span("commit", 1, 0.2), span("commit", 8, 0.2)]
    assert site_time(marks_of(tmp_path, *windows(10), *outside), 2, 8).phase_seconds["commit"] == 0


def test_a_window_that_was_not_trained_is_named(tmp_path: Path) -> None:
    skipped = [mark for mark in windows(9) if mark["round"] != 5]
    with pytest.raises(JobFailedError, match=r"\[5\]"):
        site_time(marks_of(tmp_path, *skipped), 2, 8)


def test_a_commit_is_under_way_from_the_last_inner_step_on(tmp_path: Path) -> None:
    outcomes = [{"mark": "outcome", "at": 100 + n * WINDOW + 3.0, "round": n, "kind": "committed"} for n in range(3)]
    agent = marks_of(tmp_path, *outcomes, name="agent")
    assert commit_seconds(marks_of(tmp_path, *windows(3)), agent, range(3)) == [pytest.approx(1.0)] * 3


def test_a_round_that_was_abandoned_is_no_figure(tmp_path: Path) -> None:
    agent = marks_of(tmp_path, {"mark": "outcome", "at": 105.0, "round": 1, "kind": "abandoned"}, name="agent")
    with pytest.raises(JobFailedError, match=r"no commit of \[1\]"):
        commit_seconds(marks_of(tmp_path, *windows(3)), agent, [1])


@pytest.mark.parametrize(("idle", "steps"), [(3.2, 32), (3.3, 32), (3.5, 36), (0.01, 4)])
def test_h_is_the_multiple_of_p_that_takes_as_long_as_the_wait(idle: float, steps: int) -> None:
    assert inner_steps(idle, 0.1, 4) == steps


def test_tau_covers_the_time_of_a_fragment_and_a_quarter_more_while_h_has_room() -> None:
    assert [covering_steps(seconds, 0.125, 32, 4) for seconds in (0.6, 1.0, 2.5, 3.0)] == [6, 10, 24, 24]


def test_a_fragment_that_no_schedule_covers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"at most H - H/P = 24 inner steps of 0\.1 s, found 25"):
        covering_steps(2.41, 0.1, 32, 4)


def test_a_parameter_travels_once_in_p_windows(tmp_path: Path) -> None:
    setting = WorldSetting(num_sites=2, parameters=model_of(1000), num_inner_steps=16, num_fragments=4)
    time = site_time(marks_of(tmp_path, *windows(9)), 0, 8)
    trained = Trained(setting=setting, sites=(time, time), commits=(), carried=Carried(up=0, down=0))
    assert trained.bytes_per_parameter(2 * 1000 * 2) == 1.0


def test_a_link_takes_the_time_of_its_bytes_and_one_round_trip() -> None:
    assert Link(bits_per_second=8e6, round_trip_seconds=0.25).seconds(1_000_000, 500_000) == pytest.approx(1.75)
