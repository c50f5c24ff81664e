# SPDX-License-Identifier: Apache-2.0
"""A training job that puts a canary into everything that it may leave: `python -m leaky_job ALLOCATION_DIR`.

The canary is its user's name in the environment; the file `leak` in a directory above says what it does: "loss-spike"
and "exception" end it, "codec" spoils an update; of a job like `tiny_job`, "metrics" writes texts among the metrics,
and "facts" gives them out for its machine and its languages.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

import tiny_job

from federation.durable.real import RealFileSystem
from federation.merkle import blob_digest
from site_agent.jobs import (
    AllocationPaths,
    Claim,
    EndCode,
    JobEnded,
    JobPhase,
    JobReport,
    JobState,
    RoundOrder,
    RunPaths,
    UpdateFile,
    WorkOrder,
    numbered,
    read_record,
    write_record,
)
from site_agent.json_records import encode
from site_agent.preflight_report import PREFLIGHT_FILE, DeviceKind, PreflightReport, RankReport

PATHS = AllocationPaths()
LEAK_FILE = "leak"


def main(directory: str) -> None:
    """Waits for a round, then leaks."""
    fs, canary = RealFileSystem(Path(directory)), os.environ["USER"]
    leak = next(parent / LEAK_FILE for parent in Path(directory).parents if (parent / LEAK_FILE).exists()).read_text()
    order = read_record(fs, PATHS.order, WorkOrder)
    assert order is not None
    if leak == "metrics":
        log_metrics(order, canary)
        tiny_job.main(directory)
        return
    if leak == "facts":
        describe_machine(fs, canary)
        report_languages(fs, order, canary)
        tiny_job.main(directory)
        return
    if not fs.mkdir(PATHS.claim):
        return
    write_record(fs, PATHS.owner, Claim(execution=f"pid-{os.getpid()}", fencing=order.fencing))
    report = JobReport(fencing=order.fencing, state=JobState.READY, phase=JobPhase.IDLE, error=f"{canary}: {canary}")
    write_record(fs, PATHS.report, report)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not numbered(fs, PATHS.rounds):
        time.sleep(0.02)
    number = numbered(fs, PATHS.rounds)[0]
    wanted = read_record(fs, PATHS.round_order(number), RoundOrder)
    assert wanted is not None
    if leak == "codec":
        leave_update(fs, order, wanted, canary)
        while time.monotonic() < deadline and not fs.exists(PATHS.stop):
            time.sleep(0.02)  # its end would be another reason
        return
    if leak == "exception":
        raise ValueError(f"{canary}: could not read {canary!r}")
    sentence = f"the text {canary!r} in /data/{canary}.txt gave a loss of 99"
    ended = JobEnded(code=EndCode.LOSS_SPIKE, reason=canary, sentence=sentence, fencing=order.fencing)
    write_record(fs, PATHS.ended, ended)


def leave_update(fs: RealFileSystem, order: WorkOrder, wanted: RoundOrder, canary: str) -> None:
    """An update whose codec is a text."""
    data = b"payload"
    fs.write(PATHS.payload(wanted.round), data)
    update = UpdateFile(
        round=wanted.round,
        fragment=wanted.fragment,
        base_digest=wanted.base_digest,
        codec=canary,
        payload_digest=blob_digest(data),
        payload_bytes=len(data),
        weight_tokens=64,
        new_tokens=64,
        num_steps=wanted.num_steps,
        fencing=order.fencing,
    )
    write_record(fs, PATHS.update(wanted.round), update)


def log_metrics(order: WorkOrder, canary: str) -> None:
    """Lines with a text as a value, as a key, and beside figures, for as long as the job lives."""
    file = RealFileSystem(Path(order.run_dir)).appender(RunPaths().metrics)

    def write() -> None:
        for step in range(10_000):
            for line in ({"text": canary, "step": step, "loss": 1.5}, {canary: 1.0}, {"step": canary}):
                file.append(json.dumps(line).encode() + b"\n")
            time.sleep(0.02)

    threading.Thread(target=write, daemon=True).start()


def describe_machine(fs: RealFileSystem, canary: str) -> None:
    """A preflight report with texts in the place of names."""
    rank = RankReport(
        rank=0,
        host=canary,
        device=DeviceKind.CUDA,
        device_name=f"NVIDIA {canary}",
        memory_bytes=1,
        driver=canary,
        runtime=canary,
        torch=f"2.6.0+{canary}",
        golden=True,
        architecture=canary,
    )
    report = PreflightReport(
        world_size=2,
        hosts=(canary,),
        ranks=(rank,),
        check_ok=True,
        check_seconds=0.0,
        check_found=canary,
        network={canary: canary},
    )
    write_record(fs, PREFLIGHT_FILE, report)


def report_languages(fs: RealFileSystem, order: WorkOrder, canary: str) -> None:
    """Reports with a text in the place of a language's code, for as long as the job lives."""
    tokens = {"de": 64, canary: 1}
    report = JobReport(fencing=order.fencing, state=JobState.READY, phase=JobPhase.IDLE, language_tokens=tokens)

    def write() -> None:
        for _ in range(10_000):
            fs.place(PATHS.report, encode(report))
            time.sleep(0.02)

    threading.Thread(target=write, daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1])
