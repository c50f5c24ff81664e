# SPDX-License-Identifier: Apache-2.0
"""A job scores tasks while it has nothing better to do; whatever goes wrong there, training goes on."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from job_bench.bench import RestingClock, toy_loop, train
from job_bench.case import NUM_ROUNDS, A, Case, R, toy_manifest
from job_bench.toy import ToyTrainer, toy_parameters

from federation.errors import DiskFullError
from federation.leaves import TaskScore
from site_agent.inner_loop.loop import InnerLoop
from site_agent.inner_loop.seam import Float32Array, ScoredTasks, TaskProgress, TaskScorer
from site_agent.inner_loop.tasks import MAX_ATTEMPTS, NobodyScores
from site_agent.jobs import ChainLink, EndCode, EvaluationOrder, StopOrder, TaskFile, read_record, write_record
from site_agent.task_orders import Task

SCORE = TaskScore(
    task="quiz", language="de", task_version="1", metric="acc", num_items=9, score=0.0, low=-9.0, high=9.0
)


class Scorer:
    """Counts pieces; its score is the mean of all parameters."""

    def __init__(self, num_pieces: int = 3, name: str = "quiz") -> None:
        self.num_pieces, self.name = num_pieces, name
        self.pieces, self.closed = 0, 0

    def score(
        self, order: EvaluationOrder, parameters: Callable[[], Mapping[str, Float32Array]]
    ) -> Iterator[TaskProgress | ScoredTasks]:
        try:
            for _ in range(self.num_pieces):
                mean = float(np.mean([value.mean() for value in parameters().values()]))
                self.pieces += 1
                yield TaskProgress.WORKED
            yield ScoredTasks(scores=(replace(SCORE, task=self.name, score=mean),), problems=("one is missing",))
        finally:
            self.closed += 1


class Waits(Scorer):
    """Something outside works for as long as it is looked at `num_pieces` times."""

    def score(
        self, order: EvaluationOrder, parameters: Callable[[], Mapping[str, Float32Array]]
    ) -> Iterator[TaskProgress | ScoredTasks]:
        for _ in range(self.num_pieces):
            self.pieces += 1
            yield TaskProgress.WAITS
        yield ScoredTasks(scores=(SCORE,))


class Breaks(Scorer):
    """Out of memory in the second piece."""

    def score(
        self, order: EvaluationOrder, parameters: Callable[[], Mapping[str, Float32Array]]
    ) -> Iterator[TaskProgress | ScoredTasks]:
        yield TaskProgress.WORKED
        raise RuntimeError("CUDA out of memory\n/scratch/secret")


def ordered(case: Case, number: int, *rounds: int) -> EvaluationOrder:
    chains: list[list[ChainLink]] = [[], []]
    for n in rounds:
        outcome = case.agent.outcome(n)
        link = ChainLink(version=outcome.version, blob_path=outcome.blob_path, theta_digest=outcome.theta_digest)
        chains[n % 2].append(link)
    order = EvaluationOrder(
        id=number,
        request=0,
        num_commits=len(rounds),
        versions=tuple(chain[-1].version if chain else 0 for chain in chains),
        chains=tuple(map(tuple, chains)),
    )
    write_record(case.allocation, A.task_order(number), order)
    return order


def loop_with(case: Case, *scorers: TaskScorer, seconds: float = 0.0) -> InnerLoop:
    case.trainer = ToyTrainer("a")
    clock = RestingClock(lambda: case.on_rest())
    return toy_loop(
        case.manifest, case.theta0, case.trainer, case.allocation, case.run, clock, scorers=scorers, seconds=seconds
    )


def result(case: Case, number: int = 1) -> TaskFile | None:
    return read_record(case.allocation, A.task_result(number), TaskFile)


def test_a_waiting_job_scores_the_model_it_was_asked_for(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest())
    order = ordered(case, 1, 0, 1, 2)
    ordered(case, 2)
    train(loop_with(case, Scorer(), Scorer(name="other")), case.trainer)
    found = result(case)
    assert found is not None
    theta = [case.reference.history[2].theta, case.reference.history[1].theta]
    expected = float(np.mean([v.mean() for v in toy_parameters(case.manifest, theta).values()]))
    assert (found.versions, found.num_commits) == (order.versions, 3)
    assert [(score.task, score.score) for score in found.scores] == [("quiz", expected), ("other", expected)]
    assert found.problems == ("one is missing",) * 2
    assert result(case, 2) is not None


def test_a_round_order_comes_before_the_rest(tmp_path: Path) -> None:
    case, scorer = Case(tmp_path, toy_manifest()), Scorer()
    ordered(case, 1)
    loop = loop_with(case, scorer)
    loop.begin()
    assert loop._tasks.advance()
    assert loop._tasks.is_busy
    case.order(0)
    assert loop.prepare() is not None
    assert scorer.pieces == 1


@pytest.mark.parametrize(("seconds", "done"), [(0.0, False), (5.0, True)])
def test_a_job_that_never_waits_gives_them_so_many_seconds_at_a_time(
    tmp_path: Path, seconds: float, done: bool
) -> None:
    case = Case(tmp_path, toy_manifest())
    case.order(*range(NUM_ROUNDS))
    case.end(*range(NUM_ROUNDS))
    ordered(case, 1)
    loop = loop_with(case, Scorer(), seconds=seconds)
    loop.begin()
    while (rate := loop.prepare()) is not None and loop.progress.num_steps < 6:
        loop.complete(*case.trainer.take(rate))
    assert case.allocation.exists(A.task_result(1)) is done


def test_an_error_is_a_sentence_and_the_next_order_is_done(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    case = Case(tmp_path, toy_manifest())
    wrong = ordered(case, 1, 0)
    write_record(case.allocation, A.task_order(1), replace(wrong, versions=(3, 0)))
    ordered(case, 2)
    loop = loop_with(case, Scorer())
    train(loop, case.trainer)
    assert loop.ended is not None
    assert loop.ended.code is EndCode.IDLE
    found = result(case)
    assert found is not None
    assert found.scores == ()
    assert found.problems == ("ProtocolError: expected chains that end at versions (3, 0), found (1, 0)",)
    assert "expected chains that end" in caplog.text
    after = result(case, 2)
    assert after is not None
    assert after.scores


def test_running_out_of_memory_ends_no_job_and_keeps_other_scores(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest())
    ordered(case, 1)
    train(loop_with(case, Scorer(), Breaks()), case.trainer)
    found = result(case)
    assert found is not None
    assert len(found.scores) == 1
    assert found.problems == ("one is missing", "RuntimeError: CUDA out of memory /scratch/secret")


def test_scores_that_no_leaf_may_hold_are_a_problem(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest())
    ordered(case, 1)
    train(loop_with(case, Scorer(), Scorer()), case.trainer)
    found = result(case)
    assert found is not None
    assert found.scores == ()
    assert found.problems[-1] == "expected each metric of a task and language once, found one twice"


def test_what_kills_jobs_is_begun_a_few_times_only(tmp_path: Path) -> None:
    case, scorer = Case(tmp_path, toy_manifest()), Scorer(num_pieces=9)
    ordered(case, 1)
    for _ in range(MAX_ATTEMPTS):
        loop = loop_with(case, scorer)
        loop.begin()
        assert loop._tasks.advance()
        assert result(case) is None
    train(loop_with(case, scorer), case.trainer)
    found = result(case)
    assert found is not None
    assert found.problems == ("begun 3 times, and each time the job ended before it was finished",)
    assert scorer.pieces == MAX_ATTEMPTS


def test_an_end_leaves_it_to_a_successor(tmp_path: Path) -> None:
    case, scorer = Case(tmp_path, toy_manifest()), Scorer(num_pieces=9)
    ordered(case, 1)
    loop = loop_with(case, scorer)
    loop.begin()
    assert loop._tasks.advance()
    write_record(case.allocation, A.stop, StopOrder(reason="paused"))
    assert loop.prepare() is None
    assert (scorer.closed, scorer.pieces, result(case)) == (1, 1, None)


def test_a_job_is_not_idle_while_a_command_works(tmp_path: Path) -> None:
    case, scorer = Case(tmp_path, toy_manifest()), Waits(num_pieces=50)
    ordered(case, 1)
    train(loop_with(case, scorer), case.trainer)  # which gives up at its second rest in a row
    found = result(case)
    assert found is not None
    assert (found.scores, scorer.pieces) == ((SCORE,), 50)


def test_a_full_disk_ends_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    case = Case(tmp_path, toy_manifest())
    ordered(case, 1)
    loop, scorer = None, Scorer()
    loop = loop_with(case, scorer)

    def full(result: TaskFile) -> None:
        raise DiskFullError("no space")

    monkeypatch.setattr(loop._spool, "write_tasks", full)
    train(loop, case.trainer)
    assert loop.ended is not None
    assert loop.ended.code is EndCode.IDLE
    assert scorer.pieces == 3
    assert "this job scores no more tasks: no space" in caplog.text


def test_a_trainer_that_scores_no_files_says_so(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest())
    ordered(case, 1)
    train(loop_with(case, NobodyScores((Task(name="quiz", language="de", path="/x"),))), case.trainer)
    found = result(case)
    assert found is not None
    assert found.problems == ("quiz de: this trainer scores no files; let evaluation.command do it",)
    assert case.run.exists(R.task_attempts)
