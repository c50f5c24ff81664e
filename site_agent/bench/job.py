# SPDX-License-Identifier: Apache-2.0
"""A job for benchmarks: `python -m site_agent.bench.job ALLOCATION_DIR`, named in site.toml like any trainer.

The inner loop, exchange, spool and orders are the real ones; only the model's steps are noise. Instants go into the
site's events: boundary, encode-begin, encode-end, payload-durable, published, outcome-seen, applied, each with its
round. Of training checkpoints only the first is written, and timed; the others are left out.
"""

import os
import sys
from pathlib import Path

from federation.durable.real import RealFileSystem
from federation.garbage import spare_what_is_loaded
from federation.trace import Trace
from site_agent.bench.replay import replay
from site_agent.bench.spec import BenchSpec, Gate, read_spec
from site_agent.inner_loop.last_word import job_main
from site_agent.jobs import AllocationPaths, WorkOrder, read_record


def run(directory: Path) -> None:
    """Works in one allocation until it ends."""
    order = read_record(RealFileSystem(directory), AllocationPaths().order, WorkOrder)
    assert order is not None, "the agent writes the order before it starts a job"
    spec = read_spec(order)
    events = spec.trace()
    events.mark("began", {"pid": os.getpid(), "allocation": str(directory)})
    if spec.pool:
        replay(directory, order, spec, events)
    elif spec.overlap:
        from site_agent.bench.overlap import train

        train(directory, spec, events)
    else:
        _train(directory, spec, events)


def _train(directory: Path, spec: BenchSpec, events: Trace) -> None:
    # Torch, and seconds of import time: only for jobs that hold the model.
    from site_agent.bench.timed import TimedAllocation
    from site_agent.bench.trainer import NoiseTrainer
    from site_agent.inner_loop.session import ask_on_signals

    asked_to_end = ask_on_signals()
    allocation = TimedAllocation(directory, events)
    with allocation.reporting_failures():
        manifest = allocation.read_manifest()
        trainer = NoiseTrainer.for_run(manifest, spec, allocation.order.site)
        loop = allocation.loop(manifest, trainer, None)
        loop.begin(asked_to_end)
        gate = Gate(Path(spec.gate), allocation.order.site, spec.num_sites) if spec.gate else None
        spare_what_is_loaded()
        while loop.prepare() is not None:
            window = loop.progress.window
            assert window is not None
            if gate is not None and window.step == 0:
                gate.wait_for_leave(window.order.round, asked_to_end)
            events.mark("step-begin", {"round": window.order.round, "step": window.step})
            result = trainer.step()
            events.mark("step-end", {"round": window.order.round, "step": window.step})
            if window.step + 1 == window.order.num_steps:
                if gate is not None:
                    gate.wait_for_others(window.order.round, asked_to_end)
                events.mark("boundary", {"round": window.order.round})
            loop.complete(*result)
    assert loop.ended is not None
    allocation.close(loop.ended)


def main(arguments: list[str]) -> int:
    """The process's exit status."""
    return job_main(run, arguments, "site_agent.bench.job")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
