# SPDX-License-Identifier: Apache-2.0
"""Behind the inner loop's seam: parameters in memory, and a site's executable that trains one window of them at a time.

A window that was cut short by a kill is run again from its begin. One whose executable was asked to end (a signal, the
wall time, a stop order) and did so with exit status 0 and without a result has left a state to go on from: it belongs
to the training checkpoint, and the successor runs the same window again with that state, marked `is_continued`.
"""

import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from federation.durable.failpoints import failpoint
from federation.durable.real import RealFileSystem
from federation.errors import ProtocolError
from federation.manifest import Manifest
from site_agent.inner_loop.loop import InnerLoop
from site_agent.inner_loop.patience import MARGIN_SECONDS
from site_agent.inner_loop.seam import Shard, TrainerState, whole
from site_agent.jobs import RoundOrder, WorkOrder
from site_agent.json_records import write_record
from site_agent.trainer import command_files as files
from site_agent.trainer.command_guard import EXIT_NOT_STARTED
from site_agent.trainer.command_process import (
    GRACE_SECONDS,
    CommandEnd,
    CommandFailedError,
    command_environment,
    run_command,
)
from site_agent.trainer.command_state import StateVersion, StateVersions
from site_agent.trainer.tensor_file import write_tensors

BASE: Final = "command"
"""Directory of all this inside a run's."""

STATE_BYTES_PER_MODEL_BYTE: Final = 32
STATE_BYTES_BESIDES: Final = 1024**3

_WORK: Final = "work-"
_FORMAT: Final = "command-1"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A window whose executable ended early, in good order.

    Attributes:
        round, generation: of the window.
        state: what it left.
        seconds: trained so far.
    """

    round: int
    generation: int
    state: StateVersion
    seconds: float


class CommandTrainer:
    """One site's executable as a trainer.

    Args:
        fs: the run's directory.
        fencing: of this execution; it works in a directory of its own.
    """

    def __init__(self, manifest: Manifest, order: WorkOrder, fs: RealFileSystem, fencing: int) -> None:
        self._manifest, self._order, self._fs = manifest, order, fs
        entries = [entry for table in manifest.fragments for entry in table.entries]
        self._live = {entry.name: torch.zeros(entry.shape, dtype=torch.float32) for entry in entries}
        num_bytes = sum(tensor.nbytes for tensor in self._live.values())
        limit = STATE_BYTES_PER_MODEL_BYTE * num_bytes + STATE_BYTES_BESIDES
        self._versions = StateVersions(fs, f"{BASE}/state", limit)
        self._state = StateVersion()
        self._piece: Piece | None = None
        self._seconds_per_step = 0.0
        self._work = f"{BASE}/{_WORK}{order.allocation}-{fencing}"

    # --- the seam -----------------------------------------------------------------------------------------------------

    def local_shards(self) -> Iterable[Shard]:
        """Every parameter, whole."""
        return [Shard(name, whole(tensor), tensor) for name, tensor in self._live.items()]

    def state_dict(self) -> TrainerState:
        """Which version of the executable's state belongs to the parameters."""
        piece = self._piece
        self._versions.named(self._state, *([piece.state] if piece else []))
        return TrainerState(
            values={
                "format": _FORMAT,
                "state": self._state.to_json(),
                "piece": piece and {**vars(piece), "state": piece.state.to_json()},
                "seconds_per_step": self._seconds_per_step,
            }
        )

    def load_state_dict(self, state: TrainerState) -> None:
        """Goes back to that version.

        Raises:
            ProtocolError: it is the state of another trainer.
        """
        values: Mapping[str, Any] = state.values
        if values.get("format") != _FORMAT:
            raise ProtocolError(
                "training checkpoint: expected one of the command trainer, found another trainer's",
                advice="Remove the run's training checkpoints to rejoin it from its last commit.",
            )
        self._state, piece = StateVersion.from_json(values["state"]), values["piece"]
        self._piece = Piece(**{**piece, "state": StateVersion.from_json(piece["state"])}) if piece else None
        self._seconds_per_step = values["seconds_per_step"]

    # --- windows ------------------------------------------------------------------------------------------------------

    def begin(self, loop: InnerLoop) -> None:
        """After the loop has begun: removes what earlier executions left and no training checkpoint names."""
        if self._seconds_per_step:
            loop.expect_pace(self._seconds_per_step)
        self._versions.drop_above(self._state, *([self._piece.state] if self._piece else []))
        for name in self._fs.list(BASE):
            if name.startswith(_WORK):
                self._fs.remove_tree(f"{BASE}/{name}")

    def train_window(self, loop: InnerLoop) -> None:
        """Trains the window that the loop has just entered, or as much of it as the allocation allows.

        Raises:
            CommandFailedError, ModelDiffersError, NonFiniteUpdateError: what the executable left is of no use.
            FederationError: as `InnerLoop.complete`.
        """
        window = loop.progress.window
        assert window is not None
        order = window.order
        piece = self._piece_of(order)
        if lack := self._lack_of_time(order, piece, loop.seconds_left):
            loop.end_for_lack_of_time(lack)
            return
        self._write_files(loop, order, piece)
        began = time.monotonic()
        end = self._run(loop)
        seconds = time.monotonic() - began + (piece.seconds if piece else 0.0)
        if end.code == 0 and (not end.word or self._fs.exists(f"{self._work}/{files.RESULT_FILE}")):
            self._finish(loop, order, seconds)
        elif end.word:
            self._interrupt(loop, order, end, seconds)
        else:
            raise _failed(end)
        self._fs.remove_tree(self._work)

    def _piece_of(self, order: RoundOrder) -> Piece | None:
        """What was left of this very window; of any other one it is forgotten."""
        piece = self._piece
        if piece is not None and (piece.round, piece.generation) != (order.round, order.generation):
            self._piece = piece = None
        return piece

    def _lack_of_time(self, order: RoundOrder, piece: Piece | None, seconds_left: int) -> str:
        """Why the window is not begun, "" if it is. One that fits no allocation at all is begun anyway."""
        needed = self._seconds_per_step * order.num_steps - (piece.seconds if piece else 0.0)
        limit = self._order.seconds_limit
        margin = min(MARGIN_SECONDS, limit / 10)
        if seconds_left < 0 or needed <= seconds_left - margin or needed > limit - margin:
            return ""
        return f"the window of round {order.round} takes about {needed:.0f} seconds, {seconds_left} are left"

    def _write_files(self, loop: InnerLoop, order: RoundOrder, piece: Piece | None) -> None:
        self._fs.remove_tree(self._work)
        self._versions.copy_out(piece.state if piece else self._state, f"{self._work}/{files.STATE_DIR}")
        write_tensors(self._fs, f"{self._work}/{files.BASE_FILE}", self._live)
        record = self._command_order(loop, order, is_continued=piece is not None)
        write_record(self._fs, f"{self._work}/{files.ORDER_FILE}", record)

    def _command_order(self, loop: InnerLoop, order: RoundOrder, *, is_continued: bool) -> files.CommandOrder:
        job, left = self._order, loop.seconds_left
        return files.CommandOrder(
            run=job.run,
            site=job.site,
            round=order.round,
            fragment=order.fragment,
            num_steps=order.num_steps,
            num_steps_before=loop.progress.num_steps,
            lr_position=order.lr_position,
            learning_rates=tuple(loop.rate_at(step) for step in range(order.num_steps)),
            inner=self._manifest.inner,
            trainer=self._manifest.trainer,
            seed=job.seed,
            data_dir=job.data_dir,
            languages=job.languages,
            data_sets=job.data_sets,
            device=job.device,
            num_threads=job.num_threads,
            is_continued=is_continued,
            seconds_left=left,
            deadline=time.time() + left if left >= 0 else 0.0,
            base=self._path(files.BASE_FILE),
            state_dir=self._path(files.STATE_DIR),
            weights=self._path(files.WEIGHTS_FILE),
            result=self._path(files.RESULT_FILE),
        )

    def _path(self, name: str) -> str:
        return str(self._fs.real_path(f"{self._work}/{name}"))

    def _run(self, loop: InnerLoop) -> CommandEnd:
        directory = self._fs.real_path(self._work)
        environment = command_environment(os.environ, directory / files.ORDER_FILE)

        def grace_seconds() -> float:
            left = loop.seconds_left
            return GRACE_SECONDS if left < 0 else min(GRACE_SECONDS, max(1.0, left / 2))

        failpoint("job.before-command")
        return run_command(self._order.command, directory, environment, loop.meanwhile, grace_seconds)

    def _finish(self, loop: InnerLoop, order: RoundOrder, seconds: float) -> None:
        """Takes over what the executable left, in memory and as a version that the next training checkpoint names."""
        directory = self._fs.real_path(self._work)
        result = files.read_result(directory / files.RESULT_FILE, order.num_steps)
        files.read_weights(directory / files.WEIGHTS_FILE, self._manifest.fragments, self._live)
        self._state, self._piece, self._seconds_per_step = self._adopt(loop), None, seconds / order.num_steps
        if result.metrics:
            _log.info("round %d: %s", order.round, dict(result.metrics))
        failpoint("job.after-command")
        loop.complete(result.mean_loss, result.tokens, order.num_steps)
        loop.expect_pace(self._seconds_per_step)

    def _adopt(self, loop: InnerLoop) -> StateVersion:
        loop.meanwhile()  # the last moment to notice that the allocation is another's
        return self._versions.adopt(f"{self._work}/{files.STATE_DIR}")

    def _interrupt(self, loop: InnerLoop, order: RoundOrder, end: CommandEnd, seconds: float) -> None:
        if end.code != 0:
            _log.info("round %d: %s after %s; its window is run again", order.round, end.describe(), end.word)
            return
        state = self._adopt(loop)
        self._piece = Piece(round=order.round, generation=order.generation, state=state, seconds=seconds)
        loop.trainer_changed()
        _log.info("round %d: ended early by %s, to be continued", order.round, end.word)


def _failed(end: CommandEnd) -> CommandFailedError:
    if end.code == EXIT_NOT_STARTED:
        return CommandFailedError(
            "command trainer: expected an executable that can be started, found none",
            advice="Correct the trainer's command in site.toml; the job's log has its name.",
        )
    return CommandFailedError(
        f"command trainer: expected the executable to end with exit status 0, found {end.describe()}",
        advice="The job's log has what it printed.",
    )


def check_command(command: Sequence[str]) -> None:
    """Raises CommandFailedError if site.toml gave no command."""
    if not command:
        raise CommandFailedError(
            "command trainer: expected the command that it runs, found none",
            advice="Give the trainer a command in site.toml: the executable, and its arguments.",
        )
