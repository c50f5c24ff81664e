# SPDX-License-Identifier: Apache-2.0
"""What figures and verdicts of a document are called on a terminal."""

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

from federation.cli.lines import clip

Document = Mapping[str, Any]

_PREFIXES: Final = ("", "k", "M", "G", "T", "P")
NAME_CELLS: Final = 40
"""Longest id; a longer one comes from no coordinator of ours and is cut."""


def name(text: object) -> str:
    """An id."""
    return clip(text, NAME_CELLS)


def verdict(found: Document) -> str:
    """`ok`, `missed (no-answer)`."""
    if found["outcome"] == "admitted":
        return "ok"
    return f"{clip(found['outcome'], 20)} ({clip(found['reason'], 30)})"


def figure(value: object, digits: int = 3) -> str:
    """A number with so many decimals, "" where there is none; one that is too long for a column in short."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
        return ""
    text = f"{value:.{digits}f}"
    return text if len(text) <= digits + 4 else f"{value:.1e}"


def whole(value: object) -> str:
    """A count, "?" where there is none."""
    if not isinstance(value, int) or isinstance(value, bool):
        return "?"
    return str(value) if abs(value) < 10**9 else f"{value:.1e}"


def size(num_bytes: object) -> str:
    """`12 B`, `3.4 MB`: decimal units."""
    number, prefix = _scaled(num_bytes)
    return f"{number} {prefix}B"


def amount(number: object) -> str:
    """`12`, `3.4 G`: with a decimal prefix where it is large."""
    return " ".join(_scaled(number)).strip()


def _scaled(number: object) -> tuple[str, str]:
    if not isinstance(number, int | float) or not abs(number) < 10**18:
        return "?", ""
    value, index = float(number), 0
    while abs(value) >= 1000 and index < len(_PREFIXES) - 1:
        value, index = value / 1000, index + 1
    return f"{value:.1f}" if index else f"{value:.0f}", _PREFIXES[index]


def newest_moment(document: Document, clock: float) -> float:
    """Unix seconds now: the reader's clock, unless something in the document is later by the coordinator's."""
    moments = [clock, *(seen.get("last_seen") or 0.0 for seen in document["sites_now"].values())]
    moments += [at / 1e6 for at in document.get("commits_at_us", ())]
    moments += [found.get("opened_at_us", 0) / 1e6 for found in document["round_log"][-1:]]
    return max(map(float, moments))
