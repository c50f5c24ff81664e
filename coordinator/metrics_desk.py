# SPDX-License-Identifier: Apache-2.0
"""Answers questions for a run's metrics: makes the blob beside the coordinator's work and takes it away again.

A blob is in the coordinator's store only from its last byte to the reply: the operator's mailbox holds its own link to
it until the operator has it. A marker tells a restart what a crash in between has left.
"""

import json
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from coordinator import bounded_lines, telemetry
from coordinator.home import LEDGER
from coordinator.metrics_blob import MAX_BLOB_BYTES, write_blob
from coordinator.phases import PHASES
from federation.blobs.store import BlobStore
from federation.durable import FileSystem
from federation.errors import DiskFullError, FederationError, ObjectNotFoundError, UsageError
from federation.ids import is_digest
from federation.ledger.segments import Segments
from federation.messages import Query, QueryReply
from federation.state.background import Background

LOG: Final = logging.getLogger("coordinator")
EXPORTS: Final = "exports"
"""Directory of markers: a file named by the digest of a blob that is not yet, or no longer, anybody's."""

MAX_UNTAKEN: Final = 4
"""Exports of one operator that are being made or that it has not fetched."""

RESERVE_BYTES: Final = 256 * 1024**2
"""Of free space, which is the rounds' and not an export's."""

_PIECE_BYTES: Final = 1024**2
_LOOK_EVERY: Final = 256


@dataclass(frozen=True, kw_only=True)
class Question:
    """One query, and the ledger as it was when it came.

    Attributes:
        size: leaves that the answer holds.
        sites: whose telemetry and phases it holds.
        document: of the reply, but for the blob's digest.
    """

    operator: str
    query: Query
    size: int
    sites: tuple[str, ...]
    document: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What to post.

    Attributes:
        blob: its digest, "" where there is none.
        was_taken_on: whether the question had its place among the operator's exports.
    """

    operator: str
    reply: QueryReply
    blob: str = ""
    was_taken_on: bool = True


@dataclass(kw_only=True)
class MetricsDesk:
    """Takes questions and returns answers on the thread that drives.

    Attributes:
        in_background: whether blobs are made on a thread; else within `ask`.
        on_done: called on that thread when an answer is there.
    """

    fs: FileSystem
    blobs: BlobStore
    in_background: bool = False
    on_done: Callable[[], None] = lambda: None
    _background: Background = field(default_factory=lambda: Background("metrics"))
    _answers: deque[Answer] = field(default_factory=deque)
    _asked: Counter[str] = field(default_factory=Counter)
    _untaken: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for digest in self.fs.list(EXPORTS):
            if is_digest(digest):
                self.drop(digest)

    def ask(self, question: Question, outstanding: Iterable[int]) -> None:
        """Makes an answer, now or soon.

        Args:
            outstanding: sequences of messages to this operator that it has not acknowledged.
        """
        operator = question.operator
        untaken = self._untaken[operator] = sorted({*self._untaken.get(operator, ())} & {*outstanding})
        if len(untaken) + self._asked[operator] >= MAX_UNTAKEN:
            error = UsageError(
                f"export: expected at most {MAX_UNTAKEN} of one operator on their way, found as many",
                advice="They arrive with this reply; ask again.",
            )
            self._answers.append(replace(_refusal(question, error), was_taken_on=False))
            return
        self._asked[operator] += 1
        if self.in_background:
            self._background.submit(partial(self._make, question))
        else:
            self._make(question, threading.Event())

    def finished(self) -> Iterator[Answer]:
        """Answers to post, each once; whoever posts one says so with `posted`."""
        while self._answers:
            answer = self._answers.popleft()
            self._asked[answer.operator] -= answer.was_taken_on
            yield answer

    def posted(self, answer: Answer, sequence: int) -> None:
        """The mailbox has its own link to the blob now."""
        if answer.blob:
            self._untaken.setdefault(answer.operator, []).append(sequence)
            self.drop(answer.blob)

    def drop(self, digest: str) -> None:
        """Takes a blob out of the store, and its marker."""
        self.blobs.delete(digest)
        self.fs.remove(f"{EXPORTS}/{digest}")

    def close(self) -> None:
        """Ends what is being made; nobody gets it, a query may be repeated."""
        self._background.close()

    def _make(self, question: Question, stopping: threading.Event) -> None:
        try:
            answer = self._answer(question, stopping)
        except _Stopping:
            return
        except FederationError as error:
            LOG.warning("export for %s: %s", question.operator, error.diagnostics())
            answer = _refusal(question, error)
        self._answers.append(answer)
        self.on_done()

    def _answer(self, question: Question, stopping: threading.Event) -> Answer:
        if self.fs.free_bytes() < RESERVE_BYTES:
            raise DiskFullError(
                f"export: expected {RESERVE_BYTES} bytes of free space at the coordinator, found fewer",
                advice="The rounds need what is left; free space there and ask again.",
            )
        header = {"run": question.query.subject, "query": question.query.id, "leaves": question.size}
        leaves = _leaves(self.fs, question.size, stopping)
        lines = self._lines(question, telemetry.paths)
        phases = self._lines(question, partial(bounded_lines.paths, PHASES))
        with self.blobs.writer(max_bytes=MAX_BLOB_BYTES) as sink:
            write_blob(sink, header, leaves, lines, phases)
            digest = sink.digest
            self.fs.write(f"{EXPORTS}/{digest}", b"\n")
            sink.finish()
        document = json.dumps({**question.document, "export": digest})
        reply = QueryReply(id=question.query.id, ok=True, sentence="", document=document)
        return Answer(operator=question.operator, reply=reply, blob=digest)

    def _lines(self, question: Question, paths: Callable[[str], tuple[str, str]]) -> Iterator[tuple[str, bytes]]:
        return (found for site in question.sites for found in stored_lines(self.fs, site, paths(site)))


class _Stopping(Exception):  # noqa: N818 - no failure
    """The coordinator ends."""


def _refusal(question: Question, error: FederationError) -> Answer:
    reply = QueryReply(id=question.query.id, ok=False, sentence=error.diagnostics())
    return Answer(operator=question.operator, reply=reply)


def _leaves(fs: FileSystem, size: int, stopping: threading.Event) -> Iterator[bytes]:
    """The ledger's first leaves from its files: the coordinator's own object is not for a second thread."""
    for index, leaf in enumerate(Segments(fs, f"{LEDGER}/segments").load(size, writable=False)):
        if index % _LOOK_EVERY == 0 and stopping.is_set():
            raise _Stopping
        yield leaf


def stored_lines(fs: FileSystem, site: str, files: tuple[str, str]) -> Iterator[tuple[str, bytes]]:
    """What is stored of a site as it is, oldest first, in pieces.

    Args:
        files: the newer one and the older one. The newer is read first: if the files change meanwhile, its lines come
            twice, and none is missing.
    """
    newer, older = files
    last = list(_pieces(fs, newer))
    for piece in (*_pieces(fs, older), *last):
        yield site, piece


def _pieces(fs: FileSystem, path: str) -> Iterator[bytes]:
    """Whole lines of a file."""
    offset = 0
    while piece := _piece(fs, path, offset):
        whole = piece[: piece.rfind(b"\n") + 1] or piece
        offset += len(whole)
        yield whole


def _piece(fs: FileSystem, path: str, offset: int) -> bytes:
    try:
        return fs.read_range(path, offset, _PIECE_BYTES)
    except ObjectNotFoundError:
        return b""
