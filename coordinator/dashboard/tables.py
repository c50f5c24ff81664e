# SPDX-License-Identifier: Apache-2.0
"""Tables as every page shows and exports them: columns with a kind, rows of plain values, n/a as None and never 0."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from math import isfinite
from typing import Any, Final, TypeAlias

Value: TypeAlias = str | int | float | bool | None
Row: TypeAlias = Mapping[str, Any]

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


class Kind(StrEnum):
    """How a column's values are shown and sorted. Values of TIME are unix seconds, of RATIO 0 to 1."""

    TEXT = "text"
    COUNT = "count"
    NUMBER = "number"
    BYTES = "bytes"
    RATIO = "ratio"
    TIME = "time"
    SECONDS = "seconds"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column. `hint` explains it in a sentence, `digits` are decimals of a NUMBER.

    `name` heads it in CSV, where that is not its key.
    """

    key: str
    title: str
    kind: Kind = Kind.TEXT
    hint: str = ""
    digits: int = 2
    name: str = ""

    @property
    def is_figure(self) -> bool:
        """Whether it is set flush right."""
        return self.kind not in (Kind.TEXT, Kind.TIME)


@dataclass(frozen=True, kw_only=True)
class Link:
    """A value that leads to another page of the dashboard; it sorts and exports as its text."""

    text: str
    href: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table.

    Attributes:
        id: unique within its page.
        rows: by column key; missing keys and None are n/a.
        sort: column and whether descending, as asked for; "" is the order of `rows`.
        num_rows: rows that there are, where `rows` holds a part of them; -1 if all.
        empty: the sentence that stands in place of no rows.
    """

    id: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    sort: str = ""
    descending: bool = False
    num_rows: int = -1
    empty: str = "Nothing yet."
    note: str = ""

    def sorted(self, by: str, descending: bool) -> "Table":
        """By one column; n/a comes last either way. An unknown column leaves the order."""
        column = next((c for c in self.columns if c.key == by), None)
        if column is None:
            return self
        known = [row for row in self.rows if plain(row.get(by)) is not None]
        rest = [row for row in self.rows if plain(row.get(by)) is None]
        ordered = sorted(known, key=lambda row: _sort_key(plain(row.get(by))), reverse=descending)
        return replace(self, rows=(*ordered, *rest), sort=by, descending=descending)

    def page(self, number: int, size: int) -> "Table":
        """Rows of one page, from 0."""
        return replace(self, rows=self.rows[number * size : (number + 1) * size], num_rows=len(self.rows))

    def as_json(self) -> str:
        """`{"columns": [...], "rows": [...]}`, values as they are, n/a as null."""
        columns = [{"key": c.key, "title": c.title, "kind": c.kind.value, "hint": c.hint} for c in self.columns]
        rows = [{c.key: _exported(c, row.get(c.key)) for c in self.columns} for row in self.rows]
        return json.dumps({"title": self.title, "columns": columns, "rows": rows}, ensure_ascii=False, allow_nan=False)

    def as_csv(self) -> str:
        """RFC 4180 with a header; n/a is empty. A text that a spreadsheet would compute gets an apostrophe in front."""
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow([_cell(c.name or c.key) for c in self.columns])
        for row in self.rows:
            writer.writerow([_cell(_exported(c, row.get(c.key))) for c in self.columns])
        return out.getvalue()


def plain(value: Any) -> Value:
    """A cell's value without its link; a number that is none is n/a."""
    if isinstance(value, Link):
        return value.text
    if isinstance(value, float) and not isfinite(value):
        return None
    return value  # type: ignore[no-any-return]


def iso(seconds: float) -> str:
    """Unix seconds as `2026-01-31T09:30:00Z`, "" where no calendar has them."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return ""


def _sort_key(value: Value) -> tuple[int, float, str]:
    """Numbers before texts."""
    if isinstance(value, bool | int | float):
        return (0, float(value), "")
    return (1, 0.0, str(value).casefold())


def _exported(column: Column, value: Any) -> Value:
    found = plain(value)
    if found is not None and column.kind is Kind.TIME and isinstance(found, int | float):
        return iso(found) or None
    return found


def _cell(value: Value) -> Value:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def columns(*found: tuple[str, str] | tuple[str, str, Kind] | tuple[str, str, Kind, str]) -> tuple[Column, ...]:
    """Columns from (key, title, kind, hint)."""
    return tuple(_column(*entry) for entry in found)


def _column(key: str, title: str, kind: Kind = Kind.TEXT, hint: str = "") -> Column:
    return Column(key=key, title=title, kind=kind, hint=hint)


def pages_of(num_rows: int, size: int) -> int:
    """How many pages that many rows fill, at least 1."""
    return max(1, -(-num_rows // size))
