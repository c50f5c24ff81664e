# SPDX-License-Identifier: Apache-2.0
"""The job of `federation bench overlap`: nothing is left out but the arithmetic of inner steps.

An inner step takes a fixed time without a processor, as where an accelerator works, and then moves every parameter.
Training checkpoints are written at every boundary as in production. Whatever keeps the training thread from its next
step leaves a mark `span` when it is over: its phase, its seconds.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from federation.manifest import Manifest
from federation.trace import Trace
from site_agent.bench.spec import BenchSpec
from site_agent.bench.trainer import NoiseTrainer
from site_agent.inner_loop.exchange import Exchange
from site_agent.inner_loop.global_model import GlobalModel
from site_agent.inner_loop.loop import InnerLoop
from site_agent.inner_loop.parameters import LocalParameters
from site_agent.inner_loop.patience import SystemClock
from site_agent.inner_loop.progress import site_schedule
from site_agent.inner_loop.session import Allocation, ask_on_signals
from site_agent.inner_loop.spool import JobSpool
from site_agent.inner_loop.writer import BackgroundWriter, Work

SPAN: Final = "span"
SCHEDSTAT: Final = Path("/proc/thread-self/schedstat")


def train(directory: Path, spec: BenchSpec, events: Trace) -> None:
    """Works in one allocation until it ends."""
    asked_to_end = ask_on_signals()
    allocation = WatchedAllocation(directory, Spans(events))
    with allocation.reporting_failures():
        manifest = allocation.read_manifest()
        trainer = NoiseTrainer.for_run(manifest, spec, allocation.order.site)
        loop = allocation.watched_loop(manifest, trainer)
        loop.begin(asked_to_end)
        while loop.prepare() is not None:
            window = loop.progress.window
            assert window is not None
            step = {"round": window.order.round, "step": window.step}
            events.mark("step-begin", {**step, "queued": queued_seconds()})
            result = trainer.step()
            events.mark("step-end", {**step, "queued": queued_seconds()})
            loop.complete(*result)
    assert loop.ended is not None
    allocation.close(loop.ended)


def queued_seconds() -> float:
    """How long this thread ever was ready to run while others had the processors (schedstat of proc(5)).

    0.0 where the kernel does not tell.
    """
    try:
        return int(SCHEDSTAT.read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


class Spans:
    """Marks of how long something took."""

    def __init__(self, events: Trace) -> None:
        self._events = events

    @contextmanager
    def span(self, phase: str) -> Iterator[None]:
        """Marks the end of the block."""
        began = time.monotonic()
        yield
        self.over(phase, began)

    def over(self, phase: str, began: float) -> None:
        """Something that began at `began` (`time.monotonic()`) is over."""
        self._events.mark(SPAN, {"phase": phase, "seconds": time.monotonic() - began})


class WatchedAllocation(Allocation):
    """An allocation whose loop marks everything that it does between inner steps."""

    def __init__(self, directory: Path, spans: Spans) -> None:
        self._rests = WatchedClock(spans)
        super().__init__(directory, self._rests)
        self._spans = spans
        self._writer = WatchedWriter(spans)
        self.spool = WatchedSpool(self._fs, self._run, self.spool.claim)
        self.spool.spans = spans

    def watched_loop(self, manifest: Manifest, trainer: NoiseTrainer) -> InnerLoop:
        """The real loop; its rests are known by what they wait for."""
        loop = self.loop(manifest, trainer, None)
        schedule = site_schedule(manifest, self.order.site)
        self._rests.waits_for = lambda: "commit" if loop.progress.due(schedule) is not None else "order"
        return loop

    def make_exchange(self, manifest: Manifest, model: GlobalModel, local: LocalParameters) -> Exchange:
        """Marks its arithmetic."""
        exchange = WatchedExchange(manifest, model, local)
        exchange.spans = self._spans
        return exchange


class WatchedClock(SystemClock):
    """Rests are for a commit that is due, else for an order of the next window."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans
        self.waits_for: Callable[[], str] = lambda: "order"

    def sleep(self, seconds: float) -> None:
        """Lets time pass."""
        with self._spans.span(self.waits_for()):
            super().sleep(seconds)


class WatchedSpool(JobSpool):
    """What the training thread looks for in files."""

    spans: Spans

    def round_numbers(self, *arguments: Any, **options: Any) -> Any:
        """Orders that are there."""
        with self.spans.span("files"):
            return super().round_numbers(*arguments, **options)

    def round_order(self, *arguments: Any, **options: Any) -> Any:
        """One of them."""
        with self.spans.span("files"):
            return super().round_order(*arguments, **options)

    def outcome(self, *arguments: Any, **options: Any) -> Any:
        """How a round ended."""
        with self.spans.span("files"):
            return super().outcome(*arguments, **options)


class WatchedExchange(Exchange):
    """The snapshot for a training checkpoint, encode and merge."""

    spans: Spans

    def lend(self, *arguments: Any, **options: Any) -> Any:
        """The snapshot in memory."""
        with self.spans.span("snapshot"):
            return super().lend(*arguments, **options)

    def encode(self, *arguments: Any, **options: Any) -> Any:
        """The payload of a round."""
        with self.spans.span("encode"):
            return super().encode(*arguments, **options)

    def merge(self, *arguments: Any, **options: Any) -> Any:
        """A round's end into the local model."""
        with self.spans.span("merge"):
            return super().merge(*arguments, **options)


class WatchedWriter(BackgroundWriter):
    """What is written beside training (phase `writing`, not a part of the training thread's time), and waits for it."""

    def __init__(self, spans: Spans) -> None:
        super().__init__()
        self._spans = spans

    def submit(self, work: Work) -> None:
        """Begins with it on the thread."""

        def watched() -> None:
            with self._spans.span("writing"):
                work()

        super().submit(watched)

    def flush(self) -> None:
        """Waits until the one before is written."""
        if not self.is_busy:
            super().flush()
            return
        with self._spans.span("writer"):
            super().flush()
