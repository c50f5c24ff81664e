# SPDX-License-Identifier: Apache-2.0
"""For auditors: who ordered what, signed updates, and what was refused at the door."""

from typing import Final

from coordinator.dashboard.page import Page
from coordinator.dashboard.pages.request import ROWS, Asked
from coordinator.dashboard.pages.words import reason_words
from coordinator.dashboard.tables import Kind, Link, Table, columns, pages_of
from federation.blobs.store import BlobStore
from federation.errors import FederationError, UsageError
from federation.ids import is_digest

SECURITY_LOG: Final = "security.log"
_MAX_LOG_BYTES: Final = 256 * 1024
_MAX_DOCUMENT_BYTES: Final = 1024 * 1024


def audit_page(asked: Asked) -> Page:
    """Operators' commands, updates with their evidence, and the security log's end."""
    updates = _updates(asked)
    return Page(
        title="Audit",
        path="/audit",
        nav="audit",
        notices=asked.faults(),
        sections=(_commands(asked), updates, _security(asked)),
        pages=pages_of(len(updates.rows), ROWS),
        number=asked.number(),
    )


def _commands(asked: Asked) -> Table:
    view = asked.view
    rows = []
    for key, index in sorted(view.state.commands.items(), key=lambda item: item[1], reverse=True)[: asked.newest(ROWS)]:
        offset = index - view.first_sentence
        at, text = view.sentences[offset] if 0 <= offset < len(view.sentences) else (0, "")
        operator, _, command = key.partition("/")
        rows.append(
            {
                "leaf": Link(text=str(index), href=f"/ledger/{index}"),
                "at": at / 1e6 or None,
                "operator": operator,
                "text": text,
                "command": command,
            }
        )
    return Table(
        id="commands",
        title="Operators' newest commands",
        columns=columns(
            ("leaf", "Leaf", Kind.COUNT),
            ("at", "When", Kind.TIME),
            ("operator", "Operator"),
            ("text", "What was decided"),
            ("command", "Command"),
        ),
        rows=tuple(rows),
        num_rows=len(view.state.commands),
        empty="No operator has ordered anything yet.",
    )


def _updates(asked: Asked) -> Table:
    rows = [
        {
            "round": Link(text=f"{run.id}/{found.number}", href=f"/run/{run.id}/round/{found.number}"),
            "opened": found.opened_at_us / 1e6,
            "site": site,
            "outcome": verdict.outcome.value,
            "reason": reason_words(verdict.reason) or None,
            "update": Link(text=verdict.update_digest, href=f"/audit/update/{verdict.update_digest}"),
            "payload": verdict.payload_digest or None,
        }
        for run in asked.view.state.runs.values()
        for found in run.rounds.values()
        for site, verdict in found.verdicts.items()
        if verdict.update_digest
    ]
    rows.sort(key=lambda row: (row["opened"], row["site"]), reverse=True)
    return Table(
        id="updates",
        title="Signed updates",
        columns=columns(
            ("round", "Round"),
            ("opened", "Opened", Kind.TIME),
            ("site", "Site"),
            ("outcome", "Outcome"),
            ("reason", "Reason"),
            ("update", "Signed update", Kind.TEXT, "The exact signed bytes"),
            ("payload", "Payload", Kind.TEXT, "Digest of the pseudo-gradient's bytes"),
        ),
        rows=tuple(rows),
        empty="No update was received yet.",
    )


def _security(asked: Asked) -> Table:
    try:
        size = asked.fs.size(SECURITY_LOG)
        data = asked.fs.read_range(SECURITY_LOG, max(0, size - _MAX_LOG_BYTES), _MAX_LOG_BYTES)
    except FederationError:
        data = b""
    lines = data.decode(errors="replace").splitlines()[-ROWS:]
    return Table(
        id="security",
        title="Refused at the coordinator's door",
        columns=columns(("line", "Newest lines of the security log")),
        rows=tuple({"line": line[:1000]} for line in reversed(lines)),
        empty="Nothing was refused.",
    )


def update_document(asked: Asked, digest: str) -> bytes:
    """The exact signed bytes of an update that the ledger names.

    Raises:
        UsageError: the ledger names no such update, or its bytes are not here.
    """
    named = is_digest(digest) and any(
        verdict.update_digest == digest
        for run in asked.view.state.runs.values()
        for found in run.rounds.values()
        for verdict in found.verdicts.values()
    )
    if not named:
        raise UsageError("update: expected the digest of one that the ledger names")
    try:
        return BlobStore(asked.fs).read(digest, max_bytes=_MAX_DOCUMENT_BYTES)
    except FederationError as error:
        raise UsageError(f"update {digest[:12]}: its bytes are not here any more") from error
