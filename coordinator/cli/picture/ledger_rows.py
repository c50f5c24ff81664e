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
    """Who is how far behind the head; who is missing where jobs wait for it."""
    witnessed, total = document["ledger"].get("witnessed"), document["ledger"]["size"]
    if witnessed is None:
        return []
    behind = {site: total - witnessed.get(site, 0) for site in document["sites"]}
    current = sum(not missing for missing in behind.values())
    late = sorted((site for site in behind if behind[site] > 0), key=lambda site: -behind[site])
    words = f"cosigned: the newest leaf by {current} of {count(len(behind), 'site')}"
    if late:
        words += "; behind: " + listed((_behind(site, behind[site], total) for site in late), 4)
    return wrapped(words, width, indent=2, style="dim")


def short_ledger_line(document: Document, width: int) -> Text:
    """The same on one line, for a small terminal."""
    ledger, sites = document["ledger"], document["sites"]
    head = f"ledger: {count(ledger['size'], 'leaf', 'leaves')}, root {clip(str(ledger['root'])[:16], 16)}"
    if "witnessed" in ledger:
        current = sum(ledger["witnessed"].get(site, 0) >= ledger["size"] for site in sites)
        head += f", cosigned by {current} of {len(sites)}"
    return Text(clip(head, width), style="dim")


def missing_witnesses(document: Document) -> str:
    """Whose cosignature jobs wait for, "" for nobody's."""
    found = document.get("witnesses") or {}
    if not found.get("missing"):
        return ""
    needs = f"{whole(found['quorum'])} must cosign leaf {whole(found['leaf'])}, {len(found['cosigned_by'])} did"
    return f"jobs wait for cosignatures: {needs}; missing: {listed(map(name, found['missing']))}"


def _behind(site: str, missing: int, total: int) -> str:
    return f"{name(site)} all" if missing >= total else f"{name(site)} {missing}"
