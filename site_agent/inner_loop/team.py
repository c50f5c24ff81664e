# SPDX-License-Identifier: Apache-2.0
"""The ranks of one job and what they say to each other on processors: short words, and vectors in bounded pieces.

Unless it says otherwise a method is collective: all ranks call it, in the same order. None waits for ever: after
`COLLECTIVE_SECONDS`, or as soon as the connection to a rank that is gone breaks, it raises `RankLostError`.
Gradients are the trainer's affair and take another way (NCCL, RCCL).
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from federation.codecs.api import ByteVector
from federation.errors import FederationError, TrainingError

T = TypeVar("T")

COLLECTIVE_SECONDS: Final = 600.0
"""Longest wait for another rank: the leader gives a sign of life far more often (`commands.BEAT_SECONDS`)."""

PIECE_BYTES: Final = 16 * 1024 * 1024
"""Sent at a time."""

FAREWELL_SECONDS: Final = 10.0
"""Longest wait of a rank whose job is over anyway: for others to hear why, or for rank 0 to say it."""

_IN_FLIGHT: Final = 4
"""Pieces that a rank sends or receives at the same time."""

_GONE_SECONDS: Final = 2.0
"""After a broken connection: until this process has noticed which ones are broken."""

_TRANSPORT_WORDS: Final = re.compile(r"gloo|nccl|rccl|connection (closed|reset|refused)", re.IGNORECASE)
"""What torch says where it has no class of its own for a broken connection."""


class RankLostError(TrainingError):
    """A rank of this job is gone or did not answer in time. The execution is over; its successor resumes."""


class Transfer(NamedTuple):
    """Elements start to stop of something that both know, from one rank to another (or to itself)."""

    source: int
    target: int
    start: int
    stop: int


class Reduced(NamedTuple):
    """One inner step of all ranks: mean loss weighted by tokens, tokens of all, and words that ended ranks heard."""

    loss: float
    tokens: int
    words: tuple[str, ...]


@dataclass(frozen=True)
class Team:
    """This process among the ranks of its job.

    Attributes:
        rank: of this process; rank 0 leads: it alone reads orders and writes updates.
        size: number of ranks.
        group: gloo process group of all ranks, used by one thread of each.
        watch: another one, in which nothing is ever said: its connections show who is still there.
    """

    rank: int
    size: int
    group: Any
    watch: Any

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def from_leader(self, data: bytes = b"", *, seconds: float | None = None) -> bytes:
        """What rank 0 gives, on every rank.

        Args:
            seconds: that rank 0 waits for ranks that do not listen, if not as long as ever.
        """
        with self.answering():
            length = torch.tensor([len(data)])
            self._broadcast(length, seconds)
            room = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
            if not self.leads:
                room = torch.empty(int(length), dtype=torch.uint8)
            if int(length):
                self._broadcast(room, seconds)
            return room.numpy().tobytes()

    def _broadcast(self, room: torch.Tensor, seconds: float | None) -> None:
        work = dist.broadcast(room, 0, group=self.group, async_op=True)
        assert work is not None
        if seconds is None:
            work.wait()
        else:
            work.wait(timedelta(seconds=seconds))

    def gathered(self, data: bytes) -> list[bytes]:
        """What each rank gives, by rank, on every rank."""
        with self.answering():
            lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
            dist.all_gather(lengths, torch.tensor([len(data)]), group=self.group)
            longest = max(int(length) for length in lengths)
            mine = np.zeros(max(1, longest), np.uint8)
            mine[: len(data)] = np.frombuffer(data, np.uint8)
            all_of_them = [torch.empty(mine.size, dtype=torch.uint8) for _ in range(self.size)]
            dist.all_gather(all_of_them, torch.from_numpy(mine), group=self.group)
        return [t.numpy()[: int(n)].tobytes() for t, n in zip(all_of_them, lengths, strict=True)]

    def agree(self, work: Callable[[], T]) -> T:
        """work() on every rank; raises on all of them what it raised on the lowest one where it did.

        So what follows takes the same way everywhere. An unexpected error ends this process, and with it the job.
        """
        result: T | None = None
        failure: FederationError | None = None
        try:
            result = work()
        except RankLostError:
            raise
        except FederationError as error:
            failure = error
        for found in self.gathered(failure_bytes(failure)):
            if found:
                raise failure_of(found)
        return result  # type: ignore[return-value]

    def reduced(self, loss: float, tokens: int, word: str | None) -> Reduced:
        """An inner step of all ranks, added up in the order of ranks: the same bits on each."""
        found = [json.loads(data) for data in self.gathered(json.dumps([float(loss).hex(), tokens, word]).encode())]
        total = sum(t for _, t, _ in found)
        weighted = sum(float.fromhex(x) * t for x, t, _ in found)
        mean = weighted / total if total else sum(float.fromhex(x) for x, _, _ in found) / self.size
        return Reduced(loss=mean, tokens=total, words=tuple(w for _, _, w in found if w))

    def run(
        self,
        transfers: Sequence[Transfer],
        read: Callable[[int, int], torch.Tensor],
        write: Callable[[int, int, torch.Tensor], None],
    ) -> None:
        """Carries out transfers that every rank lists in the same order; each takes part in its own.

        Both sides of the first one that is not finished have come to it, so nobody waits in a circle.

        Args:
            read: elements as one-dimensional tensor in this machine's memory, contiguous.
            write: takes elements that came.
        """
        pending: list[tuple[Any, Callable[[], None]]] = []
        with self.answering():
            for move in transfers:
                if len(pending) >= _IN_FLIGHT:
                    _finish(pending.pop(0))
                if move.source == move.target == self.rank:
                    write(move.start, move.stop, read(move.start, move.stop))
                elif move.source == self.rank:
                    values = read(move.start, move.stop)
                    work = dist.isend(values, move.target, group=self.group)
                    pending.append((work, partial(_keep, values)))
                elif move.target == self.rank:
                    room = torch.empty(move.stop - move.start, dtype=torch.float32)
                    work = dist.irecv(room, move.source, group=self.group)
                    pending.append((work, _write(write, move, room)))
            for entry in pending:
                _finish(entry)

    def collect(self, piece: ByteVector, lengths: Sequence[int], order: Sequence[int]) -> Iterator[memoryview]:
        """On rank 0 the bytes of all ranks, piece by piece; nothing on the others.

        Args:
            piece: this rank's bytes.
            lengths: bytes of each rank.
            order: ranks, as their bytes follow each other.
        """
        for rank in order:
            for start in range(0, lengths[rank], PIECE_BYTES):
                stop = min(start + PIECE_BYTES, lengths[rank])
                if rank == 0 and self.leads:
                    yield piece[start:stop].data
                elif rank == self.rank:
                    with self.answering():
                        dist.send(torch.from_numpy(piece[start:stop]), 0, group=self.group)
                elif self.leads:
                    room = torch.empty(stop - start, dtype=torch.uint8)
                    with self.answering():
                        dist.recv(room, rank, group=self.group)
                    yield room.numpy().data

    # --- ranks that are lost; not collective -----------------------------------------------------------------------

    @contextmanager
    def answering(self) -> Iterator[None]:
        """torch raises RuntimeError when a connection breaks or a time is over: here that is a `RankLostError`."""
        try:
            yield
        except RuntimeError as error:
            raise self._lost(error) from error

    @contextmanager
    def losing_ranks(self) -> Iterator[None]:
        """The same around a program's own collectives, such as of gradients; its other errors pass."""
        try:
            yield
        except RuntimeError as error:
            if not _is_of_transport(error):
                raise
            raise self._lost(error) from error

    def gone(self, seconds: float = 0.0) -> tuple[int, ...]:
        """Ranks whose processes have ended, ascending: the connections to them are broken.

        Args:
            seconds: that may pass until there is one.
        """
        deadline = time.monotonic() + seconds
        while not (found := tuple(r for r in range(self.size) if r != self.rank and self._is_gone(r))):
            if time.monotonic() >= deadline:
                break
            time.sleep(0.02)
        return found

    def outlast_leader(self) -> None:
        """Waits until rank 0 has ended, not for long: a rank that ends at once looks like the one that was lost."""
        deadline = time.monotonic() + FAREWELL_SECONDS
        while not self.leads and 0 not in self.gone() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _is_gone(self, rank: int) -> bool:
        try:
            dist.irecv(torch.empty(1), rank, group=self.watch)  # never comes, but is refused by a broken connection
        except RuntimeError:
            return True
        return False

    def _lost(self, error: RuntimeError) -> RankLostError:
        gone = self.gone(_GONE_SECONDS)
        names = f"{'rank' if len(gone) == 1 else 'ranks'} {', '.join(map(str, gone))}"
        found = f"{names} gone" if gone else "no answer in time"
        who = names if gone else "the rank that ended or stood still first"
        return RankLostError(
            f"rank {self.rank}: expected answers of all {self.size} ranks, found {found} ({_reason(error)})",
            advice=f"The job's log has the last words of {who}; without any it was killed: look at its memory and at "
            "its machine. The next job goes on from the last training checkpoint.",
        )


@dataclass(frozen=True)
class Teams:
    """The two groups of a job's processes: training threads and writers' threads never wait for each other.

    Attributes:
        training: used between inner steps.
        writing: used by the threads that write training checkpoints.
    """

    training: Team
    writing: Team


def world_size_here() -> int:
    """Ranks of this job as torchrun says; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank_here() -> int:
    """This process's rank as torchrun says; 0 without it."""
    return int(os.environ.get("RANK", "0"))


def gather_teams(backend: str = "gloo", seconds: float = COLLECTIVE_SECONDS) -> Teams:
    """Meets the other ranks; joins torch's default process group, which is made if the program has not done so.

    Args:
        backend: of that default group, for the trainer's own collectives.
        seconds: longest wait for another rank.

    Raises:
        RankLostError: they did not come.
    """
    timeout = timedelta(seconds=seconds)
    try:
        if not dist.is_initialized():
            dist.init_process_group(backend, timeout=timeout)
        rank, size = dist.get_rank(), dist.get_world_size()
        training, writing, watch = (dist.new_group(backend="gloo", timeout=timeout) for _ in range(3))
    except RuntimeError as error:
        raise RankLostError(
            f"rank {rank_here()}: expected all {world_size_here()} ranks of this job to meet, found: {_reason(error)}",
            advice="The job's log has the last words of the rank that is missing; if every rank waited, name the right "
            "network in GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME.",
        ) from error
    return Teams(training=Team(rank, size, training, watch), writing=Team(rank, size, writing, watch))


def _finish(entry: tuple[Any, Callable[[], None]]) -> None:
    work, afterwards = entry
    work.wait()
    afterwards()


def _keep(values: torch.Tensor) -> None:
    """Holds the memory until it is sent: whoever keeps this call keeps it."""


def _write(write: Callable[[int, int, torch.Tensor], None], move: Transfer, room: torch.Tensor) -> Callable[[], None]:
    return lambda: write(move.start, move.stop, room)


def _is_of_transport(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or _TRANSPORT_WORDS.search(str(error)) is not None


def _reason(error: RuntimeError) -> str:
    """What torch says, without the place in its source and without its advice."""
    words = re.sub(r"^\[[^\]]*\]\s*", "", str(error).strip()).split(". ")[0].splitlines()
    return words[0][:300] if words else type(error).__name__


def failure_bytes(failure: FederationError | None) -> bytes:
    """An error for other ranks, b"" for none."""
    if failure is None:
        return b""
    return json.dumps([type(failure).__name__, str(failure), failure.advice]).encode()


def failure_of(data: bytes) -> FederationError:
    """What another rank raised, of the same class where that takes only words."""
    name, sentence, advice = json.loads(data)
    try:
        return _kinds(FederationError).get(name, TrainingError)(sentence, advice=advice)
    except TypeError:  # An error that wants more than words.
        return TrainingError(sentence, advice=advice)


def _kinds(kind: type[FederationError]) -> dict[str, type[FederationError]]:
    found = {kind.__name__: kind}
    for below in kind.__subclasses__():
        found |= _kinds(below)
    return found
