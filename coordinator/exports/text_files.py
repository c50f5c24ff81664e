# SPDX-License-Identifier: Apache-2.0
"""Tables as CSV, as one JSON document, and as JSON lines."""

import csv
import json
from collections.abc import Iterator
from typing import Any

from coordinator.exports.cells import csv_cell, json_cell
from coordinator.exports.destination import Folder, Output
from coordinator.run_columns import Table
from coordinator.run_tables import RunTables

Row = dict[str, Any]


def write_csv(tables: RunTables, about: Row, folder: Folder) -> None:
    """One file a table, with a header line: RFC 4180, UTF-8, empty cells where there is nothing."""
    for table in tables.tables:
        kinds = [column.kind for column in table.columns]
        with folder.file(f"{table.name}.csv") as output:
            lines = csv.writer(output)
            lines.writerow([column.name for column in table.columns])
            for cells in zip(*table.values, strict=True):
                lines.writerow([csv_cell(kind, cell) for kind, cell in zip(kinds, cells, strict=True)])


def write_json_lines(tables: RunTables, about: Row, folder: Folder) -> None:
    """One file a table, one object a line."""
    for table in tables.tables:
        with folder.file(f"{table.name}.jsonl") as output:
            for row in rows(table):
                output.write(_text(row) + "\n")


def write_json(tables: RunTables, about: Row, output: Output) -> None:
    """One document: what it is about, and per table its rows. Each row stands on a line of its own."""
    head = json.dumps(about, ensure_ascii=False, indent=1)
    output.write(head.removesuffix("\n}") + ',\n "rows": {')
    for number, table in enumerate(tables.tables):
        output.write(f'{"," if number else ""}\n  "{table.name}": [')
        for index, row in enumerate(rows(table)):
            output.write(f"{',' if index else ''}\n   {_text(row)}")
        output.write("\n  ]" if table.num_rows else "]")
    output.write("\n }\n}\n")


def rows(table: Table) -> Iterator[Row]:
    """A table row by row, null where there is nothing."""
    names = [(column.name, column.kind) for column in table.columns]
    for cells in zip(*table.values, strict=True):
        yield {name: json_cell(kind, cell) for (name, kind), cell in zip(names, cells, strict=True)}


def _text(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False)
