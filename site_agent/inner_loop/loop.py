# SPDX-License-Identifier: Apache-2.0
"""The protocol inside a job: windows, boundaries, merges, waits (DESIGN sections 3 and 4).

A trainer's loop calls `prepare` before and `complete` after each inner step:

    while (rate := loop.prepare()) is not None:
        loop.complete(*trainer.step(rate))

Between two inner steps everything that is due happens in this order: boundary (encode, training checkpoint, publish),
merges by round, next window. Writing goes on beside training (`publisher`). Orders and outcomes decide what is trained,
never when they came or when something was written; killed, it repeats.
"""

import logging
import math
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from federation.codecs.payload import payload_bytes
from federation.codecs.registry import get_codec
from federation.durable.failpoints import failpoint
from federation.errors import LossSpikeError, NonFiniteUpdateError, ProtocolError, StaleBaseError
from federation.ids import short
from federation.manifest import Manifest
from site_agent.inner_loop.evaluations import EvaluationQueue
from site_agent.inner_loop.exchange import Exchange
from site_agent.inner_loop.patience import Patience
from site_agent.inner_loop.progress import InFlight, Progress, Window, site_schedule
from site_agent.inner_loop.publisher import Publisher
from site_agent.inner_loop.reporter import Reporter
from site_agent.inner_loop.seam import Trainer
from site_agent.inner_loop.spool import JobSpool, is_bare
from site_agent.inner_loop.tasks import TaskQueue
from site_agent.inner_loop.writer import InlineWriter, Writer
from site_agent.jobs import (
    ChainLink,
    EndCode,
    JobEnded,
    JobPhase,
    OutcomeFile,
    OutcomeKind,
    RoundOrder,
    StopOrder,
    UpdateFile,
)
from site_agent.trainer.checkpoint import TrainingCheckpoints
from site_agent.trainer.lr import learning_rate

SAVE_AFTER_IDLE_SECONDS = 5.0  # a job that waits for longer writes a training checkpoint, so that a kill costs nothing

_log = logging.getLogger(__name__)


class InnerLoop:
    """One job's way through a run.

    Args:
        writer: writes training checkpoints and updates; by default at once.
        tasks: orders to score benchmark tasks; by default there is nobody to score them.

    Attributes:
        progress: where it is.
        ended: why it ended, None while it goes on.
    """

    def __init__(
        self,
        *,
        manifest: Manifest,
        site: str,
        trainer: Trainer,
        exchange: Exchange,
        evaluations: EvaluationQueue,
        spool: JobSpool,
        checkpoints: TrainingCheckpoints,
        reporter: Reporter,
        patience: Patience,
        writer: Writer | None = None,
        tasks: TaskQueue | None = None,
    ) -> None:
        self._manifest, self._schedule = manifest, site_schedule(manifest, site)
        self._exchange, self._evaluations, self._spool = exchange, evaluations, spool
        self._tasks = tasks or TaskQueue(spool)
        self._reporter, self._patience = reporter, patience
        self._publisher = Publisher(
            manifest=manifest,
            site=site,
            trainer=trainer,
            exchange=exchange,
            spool=spool,
            checkpoints=checkpoints,
            writer=writer or InlineWriter(),
            after_boundary=reporter.sync,
        )
        self._asked_to_end: Callable[[], str | None] = lambda: None
        self._windows_since_evaluation = 0
        self.ended: JobEnded | None = None
        self.progress = Progress(tokens_at_boundary=(0,) * len(manifest.fragments))
        # Whether memory holds something that no training checkpoint has, finished or being written.
        self._is_unsaved = True
        # A window in progress that came from a checkpoint may be over for the rest of the federation.
        self._is_confirmed = True

    # --- life -------------------------------------------------------------------------------------------------------

    def begin(self, asked_to_end: Callable[[], str | None] = lambda: None) -> None:
        """Continues from the newest training checkpoint, or starts from theta_0.

        Args:
            asked_to_end: returns a word once the job should end at the next inner step (a signal).
        """
        self._asked_to_end = asked_to_end
        saved = self._publisher.resume()
        if saved is None:
            self._exchange.begin()
        else:
            self.progress = saved
            self._is_unsaved, self._is_confirmed = False, saved.window is None
            self._publisher.publish_again(saved)
        self._report(JobPhase.IDLE)

    def prepare(self) -> float | None:
        """Does all that is due before the next inner step; waits if it must.

        Returns:
            The learning rate of that step, or None if the job ends here: see `ended`.

        Raises:
            FederationError: the job cannot go on, or something could not be written since the last call.
        """
        while self.ended is None:
            self._publisher.check()
            window = self.progress.window
            if window is not None and window.is_complete:
                self._pass_boundary(window)
            elif self._ends_now():
                break
            elif window is None:
                self._between_windows()
            elif not self._is_confirmed:
                self._confirm(window)
            elif (entry := self.progress.due(self._schedule)) is not None:
                self._merge_or_wait(entry)
            else:
                return self._ready(window)
        return None

    def complete(self, loss: float, tokens: int, num_steps: int = 1) -> None:
        """An inner step was taken: its mean loss in nats per token, and the tokens it trained on.

        Args:
            num_steps: inner steps that were taken as one piece, up to a whole window; the loss is their mean.

        Raises:
            NonFiniteUpdateError, LossSpikeError: training cannot go on; nothing of this window is sent.
            FederationError: something could not be written since the last call.
        """
        self._publisher.check()
        seconds = self._patience.stepped(num_steps)
        self._check_loss(loss)
        self.progress = self.progress.after_step(tokens, num_steps)
        self._is_unsaved = True
        window = self.progress.window
        assert window is not None
        self._reporter.step(self.progress, loss, tokens, seconds)
        if not window.is_complete:
            failpoint("job.mid-window")
            if self._patience.should_save() and not self._publisher.is_busy:
                self._save()

    @property
    def num_steps(self) -> int:
        """Inner steps that this site has taken in the run, over all allocations."""
        return self.progress.num_steps

    # --- for who trains a window as one piece -----------------------------------------------------------------------

    def rate_at(self, step: int) -> float:
        """The learning rate of an inner step of the window in progress, counted from 0."""
        window = self.progress.window
        assert window is not None
        order, plan = window.order, self._manifest.plan
        nominal = plan.num_inner_steps // plan.num_fragments
        position = order.lr_position + (step / order.num_steps) * nominal
        return learning_rate(self._manifest.inner, position, self.progress.joined_at)

    def meanwhile(self) -> str | None:
        """To be called now and then while a window is trained: says to the agent that this goes on.

        Returns:
            A word if the job should end now, which `prepare` does; None if not.

        Raises:
            FederationError: something could not be written since the last call, or the allocation is another's.
        """
        self._publisher.check()
        self._spool.check_still_ours()
        self._report(JobPhase.TRAINING)
        if self._patience.wall_time_is_near():
            return "wall-time"
        return self._asked_to_end() or ("stop" if self._spool.stop_order() is not None else None)

    @property
    def seconds_left(self) -> int:
        """Until the allocation's wall time; -1 if there is none."""
        return self._patience.seconds_left()

    def expect_pace(self, seconds_per_step: float) -> None:
        """What windows of this trainer have taken so far, for the reports; measured again with each one."""
        self._patience.seconds_per_step = seconds_per_step

    def end_for_lack_of_time(self, sentence: str) -> None:
        """Ends the job between two inner steps; its successor goes on from here."""
        self._end(EndCode.WALL_TIME, "wall-time", sentence)

    def trainer_changed(self) -> None:
        """The trainer's state is another one without an inner step taken: the next training checkpoint must have it."""
        self._is_unsaved = True

    # --- windows ----------------------------------------------------------------------------------------------------

    def _between_windows(self) -> None:
        entry = self.progress.due(self._schedule)
        if entry is not None and self._merge_if_known(entry):
            return
        order = self._next_order()
        if order is None and self._lacks_time():
            self._end(EndCode.WALL_TIME, "wall-time", "too little wall time is left for the next windows")
        elif order is None:
            self._spool.check_still_ours()  # a closed allocation gives its nodes back
            self._wait(JobPhase.IDLE, entry)
        elif self.progress.follows(order) or (self._knows_outcomes_before(order) and self._reload(order)):
            self._enter(order)
        else:
            self._wait(JobPhase.WAITING, entry)

    def _lacks_time(self) -> bool:
        """Whether no coordinator will invite this job again: an allocation needs time for its next P windows."""
        left, schedule = self._patience.seconds_left(), self._schedule
        needed = schedule.num_fragments * schedule.window_steps * self._patience.seconds_per_step
        return 0 <= left < needed

    def _next_order(self) -> RoundOrder | None:
        """The lowest order above the last window. A round that ended without this site is passed over."""
        for number in self._spool.round_numbers(self.progress.last_round):
            outcome = self._spool.outcome(number)
            if outcome is None or outcome.listed_payload_digest:
                return self._spool.round_order(number)
        return None

    def _enter(self, order: RoundOrder) -> None:
        expected = (self._schedule.fragment_of(order.round), self._schedule.steps_of_window(order.round))
        if (order.fragment, order.num_steps) != expected:
            raise ProtocolError(
                f"round {order.round}: expected fragment and steps {expected}, found {order.fragment, order.num_steps}"
            )
        self._do_overdue_evaluations()
        self.progress = self.progress.entering(order)
        self._is_unsaved = True

    def _knows_outcomes_before(self, order: RoundOrder) -> bool:
        """Whether every round is known whose merge position lies at or before this window's begin."""
        start = self._schedule.start_of(order.round)
        needed = {j for j in range(order.round) if self._schedule.merge_of(j) <= start}
        return needed <= set(self._spool.ended_rounds())

    def _reload(self, order: RoundOrder) -> bool:
        """A window was skipped, or the run was rolled back: every fragment's newest version merged by now.

        Returns False, and changes nothing, where a version cannot be built because a later one came as a snapshot: the
        round is over then, and the agent is about to say so.
        """
        start = self._schedule.start_of(order.round)
        chains = self._spool.chains(len(self._manifest.fragments), lambda j: self._schedule.merge_of(j) <= start)
        if any(chain and is_bare(chain[-1]) for chain in chains):
            return False
        rolled_back = order.generation != self.progress.generation
        for entry in self.progress.in_flight:
            outcome = self._spool.outcome(entry.round)
            if outcome is not None and self._schedule.merge_of(entry.round) <= start:
                self._exchange.adopt(entry, outcome)
        self._exchange.reload(chains, forget_feedback=rolled_back)
        self.progress = self.progress.after_reload(order, self._schedule)
        self._is_unsaved = True
        _log.info("round %d: every fragment is reloaded, versions %s", order.round, self._exchange.model.versions)
        return True

    def _confirm(self, window: Window) -> None:
        """After a restart: goes on with the window only if the agent orders it again, as it was."""
        number = window.order.round
        outcome = self._spool.outcome(number)
        if self._spool.round_order(number) == window.order and (outcome is None or outcome.listed_payload_digest):
            self._is_confirmed = True
        elif outcome is not None or self._spool.round_numbers(number - 1):
            _log.warning("round %d: its window is left after %d steps", number, window.step)
            self.progress = self.progress.leaving_window()
            self._is_confirmed = self._is_unsaved = True
        else:
            self._wait(JobPhase.IDLE)

    def _ready(self, window: Window) -> float:
        """Everything is merged: the rate of the next step."""
        order = window.order
        if window.step == 0:
            self._check_base(order)
        self._report(JobPhase.TRAINING)
        self._patience.busy()
        return self.rate_at(window.step)

    def _check_base(self, order: RoundOrder) -> None:
        model, p = self._exchange.model, order.fragment
        if (model.versions[p], model.digests[p]) != (order.base_version, order.base_digest):
            raise StaleBaseError(
                f"round {order.round}: expected base version {order.base_version} ({short(order.base_digest)}) of "
                f"fragment {p}, found {model.versions[p]} ({short(model.digests[p])})"
            )

    # --- boundaries and merges --------------------------------------------------------------------------------------

    def _pass_boundary(self, window: Window) -> None:
        """Encoded at once, from here on training goes on while it is written and travels."""
        order = window.order
        if self._is_unsaved:
            self._report(JobPhase.ENCODING)
            self._patience.saved()
        with ExitStack() as until_published:
            file = until_published.enter_context(self._spool.begin_payload())
            _, digest = self._exchange.encode(order.round, order.fragment, file.write)
            update = self._update_file(window, digest)
            until_published.pop_all()
        self._publisher.publish(self.progress, update, file, is_saved=not self._is_unsaved)
        self.progress = self.progress.after_boundary(update)
        self._is_unsaved = self._is_confirmed = True
        self._windows_since_evaluation += 1

    def _update_file(self, window: Window, digest: str) -> UpdateFile:
        order, codec = window.order, get_codec(self._manifest.codecs.up)
        return UpdateFile(
            round=order.round,
            fragment=order.fragment,
            base_digest=order.base_digest,
            codec=self._manifest.codecs.up,
            payload_digest=digest,
            payload_bytes=payload_bytes(codec, self._manifest.fragments[order.fragment].num_elements),
            weight_tokens=self.progress.tokens - self.progress.tokens_at_boundary[order.fragment],
            new_tokens=window.tokens,
            num_steps=window.step,
            fencing=self._spool.claim.fencing,
        )

    def _merge_or_wait(self, entry: InFlight) -> None:
        if not self._merge_if_known(entry):
            self._wait(JobPhase.WAITING, entry)

    def _merge_if_known(self, entry: InFlight) -> bool:
        outcome = self._spool.outcome(entry.round)
        if outcome is None:
            return False
        failpoint("job.before-merge")
        if outcome.kind is OutcomeKind.COMMITTED and is_bare(outcome):
            self._pass_over(entry, outcome)
            return True
        chain = partial(self._chain, outcome.fragment, entry.round)
        self._exchange.merge(entry, outcome, chain)
        self.progress = self.progress.after_merge(entry, outcome)
        self._is_unsaved = True
        self._patience.moved()
        failpoint("job.after-merge")
        return True

    def _pass_over(self, entry: InFlight, outcome: OutcomeFile) -> None:
        """A commit that was overtaken by a snapshot cannot be merged: the next window begins from what there is."""
        self._exchange.adopt(entry, outcome)
        self.progress = self.progress.after_merge(entry, outcome).leaving_window()
        self._is_unsaved = True
        _log.warning("round %d: this site was away for long and begins anew from a snapshot", entry.round)

    def _chain(self, fragment: int, last_round: int) -> list[ChainLink]:
        return self._spool.chains(len(self._manifest.fragments), lambda j: j <= last_round)[fragment]

    # --- waiting and ending -----------------------------------------------------------------------------------------

    def _wait(self, phase: JobPhase, unmerged: InFlight | None = None) -> None:
        """One short piece of something useful, else a moment's rest; too long a wait ends the job.

        Args:
            unmerged: what would be merged next, if it were known how its round ended.
        """
        idle = self._patience.idle()
        self._report(phase)
        if self._evaluations.advance() or self._tasks.advance():
            self._windows_since_evaluation = 0
        elif self._is_unsaved and idle > SAVE_AFTER_IDLE_SECONDS:
            self._save()
        elif self._patience.is_exhausted() and not self._tasks.is_busy:
            self._end(EndCode.IDLE, "idle", f"nothing could be trained for {idle:.0f} seconds")
        elif unmerged is not None:
            self._patience.rest_until(partial(self._spool.has_outcome, unmerged.round))
        else:
            self._patience.rest()

    def _do_overdue_evaluations(self) -> None:
        """A job that never waits would never evaluate."""
        if self._windows_since_evaluation >= self._schedule.num_fragments:
            self._evaluate_all()
            self._score_some_tasks()
            self._windows_since_evaluation = 0

    def _evaluate_all(self) -> None:
        while self._asked_to_end() is None and self._evaluations.advance():
            self._report(None)

    def _score_some_tasks(self) -> None:
        """What is not finished then goes on at the next occasion: a round waits for no task."""
        until = self._patience.now() + self._tasks.seconds_per_pause
        while self._asked_to_end() is None and self._patience.now() < until and self._tasks.advance():
            self._report(None)

    def _report(self, phase: JobPhase | None) -> None:
        self._reporter.report(phase, self.progress, self._exchange.model.versions)

    def _ends_now(self) -> bool:
        word = self._asked_to_end()
        if word is not None:
            self._end(EndCode.TERMINATED, word, f"ended at an inner step by {word}")
        elif self._patience.wall_time_is_near():
            self._end(EndCode.WALL_TIME, "wall-time", "the allocation's wall time is nearly over")
        elif (stop := self._spool.stop_order()) is not None:
            self._stop(stop)
        return self.ended is not None

    def _stop(self, stop: StopOrder) -> None:
        """Finishes what the agent asks for. Of a completed run the outcomes left are applied, however far ahead."""
        if stop.finish_evaluations:
            self._evaluate_all()
        if stop.reason == "completed" and self.progress.window is None:
            while self.progress.in_flight and self._merge_if_known(self.progress.in_flight[0]):
                pass
        self._end(EndCode.STOPPED, stop.reason, f"the agent ended the job: {stop.reason}")

    def _end(self, code: EndCode, reason: str, sentence: str) -> None:
        self._tasks.close()
        if self._is_unsaved and (self.progress.num_steps or self.progress.window):
            self._save()
        self._publisher.flush()
        self._reporter.sync()
        self.ended = JobEnded(code=code, reason=reason, sentence=sentence, fencing=self._spool.claim.fencing)

    # --- checks ----------------------------------------------------------------------------------------------

    def _check_loss(self, loss: float) -> None:
        where = f"step {self.progress.num_steps + 1}"
        if not math.isfinite(loss):
            raise NonFiniteUpdateError(f"{where}: expected a finite loss, found {loss}")
        if 0 < self._manifest.inner.max_loss < loss:
            raise LossSpikeError(
                f"{where}: expected a loss up to {self._manifest.inner.max_loss}, found {loss:.4f}",
                advice="The run's inner.max_loss stops a job before it sends such a window.",
            )

    def _save(self) -> None:
        self._publisher.save(self.progress)
        self._patience.saved()
        self._is_unsaved = False
