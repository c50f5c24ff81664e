# SPDX-License-Identifier: Apache-2.0
"""Which runs leave whole windows to an executable: those whose merges lie at ends of windows; what a command is."""

from pathlib import Path

import pytest

from federation.schedule import Schedule
from federation.testing.manifests import plan_of
from site_agent.trainer.command_rules import command_digest, why_not_in_whole_windows


@pytest.mark.parametrize("first", [0, 1, 5])
@pytest.mark.parametrize(("h", "p", "tau"), [(6, 1, 0), (6, 2, 0), (6, 2, 1), (6, 2, 3), (8, 4, 3), (8, 4, 4)])
def test_as_the_timetable_says(h: int, p: int, tau: int, first: int) -> None:
    schedule = Schedule(num_inner_steps=h, num_fragments=p, tau=tau, first_window_steps=first)
    inside = any(
        schedule.start_of(k) < schedule.merge_of(j) < schedule.boundary_of(k) for j in range(9) for k in range(1, 20)
    )
    plan = plan_of({"a": h, "b": h}, num_fragments=p, tau=tau, first_window_steps=first)
    why = why_not_in_whole_windows(plan, "a")
    assert bool(why) is inside
    assert (f"found tau {tau}" in why) is inside


def test_a_stranger_has_no_windows() -> None:
    assert "expected c among" in why_not_in_whole_windows(plan_of({"a": 4}), "c")


def test_a_commands_digest_follows_its_words_and_its_files(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("one")
    command = ["/usr/bin/env", "python3", str(script), "--lr=1"]
    first = command_digest(command)
    assert command_digest(command) == first
    assert command_digest([*command[:-1], "--lr=2"]) != first
    assert command_digest(["--lr=1", *command[:-1]]) != first
    script.write_text("two")
    assert command_digest(command) != first
    script.unlink()
    assert command_digest(command) != first
    assert command_digest(["a", "b"]) != command_digest(["a\n-  1  b"])
    assert len(command_digest(["\0", "x" * 5000])) == 64
