# SPDX-License-Identifier: Apache-2.0
"""Text of strangers, made fit for one line: names and sentences may be hostile, and ten megabytes long. Pure."""

from collections.abc import Iterable
from typing import Final

MAX_WHAT_CHARS: Final = 110
MAX_WHY_CHARS: Final = 220
MAX_ADVICE_CHARS: Final = 150
MAX_LINE_CHARS: Final = 500

_LOOKED_AT: Final = 8
"""How many times its limit of a text is looked at: what is cut off costs nothing."""


def plain(text: str, max_chars: int) -> str:
    """One printable line without anything that moves a cursor, turns text round, or becomes a link by itself.

    What does not print (control, format and bidirectional characters, line separators) becomes a space; `://` is
    written `[:]//`, as is usual for addresses that nobody should follow unread.
    """
    head = text[: _LOOKED_AT * max_chars]
    words = " ".join("".join(c if c.isprintable() else " " for c in head).split())
    words = words.replace("://", "[:]//")
    if len(words) <= max_chars and len(head) == len(text):
        return words
    return words[: max_chars - 1].rstrip() + "…"


def listed(names: Iterable[str], most: int = 5) -> str:
    """`a, b and 3 more`; "nobody" if there is none."""
    found = list(names)
    shown, rest = [plain(name, 60) for name in found[:most]], len(found) - most
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "") if found else "nobody"


def sentences(*parts: str) -> str:
    """Parts as sentences one after the other, each with a full stop, empty ones left out."""
    return " ".join(part if part.endswith((".", "…", "!", "?")) else f"{part}." for part in parts if part)
