# SPDX-License-Identifier: Apache-2.0
"""The ledger's head, and who cosigned how much of it."""

from rich.text import Text

from coordinator.cli.picture.words import Document, amount, name, size, whole
from federation.cli.lines import clip, listed, wrapped
from federation.durations import count


def ledger_lines(document: Document, width: int) -> list[Text]:
    """Traffic, cosignatures, head; the head is the last line."""
    ledger = document["ledger"]
    head = f"ledger: {count(ledger['size'], 'leaf', 'leaves')}, root {clip(str(ledger['root'])[:16], 16)}"
    return [*_traffic(document, width), *_cosigned(document, width), *wrapped(head, width, style="dim")]


def _traffic(document: Document, width: int) -> list[Text]:
    found = document.get("bytes")
    if not found:
        return []
    words = f"traffic: {size(found['up'])} up, {size(found['down'])} down; {amount(found['tokens'])} tokens trained"
    return wrapped(words, width, style="dim")


def _cosigned(document: Document, width: int) -> list[Text]:
    """How far enough witnesses have cosigned, and who is how many leaves behind the head."""
    reach = _reach(document)
    if reach is None:
        return []
    total, witnessed = document["ledger"]["size"], document["ledger"]["witnessed"]
    behind = {site: total - witnessed.get(site, 0) for site in document["sites"]}
    late = sorted((site for site in behind if behind[site] > 0), key=lambda site: -behind[site])
    words = f"cosigned: {count(reach, 'leaf', 'leaves')} by {_quorum(document)} of {count(len(behind), 'site')}"
    if late:
        words += "; behind the newest: " + listed((_behind(site, behind[site], total) for site in late), 4)
    return wrapped(words, width, indent=2, style="dim")


def short_ledger_line(document: Document, width: int) -> Text:
    """The same on one line, for a small terminal."""
    ledger, reach = document["ledger"], _reach(document)
    head = f"ledger: {count(ledger['size'], 'leaf', 'leaves')}, root {clip(str(ledger['root'])[:16], 16)}"
    if reach is not None:
        head += f", {reach} cosigned by {_quorum(document)} of {len(document['sites'])}"
    return Text(clip(head, width), style="dim")


def _quorum(document: Document) -> int:
    """Witnesses that a checkpoint needs; a majority where an older coordinator does not say."""
    found = document.get("witnesses") or {}
    return max(1, int(found.get("quorum", len(document["sites"]) // 2 + 1)))


def _reach(document: Document) -> int | None:
    """Leaves under checkpoints that enough members have cosigned; None where nothing is said of it."""
    witnessed = document["ledger"].get("witnessed")
    if witnessed is None:
        return None
    sizes = sorted((witnessed.get(site, 0) for site in document["sites"]), reverse=True)
    quorum = _quorum(document)
    return max(0, min(sizes[quorum - 1], document["ledger"]["size"])) if quorum <= len(sizes) else 0


def missing_witnesses(document: Document) -> str:
    """Whose cosignature jobs wait for, "" for nobody's."""
    found = document.get("witnesses") or {}
    if not found.get("missing"):
        return ""
    needs = f"{whole(found['quorum'])} must cosign leaf {whole(found['leaf'])}, {len(found['cosigned_by'])} did"
    return f"jobs wait for cosignatures: {needs}; missing: {listed(map(name, found['missing']))}"


def _behind(site: str, missing: int, total: int) -> str:
    return f"{name(site)} all" if missing >= total else f"{name(site)} {missing}"
