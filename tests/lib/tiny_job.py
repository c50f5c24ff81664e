# SPDX-License-Identifier: Apache-2.0
"""A training job that trains nothing: it speaks the job protocol over real files, in a process of its own.

`python -m tiny_job ALLOCATION_DIR`. The payload of round k is a fixed text, so that every execution leaves the same.
"""

import os
import sys
import time
from pathlib import Path

from federation.durable.real import RealFileSystem
from federation.leaves import LanguageScore
from federation.merkle import blob_digest
from site_agent.jobs import (
    AllocationPaths,
    Claim,
    EndCode,
    EvaluationFile,
    EvaluationOrder,
    JobEnded,
    JobPhase,
    JobReport,
    JobState,
    RoundOrder,
    StopOrder,
    UpdateFile,
    WorkOrder,
    numbered,
    read_record,
    write_record,
)

PATHS = AllocationPaths()


def payload_of(round_number: int) -> bytes:
    """What this job 'encodes' for a round."""
    return f"payload of round {round_number}".encode()


def answer_rounds(fs: RealFileSystem, order: WorkOrder) -> None:
    """Leaves an update for every round order that has none."""
    done = set(numbered(fs, PATHS.updates))
    for number in numbered(fs, PATHS.rounds):
        if number in done:
            continue
        wanted = read_record(fs, PATHS.round_order(number), RoundOrder)
        assert wanted is not None
        data = payload_of(number)
        fs.write(PATHS.payload(number), data)
        update = UpdateFile(
            round=number,
            fragment=wanted.fragment,
            base_digest=wanted.base_digest,
            codec="fp32",
            payload_digest=blob_digest(data),
            payload_bytes=len(data),
            weight_tokens=64,
            new_tokens=64,
            num_steps=wanted.num_steps,
            fencing=order.fencing,
        )
        write_record(fs, PATHS.update(number), update)


def answer_evaluations(fs: RealFileSystem) -> None:
    """Leaves scores for every evaluation order that has none."""
    done = set(numbered(fs, PATHS.evaluations, ".result.json"))
    for number in numbered(fs, PATHS.evaluations):
        wanted = read_record(fs, PATHS.evaluation(number), EvaluationOrder)
        if wanted is None or number in done:
            continue
        scores = (LanguageScore(language="de", bits_per_byte=2.0, num_bytes=100),)
        result = EvaluationFile(
            id=number,
            request=wanted.request,
            num_commits=wanted.num_commits,
            versions=wanted.versions,
            scores=scores,
        )
        write_record(fs, PATHS.evaluation_result(number), result)


def main(directory: str) -> None:
    """Works until told to stop."""
    fs = RealFileSystem(Path(directory))
    order = read_record(fs, PATHS.order, WorkOrder)
    assert order is not None
    claim = Claim(execution=f"pid-{os.getpid()}", fencing=order.fencing)
    if not fs.mkdir(PATHS.claim):
        return
    write_record(fs, PATHS.owner, claim)
    write_record(fs, PATHS.report, JobReport(fencing=order.fencing, state=JobState.READY, phase=JobPhase.IDLE))
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        answer_rounds(fs, order)
        answer_evaluations(fs)
        if read_record(fs, PATHS.stop, StopOrder) is not None:
            ended = JobEnded(code=EndCode.STOPPED, reason="stop", sentence="told to stop", fencing=order.fencing)
            write_record(fs, PATHS.ended, ended)
            return
        time.sleep(0.02)


if __name__ == "__main__":
    main(sys.argv[1])
