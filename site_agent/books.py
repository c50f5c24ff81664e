# SPDX-License-Identifier: Apache-2.0
"""Reads what a site has on disk (journal, ledger copy, metrics), for commands beside a running agent."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from federation.durable.api import FileSystem
from federation.ledger.store import StoredLog
from federation.roster import TrustedRosters
from federation.rounds import Federation, fold
from site_agent import layout
from site_agent.agent_state import AgentState
from site_agent.budget import JobSize
from site_agent.budget_training import RoundTraining, training_of
from site_agent.journal import read_state

_PIECE_BYTES: Final = 4 * 1024 * 1024
_MAX_LINE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Books:
    """One site's records: the journal and the ledger, folded."""

    state: AgentState
    federation: Federation


def read_books(fs: FileSystem, rosters: TrustedRosters) -> Books:
    """The records of an agent's directory as they are now.

    Raises:
        RosterError: no coordinator in the roster.
        CorruptObjectError: journal or ledger copy are damaged.
    """
    entry = rosters.coordinator()
    copy = StoredLog(
        fs,
        layout.LEDGER,
        origin=entry.ledger_origin,
        public=entry.ledger_public,
        witness_publics=rosters.witness_publics,
        writable=False,
    )
    try:
        return Books(state=read_state(fs, layout.JOURNAL), federation=fold(copy.leaves()))
    finally:
        copy.close()


def read_training(fs: FileSystem, state: AgentState, default: JobSize) -> dict[str, dict[int, RoundTraining]]:
    """Per run what its step metrics say about training; nothing where there are none."""
    return {
        run: training_of(_lines(fs, layout.run_paths(run).metrics), jobs, default)
        for run, jobs in state.allocations.items()
    }


def _lines(fs: FileSystem, path: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file, piece by piece: it grows by a line per inner step. What is none is left out."""
    rest, offset = b"", 0
    while offset < (size := fs.size(path) if fs.exists(path) else 0):
        piece = fs.read_range(path, offset, min(_PIECE_BYTES, size - offset))
        offset += len(piece)
        *lines, rest = (rest + piece).split(b"\n")
        rest = rest[-_MAX_LINE_BYTES:]
        yield from filter(None, map(record_of, lines))


def record_of(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a line, None if it is none."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None
