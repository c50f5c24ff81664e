# SPDX-License-Identifier: Apache-2.0
"""A job that never holds the model: it hands in blocks that were encoded beforehand, and notes how rounds end.

For large cases, where what is measured is the coordinator. Payloads are well-formed and differ between sites and
rounds: the pool's blocks in their order, beginning with another one each time.
"""

import time
from collections.abc import Iterator
from pathlib import Path

from federation import wire
from federation.codecs.payload import payload_bytes
from federation.codecs.registry import get_codec
from federation.durable.real import RealFileSystem
from federation.manifest import Manifest
from federation.merkle import BLOB_PIECE_BYTES, PieceHasher
from federation.trace import Trace
from site_agent.bench.spec import BenchSpec, Gate
from site_agent.inner_loop.patience import Pauses
from site_agent.jobs import (
    AllocationPaths,
    Claim,
    EndCode,
    JobEnded,
    JobPhase,
    JobReport,
    JobState,
    OutcomeFile,
    RoundOrder,
    RunPaths,
    StopOrder,
    UpdateFile,
    WorkOrder,
    numbered,
    read_record,
    write_record,
)

PATHS = AllocationPaths()


def replay(directory: Path, order: WorkOrder, spec: BenchSpec, events: Trace) -> None:
    """Answers every round until told to stop."""
    fs = RealFileSystem(directory)
    if not fs.mkdir(PATHS.claim):
        return
    write_record(fs, PATHS.owner, Claim(execution=f"replay-{order.site}", fencing=order.fencing))
    write_record(fs, PATHS.report, JobReport(fencing=order.fencing, state=JobState.READY, phase=JobPhase.IDLE))
    manifest = wire.manifest_from_bytes(Path(order.manifest_path).read_bytes())
    job = Replay(fs, order, spec, events, manifest)
    pauses = Pauses(order.first_poll_seconds, order.poll_seconds)
    while read_record(fs, PATHS.stop, StopOrder) is None:
        if job.answer_rounds() or job.note_outcomes():
            pauses.reset()
        time.sleep(pauses.take())
    ended = JobEnded(code=EndCode.STOPPED, reason="stop", sentence="told to stop", fencing=order.fencing)
    write_record(fs, PATHS.ended, ended)


class Replay:
    """One site's rounds."""

    def __init__(
        self, fs: RealFileSystem, order: WorkOrder, spec: BenchSpec, events: Trace, manifest: Manifest
    ) -> None:
        self._fs, self._order, self._spec, self._events = fs, order, spec, events
        self._run = RealFileSystem(Path(order.run_dir))
        self._gate = Gate(Path(spec.gate), order.site, spec.num_sites) if spec.gate else None
        self._manifest, self._codec = manifest, get_codec(manifest.codecs.up)
        self._waiting: set[int] = set()

    def answer_rounds(self) -> bool:
        """Hands in an update for every round order that has none; returns whether there was one."""
        is_asked, done = False, set(numbered(self._fs, PATHS.updates))
        for number in numbered(self._fs, PATHS.rounds):
            wanted = None if number in done else read_record(self._fs, PATHS.round_order(number), RoundOrder)
            if wanted is not None:
                self._answer(wanted)
                is_asked = True
        return is_asked

    def note_outcomes(self) -> bool:
        """Marks rounds that have ended since the last look; returns whether there was one."""
        num_waiting = len(self._waiting)
        for number in sorted(self._waiting & set(numbered(self._run, RunPaths().outcomes))):
            outcome = read_record(self._run, RunPaths().outcome(number), OutcomeFile)
            if outcome is not None:
                self._waiting.discard(number)
                facts: dict[str, str | int | float] = {"round": number, "kind": outcome.kind.value}
                self._events.mark("outcome-seen", facts)
                self._events.mark("applied", {**facts, "fragment": outcome.fragment, "theta": outcome.theta_digest})
        return len(self._waiting) < num_waiting

    def _answer(self, wanted: RoundOrder) -> None:
        number, size = wanted.round, self._payload_size(wanted.fragment)
        digest = self._write_payload(number, size)
        self._events.mark("payload-durable", {"round": number})
        if self._gate is not None:
            for wait in (self._gate.wait_for_leave, self._gate.wait_for_others):
                wait(number, lambda: read_record(self._fs, PATHS.stop, StopOrder))
        self._events.mark("boundary", {"round": number})
        tokens = self._manifest.trainer.batch_size * self._manifest.trainer.sequence_length * wanted.num_steps
        update = UpdateFile(
            round=number,
            fragment=wanted.fragment,
            base_digest=wanted.base_digest,
            codec=self._codec.name,
            payload_digest=digest,
            payload_bytes=size,
            weight_tokens=tokens,
            new_tokens=tokens,
            num_steps=wanted.num_steps,
            fencing=self._order.fencing,
        )
        write_record(self._fs, PATHS.update(number), update)
        self._events.mark("published", {"round": number, "digest": digest, "bytes": size})
        self._waiting.add(number)

    def _payload_size(self, fragment: int) -> int:
        return payload_bytes(self._codec, self._manifest.fragments[fragment].num_elements)

    def _write_payload(self, number: int, size: int) -> str:
        hasher = PieceHasher(BLOB_PIECE_BYTES)
        with self._fs.writer() as writer:
            for part in self._parts(number, size):
                hasher.update(part)
                writer.write(part)
            writer.publish(PATHS.payload(number))
        return hasher.hexdigest()

    def _parts(self, number: int, size: int) -> Iterator[memoryview]:
        """The pool from some block on, again and again, and at last the block that is not full, if there is one."""
        pool = memoryview(Path(self._spec.pool).read_bytes())
        tail = memoryview(Path(self._spec.tail).read_bytes() if self._spec.tail else b"")
        block = self._spec.block_bytes
        first = (number * self._spec.num_sites + self._spec.index + 1) * block % len(pool)
        left = size - len(tail)
        while left:
            part = pool[first : first + min(left, len(pool) - first)]
            yield part
            first, left = 0, left - len(part)
        yield tail
