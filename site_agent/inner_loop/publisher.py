# SPDX-License-Identifier: Apache-2.0
"""What outlives a job: its training checkpoints and what it sends, written while training goes on.

At a boundary the order is: training checkpoint, payload, update file. So whoever resumes encodes the same bytes again,
or finds them sent. A snapshot in memory stands still meanwhile; the next one waits until this one is written.
"""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from federation.durable.api import BlobWriter
from federation.durable.failpoints import failpoint
from federation.errors import ProtocolError
from federation.manifest import Manifest
from site_agent.inner_loop.exchange import Exchange
from site_agent.inner_loop.progress import Progress, SavedLoop
from site_agent.inner_loop.seam import Trainer, TrainerState
from site_agent.inner_loop.spool import JobSpool
from site_agent.inner_loop.writer import Writer
from site_agent.jobs import UpdateFile
from site_agent.trainer.checkpoint import TrainingCheckpoints
from site_agent.trainer.pieces import TRAINER_PARTS, trainer_pieces

_log = logging.getLogger(__name__)


class Publisher:
    """Writes for one job. Its errors show at the next `check`, `flush` or boundary.

    Args:
        after_boundary: called when an update file is durable, on the writer's thread.
    """

    def __init__(
        self,
        *,
        manifest: Manifest,
        site: str,
        trainer: Trainer,
        exchange: Exchange,
        spool: JobSpool,
        checkpoints: TrainingCheckpoints,
        writer: Writer,
        after_boundary: Callable[[], None],
    ) -> None:
        self._manifest, self._site = manifest, site
        self._trainer, self._exchange = trainer, exchange
        self._spool, self._checkpoints, self._writer = spool, checkpoints, writer
        self._after_boundary = after_boundary

    @property
    def is_busy(self) -> bool:
        """Whether something is being written."""
        return self._writer.is_busy

    def check(self) -> None:
        """Raises what went wrong beside training: disk, fencing. Called between inner steps."""
        self._writer.check()
        if not self._writer.is_busy:
            self._exchange.all_is_written()

    def flush(self) -> None:
        """Returns when everything is durable."""
        self._writer.flush()

    def save(self, progress: Progress) -> None:
        """A training checkpoint of this moment."""
        self._writer.flush()
        self._writer.submit(self._writing(progress, without=-1))

    def publish(self, progress: Progress, update: UpdateFile, payload: BlobWriter, *, is_saved: bool) -> None:
        """A boundary: what was just encoded, behind a training checkpoint from which it can be encoded again.

        Args:
            progress: at the boundary, its window still there.
            payload: a file that holds all of it, not durable yet; closed once it is, or cannot be.
            is_saved: the newest training checkpoint is already of this moment.
        """
        with ExitStack() as unless_submitted:
            unless_submitted.enter_context(payload)
            self._writer.flush()
            save = None if is_saved else self._writing(progress, without=update.round)
            unless_submitted.pop_all()
        self._writer.submit(lambda: self._publish(save, update, payload))

    def publish_again(self, progress: Progress) -> None:
        """What a predecessor published may not have been taken over: the same bytes lie in this allocation too."""
        for entry in progress.in_flight:
            if entry.update is not None and self._spool.outcome(entry.round) is None:
                with self._spool.begin_payload() as file:
                    self._exchange.resend(entry.round, file.write)
                    self._spool.write_payload(entry.round, file)
                self._spool.publish(replace(entry.update, fencing=self._spool.claim.fencing))

    def resume(self) -> Progress | None:
        """Puts everything back as the newest training checkpoint has it; None if there is none.

        Raises:
            CorruptObjectError: every training checkpoint is damaged.
            ProtocolError: it is another run's or another site's.
        """
        loaded = self._checkpoints.load(SavedLoop)
        if loaded is None:
            return None
        record, parts = loaded
        if (record.run, record.site) != (self._manifest.run, self._site):
            raise ProtocolError(
                f"training checkpoint: expected run {self._manifest.run} of {self._site}, "
                f"found {record.run} of {record.site}"
            )
        self._exchange.restore(parts, record.versions, record.digests)
        self._trainer.load_state_dict(TrainerState(tensors=parts["trainer"], values=record.trainer))
        _log.info("resumed after %d inner steps, last round %d", record.progress.num_steps, record.progress.last_round)
        return record.progress

    def _writing(self, progress: Progress, *, without: int) -> Callable[[], None]:
        """Takes the snapshot now; what is returned writes it. Nothing else may be under way."""
        state, model = self._trainer.state_dict(), self._exchange.model
        record = SavedLoop(
            run=self._manifest.run,
            site=self._site,
            progress=progress,
            versions=tuple(model.versions),
            digests=tuple(model.digests),
            trainer=dict(state.values),
        )
        parts: dict[str, Any] = {**self._exchange.lend(without), "trainer": dict(state.tensors)}
        if state.parts:
            parts[f"{TRAINER_PARTS}0"] = trainer_pieces(state)

        def write() -> None:
            try:
                self._spool.check_still_ours()
                self._checkpoints.save(record, parts)
            finally:
                parts.clear()
                self._exchange.returned()

        return write

    def _publish(self, save: Callable[[], None] | None, update: UpdateFile, payload: BlobWriter) -> None:
        with payload:
            if save is not None:
                save()
            failpoint("job.after-training-checkpoint")
            self._spool.write_payload(update.round, payload)
        failpoint("job.after-encode")
        self._spool.publish(update)
        failpoint("job.after-publish")
        self._after_boundary()
