# SPDX-License-Identifier: Apache-2.0
"""The ledger's leaves in sentences, with the proofs that they are in it."""

import base64
import json
from typing import Final

from coordinator.dashboard.follower import View
from coordinator.dashboard.page import Figure, Figures, Links, Page, Search
from coordinator.dashboard.pages.request import ROWS, Asked
from coordinator.dashboard.tables import Kind, Link, Table, columns, pages_of
from federation.errors import UsageError

MAX_WORDS: Final = 10
"""Of a search that count, the longest ones."""

MAX_FOUND: Final = 5_000
"""Newest matches of a search that are listed."""


def ledger_page(asked: Asked) -> Page:
    """Newest first; `q` keeps leaves whose sentence holds every word of it."""
    view, q = asked.view, asked.query.get("q", "")[:200]
    found, is_cut = _search(view, q)
    rows = tuple(
        {"index": Link(text=str(index), href=f"/ledger/{index}"), "at": at / 1e6 or None, "text": text}
        for index, at, text in found
    )
    note = f"Only the newest {MAX_FOUND} that match are listed." if is_cut else ""
    if view.first_sentence:
        note += f" Leaves before {view.first_sentence} are not searched."
    table = Table(
        id="leaves",
        title=f"{len(rows)} of {view.log.size} leaves" if q else f"{view.log.size} leaves",
        columns=columns(("index", "Leaf", Kind.COUNT), ("at", "When", Kind.TIME), ("text", "What was decided")),
        rows=rows,
        empty="No leaf holds all of these words." if q else "The ledger is empty.",
        note=note.strip(),
    )
    return Page(
        title="Ledger",
        path="/ledger",
        nav="ledger",
        notices=asked.faults(),
        query={"q": q} if q else {},
        sections=(Search(title="Search the leaves", value=q), _head(asked), table),
        pages=pages_of(len(rows), ROWS),
        number=asked.number(),
    )


def _search(view: View, q: str) -> tuple[list[tuple[int, int, str]], bool]:
    words = sorted(set(q.casefold().split()), key=len, reverse=True)[:MAX_WORDS]
    found: list[tuple[int, int, str]] = []
    for offset in range(len(view.sentences) - 1, -1, -1):
        at, text = view.sentences[offset]
        folded = text.casefold() if words else ""
        if all(word in folded for word in words):
            if len(found) == MAX_FOUND:
                return found, True
            found.append((view.first_sentence + offset, at, text))
    return found, False


def _head(asked: Asked) -> Figures:
    log = asked.view.log
    root = log.tree.root().hex()
    return Figures(
        items=(
            Figure(title="Leaves", value=log.size, kind=Kind.COUNT),
            Figure(title="Root", value=root),
            Figure(title="Signed checkpoint", value=Link(text="download", href="/ledger/checkpoint")),
        )
    )


def leaf_page(asked: Asked, text: str) -> Page:
    """One leaf. Raises UsageError: no such leaf."""
    view, index = asked.view, _index(asked.view, text)
    offset = index - view.first_sentence
    at, sentence = view.sentences[offset] if 0 <= offset < len(view.sentences) else (0, "")
    items = (
        Figure(title="What was decided", value=sentence or None),
        Figure(title="When", value=at / 1e6 or None, kind=Kind.TIME),
        Figure(title="Leaf hash", value=view.log.tree.leaf(index).hex()),
        Figure(title="In the tree of", value=view.log.size, kind=Kind.COUNT),
        Figure(title="Root", value=view.log.tree.root().hex()),
    )
    links = [
        Link(text="Inclusion proof (JSON)", href=f"/ledger/{index}/proof.json"),
        Link(text="Signed checkpoint", href="/ledger/checkpoint"),
    ]
    if asked.auditor:
        links.append(Link(text="Exact bytes of the leaf", href=f"/audit/leaf/{index}.bin"))
    return Page(
        title=f"Leaf {index}",
        path=f"/ledger/{index}",
        nav="ledger",
        trail=(Link(text="Ledger", href="/ledger"),),
        notices=asked.faults(),
        sections=(Figures(items=items), Links(title="Evidence", items=tuple(links))),
    )


def proof_document(asked: Asked, text: str) -> str:
    """The inclusion proof of one leaf (RFC 6962, 2.1.1) under the newest signed checkpoint, as JSON.

    Raises:
        UsageError: no such leaf, or no checkpoint that agrees with the leaves.
    """
    log, index = asked.view.log, _index(asked.view, text)
    if not log.note or asked.view.log.fault:
        raise UsageError("proof: expected a checkpoint that agrees with the leaves, found none")
    document = {
        "leaf_index": index,
        "tree_size": log.size,
        "leaf_hash": log.tree.leaf(index).hex(),
        "root_hash": log.tree.root().hex(),
        "inclusion_proof": [node.hex() for node in log.tree.inclusion_proof(index)],
        "hashing": "RFC 6962, SHA-256",
        "checkpoint": base64.b64encode(log.note).decode(),
    }
    return json.dumps(document, indent=2)


def leaf_bytes(asked: Asked, text: str) -> bytes:
    """The exact bytes of one leaf. Raises UsageError: no such leaf."""
    return asked.view.log.leaf_bytes(_index(asked.view, text))


def _index(view: View, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) < view.log.size):
        known = f"expected a number from 0 to {view.log.size - 1}" if view.log.size else "the ledger is empty"
        raise UsageError(f"leaf {text!r:.20}: {known}")
    return int(text)
