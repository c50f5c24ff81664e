# SPDX-License-Identifier: Apache-2.0
"""Every rank but 0: does what rank 0 says, and takes inner steps when it says so.

Reads no orders and writes nothing but its part of training checkpoints. A signal is only passed on to rank 0, which
decides when the job ends, and why: an error here waits until rank 0 has said what becomes of it.
"""

import logging
from collections.abc import Callable
from typing import Any

from federation.durable.failpoints import failpoint
from federation.errors import FederationError
from site_agent.inner_loop.commands import Act, Command, next_command
from site_agent.inner_loop.owned_exchange import OwnedExchange
from site_agent.inner_loop.progress import SavedLoop
from site_agent.inner_loop.rank_checkpoints import RankCheckpoints
from site_agent.inner_loop.seam import Trainer, TrainerState
from site_agent.inner_loop.team import RankLostError, Team, failure_of
from site_agent.inner_loop.writer import Writer
from site_agent.jobs import ChainLink, EndCode, JobEnded
from site_agent.trainer.pieces import TRAINER, TRAINER_PARTS, StoredTensors, trainer_pieces

_log = logging.getLogger(__name__)


class Follower:
    """One rank's way through a run, with the calls of an inner loop.

    Attributes:
        ended: set when rank 0 has ended the job.
        num_steps: inner steps that this site has taken in the run.
    """

    def __init__(
        self, *, trainer: Trainer, exchange: OwnedExchange, checkpoints: RankCheckpoints, team: Team, writer: Writer
    ) -> None:
        self._trainer, self._exchange, self._checkpoints = trainer, exchange, checkpoints
        self._team, self._writer = team, writer
        self._asked_to_end: Callable[[], str | None] = lambda: None
        self._failure: FederationError | None = None
        self._loaded: tuple[SavedLoop, dict[str, StoredTensors]] | None = None
        self._acts: dict[Act, Callable[[Command], None]] = {
            Act.WAIT: lambda command: None,
            Act.BEGIN: lambda command: exchange.begin(),
            Act.ENCODE: self._encode,
            Act.RESEND: lambda command: exchange.resend(command.round, lambda part: None),
            Act.MERGE: self._merge,
            Act.ADOPT: self._adopt,
            Act.RELOAD: lambda c: exchange.reload(c.chains, forget_feedback=c.forget_feedback),
            Act.SAVE: self._save,
            Act.LOAD: self._load,
            Act.RESTORE: self._restore,
        }
        self.ended: JobEnded | None = None
        self.num_steps = 0

    def begin(self, asked_to_end: Callable[[], str | None] = lambda: None) -> None:
        """Rank 0 says how it begins.

        Args:
            asked_to_end: returns a word once this rank was asked to end.
        """
        self._asked_to_end = asked_to_end

    def prepare(self) -> float | None:
        """Does what rank 0 says up to the next inner step.

        Returns:
            The learning rate of that step, or None if the job ends here.

        Raises:
            RankLostError: rank 0 is gone.
            FederationError: what rank 0 reports as the job's end, or only this rank cannot go on.
        """
        while self.ended is None:
            command = next_command(self._team)
            if command.act is Act.FAIL:
                self._writer.close()
                raise failure_of(command.failure.encode())
            if self._failure is not None:
                raise self._failure
            if command.act is Act.STEP:
                return self._ready(command)
            if command.act is Act.END:
                self._writer.close()
                self.ended = JobEnded(code=EndCode.STOPPED, reason="end", sentence="rank 0 ended the job")
            else:
                self._do(command)
        return None

    def _do(self, command: Command) -> None:
        """One act. What went wrong on all ranks is rank 0's to say; if it says nothing, this rank alone failed."""
        try:
            self._acts[command.act](command)
        except RankLostError:
            raise
        except FederationError as error:
            self._failure = error

    def complete(self, loss: float, tokens: int) -> None:
        """An inner step was taken: this rank's mean loss in nats per token, and the tokens it trained on."""
        failpoint("job.rank-mid-window")
        self._team.reduced(loss, tokens, self._asked_to_end())
        self.num_steps += 1

    def _ready(self, command: Command) -> float:
        self.num_steps = command.num_steps
        self._writer.check()
        if not self._writer.is_busy:
            self._exchange.all_is_written()
        return command.rate

    def _encode(self, command: Command) -> None:
        self._exchange.encode(command.round, command.fragment)

    def _merge(self, command: Command) -> None:
        assert command.entry is not None
        assert command.outcome is not None
        self._exchange.merge(command.entry, command.outcome, _no_chain)

    def _adopt(self, command: Command) -> None:
        assert command.entry is not None
        assert command.outcome is not None
        self._exchange.adopt(command.entry, command.outcome)

    def _save(self, command: Command) -> None:
        """Lends what this rank has at this moment; it is written beside training."""
        self._writer.flush()
        state, parts = self._trainer.state_dict(), dict[str, Any](self._exchange.lend(command.round))
        if own := trainer_pieces(state, self._team.rank):
            parts[f"{TRAINER_PARTS}{self._team.rank}"] = own

        def write() -> None:
            try:
                self._checkpoints.write_share(parts)
            finally:
                parts.clear()
                self._exchange.returned()

        self._writer.submit(write)

    def _load(self, command: Command) -> None:
        """One that is damaged is left out everywhere: rank 0 names the one before."""
        try:
            self._loaded = self._checkpoints.open_together(command.checkpoint, SavedLoop)
        except RankLostError:
            raise
        except FederationError as error:
            _log.warning("training checkpoint %d is left out: %s", command.checkpoint, error)

    def _restore(self, command: Command) -> None:
        assert self._loaded is not None
        record, parts = self._loaded
        self._exchange.restore(parts, command.versions, command.digests)
        tensors = parts[TRAINER].of_rank(self._team.rank)
        self._trainer.load_state_dict(TrainerState(tensors=tensors, values=record.trainer))
        self._loaded = None


def _no_chain() -> tuple[ChainLink, ...]:
    raise AssertionError("only rank 0 knows the chain")
