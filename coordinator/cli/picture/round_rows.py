# SPDX-License-Identifier: Apache-2.0
"""The newest rounds, newest first: how far each one is, and what became of who is not in it, in words."""

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from rich.text import Text

from coordinator.cli.picture.grid import Column, grid
from coordinator.cli.picture.words import Document, name, size, verdict, whole
from federation.cli.lines import age, clip, first_lines, listed, wrapped
from federation.ledger_state import RoundState
from federation.terminal_text import one_line

NUM_ROUNDS_SHOWN: Final = 10
_INDENT: Final = 4
_STYLES: Final = {"abandoned": "red", "reverted": "yellow", "open": "bold", "sealed": "bold"}


def round_lines(document: Document, now: float, width: int, most: int | None = None) -> list[Text]:
    """The table of rounds with its notes; a round that does not fit into `most` lines is left out, with all before."""
    rounds = list(reversed(document["round_log"][-NUM_ROUNDS_SHOWN:]))
    if not rounds:
        return [Text("no round yet", style="dim")]
    columns = [
        Column(head="round", cells=[whole(r["round"]) for r in rounds], right=True, needed=True),
        Column(head="state", cells=[clip(r["state"], 12) for r in rounds], needed=True),
        Column(head="admitted", cells=[_admitted(r) for r in rounds], right=True, needed=True),
        Column(head="fragment", cells=[whole(r["fragment"]) for r in rounds], right=True),
        Column(head="took", cells=[_took(r, now) for r in rounds], right=True),
        Column(head="up", cells=[size(r["payload_bytes"]) for r in rounds], right=True),
        Column(head="down", cells=[size(r["blob_bytes"]) for r in rounds], right=True),
    ]
    found = grid(columns, width, [_STYLES.get(r["state"], "") for r in rounds])
    each = None if most is None else 1
    blocks = [[*row, *_notes(r, width, each)] for row, r in zip(found.rows, rounds, strict=True)]
    return [*found.head, *_fitting(blocks, None if most is None else most - len(found.head))]


def _fitting(blocks: Sequence[list[Text]], most: int | None) -> list[Text]:
    """As many as fit; of the first one that does not, its beginning."""
    lines: list[Text] = []
    for block in blocks:
        if most is not None and len(lines) + len(block) > most:
            return [*lines, *islice(block, max(0, most - len(lines)))]
        lines += block
    return lines


def _admitted(found: Document) -> str:
    admitted = sum(v["outcome"] == "admitted" for v in found["verdicts"].values())
    return f"{admitted}/{max(len(found['invited']), admitted)}"


def _took(found: Document, now: float) -> str:
    opened, ended = found.get("opened_at_us", 0) / 1e6, found.get("ended_at_us", 0) / 1e6
    if not opened or "ended_at_us" not in found:
        return ""
    if found["state"] in (RoundState.OPEN.value, RoundState.SEALED.value):
        return f"{age(now - opened)} so far"
    return age(ended - opened) if ended else ""


def _notes(found: Document, width: int, each: int | None) -> list[Text]:
    """Who is waited for, why others are not in it, why it was abandoned; each in so many lines."""
    texts = []
    if found["state"] == RoundState.OPEN.value:
        waiting = [site for site in found["invited"] if site not in found["verdicts"]]
        texts += [(f"waits for {len(waiting)}: {listed(map(name, waiting), 4)}", "")] if waiting else []
    texts += [(_refusal(site, v), "yellow") for site, v in found["verdicts"].items() if v["outcome"] != "admitted"]
    if found["state"] == RoundState.ABANDONED.value and found.get("sentence"):
        texts.append((f"abandoned: {found['sentence']}", "red"))
    return [line for text, style in texts for line in first_lines(_note(text, width, style), each)]


def _refusal(site: str, found: Any) -> str:
    said = one_line(found.get("sentence", ""), 200).removeprefix(f"{site}: ")
    return f"{name(site)} {verdict(found)}" + (f": {said}" if said else "")


def _note(text: str, width: int, style: str) -> list[Text]:
    found = wrapped(text, width - _INDENT, indent=2, style=style)
    return [Text(" " * _INDENT, style=style).append_text(line) for line in found]
