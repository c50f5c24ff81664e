# SPDX-License-Identifier: Apache-2.0
"""Tables as Parquet. The column dictionary is in each file's metadata, unit and meaning in each field's."""

import json
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from coordinator.exports.destination import Folder
from coordinator.run_columns import Kind, Table
from coordinator.run_tables import RunTables

METADATA_KEY: Final = b"hpc-federation"
_ROWS_PER_GROUP: Final = 256 * 1024
_TYPES: Final = {
    Kind.TEXT: pa.string(),
    Kind.COUNT: pa.int64(),
    Kind.FIGURE: pa.float64(),
    Kind.FLAG: pa.bool_(),
    Kind.TIME: pa.timestamp("us", tz="UTC"),
}


def write_parquet(tables: RunTables, about: dict[str, Any], folder: Folder) -> None:
    """One file a table; null where there is nothing."""
    for table in tables.tables:
        schema = schema_of(table, about)
        with (
            folder.file(f"{table.name}.parquet") as output,
            pq.ParquetWriter(output, schema, compression="zstd") as file,
        ):
            for start in range(0, max(table.num_rows, 1), _ROWS_PER_GROUP):
                file.write_table(_part(table, schema, start))


def schema_of(table: Table, about: dict[str, Any]) -> pa.Schema:
    """Columns with their types, units and meanings."""
    fields = [pa.field(c.name, _TYPES[c.kind], metadata={"unit": c.unit, "meaning": c.meaning}) for c in table.columns]
    return pa.schema(fields, metadata={METADATA_KEY: json.dumps(about)})


def _part(table: Table, schema: pa.Schema, start: int) -> pa.Table:
    stop = start + _ROWS_PER_GROUP
    columns = [
        pa.array(values[start:stop], type=field.type) for values, field in zip(table.values, schema, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=schema)
