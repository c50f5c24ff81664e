# SPDX-License-Identifier: Apache-2.0
"""What `run show` prints of scores, and `run watch` where there is no terminal."""

import io
import sys
from typing import Any

import pytest

from coordinator.cli.show import print_run
from coordinator.cli.watch import watch_run
from federation.errors import DeadlineExceededError


def document(state: str = "running", commits: int = 1, **changes: Any) -> dict[str, Any]:
    """A run of one site as the coordinator describes it."""
    site = {"state": "active", "allocation": "ready", "phase": "training", "round": 1, "step": 3, "loss": 2.5}
    made = {
        "run": "demo",
        "state": state,
        "commits": commits,
        "rounds": 2,
        "sites": ["alpha"],
        "reason": "",
        "answers": {},
        "missed": {},
        "sites_now": {"alpha": site},
        "round_log": [],
        "evaluations": [],
        "ledger": {"size": 1, "root": "0" * 64},
    }
    return {**made, **changes}


def scores(commits: int, **languages: float) -> dict[str, Any]:
    return {"site": "alpha", "commits": commits, "bits_per_byte": languages}


def printed(found: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_run(found)
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


# --- scores -----------------------------------------------------------------------------------------------------------


def test_scores_are_named_by_the_commit_that_they_are_of(capsys: pytest.CaptureFixture[str]) -> None:
    found = [scores(0, de=4.0, fi=5.0), scores(1, de=3.0), scores(2, de=2.0, fi=2.5)]
    lines = printed(document(commits=2, evaluations=found), capsys)
    start = lines.index("bits per byte de fi")
    assert lines[start + 1 : start + 3] == ["at commit 0 4.00 5.00", "at commit 2 2.00 2.50"]


def test_a_score_that_is_still_to_come_is_not_made_up_from_an_older_model(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(document(evaluations=[scores(0, de=4.0, fi=5.0), scores(1, fi=3.0)]), capsys)
    assert "at commit 1 3.00" in lines


def test_scores_of_reverted_models_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(document(commits=0, evaluations=[scores(0, de=4.0), scores(2, de=2.0)]), capsys)
    assert "at commit 0 4.00" in lines
    assert not any(line.startswith("at commit 2") for line in lines)


# --- watching without a terminal --------------------------------------------------------------------------------------


def test_each_change_is_a_line_at_once_and_the_last_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    pipe = io.BytesIO()  # what a reader at the other end has by now
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(pipe, write_through=False))

    def read() -> str:
        text = pipe.getvalue().decode()
        pipe.seek(0)
        pipe.truncate()
        return text

    lost = DeadlineExceededError("no reply within 1 s", advice="Look.")
    looks: list[Any] = [document(commits=0), document(commits=0), document(), lost, lost, document("aborted")]
    seen: list[str] = []

    def look() -> dict[str, Any]:
        seen.append(read())
        found = looks.pop(0)
        if isinstance(found, DeadlineExceededError):
            raise found
        assert isinstance(found, dict)
        return found

    watch_run(look, lambda: None, False)
    sys.stdout.flush()
    rest = read()
    assert seen == [
        "",
        "demo  RUNNING  0/2 rounds committed; alpha training\n",
        "",
        "demo  RUNNING  1/2 rounds committed; alpha training\n",
        "no reply within 1 s Look.\n",
        "",
    ]
    assert rest.startswith("demo  ABORTED  1/2 rounds committed; alpha training\n")
    assert rest.endswith("ledger: 1 leaf, root 0000000000000000\n")


# --- tasks ------------------------------------------------------------------------------------------------------------


def tasks(site: str, commits: int, score: float, *names: str) -> dict[str, Any]:
    made = {"language": "de", "task_version": "1", "metric": "acc", "num_items": 9, "score": score}
    scored = [{**made, "task": name, "low": score - 0.1, "high": score + 0.1} for name in names]
    return {"site": site, "commits": commits, "scores": scored}


def test_the_newest_task_scores_of_each_site_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    found = [
        tasks("b", 0, 0.2, "quiz"),
        tasks("a", 1, 0.5, "quiz"),
        tasks("b", 1, 0.7, "quiz"),
        tasks("b", 5, 0.9, "quiz"),
    ]
    lines = printed(document(commits=1, tasks=found), capsys)
    start = lines.index("benchmark tasks (95 % interval)")
    assert lines[start + 1 : start + 3] == [
        "quiz de acc: 0.500 (0.400 to 0.600), a, 1 commit",
        "quiz de acc: 0.700 (0.600 to 0.800), b, 1 commit",
    ]


def test_a_long_list_of_tasks_ends(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"t{number:02}" for number in range(30)]
    lines = printed(document(tasks=[tasks("a", 1, 0.5, *names)]), capsys)
    assert "10 more: --json" in lines
    assert any(line.startswith("t19 ") for line in lines)
    assert not any(line.startswith("t20 ") for line in lines)


def test_disagreements_are_told_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(document(disagreements=[f"finding {number}" for number in range(7)]), capsys)
    assert [line for line in lines if (line.startswith("! ") and "case" in line) or "disagree" in line] == [
        *(f"! sites disagree: finding {number}" for number in range(5)),
        "! in 2 further cases: --json",
    ]
