# SPDX-License-Identifier: Apache-2.0
"""One execution of the reference trainer: `python -m site_agent.trainer.job ALLOCATION_DIR`, also under torchrun.

Claims the allocation, runs the golden vectors, catches up (training checkpoint, or theta_0 and the commit blobs), then
trains what is ordered until the agent, the batch system or an error ends it. Exit status: 0 if a successor can simply
go on, 3 if another execution owns the allocation, 1 for any other failure; `ended.json` has the reason.
"""

import sys
from pathlib import Path

from federation.garbage import spare_what_is_loaded
from site_agent.inner_loop.last_word import end_process, job_main
from site_agent.inner_loop.rank_allocations import open_allocation
from site_agent.inner_loop.session import ask_on_signals
from site_agent.inner_loop.team import rank_here
from site_agent.jobs import JobEnded


def run(directory: Path) -> JobEnded:
    """Trains in one allocation until it ends.

    Raises:
        FederationError: it could not go on; the reason is in `ended.json` unless the allocation is another's.
    """
    # A rank that waits for rank 0 to claim the allocation has nothing to lose: a signal ends it at once.
    asked_to_end = ask_on_signals() if rank_here() == 0 else None
    allocation = open_allocation(directory)
    asked_to_end = asked_to_end or ask_on_signals()
    with allocation.reporting_failures():
        # Seconds of import time come after the claim: an execution that must not run ends at once.
        from site_agent.trainer.llama import for_order
        from site_agent.trainer.task_files import FileScorer

        manifest = allocation.read_manifest()
        allocation.check_machine()
        trainer, evaluator = allocation.together(lambda: for_order(manifest, allocation.order))
        tasks = FileScorer(manifest, allocation.order, evaluator.model)
        loop = allocation.member(manifest, trainer, evaluator, tasks)
        loop.begin(asked_to_end)
        spare_what_is_loaded()
        while (rate := loop.prepare()) is not None:
            loop.complete(*trainer.step(rate))
    assert loop.ended is not None
    allocation.close(loop.ended)
    return loop.ended


def main(arguments: list[str]) -> int:
    """The process's exit status."""
    return job_main(lambda directory: run(directory).sentence, arguments, "site_agent.trainer.job")


if __name__ == "__main__":
    end_process(main(sys.argv[1:]))
