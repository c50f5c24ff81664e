# SPDX-License-Identifier: Apache-2.0
"""What bad input may look like where the forms of ledger, status and telemetry let it through.

Ids are slugs in every one of these forms: no site, run or operator can be named so. Sentences hold 500 characters.
"""

import json
from random import Random
from typing import Final

from federation import wire
from federation.leaves import LanguageScore, TaskScore

TEXTS: Final = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "</td></table><h1>The run is over</h1><!--",
    "\"><svg/onload=document.title='owned'>",
    "<a href=\"javascript:document.title='owned'\">click here</a>",
    "<meta http-equiv=refresh content='0;url=//example.invalid/'>",
    "{{constructor.constructor('document.title=1')()}} ${7*7} <%= 7*7 %>",
    "</script><script>document.title='owned'</script>",
    '=HYPERLINK("http://example.invalid/","costs")',
    "@SUM(1+1)*cmd|' /C calc'!A0",
    'data: admitted\n\nevent: commit\ndata: {"round": 1}\r\n\r\n',
    "\x1b[2J\x1b[31mred\x1b]0;title\x07",
    "\u202edetimda\u202c \u2066admitted\u2069 \u200b\ufeff",
    "nul \x00 and \x7f and \x85 and \ufffe",
    "W" * 500,
    "é" * 250 + "\u0301" * 250,
    "👩‍👩‍👧‍👦" * 40,
    "'; DROP TABLE leaves; --",
    "../../../keys/ledger.pem",
    " ",
    "null",
)
"""Each wants something of who shows it: to be markup, script, a formula, an event, a command of a terminal, a path."""

CODES: Final = ("zxx", "qaa_Latn", "xx", "<script>document.title='owned'</script>", "", "deu_Latn\x00", "D" * 5000)
"""Languages that nobody knows; the decider takes only the first three, the form of a leaf takes all."""

NUMBERS: Final = (float("nan"), float("inf"), -1.0, 0.0, 1e308, 5e-324)
"""Scores that the form of a leaf takes; the decider takes the last three."""

MANY: Final = 3_000_000
"""Characters of the longest line: a site's file of telemetry holds it once."""


def text(random: Random) -> str:
    """One of them, now and then all of them."""
    found = "".join(TEXTS) if random.random() < 0.05 else random.choice(TEXTS)
    return wire.clip_sentence(found)


def scores() -> tuple[LanguageScore, ...]:
    """One for each code, the numbers in turn."""
    return tuple(
        LanguageScore(language=code, bits_per_byte=NUMBERS[index % len(NUMBERS)], num_bytes=index * 2**50)
        for index, code in enumerate(CODES)
    )


def telemetry_lines() -> tuple[str, ...]:
    """Lines as no agent sends them: the coordinator keeps what a site has signed, whatever it is."""
    figures = {"fencing": 1, "num_steps": 2**70, "round": -1, "seconds": -1.0, "step": 10**30, "tokens": -5}
    return (
        json.dumps({**figures, "loss": float("nan")}),
        json.dumps({**figures, "loss": float("inf")}),
        json.dumps({"loss": TEXTS[0], "round": TEXTS[1], "step": None, "num_steps": {}, "seconds": [], "tokens": True}),
        "{",
        "",
        "[" * 100_000,
        "1" * 10_000,
        '"' + TEXTS[0] + '"',
        *TEXTS,
        "<b>" * (MANY // 3),
    )


def status_files() -> dict[str, bytes]:
    """Files that lie beside the reports of sites: broken, huge, or of nobody."""
    return {
        "nobody.json": b'{"received_at": "<script>", "status": []}',
        "torn.json": b'{"received_at": 17',
        "empty.json": b"",
        "bytes.json": bytes(range(256)),
        "large.json": b'{"received_at": 1.0, "status": {"ledger_size": 1, "software": "' + b"<b>" * MANY + b'"}}',
        "deep.json": b"[" * 200_000,
    }


def task_scores() -> tuple[TaskScore, ...]:
    """Tasks whose every text is hostile, the numbers in turn; the decider takes none of them."""
    return tuple(
        TaskScore(
            task=wire.clip_sentence(text),
            language=CODES[index % len(CODES)],
            task_version=TEXTS[index - 1],
            metric=TEXTS[index - 2],
            num_items=index * 2**50,
            score=NUMBERS[index % len(NUMBERS)],
            low=NUMBERS[index % len(NUMBERS)],
            high=NUMBERS[index % len(NUMBERS)],
        )
        for index, text in enumerate(TEXTS)
    )
