# SPDX-License-Identifier: Apache-2.0
"""What the oracle does not cover: rollbacks, joiners, windows that are given up, errors, evaluations, ends."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from job_bench.bench import RestingClock, toy_loop, train
from job_bench.case import NUM_ROUNDS, A, Case, R, toy_manifest
from job_bench.toy import ToyTrainer, toy_parameters

from federation.chunks import fragment_digest
from federation.durable import failpoints
from federation.errors import (
    DigestMismatchError,
    LossSpikeError,
    NonFiniteUpdateError,
    ProtocolError,
    StaleBaseError,
)
from federation.leaves import LanguageScore
from federation.reference import RoundPlan
from site_agent.inner_loop.claim import FencedError
from site_agent.inner_loop.loop import InnerLoop
from site_agent.inner_loop.seam import Float32Array
from site_agent.jobs import (
    ChainLink,
    Claim,
    EndCode,
    EvaluationFile,
    EvaluationOrder,
    JobPhase,
    OutcomeFile,
    OutcomeKind,
    RoundOrder,
    StopOrder,
    read_record,
    write_record,
)


def test_a_job_that_joins_late_begins_from_the_merged_versions(tmp_path: Path) -> None:
    absent = {n: RoundPlan(absent=frozenset("a")) for n in range(4)}
    case = Case(tmp_path, toy_manifest(), absent)
    case.order(4, 5)
    case.end(0, 1, 2, 3)
    case.on_rest = lambda: case.end(4) if case.update(4) else None
    loop = case.train()
    for number in (4, 5):
        payload = case.allocation.read(A.payload(number))
        assert payload == case.reference.history[number].payloads["a"]
    assert loop.progress.num_steps == 4


def test_it_waits_for_outcomes_that_its_window_builds_on(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest(), {n: RoundPlan(absent=frozenset("a")) for n in range(4)})
    case.order(4)
    case.end(0, 1)
    loop = case.train()
    assert loop.ended is not None
    assert loop.ended.code is EndCode.IDLE
    assert case.report().phase is JobPhase.WAITING
    assert loop.progress.num_steps == 0
    case.end(2)  # round 3 merges one step into window 4: its outcome is not needed to begin
    assert case.train().progress.num_steps == 1


def test_a_joiner_ramps_its_learning_rate(tmp_path: Path) -> None:
    manifest = toy_manifest(joiner_warmup_steps=4)
    case = Case(tmp_path, manifest, {n: RoundPlan(absent=frozenset("a")) for n in range(2)})
    case.order(2)
    case.end(0, 1)
    loop = case.loop()
    loop.begin()
    assert loop.prepare() == 0.0
    loop.complete(*case.trainer.take(0.0))
    second = loop.prepare()
    assert second is not None
    assert 0 < second < 0.05 / 3
    first = Case(tmp_path, manifest)
    first.order(0)
    from_the_start = first.loop()
    from_the_start.begin()
    assert from_the_start.prepare() == pytest.approx(0.05)


def test_after_a_rollback_everything_is_reloaded_and_feedback_forgotten(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest())
    case.order(0, 1, 2)
    case.end(0, 1, 2)
    loop = case.train()
    assert any(e.any() for e in loop._exchange.feedback)
    steps = case.trainer.cursor
    case.end(1, 2, kind=OutcomeKind.REVERTED)
    expected = case.reference.history[0].theta
    case.order(
        4, base_version=1, base_digest=fragment_digest(expected), generation=1
    )  # round 3 was abandoned by the rollback
    write_record(case.run, R.outcome(3), OutcomeFile(round=3, kind=OutcomeKind.ABANDONED, fragment=1))
    seen: list[list[Float32Array]] = []
    loop = case.loop()
    loop.begin()
    assert loop.prepare() is not None
    seen.append([loop._exchange._local.read(p) for p in range(2)])
    assert np.array_equal(seen[0][0], expected)
    assert np.array_equal(seen[0][1], case.theta0[1])
    assert not any(e.any() for e in loop._exchange.feedback)
    assert loop.progress.generation == 1
    assert case.trainer.cursor == steps  # data goes on
    assert loop.progress.joined_at == -1.0


def test_a_window_whose_round_ended_meanwhile_is_given_up(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest(), {1: RoundPlan(not_sealed=frozenset("a"))})
    case.order(0, 1)
    case.end(0)
    loop = case.loop()
    left = [3]
    loop.begin(lambda: None if left[0] else "sigterm")
    while (rate := loop.prepare()) is not None:
        loop.complete(*case.trainer.take(rate))
        left[0] -= 1
    assert loop.progress.window is not None
    case.end(1, 2)
    case.order(3)
    loop = case.loop()
    loop.begin()
    loop.prepare()
    assert loop.progress.window is not None
    assert loop.progress.window.order.round == 3
    assert case.update(1) is None
    assert [entry.round for entry in loop.progress.in_flight] == [2]


def test_a_round_that_ended_without_this_site_is_passed_over(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest(), {1: RoundPlan(absent=frozenset("a"))})
    case.order(0, 1, 2)
    case.end(0, 1)
    loop = case.train()
    assert case.update(1) is None
    assert case.update(2) is not None
    assert loop.progress.num_steps == 4


def test_a_base_that_is_not_the_jobs_is_refused(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest())
    case.order(0, base_digest="00" * 32)
    with pytest.raises(StaleBaseError, match=r"round 0: expected base version 0 \(0000"):
        case.train()


def test_an_order_that_does_not_fit_the_timetable_is_refused(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest())
    case.order(0, num_steps=3)
    with pytest.raises(ProtocolError, match=r"expected fragment and steps \(0, 2\), found \(0, 3\)"):
        case.train()


def test_a_commit_that_does_not_give_its_digest_stops_the_job(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest())
    case.order(0, 1)
    case.end(0, theta_digest="11" * 32)
    with pytest.raises(DigestMismatchError, match="fragment 0 after commit 1: expected digest 1111"):
        case.train()


def test_a_copy_that_diverged_is_rebuilt_from_theta0(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest())
    case.order(0, 1, 2)
    case.end(0, 1)
    loop = case.train()
    loop._exchange.model.theta[0] = loop._exchange.model.theta[0] + np.float32(1)
    case.end(2)
    loop.ended = None
    case.order(3)
    while (rate := loop.prepare()) is not None:
        loop.complete(*case.trainer.take(rate))
    assert loop._exchange.model.versions[0] == 3
    assert np.array_equal(loop._exchange.model.theta[0], case.reference.history[2].theta)


@pytest.mark.parametrize(("loss", "kind"), [(float("nan"), NonFiniteUpdateError), (9.0, LossSpikeError)])
def test_a_bad_loss_stops_before_anything_is_sent(tmp_path: Path, loss: float, kind: type[Exception]) -> None:
    case = Case(tmp_path, toy_manifest(max_loss=8.0))
    case.order(0)
    loop = case.loop()
    loop.begin()
    loop.prepare()
    loop.complete(8.0, 1)
    loop.prepare()
    with pytest.raises(kind, match="step 2: expected"):
        loop.complete(loss, 1)
    assert case.update(0) is None


def test_a_parameter_that_is_not_finite_is_not_sent(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest())
    case.order(0)
    loop = case.loop()
    loop.begin()
    loop.prepare()
    loop.complete(1.0, 1)
    loop.prepare()
    next(iter(case.trainer.parameters().values()))[0, 0] = np.inf
    loop.complete(1.0, 1)
    with pytest.raises(NonFiniteUpdateError, match="found 1 NaN or infinite elements"):
        loop.prepare()
    assert case.update(0) is None


def test_a_second_payload_for_a_round_is_refused(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest())
    case.order(0)
    case.train()
    update = case.update(0)
    assert update is not None
    write_record(case.allocation, A.update(0), replace(update, payload_digest="22" * 32))
    case.run.remove_tree("training")
    with pytest.raises(Exception, match="round 0: expected payload 2222"):
        case.train()


def test_an_execution_that_was_fenced_publishes_nothing(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest())
    case.order(0)
    loop = case.loop()
    loop.begin()
    while (rate := loop.prepare()) is not None:
        loop.complete(*case.trainer.take(rate))
        if loop.progress.window is not None and loop.progress.window.is_complete:
            write_record(case.allocation, A.owner, Claim(execution="test", fencing=7))
            break
    with pytest.raises(FencedError):
        loop.prepare()
    assert case.update(0) is None


def test_fencing_is_looked_at_between_training_checkpoint_and_payload(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest())
    case.order(0)

    def fence(name: str) -> None:
        if name == "job.after-training-checkpoint":
            write_record(case.allocation, A.owner, Claim(execution="test", fencing=7))

    failpoints.install(fence)
    try:
        with pytest.raises(FencedError):
            case.train()
    finally:
        failpoints.uninstall()
    assert not case.allocation.exists(A.payload(0))


class Scorer:
    """Counts batches; its score is the mean of all parameters."""

    def __init__(self) -> None:
        self.batches = 0

    def evaluate(self, parameters: Mapping[str, Float32Array]) -> Iterator[tuple[LanguageScore, ...] | None]:
        for _ in range(3):
            self.batches += 1
            yield None
        mean = float(np.mean([value.mean() for value in parameters.values()]))
        yield (LanguageScore(language="de", bits_per_byte=mean, num_bytes=self.batches),)


def evaluation(case: Case, number: int, *rounds: int) -> EvaluationOrder:
    chains: list[list[ChainLink]] = [[], []]
    for n in rounds:
        outcome = case.agent.outcome(n)
        chains[n % 2].append(
            ChainLink(version=outcome.version, blob_path=outcome.blob_path, theta_digest=outcome.theta_digest)
        )
    order = EvaluationOrder(
        id=number,
        request=0,
        num_commits=len(rounds),
        versions=tuple(chain[-1].version if chain else 0 for chain in chains),
        chains=tuple(map(tuple, chains)),
    )
    write_record(case.allocation, A.evaluation(number), order)
    return order


def with_scorer(case: Case, scorer: Scorer) -> InnerLoop:
    case.trainer = ToyTrainer("a")
    clock = RestingClock(lambda: case.on_rest())
    return toy_loop(case.manifest, case.theta0, case.trainer, case.allocation, case.run, clock, evaluator=scorer)


def test_a_waiting_job_evaluates_the_model_it_was_asked_for(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest())
    order = evaluation(case, 1, 0, 1, 2)
    evaluation(case, 2)
    train(with_scorer(case, Scorer()), case.trainer)
    result = read_record(case.allocation, A.evaluation_result(1), EvaluationFile)
    assert result is not None
    theta = [case.reference.history[2].theta, case.reference.history[1].theta]
    expected = float(np.mean([v.mean() for v in toy_parameters(case.manifest, theta).values()]))
    assert (result.versions, result.num_commits) == (order.versions, 3)
    assert result.scores[0].bits_per_byte == expected
    assert read_record(case.allocation, A.evaluation_result(2), EvaluationFile) is not None


def test_an_order_comes_before_the_rest_of_an_evaluation(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest())
    scorer = Scorer()
    evaluation(case, 1)
    loop = with_scorer(case, scorer)
    loop.begin()
    evaluations = loop._evaluations
    assert evaluations.advance()
    case.order(0)
    assert loop.prepare() is not None
    assert scorer.batches == 1


def test_a_job_that_never_waits_evaluates_after_p_windows(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest())
    case.order(*range(NUM_ROUNDS))
    case.end(*range(NUM_ROUNDS))
    evaluation(case, 1)
    loop = with_scorer(case, Scorer())
    loop.begin()
    while (rate := loop.prepare()) is not None and loop.progress.num_steps < 6:
        loop.complete(*case.trainer.take(rate))
    assert case.allocation.exists(A.evaluation_result(1))


def test_an_evaluation_whose_chain_ends_elsewhere_is_refused(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest())
    order = evaluation(case, 1, 0)
    write_record(case.allocation, A.evaluation(1), replace(order, versions=(3, 0)))
    with pytest.raises(ProtocolError, match=r"expected chains that end at versions \(3, 0\), found \(1, 0\)"):
        train(with_scorer(case, Scorer()), case.trainer)


def test_a_stop_finishes_evaluations_only_if_asked_to(tmp_path: Path) -> None:
    for finish in (False, True):
        case = Case(tmp_path, toy_manifest())
        evaluation(case, 1)
        write_record(case.allocation, A.stop, StopOrder(reason="paused", finish_evaluations=finish))
        loop = with_scorer(case, Scorer())
        train(loop, case.trainer)
        assert loop.ended is not None
        assert (loop.ended.code, loop.ended.reason) == (EndCode.STOPPED, "paused")
        assert case.allocation.exists(A.evaluation_result(1)) is finish


def test_the_wall_time_ends_a_job_before_it_is_over(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest())
    case.order(0)
    loop = case.train(seconds_limit=100, max_idle_seconds=1e9)
    assert loop.ended is not None
    assert loop.ended.code is EndCode.WALL_TIME
    assert 0 < case.report().seconds_left <= 20
    assert case.update(0) is not None


def test_the_report_tells_what_the_agent_needs(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest())
    case.order(0, 1)
    case.end(0)
    loop = case.train()
    report = case.report()
    assert (report.round, report.phase, report.applied) == (1, JobPhase.IDLE, (1, 0))
    assert report.idle_since > 0
    assert report.loss > 0
    assert report.seconds_left == -1
    assert loop.progress.in_flight[0].round == 1


def test_orders_for_another_generation_are_not_mixed_with_a_window_in_progress(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest())
    case.order(0)
    loop = case.loop()
    loop.begin(lambda: "sigterm" if loop.progress.num_steps else None)
    rate = loop.prepare()
    assert rate is not None
    loop.complete(*case.trainer.take(rate))
    assert loop.prepare() is None
    order: RoundOrder = replace(case.agent.order(0), generation=1)
    write_record(case.allocation, A.round_order(0), order)
    again = case.loop()
    again.begin()
    again.prepare()
    assert again.progress.window is not None
    assert (again.progress.window.step, again.progress.window.order.generation) == (0, 1)
    assert np.array_equal(again._exchange._local.read(0), case.theta0[0])
