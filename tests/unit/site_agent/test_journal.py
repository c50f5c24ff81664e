# SPDX-License-Identifier: Apache-2.0
"""The private journal: what was appended is there after a crash, whole; damage is never taken for a torn end."""

from dataclasses import replace

import pytest
from agent_situations import RUN, SITE, digest_of

from federation.durable.simulated import SimulatedCrash, SimulatedFileSystem
from federation.errors import CorruptObjectError, InvalidTransition
from federation.leaves import LanguageScore, Reason, TaskScore
from federation.messages import Evaluation, TaskEvaluation, Update
from site_agent.agent_state import fold
from site_agent.entries import (
    AllocationEnded,
    AllocationIntended,
    AllocationStopped,
    AllocationSubmitted,
    Cosigned,
    Entry,
    EpochBegan,
    EvaluationSigned,
    ManifestAnswered,
    PayloadDropped,
    Posted,
    RoundIssued,
    RoundRefused,
    TasksSigned,
    UpdateSigned,
)
from site_agent.journal import Journal

UPDATE = Update(
    consortium="test",
    run=RUN,
    manifest_digest=digest_of("m"),
    round=3,
    fragment=0,
    base_digest=digest_of("b"),
    site=SITE,
    allocation="a1",
    codec="fp32",
    weight_tokens=1,
    new_tokens=1,
    num_steps=4,
    payload_digest=digest_of("p"),
    payload_bytes=5,
)
EVALUATION = Evaluation(
    run=RUN,
    site=SITE,
    request=0,
    num_commits=1,
    versions=(1, 0),
    scores=(LanguageScore(language="de", bits_per_byte=2.5, num_bytes=7),),
)
TASKS = TaskEvaluation(
    run=RUN,
    site="alpha",
    request=0,
    num_commits=0,
    versions=(0,),
    scores=(
        TaskScore(
            task="quiz", language="de", task_version="1", metric="acc", num_items=9, score=0.5, low=0.2, high=0.8
        ),
    ),
)
ONE_OF_EACH: tuple[Entry, ...] = (
    EpochBegan(epoch=1),
    ManifestAnswered(run=RUN, manifest_digest=digest_of("m"), accepted=True, reason=Reason.NONE, sentence="yes"),
    AllocationIntended(run=RUN, number=1, fencing=1, at_us=1),
    AllocationSubmitted(run=RUN, number=1, handle="h", at_us=2),
    RoundIssued(run=RUN, round=3, allocation=1),
    UpdateSigned(update=UPDATE, at_us=3),
    EvaluationSigned(evaluation=EVALUATION, allocation=1),
    TasksSigned(evaluation=TASKS, allocation=1, problems=("one has no file",)),
    RoundRefused(run=RUN, round=4, reason=Reason.JOB_FAILED, sentence="no"),
    AllocationStopped(run=RUN, number=1, reason="refused", at_us=4),
    AllocationEnded(run=RUN, number=1, failed=False, reason="stopped", sentence="", at_us=5),
    Cosigned(size=3, root=digest_of("r")),
    Posted(key="k"),
    PayloadDropped(run=RUN, round=3),
)


def test_every_entry_comes_back() -> None:
    fs = SimulatedFileSystem()
    journal = Journal(fs)
    for entry in ONE_OF_EACH:
        journal.append([entry])
    again = Journal(fs.crash())
    assert again.state == journal.state == fold(ONE_OF_EACH)
    assert again.state.signed[RUN, 3, 0, digest_of("b")] == UPDATE
    assert again.state.allocations[RUN][0].delivered


@pytest.mark.parametrize("seed", range(10))
def test_a_torn_batch_is_cut_and_those_before_it_stay(seed: int) -> None:
    fs = SimulatedFileSystem(seed)
    Journal(fs).append(ONE_OF_EACH[:3])
    journal = Journal(fs)

    def crash_at_sync(step: str, path: str) -> None:
        if step == "sync-file":
            raise SimulatedCrash(path)

    fs.hook = crash_at_sync
    with pytest.raises(SimulatedCrash):
        journal.append(ONE_OF_EACH[3:])
    after = fs.crash()
    assert Journal(after).state in (fold(ONE_OF_EACH[:3]), fold(ONE_OF_EACH))
    Journal(after).append([Posted(key="later")])
    assert "later" in Journal(after.crash()).state.posted


@pytest.mark.parametrize("position", [0, 3, 5, 20])
def test_damage_before_whole_batches_is_refused(position: int) -> None:
    fs = SimulatedFileSystem()
    journal = Journal(fs)
    for entry in ONE_OF_EACH:
        journal.append([entry])
    data = bytearray(fs.read("state/journal"))
    data[position] ^= 1
    fs.write("state/journal", bytes(data))
    with pytest.raises(CorruptObjectError, match="expected whole records"):
        Journal(fs)


def test_a_second_digest_never_reaches_the_disk() -> None:
    fs = SimulatedFileSystem()
    journal = Journal(fs)
    journal.append(ONE_OF_EACH[:6])
    before = fs.read("state/journal")
    with pytest.raises(InvalidTransition):
        journal.append([UpdateSigned(update=replace(UPDATE, payload_digest=digest_of("other")), at_us=9)])
    assert fs.read("state/journal") == before
    journal.append([UpdateSigned(update=UPDATE, at_us=9)])


@pytest.mark.parametrize(
    "entries",
    [
        [AllocationSubmitted(run=RUN, number=1, handle="h", at_us=2)],
        [*ONE_OF_EACH[:3], AllocationIntended(run=RUN, number=2, fencing=2, at_us=1)],
        [Cosigned(size=3, root=digest_of("r")), Cosigned(size=3, root=digest_of("other"))],
        [Cosigned(size=3, root=digest_of("r")), Cosigned(size=2, root=digest_of("r"))],
    ],
    ids=["submitted without intent", "two live allocations", "another root", "a smaller size"],
)
def test_impossible_entries_are_our_own_bug(entries: list[Entry]) -> None:
    with pytest.raises(InvalidTransition):
        fold(entries)
