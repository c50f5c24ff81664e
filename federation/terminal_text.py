# SPDX-License-Identifier: Apache-2.0
"""Words of others (ids, sentences, remarks of batch systems) made fit for one line of a terminal.

What comes out has no control character, so no escape sequence and no line end, nothing that turns the direction of
writing, and a bounded length. It is no markup: wrap it in `rich.text.Text` where rich would read some.
"""

from typing import Final

MAX_CHARS: Final = 300
"""Of one text, unless the caller says otherwise: more than any sentence of ours."""

REPLACED: Final = "\N{REPLACEMENT CHARACTER}"


def one_line(text: object, limit: int = MAX_CHARS) -> str:
    """The text on one line: runs of white space are one space, what cannot be printed is replaced, the rest is cut off.

    Args:
        text: from anywhere, of any length.
        limit: characters that are kept; what is missing is counted behind them.
    """
    whole = text if isinstance(text, str) else str(text)
    kept, missing = " ".join(printable(whole[:limit]).split()), len(whole) - limit
    return f"{kept}… ({missing} more characters)" if missing > 0 else kept


def printable(text: str) -> str:
    """The text, as long as it is, with a space or a replacement for each character that no terminal should get."""
    return "".join(c if c.isprintable() else " " if c.isspace() else REPLACED for c in text)
