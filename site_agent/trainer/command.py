# SPDX-License-Identifier: Apache-2.0
"""One execution of a site's own executable as a training job: `python -m site_agent.trainer.command ALLOCATION_DIR`.

As `site_agent.trainer.job`, but each window is trained by the command that site.toml names for this trainer; see
docs/trainers. Exit status: 0 if a successor can simply go on, 3 if another execution owns the allocation, 1 for any
other failure; `ended.json` has the reason.
"""

import os
import sys
from pathlib import Path

from federation.durable.real import RealFileSystem
from federation.errors import ConfigError
from federation.garbage import spare_what_is_loaded
from federation.manifest import Manifest
from site_agent.inner_loop.allocation import Allocation, ask_on_signals
from site_agent.inner_loop.last_word import end_process, job_main
from site_agent.jobs import JobEnded, WorkOrder
from site_agent.trainer.command_rules import why_not_in_whole_windows
from site_agent.trainer.command_trainer import CommandTrainer, check_command


class RunNotForCommandsError(ConfigError):
    """The run, or how this job was started, leaves no whole windows to an executable."""


def run(directory: Path) -> JobEnded:
    """Trains in one allocation until it ends.

    Raises:
        FederationError: it could not go on; the reason is in `ended.json` unless the allocation is another's.
    """
    asked_to_end = ask_on_signals()
    allocation = Allocation(directory)
    with allocation.reporting_failures():
        order, manifest = allocation.order, allocation.read_manifest()
        check_job(manifest, order)
        allocation.check_machine()
        runs = RealFileSystem(Path(order.run_dir))
        trainer = CommandTrainer(manifest, order, runs, allocation.spool.claim.fencing)
        loop = allocation.loop(manifest, trainer, None)
        loop.begin(asked_to_end)
        trainer.begin(loop)
        spare_what_is_loaded()
        while loop.prepare() is not None:
            trainer.train_window(loop)
    assert loop.ended is not None
    allocation.close(loop.ended)
    return loop.ended


def check_job(manifest: Manifest, order: WorkOrder) -> None:
    """Whether an executable can train this run's windows, before anything is trained.

    Raises:
        CommandFailedError: there is no command.
        RunNotForCommandsError: the run merges inside windows, or this is one of several ranks.
    """
    check_command(order.command)
    if why_not := why_not_in_whole_windows(manifest.plan, order.site):
        raise RunNotForCommandsError(
            f"run {manifest.run}: {why_not}",
            advice="Decline the run, or train it with a trainer that joins step by step; see docs/trainers.",
        )
    num_ranks = os.environ.get("WORLD_SIZE", "1")
    if num_ranks != "1":
        raise RunNotForCommandsError(
            f"command trainer: expected to be one process, found {num_ranks:.8} ranks",
            advice="Set one rank for this trainer in site.toml; the executable starts its own (srun, torchrun).",
        )


def main(arguments: list[str]) -> int:
    """The process's exit status."""
    return job_main(lambda directory: run(directory).sentence, arguments, "site_agent.trainer.command")


if __name__ == "__main__":
    end_process(main(sys.argv[1:]))
