# SPDX-License-Identifier: Apache-2.0
"""What a report says besides the step: since when the job is ready, and what it has trained on."""

from types import SimpleNamespace
from typing import cast

import pytest
from job_bench.bench import RestingClock, work_order

from site_agent.inner_loop.patience import Patience
from site_agent.inner_loop.progress import Progress
from site_agent.inner_loop.reporter import Reporter
from site_agent.inner_loop.spool import JobSpool
from site_agent.jobs import Claim, EndCode, JobEnded, JobPhase, JobReport, JobState
from site_agent.trainer.metrics import MetricsLog


class Bench:
    """A reporter, its clock, and a counter."""

    def __init__(self) -> None:
        self.clock, self.tokens = RestingClock(), {"de": 1}
        self.reports: list[JobReport] = []
        spool = cast(JobSpool, SimpleNamespace(claim=Claim(execution="test", fencing=1)))
        patience = Patience(work_order(), self.clock)
        metrics = cast(MetricsLog, None)
        self.reporter = Reporter(spool, metrics, patience, self.reports.append, lambda: self.tokens)

    def report(self) -> JobReport:
        self.reporter.report(JobPhase.IDLE, Progress(tokens_at_boundary=(0,)), (0,))
        return self.reports[-1]


def ended(code: EndCode) -> JobEnded:
    return JobEnded(code=code, reason="r", sentence="because", fencing=1)


def test_ready_is_when_the_first_report_was_made() -> None:
    bench = Bench()
    began = bench.report()
    bench.clock.sleep(100.0)
    later = bench.report()
    assert (began.ready_at, later.ready_at) == (1_000_000.0, 1_000_000.0)
    assert later.updated_at == 1_000_100.0


def test_tokens_are_those_of_the_moment_and_no_later_ones() -> None:
    bench = Bench()
    report = bench.report()
    bench.tokens["de"] = 7
    assert report.language_tokens == {"de": 1}
    bench.clock.sleep(10.0)
    assert bench.report().language_tokens == {"de": 7}


@pytest.mark.parametrize(("code", "tokens", "error"), [(EndCode.STOPPED, 9, ""), (EndCode.NON_FINITE, 1, "because")])
def test_the_last_report_has_all_that_was_trained_unless_a_step_failed(code: EndCode, tokens: int, error: str) -> None:
    bench = Bench()
    bench.report()
    bench.tokens = {"de": 9}
    found = bench.reporter.final(ended(code), 1_000_050.0)
    assert (found.state, found.language_tokens, found.error) == (JobState.ENDED, {"de": tokens}, error)
    assert (found.ready_at, found.updated_at) == (1_000_000.0, 1_000_050.0)


def test_a_job_that_was_never_ready_says_neither() -> None:
    found = Bench().reporter.final(ended(EndCode.FAILED), 1.0)
    assert (found.ready_at, found.language_tokens) == (0.0, {})
