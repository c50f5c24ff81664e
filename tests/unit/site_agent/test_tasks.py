# SPDX-License-Identifier: Apache-2.0
"""Benchmark tasks as the agent sees them: when they are due, what is signed and posted, what the operator is told."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from agent_situations import RUN, SITE, Situation

from federation import leaves as lv
from federation.durable.simulated import SimulatedFileSystem
from federation.leaves import TaskScore
from site_agent import instructions as do
from site_agent import job_files, layout
from site_agent.agent_state import Allocation
from site_agent.entries import AllocationEnded, AllocationIntended, AllocationStopped, AllocationSubmitted, TasksSigned
from site_agent.entry_text import sentence
from site_agent.jobs import EvaluationOrder, TaskFile, write_record
from site_agent.observations import Execution, JobEndSeen, TasksSeen
from site_agent.views import view_of

SCORE = TaskScore(task="quiz", language="de", task_version="1", metric="acc", num_items=9, score=0.5, low=0.2, high=0.8)


def running(every: int = 2, **plan: Any) -> Situation:
    s = Situation(**{"evaluate_every": 0, "witness_lag": 9, **plan})
    s.settings = replace(s.settings, tasks_every=every)
    s.started().settle()
    s.journal(AllocationSubmitted(run=RUN, number=1, handle="h1", at_us=s.now_us))
    return s.job(evaluations=((0, 0, (0,) * s.plan.num_fragments),))


def committed(s: Situation, *rounds: int) -> Situation:
    for number in rounds:
        s.opened(number).committed(number).blobs(number)
    return s.witnessed()


def orders(s: Situation) -> list[do.IssueEvaluation]:
    return [i for i in s.pending() if isinstance(i, do.IssueEvaluation) and i.of_tasks]


def left(commits: int, versions: tuple[int, ...], scores: Sequence[TaskScore] = (SCORE,), **changes: Any) -> TasksSeen:
    made = TasksSeen(
        run=RUN, allocation=1, request=0, num_commits=commits, versions=versions, scores=tuple(scores), problems=()
    )
    return replace(made, **changes)


def signed(s: Situation) -> list[TasksSigned]:
    return [entry for entry in s.settle() if isinstance(entry, TasksSigned)]


# --- when -------------------------------------------------------------------------------------------------------------


def test_a_site_without_tasks_orders_none() -> None:
    assert orders(committed(running(every=-1), 0, 1)) == []


def test_the_first_model_and_then_every_second_one_are_due_the_newest_only() -> None:
    s = running()
    (order,) = orders(s)
    assert (order.id, order.request, order.num_commits, order.versions) == (1, 0, 0, (0,))
    assert [o.num_commits for o in orders(committed(s, 0))] == [0]
    (order,) = orders(committed(s, 1, 2))
    assert (order.num_commits, order.versions) == (2, (2,))
    assert [[link.version for link in chain] for chain in order.chains] == [[1, 2]]


def test_without_a_schedule_the_first_and_the_last_model_are_due() -> None:
    s = committed(running(every=0, num_rounds=2), 0, 1)
    assert [o.num_commits for o in orders(s)] == [0]
    s.leaf(lv.RunCompletedV1(run=RUN))
    assert [o.num_commits for o in orders(s)] == [2]


def test_one_order_at_a_time_and_none_that_has_its_answer() -> None:
    s = running()
    assert orders(s.job(task_orders=1, task_results=0)) == []
    committed(s, 0, 1)
    assert orders(s) == []
    (order,) = orders(s.job(task_orders=1, task_results=1))
    assert (order.id, order.num_commits) == (2, 2)


def test_an_operators_request_comes_first_and_an_older_one_not_at_all() -> None:
    s = committed(running(), 0)
    for number in (1, 2):
        asked = lv.EvaluationRequestedV1(run=RUN, request=number, versions=(1,), operator="olga", command=f"e{number}")
        s.leaf(asked)
    s.witnessed()
    (order,) = orders(s)
    assert (order.request, order.num_commits, order.versions) == (2, 1, (1,))


@pytest.mark.parametrize("change", [lambda s: s.see(blobs=frozenset()), lambda s: s.witnessed(1)])
def test_an_order_waits_for_blobs_and_witnesses(change: Any) -> None:
    s = committed(running(witness_lag=0), 0, 1)
    change(s)
    assert orders(s) == []


# --- what is signed ---------------------------------------------------------------------------------------------------


def test_scores_are_signed_once_and_posted_until_the_mailbox_has_them() -> None:
    s = running().see(tasks=(left(0, (0,)), left(0, (0,))))
    (entry,) = signed(s)
    assert (entry.evaluation.site, entry.evaluation.scores) == (SITE, (SCORE,))
    (post,) = [i for i in s.pending() if isinstance(i, do.PostTasks)]
    assert (post.key, post.evaluation) == (f"tasks/{RUN}/0/0/0", entry.evaluation)
    assert signed(s) == []
    assert orders(s) == []


def test_what_got_no_score_is_settled_and_told_here_only() -> None:
    s = running().see(tasks=(left(0, (0,), (), problems=("quiz de: no such file",)),))
    (entry,) = signed(s)
    assert sentence(entry).endswith("0 task scores of the model of 0 commits; not scored: quiz de: no such file")
    assert not [i for i in s.pending() if isinstance(i, do.PostTasks)]
    assert orders(s) == []
    (run,) = view_of(s.settings, s.state, s.federation, s.seen, s.now_us).runs
    assert run.tasks == ("tasks of the model of 0 commits: 0 scores", "not scored: quiz de: no such file")


def test_an_answer_that_comes_late_counts_and_one_that_nobody_asked_for_does_not() -> None:
    s = committed(running(), 0, 1, 2, 3)
    (entry,) = signed(s.see(tasks=(left(2, (2,)), left(1, (1,)), left(4, (9,)))))
    assert entry.evaluation.num_commits == 2
    assert [o.num_commits for o in orders(s)] == [4]


def test_what_the_ledger_has_is_not_signed_again() -> None:
    s = running().see(tasks=(left(0, (0,)),))
    recorded = lv.TasksEvaluatedV1(
        run=RUN, site=SITE, request=0, num_commits=0, versions=(0,), scores=(SCORE,), evidence_digest="e" * 64
    )
    assert signed(s.leaf(recorded)) == []
    assert orders(s) == []


def test_at_the_end_a_job_is_started_for_the_last_model_and_stopped_after_it() -> None:
    s = committed(running(num_rounds=1), 0)
    scored = lv.LanguageScore(language="de", bits_per_byte=1.0, num_bytes=1)
    for commits in (0, 1):
        s.leaf(
            lv.EvaluationRecordedV1(
                run=RUN,
                site=SITE,
                request=0,
                num_commits=commits,
                versions=(commits,),
                scores=(scored,),
                evidence_digest="",
            )
        )
    s.job(execution=Execution.ENDED, end=JobEndSeen(code="wall-time", sentence="", failed=False))
    s.leaf(lv.RunCompletedV1(run=RUN)).witnessed()
    assert [type(e) for e in s.settle()] == [AllocationEnded]
    (start,) = s.later(100).settle()
    assert isinstance(start, AllocationIntended)
    assert start.evaluate_only
    s.journal(AllocationSubmitted(run=RUN, number=2, handle="h2", at_us=s.now_us)).job(2)
    assert s.settle() == []
    found = s.see(tasks=(left(1, (1,), (), allocation=2, problems=("no",)),)).settle()
    assert [type(e) for e in found] == [TasksSigned, AllocationStopped]


# --- files of a job ---------------------------------------------------------------------------------------------------

ALLOCATION = Allocation(run=RUN, number=1, fencing=1, intended_at_us=0)
PATHS = layout.allocation_paths(RUN, 1)


def ordered(result: TaskFile | bytes | None) -> TasksSeen:
    fs = SimulatedFileSystem()
    write_record(fs, PATHS.task_order(1), EvaluationOrder(id=1, request=3, num_commits=4, versions=(4,), chains=((),)))
    if isinstance(result, bytes):
        fs.write(PATHS.task_result(1), result)
    elif result is not None:
        write_record(fs, PATHS.task_result(1), result)
    return job_files.tasks_seen(fs, ALLOCATION, 1)


def task_file(**changes: Any) -> TaskFile:
    return replace(TaskFile(id=1, request=3, num_commits=4, versions=(4,), scores=(SCORE,)), **changes)


def test_a_jobs_scores_are_read_under_the_agents_own_order() -> None:
    seen = ordered(task_file(request=9, num_commits=99, versions=(1, 2)))
    assert (seen.request, seen.num_commits, seen.versions) == (3, 4, (4,))
    assert (seen.scores, seen.problems) == ((SCORE,), ())


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (task_file(scores=(replace(SCORE, low=0.7),)), "score 1: expected low <= score <= high"),
        (task_file(scores=(replace(SCORE, language="../etc"),)), "score 1: expected language of its form"),
        (task_file(scores=(SCORE, SCORE)), "expected each metric of a task and language once"),
        (b"{", "expected JSON"),
        (b'{"id": 1, "request": 0, "num_commits": 0, "versions": [0], "scores": [{"score": NaN}]}', "expected a field"),
    ],
)
def test_what_is_no_score_is_settled_with_its_reason(result: TaskFile | bytes, problem: str) -> None:
    seen = ordered(result)
    assert seen.scores == ()
    assert problem in seen.problems[0]


def test_a_jobs_sentences_are_bounded_and_of_one_line() -> None:
    seen = ordered(task_file(scores=(), problems=("a\x1b[2Jb\n" + "x" * 5000,) * 100))
    assert len(seen.problems) == 20
    assert all(len(text) <= 300 and text.isprintable() for text in seen.problems)
