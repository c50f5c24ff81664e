# SPDX-License-Identifier: Apache-2.0
"""What a snapshot holds stands still, memory is used again when nobody reads it, and digests are compared in time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_bench.bench import RestingClock, toy_loop
from job_bench.case import Case, toy_manifest
from job_bench.late_writer import LateWriter
from job_bench.toy import ToyTrainer

from federation.errors import DigestMismatchError, MalformedPayloadError
from federation.merkle import blob_digest
from site_agent.inner_loop import global_model
from site_agent.inner_loop.exchange import Exchange
from site_agent.inner_loop.global_model import GlobalModel
from site_agent.inner_loop.loop import InnerLoop
from site_agent.inner_loop.parameters import LocalParameters
from site_agent.inner_loop.progress import InFlight
from site_agent.inner_loop.spares import SpareVectors
from site_agent.inner_loop.spool import link_of
from site_agent.jobs import ChainLink, UpdateFile


class Site:
    """Site a's exchange, driven by hand through rounds of fragment 0 as the oracle had them."""

    def __init__(self, case: Case, check_every: int = 1) -> None:
        self.case, self.trainer = case, ToyTrainer("a")
        self.model = GlobalModel(case.manifest, lambda: list(case.theta0), check_every=check_every)
        self.exchange = Exchange(
            case.manifest, self.model, LocalParameters(self.trainer.local_shards, case.manifest.fragments)
        )
        self.exchange.begin()

    def encode(self, number: int) -> None:
        self.exchange.encode(number, 0)

    def merge(self, number: int, *, listed: bool = True, **changes: str) -> None:
        outcome = self.case.agent.outcome(number)
        digest = "ab" * 32
        update = UpdateFile(
            round=number,
            fragment=0,
            base_digest="",
            codec="",
            payload_digest=digest,
            payload_bytes=0,
            weight_tokens=0,
            new_tokens=0,
            num_steps=0,
            fencing=0,
        )
        fields = {**vars(outcome), "listed_payload_digest": digest if listed else "", **changes}
        self.exchange.merge(InFlight(round=number, update=update), type(outcome)(**fields), lambda: self.chain(number))

    def chain(self, number: int) -> list[ChainLink]:
        return [link_of(self.case.agent.outcome(j)) for j in range(0, number + 1, 2)]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path, toy_manifest())


@pytest.mark.parametrize("check_every", [1, 9])
def test_what_is_lent_stands_still_until_it_is_returned(case: Case, check_every: int) -> None:
    site = Site(case, check_every)
    site.encode(0)
    site.merge(0)
    site.encode(2)
    lent = site.exchange.lend()
    before = {(part, name): t.clone() for part, tensors in lent.items() for name, t in tensors.items()}
    assert {part for part, _ in before} == {"local", "theta", "feedback", "candidates", "payloads"}
    for number in (2, 4):
        site.merge(number)
        site.trainer.take(0.1)
        site.encode(number + 2)
    for (part, name), tensor in before.items():
        assert lent[part][name].equal(tensor), f"{part} {name}"


def test_memory_that_no_longer_counts_is_used_again(case: Case) -> None:
    site, used = Site(case), set[int]()
    for number in (0, 2, 4):
        site.encode(number)
        used.add(site.exchange.candidates[number].ctypes.data)
        site.merge(number)
        used.add(site.model.theta[0].ctypes.data)
        site.exchange.lend()
        site.exchange.returned()
    assert len(used) == 3, "a theta, an error feedback and the next of either, whatever the number of rounds"


def test_a_payload_is_overwritten_only_after_its_file_is_complete(case: Case) -> None:
    site, payloads = Site(case), []
    for number in (0, 2, 4):
        site.encode(number)
        payloads.append(site.exchange.payloads[number])
        site.merge(number)
        if number:
            site.exchange.all_is_written()
    assert payloads[1] is not payloads[0]
    assert any(payloads[2] is earlier for earlier in payloads[:2])


def test_nothing_is_overwritten_while_a_file_is_being_written(case: Case) -> None:
    writer = LateWriter(2)
    loop = toy_loop(
        case.manifest, case.theta0, ToyTrainer("a"), case.allocation, case.run, RestingClock(), writer=writer
    )
    left = loop._exchange._left
    left.append(np.zeros(5, np.uint8))
    writer.submit(lambda: None)
    loop._publisher.check()
    assert (writer.is_busy, len(left)) == (True, 1)
    writer.flush()
    loop._publisher.check()
    assert not left


def test_a_payload_of_a_training_checkpoint_is_left_alone(case: Case) -> None:
    site = Site(case)
    site.encode(0)
    lent = site.exchange.lend()
    site.exchange.returned()
    site.exchange.restore(lent, site.model.versions, site.model.digests)
    restored = site.exchange.payloads[0]
    site.merge(0)
    site.exchange.all_is_written()
    site.encode(2)
    assert not np.shares_memory(site.exchange.payloads[2], restored)


def test_a_payload_goes_to_its_file_part_by_part(case: Case) -> None:
    site, parts = Site(case), list[bytes]()
    payload, digest = site.exchange.encode(0, 0, lambda part: parts.append(bytes(part)))
    assert b"".join(parts) == payload.tobytes()
    assert digest == blob_digest(payload.data)


def test_memory_that_somebody_else_gave_is_left_alone(case: Case) -> None:
    kept = [theta.copy() for theta in case.theta0]
    site = Site(case, check_every=9)
    for number in (0, 2, 4):
        site.encode(number)
        site.merge(number)
    Site(case).model.move_to(0, site.chain(4))
    assert all(np.array_equal(a, b) for a, b in zip(case.theta0, kept, strict=True))
    restored = site.model.theta[0]
    site.model.restore([restored, site.model.theta[1]], [3, 0], site.model.digests)
    copy = restored.copy()
    site.merge(4)
    assert np.array_equal(restored, copy)


def test_feedback_is_adopted_only_of_a_listed_payload(case: Case) -> None:
    site = Site(case)
    site.encode(0)
    site.merge(0, listed=False)
    assert not site.exchange.feedback[0].any()
    site.trainer.take(0.1)
    site.encode(2)
    candidate = site.exchange.candidates[2]
    site.merge(2)
    assert site.exchange.feedback[0] is candidate
    assert not site.exchange.candidates
    assert not site.exchange.payloads


def test_one_of_so_many_commits_is_compared_and_the_first_of_an_execution(case: Case) -> None:
    wrong = "11" * 32
    site = Site(case, check_every=2)
    with pytest.raises(DigestMismatchError, match="fragment 0 after commit 1: expected digest 1111"):
        site.model.advance(0, ChainLink(version=1, blob_path=case.agent.outcome(0).blob_path, theta_digest=wrong))
    site.merge(0)
    site.merge(2, theta_digest=wrong)
    assert site.model.digests[0] == wrong
    site.merge(4)
    assert np.array_equal(site.model.theta[0], case.reference.history[4].theta)


@pytest.mark.parametrize("check_every", [1, 2, 9])
def test_the_bits_do_not_depend_on_how_often_they_are_compared(case: Case, check_every: int) -> None:
    site = Site(case, check_every)
    for number in (0, 2, 4):
        site.trainer.take(0.1)
        site.encode(number)
        site.merge(number)
    other = Site(case)
    for number in (0, 2, 4):
        other.trainer.take(0.1)
        other.encode(number)
        other.merge(number)
    for name, value in other.trainer.parameters().items():
        assert np.array_equal(site.trainer.parameters()[name], value)


def test_a_copy_that_went_wrong_is_found_at_the_next_comparison(case: Case) -> None:
    site = Site(case, check_every=2)
    site.merge(0)
    site.model.theta[0][3] += np.float32(1)
    site.merge(2)
    assert not np.array_equal(site.model.theta[0], case.reference.history[2].theta)
    site.merge(4)
    assert np.array_equal(site.model.theta[0], case.reference.history[4].theta)


def test_a_comparison_needs_no_second_vector(case: Case) -> None:
    site = Site(case, check_every=1)
    site.merge(0)
    theta = site.model.theta[0]
    site.merge(2)
    assert site.model.theta[0] is theta
    assert np.array_equal(theta, case.reference.history[2].theta)


@pytest.mark.parametrize("check_every", [1, 9])
def test_a_vector_in_which_a_pass_was_broken_off_is_no_version(
    case: Case, check_every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(case, check_every)
    site.merge(0)

    def broken_off(*arguments: Any, **more: Any) -> str:
        arguments[3][:5] = 7.0
        raise MalformedPayloadError("broken off")

    with monkeypatch.context() as patch:
        patch.setattr(global_model, "apply_blob_into", broken_off)
        with pytest.raises(MalformedPayloadError):
            site.merge(2)
    site.model.move_to(0, [link_of(case.agent.outcome(0))])
    assert np.array_equal(site.model.theta[0], case.reference.history[0].theta)


def test_a_blob_of_another_length_is_refused(case: Case) -> None:
    site = Site(case)
    outcome = case.agent.outcome(0)
    path = Path(outcome.blob_path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(MalformedPayloadError, match=r"int8: expected \d+ bytes for \d+ elements, found"):
        site.model.advance(0, link_of(outcome))
    assert site.model.versions == [0, 0]


def test_a_job_goes_on_training_while_it_writes(case: Case) -> None:
    writer = LateWriter(10**6)
    case.order(0, 1, 2)
    case.end(0, 1)
    trainer = ToyTrainer("a")
    loop = toy_loop(case.manifest, case.theta0, trainer, case.allocation, case.run, RestingClock(), writer=writer)
    loop.begin()
    while (rate := loop.prepare()) is not None and trainer.cursor < 3:
        loop.complete(*trainer.take(rate))
    assert writer.is_busy
    assert case.update(0) is None
    assert loop.progress.last_round == 0
    train_on(loop, trainer, rate)
    for number in range(3):
        update = case.update(number)
        assert update is not None
        assert case.allocation.read(f"updates/{number}.payload") == case.reference.history[number].payloads["a"]


def train_on(loop: InnerLoop, trainer: ToyTrainer, rate: float | None) -> None:
    while rate is not None:
        loop.complete(*trainer.take(rate))
        rate = loop.prepare()


def test_spares_are_used_again_only_for_the_same_length() -> None:
    spares = SpareVectors()
    vector = np.zeros(5, np.float32)
    spares.give(vector)
    assert spares.take(4).size == 4
    assert spares.take(5) is vector
    for _ in range(9):
        spares.give(np.zeros(5, np.float32))
    assert len(spares._spares[5]) == 2
    spares.is_lent = True
    assert spares.take(5) is not spares._spares[5][-1]
    assert len(spares._spares[5]) == 2
