# SPDX-License-Identifier: Apache-2.0
"""Every journal entry has a sentence for the log: no class names, no digests in full."""

from typing import get_args

import pytest
from agent_situations import RUN, digest_of

from federation.leaves import Reason
from site_agent.entries import (
    AllocationAccounted,
    AllocationEnded,
    AllocationSubmitted,
    Entry,
    ManifestAnswered,
    RoundRefused,
)
from site_agent.entry_text import sentence

SENTENCES = [
    (
        ManifestAnswered(run=RUN, manifest_digest=digest_of("m"), accepted=True, reason=Reason.NONE, sentence="listed"),
        f"run {RUN}: this site's policy accepted manifest {digest_of('m')[:12]}: listed",
    ),
    (
        AllocationSubmitted(run=RUN, number=2, handle="77", at_us=1),
        f"run {RUN}: job a2 was started, the launcher calls it 77",
    ),
    (
        AllocationEnded(run=RUN, number=2, failed=True, reason="job-failed", sentence="no data", at_us=1),
        f"run {RUN}: job a2 FAILED: job-failed: no data",
    ),
    (
        AllocationEnded(run=RUN, number=2, failed=False, reason="stopped", sentence="", at_us=1),
        f"run {RUN}: job a2 ended: stopped",
    ),
    (
        AllocationAccounted(run=RUN, number=2, elapsed_seconds=90.0, num_gpus=4, at_us=1),
        f"run {RUN}: job a2 used 90 seconds on 4 GPUs, by the batch system's accounts",
    ),
    (
        RoundRefused(run=RUN, round=4, reason=Reason.JOB_FAILED, sentence="twice"),
        f"run {RUN} round 4: no update from here ({Reason.JOB_FAILED.value}): twice",
    ),
]


@pytest.mark.parametrize("kind", get_args(Entry))
def test_every_entry_has_a_sentence(kind: type) -> None:
    assert sentence.dispatch(kind) is not sentence.dispatch(object)


@pytest.mark.parametrize(("entry", "words"), SENTENCES)
def test_sentences(entry: Entry, words: str) -> None:
    assert sentence(entry) == words
