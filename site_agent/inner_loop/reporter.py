# SPDX-License-Identifier: Apache-2.0
"""What a job tells its agent while it works: an overwritten report, and step metrics."""

from collections.abc import Callable, Mapping, Sequence

from site_agent.inner_loop.patience import Patience
from site_agent.inner_loop.progress import Progress
from site_agent.inner_loop.spool import JobSpool
from site_agent.jobs import JobEnded, JobPhase, JobReport, JobState
from site_agent.trainer.metrics import MetricsLog

REPORT_SECONDS = 0.5
"""Shortest time between two reports of the same phase."""


class Reporter:
    """Writes reports at every change of phase and now and then between, and one metrics line per inner step.

    Args:
        write: takes a report and need not have written it when it returns; by default the spool's.
        language_tokens: tokens trained on so far, {} where nobody counts.
    """

    def __init__(
        self,
        spool: JobSpool,
        metrics: MetricsLog,
        patience: Patience,
        write: Callable[[JobReport], None] | None = None,
        language_tokens: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._spool, self._metrics, self._patience = spool, metrics, patience
        self._write = write or spool.report
        self._phase: JobPhase | None = None
        self._last = JobReport(fencing=spool.claim.fencing, state=JobState.STARTING)
        self._loss = 0.0
        self._language_tokens = language_tokens

    def report(self, phase: JobPhase | None, progress: Progress, versions: Sequence[int]) -> None:
        """Tells where the job is; at once if the phase is new.

        Args:
            phase: None for the one reported last.
            versions: version of each fragment that the job holds.
        """
        phase = phase or self._phase or JobPhase.IDLE
        if not self._patience.may_report(REPORT_SECONDS if phase is self._phase else 0.0):
            return
        window, now = progress.window, self._patience.now()
        self._phase = phase
        self._last = JobReport(
            fencing=self._spool.claim.fencing,
            state=JobState.READY,
            round=window.order.round if window else progress.last_round,
            phase=phase,
            step=window.step if window else 0,
            loss=self._loss,
            seconds_left=self._patience.seconds_left(),
            seconds_per_step=self._patience.seconds_per_step,
            applied=tuple(versions),
            idle_since=self._patience.idle_since,
            updated_at=now,
            ready_at=self._last.ready_at or now,
            language_tokens=dict(self._language_tokens()),
        )
        self._write(self._last)

    def step(self, progress: Progress, loss: float, tokens: int, seconds: float) -> None:
        """One inner step was taken."""
        assert progress.window is not None
        self._loss = loss
        self._metrics.write(
            num_steps=progress.num_steps,
            round=progress.window.order.round,
            step=progress.window.step,
            loss=loss,
            tokens=tokens,
            seconds=round(seconds, 6),
            fencing=self._spool.claim.fencing,
        )

    def sync(self) -> None:
        """Makes the metrics so far durable."""
        self._metrics.sync()

    def final(self, ended: JobEnded, now: float) -> JobReport:
        """The report of a job that has ended. Where it ended between two steps, all that it trained on is counted."""
        counted = self._language_tokens() if ended.code.resumable else self._last.language_tokens
        return JobReport(
            fencing=ended.fencing,
            state=JobState.ENDED,
            updated_at=now,
            error="" if ended.code.resumable else ended.sentence,
            ready_at=self._last.ready_at,
            language_tokens=dict(counted),
        )

    @property
    def last(self) -> JobReport:
        """The report written last."""
        return self._last
