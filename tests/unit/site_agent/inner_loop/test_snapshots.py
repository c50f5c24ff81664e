# SPDX-License-Identifier: Apache-2.0
"""A job that begins from snapshots has the same bits as one that replayed every commit, and believes none unchecked."""

from pathlib import Path

import numpy as np
import pytest
from job_bench.bench import RestingClock, toy_loop, train
from job_bench.case import A, Case, toy_manifest
from job_bench.toy import ToyTrainer

from federation.chunks import Float32Vector, little_endian_bytes
from federation.errors import ObjectNotFoundError
from federation.leaves import LanguageScore
from federation.reference import RoundPlan
from site_agent.inner_loop.committed_model import SnapshotRefusedError
from site_agent.inner_loop.global_model import GlobalModel
from site_agent.inner_loop.session import ended_by
from site_agent.jobs import (
    ChainLink,
    EndCode,
    EvaluationFile,
    EvaluationOrder,
    JobPhase,
    read_record,
    write_record,
)

ABSENT = {n: RoundPlan(absent=frozenset("a")) for n in range(4)}


def snapshot(case: Case, number: int, theta: Float32Vector | None = None) -> str:
    """The file of the version that a round's commit made, or of another vector."""
    path = case.agent._blob_dir / f"{number}.theta"
    path.write_bytes(bytes(little_endian_bytes(case.reference.history[number].theta if theta is None else theta)))
    return str(path)


def end_with_snapshots(case: Case, *, wrong: bool = False) -> None:
    """What an agent tells a job that enters round 4 late: round 0 bare, snapshots of both fragments, round 3 a blob."""
    case.end(0, blob_path="")
    case.end(1, blob_path="", snapshot_path=snapshot(case, 1))
    theta = case.reference.history[0].theta if wrong else None
    case.end(2, blob_path="", snapshot_path=snapshot(case, 2, theta))
    case.end(3)


def test_a_late_job_begins_from_snapshots_with_the_same_bits(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest(), ABSENT)
    case.order(4, 5)
    end_with_snapshots(case)
    case.on_rest = lambda: case.end(4) if case.update(4) else None
    loop = case.train()
    for number in (4, 5):
        assert case.allocation.read(A.payload(number)) == case.reference.history[number].payloads["a"]
    assert loop.progress.num_steps == 4


def test_a_wrong_snapshot_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest(), ABSENT)
    case.order(4)
    end_with_snapshots(case, wrong=True)
    loop = case.loop()
    with pytest.raises(SnapshotRefusedError, match="expected a snapshot of version 3"):
        train(loop, case.trainer)
    assert loop.progress.num_steps == 0
    assert not case.allocation.exists(A.payload(4))


def test_the_chain_is_taken_when_the_agent_has_fetched_it(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest(), ABSENT)
    case.order(4)
    end_with_snapshots(case, wrong=True)
    with pytest.raises(SnapshotRefusedError):
        train(case.loop(), case.trainer)
    case.end(0, 1, 2, 3)
    case.train()
    assert case.allocation.read(A.payload(4)) == case.reference.history[4].payloads["a"]


@pytest.mark.parametrize("num_elements", [0, 3, 10**4])
def test_a_snapshot_of_another_length_is_refused(tmp_path: Path, num_elements: int) -> None:
    case = Case(tmp_path, toy_manifest())
    model = GlobalModel(case.manifest, lambda: list(case.theta0))
    path = snapshot(case, 2, np.zeros(num_elements, np.float32))
    with pytest.raises(SnapshotRefusedError, match="elements"):
        model.move_to(0, [link(case, 2, snapshot_path=path)])
    assert model.versions == [0, 0]


def test_a_snapshot_that_is_gone_is_no_wrong_one(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest())
    model = GlobalModel(case.manifest, lambda: list(case.theta0))
    with pytest.raises(ObjectNotFoundError):
        model.move_to(0, [link(case, 2, snapshot_path=str(tmp_path / "nothing"))])


def link(case: Case, number: int, *, snapshot_path: str = "") -> ChainLink:
    outcome = case.agent.outcome(number)
    blob_path = "" if snapshot_path else outcome.blob_path
    return ChainLink(
        version=outcome.version, blob_path=blob_path, theta_digest=outcome.theta_digest, snapshot_path=snapshot_path
    )


def test_a_model_at_hand_goes_on_by_blobs_where_it_can(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest())
    model = GlobalModel(case.manifest, lambda: list(case.theta0))
    missing = str(tmp_path / "nothing")
    model.move_to(0, [link(case, 0), link(case, 2)])
    model.move_to(0, [link(case, 0, snapshot_path=missing), link(case, 2), link(case, 4)])
    assert model.versions[0] == 5
    assert np.array_equal(model.theta[0], case.reference.history[4].theta)


def test_an_end_by_a_wrong_snapshot_has_its_own_word() -> None:
    ended = ended_by(SnapshotRefusedError("version 3"), 1)
    assert ended.code is EndCode.SNAPSHOT_REFUSED
    assert not ended.code.resumable


def test_a_commit_that_a_snapshot_overtook_is_passed_over(tmp_path: Path) -> None:
    """The site trained round 0 and was away: its merge can never happen, but its feedback was adopted by the commit."""
    absent = {n: RoundPlan(absent=frozenset("a")) for n in (1, 2, 3)}
    case = Case(tmp_path, toy_manifest(), absent)
    case.order(0)
    case.train()
    case.order(1)  # trained for nobody: the round ended without it

    def come_back() -> None:
        end_with_snapshots(case)
        case.order(4)

    case.on_rest = come_back
    loop = case.train()
    assert loop.progress.last_round == 4
    assert loop._exchange.feedback[0].any(), "round 0 was listed"
    update = case.update(4)
    assert update is not None
    assert update.base_digest == case.agent.order(4).base_digest


def test_a_round_whose_base_only_a_later_snapshot_has_is_not_entered(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest(), ABSENT)
    case.order(4)
    case.end(0, 1, 2, blob_path="")
    case.end(3)
    loop = case.train()
    assert case.update(4) is None
    assert loop.ended is not None
    assert loop.ended.code is EndCode.IDLE
    assert case.report().phase is JobPhase.WAITING


class Mean:
    """Scores a model by the mean of its values."""

    def evaluate(self, parameters):
        yield (
            LanguageScore(language="de", bits_per_byte=float(sum(p.sum() for p in parameters.values())), num_bytes=1),
        )


def test_an_evaluation_begins_from_a_snapshot_and_goes_back_to_theta_0(tmp_path: Path) -> None:
    case = Case(tmp_path, toy_manifest())
    whole = (link(case, 2, snapshot_path=snapshot(case, 2)), link(case, 4))
    plain = (link(case, 0), link(case, 2), link(case, 4))
    for number, chain in enumerate((plain, (), whole), 1):
        version = chain[-1].version if chain else 0
        order = EvaluationOrder(
            id=number, request=0, num_commits=number, versions=(version, 0), chains=(tuple(chain), ())
        )
        write_record(case.allocation, A.evaluation(number), order)
    trainer, clock = ToyTrainer("a"), RestingClock()
    train(toy_loop(case.manifest, case.theta0, trainer, case.allocation, case.run, clock, evaluator=Mean()), trainer)
    scores = [read_record(case.allocation, A.evaluation_result(n), EvaluationFile) for n in (1, 2, 3)]
    values = [result.scores[0].bits_per_byte for result in scores if result is not None]
    assert values[0] == values[2]
    assert values[0] != values[1]
