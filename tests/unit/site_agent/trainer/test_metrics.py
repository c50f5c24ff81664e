# SPDX-License-Identifier: Apache-2.0
"""Step metrics survive crashes line by line."""

from federation.durable.simulated import SimulatedFileSystem
from site_agent.trainer.metrics import MetricsLog, read_metrics


def test_lines_follow_each_other_over_restarts() -> None:
    fs = SimulatedFileSystem()
    for step in range(3):
        log = MetricsLog(fs, "metrics.jsonl")
        log.write(step=step, loss=0.5)
        log.sync()
    assert [line["step"] for line in read_metrics(fs.read("metrics.jsonl"))] == [0, 1, 2]


def test_a_torn_line_spoils_no_other() -> None:
    fs = SimulatedFileSystem()
    fs.write("metrics.jsonl", b'{"step": 1}\n{"st')
    MetricsLog(fs, "metrics.jsonl").write(step=2)
    assert [line["step"] for line in read_metrics(fs.read("metrics.jsonl"))] == [1, 2]
