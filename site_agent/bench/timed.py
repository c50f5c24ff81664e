# SPDX-License-Identifier: Apache-2.0
"""The parts of an inner loop with a mark at each instant that a benchmark asks about."""

import threading
from pathlib import Path
from typing import Any

from federation.durable.api import FileSystem
from federation.manifest import Manifest
from federation.trace import Trace
from site_agent.inner_loop.exchange import Exchange
from site_agent.inner_loop.global_model import GlobalModel
from site_agent.inner_loop.parameters import LocalParameters
from site_agent.inner_loop.session import Allocation
from site_agent.inner_loop.spool import JobSpool
from site_agent.jobs import OutcomeFile, RunPaths, UpdateFile
from site_agent.trainer.checkpoint import TrainingCheckpoints


class TimedAllocation(Allocation):
    """An allocation whose loop leaves marks in `events`."""

    def __init__(self, directory: Path, events: Trace) -> None:
        super().__init__(directory)
        self._events = events
        self.spool = TimedSpool(self._fs, self._run, self.spool.claim)
        self.spool.events = events

    def make_exchange(self, manifest: Manifest, model: GlobalModel, local: LocalParameters) -> Exchange:
        """Marks encode and merge."""
        exchange = TimedExchange(manifest, model, local)
        exchange.events = self._events
        return exchange

    def make_checkpoints(self, run: FileSystem) -> TrainingCheckpoints:
        """Writes the first one only."""
        checkpoints = OneCheckpoint(run, RunPaths().training)
        checkpoints.events = self._events
        return checkpoints


class TimedSpool(JobSpool):
    """Marks what is durable, published and heard of."""

    events: Trace
    _heard: int = -1

    def write_payload(self, number: int, *arguments: Any, **options: Any) -> Any:
        """Durable when it returns."""
        found = super().write_payload(number, *arguments, **options)
        self.events.mark("payload-durable", {"round": number})
        return found

    def publish(self, update: UpdateFile) -> None:
        """The agent can see it when it returns."""
        super().publish(update)
        facts: dict[str, str | int | float] = {"digest": update.payload_digest, "bytes": update.payload_bytes}
        self.events.mark("published", {"round": update.round, **facts})

    def outcome(self, number: int) -> OutcomeFile | None:
        """The first time that a round is known to have ended."""
        found = super().outcome(number)
        if found is not None and number > self._heard:
            self._heard = number
            self.events.mark("outcome-seen", {"round": number, "kind": found.kind.value})
        return found


class TimedExchange(Exchange):
    """Marks the beginning and end of the arithmetic. Of snapshots for training checkpoints only the first is taken."""

    events: Trace
    _is_lent_once = False

    def lend(self, *arguments: Any, **options: Any) -> Any:
        """A snapshot, timed; nothing at all after the first one, since nobody writes it (`OneCheckpoint`)."""
        if self._is_lent_once:
            return {}
        self._is_lent_once = True
        self.events.mark("snapshot-begin", {})
        found = super().lend(*arguments, **options)
        self.events.mark("snapshot-end", {})
        return found

    def encode(self, *arguments: Any, **options: Any) -> Any:
        """The payload of a round."""
        number = {"round": int(arguments[0] if arguments else options["round_number"])}
        self.events.mark("encode-begin", {**number})
        found = super().encode(*arguments, **options)
        self.events.mark("encode-end", {**number})
        return found

    def merge(self, *arguments: Any, **options: Any) -> Any:
        """The local model holds the round's commit when it returns."""
        found = super().merge(*arguments, **options)
        entry = arguments[0] if arguments else options["entry"]
        fragment = (arguments[1] if len(arguments) > 1 else options["outcome"]).fragment
        theta = self.model.digests[fragment]
        self.events.mark("applied", {"round": entry.round, "fragment": fragment, "theta": theta})
        return found


class OneCheckpoint(TrainingCheckpoints):
    """Real for the first time, which is before anything is timed."""

    events: Trace
    _lock = threading.Lock()
    _is_written = False

    def save(self, *arguments: Any, **options: Any) -> Any:
        """Times the first one; does nothing afterwards."""
        with self._lock:
            if self._is_written:
                return 0
            self._is_written = True
            self.events.mark("checkpoint-begin", {})
            found = super().save(*arguments, **options)
            self.events.mark("checkpoint-end", {})
            return found
