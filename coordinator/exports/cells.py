# SPDX-License-Identifier: Apache-2.0
"""Cells of tables as texts."""

from datetime import UTC, datetime, timedelta
from typing import Final

from coordinator.run_columns import Kind, Value

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def iso(microseconds: int) -> str:
    """A time as ISO 8601 in UTC, always with microseconds, so that texts sort as times do.

    Beyond the year 9999 there is no such text: then "".
    """
    try:
        return (_EPOCH + timedelta(microseconds=microseconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    except OverflowError:
        return ""


def harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula, on one line.

    Sites' sentences and names are words of others. One that begins as a formula does gets an apostrophe in front of it,
    which spreadsheets take as "this is text"; control characters become spaces.
    """
    guarded = f"'{text}" if text.startswith(_FORMULA_STARTS) else text
    return "".join(character if character.isprintable() else " " for character in guarded)


def csv_cell(kind: Kind, value: Value) -> str:
    """A cell of a CSV file; "" for None."""
    if value is None:
        return ""
    if kind is Kind.TEXT:
        return harmless(str(value))
    if kind is Kind.TIME:
        return iso(int(value))
    return str(value).lower() if kind is Kind.FLAG else repr(value)


def json_cell(kind: Kind, value: Value) -> Value:
    """A cell of a JSON document: times as texts, everything else as it is."""
    return (iso(int(value)) or None) if kind is Kind.TIME and value is not None else value
