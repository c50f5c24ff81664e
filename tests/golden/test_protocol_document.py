# SPDX-License-Identifier: Apache-2.0
"""docs/protocol.md cannot drift: its bytes and tables are computed from the code (`tests/lib/protocol_examples.py`).

A worked example in the document is a fenced block whose info string is `hex NAME` or `text NAME`; a table that follows
from the code stands between `<!-- table NAME -->` and `<!-- end -->`. Run this file with --write to fill in what
changed on purpose, and read the difference: other implementations rely on every byte.
"""

import re
import sys
import textwrap
from pathlib import Path

import pytest
from protocol_examples import (
    CONSORTIUM,
    COSIGNED,
    ENVELOPE,
    EXAMPLES,
    LEAVES,
    ORIGIN,
    SIGNED_REQUEST,
    SIGNED_UPDATE,
    SITE,
    TABLES,
    public,
)

from federation import dsse, notes, wire
from federation.key_requests import open_request

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"
_FENCE = re.compile(r"^```(hex|text) ([a-z0-9-]+)\n(.*?)^```$", re.M | re.S)
_TABLE = re.compile(r"^<!-- table ([a-z-]+) -->\n(.*?)^<!-- end -->$", re.M | re.S)
_WIDTH = 100


def _examples() -> dict[str, str]:
    found = _FENCE.findall(DOCUMENT.read_text())
    assert len({name for _, name, _ in found}) == len(found), "an example's name stands twice"
    return {name: text for _, name, text in found}


def _plain(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_is_what_the_code_writes(name: str) -> None:
    assert _plain(_examples()[name]) == _plain(EXAMPLES[name])


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_table_is_what_the_code_says(name: str) -> None:
    assert dict(_TABLE.findall(DOCUMENT.read_text()))[name] == TABLES[name]()


def test_no_example_stands_unchecked() -> None:
    text = DOCUMENT.read_text()
    assert _examples().keys() == EXAMPLES.keys()
    assert dict(_TABLE.findall(text)).keys() == TABLES.keys()


def test_the_examples_are_accepted_by_the_readers() -> None:
    """What an implementer may compare with is what this release takes."""
    assert wire.message_from_bytes(dsse.open_envelope(ENVELOPE, dsse.MESSAGE_TYPE, public("alpha/update"))).body
    assert wire.update_from_bytes(dsse.open_envelope(SIGNED_UPDATE, dsse.UPDATE_TYPE, public("alpha/update")))
    assert open_request(SIGNED_REQUEST).id == SITE
    assert notes.open_checkpoint(COSIGNED, ORIGIN, public("ledger")).size == 3
    assert notes.verify_cosignature(COSIGNED, f"{CONSORTIUM}/site/{SITE}", public("alpha/witness")) == 1_700_000_060
    assert [wire.leaf_to_bytes(wire.leaf_from_bytes(leaf)) for leaf in LEAVES] == LEAVES


def test_a_changed_byte_in_an_example_would_be_noticed() -> None:
    text = _examples()["envelope"]
    changed = text.replace(text[0], "f" if text[0] != "f" else "0", 1)
    assert _plain(changed) != _plain(EXAMPLES["envelope"])


def _wrapped(kind: str, text: str) -> str:
    lines = [part for line in text.split("\n") for part in (textwrap.wrap(line, _WIDTH) if kind == "hex" else [line])]
    return "".join(f"{line}\n" for line in lines)


def write() -> None:
    """Fills examples and tables into the document."""

    def example(match: "re.Match[str]") -> str:
        kind, name, _ = match.groups()
        return f"```{kind} {name}\n{_wrapped(kind, EXAMPLES[name])}```"

    def table(match: "re.Match[str]") -> str:
        return f"<!-- table {match[1]} -->\n{TABLES[match[1]]()}<!-- end -->"

    DOCUMENT.write_text(_TABLE.sub(table, _FENCE.sub(example, DOCUMENT.read_text())))


if __name__ == "__main__" and "--write" in sys.argv:
    write()
