# SPDX-License-Identifier: Apache-2.0
"""Exports are read back by the libraries that people read them with; nothing is half-written, nothing is lost."""

import csv
import io
import json
import os
import re
import struct
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import google_crc32c
import pyarrow.parquet as pq
import pytest
from tensorboardX.proto.event_pb2 import Event

from coordinator.exports import destination, formats, text_files
from coordinator.exports.cells import harmless, iso
from coordinator.exports.formats import FORMATS, check_out, format_named, write
from coordinator.run_columns import SCHEMAS, Kind
from coordinator.run_tables import RunTables, run_tables
from coordinator.telemetry import StepMetrics
from federation import leaves as lv
from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, DiskFullError, UsageError
from federation.leaves import Outcome, Reason
from federation.testing.history import history

ABOUT = {"run": "demo", "ledger": {"size": 3}}
FORMULA = '=HYPERLINK("http://x.example","<b>click</b>")\nsecond line'
each_format = pytest.mark.parametrize("name", FORMATS)


@pytest.fixture(scope="module")
def tables() -> RunTables:
    late = lv.VerdictV1(
        run="demo", round=3, site="gamma", outcome=Outcome.REJECTED, reason=Reason.LATE, sentence=FORMULA
    )
    leaves = [*history(), lv.Leaf(at_us=1_700_000_000_123_456, body=late)]
    steps = [StepMetrics(run="demo", at=1000.5 + n, num_steps=n, round=0, loss=4.0 - n / 2) for n in (1, 2, 3)]
    return run_tables("demo", leaves, {"alpha": steps})


@pytest.fixture(scope="module")
def empty() -> RunTables:
    return run_tables("demo", [leaf for leaf in history() if isinstance(leaf.body, lv.RunCreatedV1)])


def export(name: str, tables: RunTables, out: Path, overwrite: bool = False) -> Path:
    write(format_named(name), tables, ABOUT, out, overwrite)
    return out


def plain(tables: RunTables) -> dict[str, list[dict[str, Any]]]:
    return {table.name: list(text_files.rows(table)) for table in tables.tables}


def everything(base: Path) -> dict[str, bytes]:
    return {str(path.relative_to(base)): path.read_bytes() for path in sorted(base.rglob("*")) if path.is_file()}


# --- read back ------------------------------------------------------------------------------------------------------


def test_parquet_has_types_times_nulls_and_meanings(tables: RunTables, tmp_path: Path) -> None:
    out = export("parquet", tables, tmp_path / "out")
    for table in tables.tables:
        found = pq.read_table(out / f"{table.name}.parquet")
        assert found.column_names == [column.name for column in table.columns]
        for column, values in zip(table.columns, table.values, strict=True):
            field = found.schema.field(column.name)
            assert field.metadata[b"unit"].decode() == column.unit
            assert field.metadata[b"meaning"].decode() == column.meaning
            expected = values
            if column.kind is Kind.TIME:
                assert str(field.type) == "timestamp[us, tz=UTC]"
                expected = [None if v is None else datetime.fromtimestamp(0, UTC) + v * _MICROSECOND for v in values]
            assert found.column(column.name).to_pylist() == expected
        about = json.loads(found.schema.metadata[b"hpc-federation"])
        assert (about["run"], list(about["tables"])) == ("demo", [t.name for t in tables.tables])


_MICROSECOND = datetime(1970, 1, 1, 0, 0, 0, 1) - datetime(1970, 1, 1)


def test_csv_has_headers_iso_times_and_empty_cells(tables: RunTables, tmp_path: Path) -> None:
    out = export("csv", tables, tmp_path / "out")
    for table in tables.tables:
        text = (out / f"{table.name}.csv").read_bytes().decode()
        header, *lines = csv.reader(io.StringIO(text, newline=""))
        assert header == [column.name for column in table.columns]
        assert len(lines) == table.num_rows
    with (out / "rounds.csv").open(newline="") as file:
        first, _, abandoned, _ = csv.DictReader(file)
    assert (first["reverted"], first["aggregate_norm"], first["opened_at"]) == (
        "false",
        "1.25",
        "1970-01-01T00:00:07.000000Z",
    )
    assert (abandoned["aggregate_norm"], abandoned["sealed_at"], abandoned["num_admitted"]) == ("", "", "0")


def test_no_cell_of_a_csv_file_is_a_formula(tables: RunTables, tmp_path: Path) -> None:
    out = export("csv", tables, tmp_path / "out")
    with (out / "updates.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (late,) = (row for row in rows if row["reason"] == "late")
    assert late["sentence"] == "'" + FORMULA.replace("\n", " ")
    assert late["at"] == "2023-11-14T22:13:20.123456Z"
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "@"))]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_what_begins_as_a_formula_is_text(start: str) -> None:
    assert harmless(f"{start}1").startswith("'")
    assert harmless(f"1{start}1")[0] == "1"
    assert harmless("a\x00b\x1b[31m‮") == "a b [31m "


def test_a_json_document_is_what_the_tables_are(tables: RunTables, tmp_path: Path) -> None:
    document = json.loads(export("json", tables, tmp_path / "out.json").read_text())
    assert document["rows"] == plain(tables)
    assert (document["run"], list(document["tables"])) == ("demo", list(document["rows"]))
    late = next(row for row in document["rows"]["updates"] if row["reason"] == "late")
    assert (late["sentence"], late["weight"], late["at"]) == (FORMULA, None, "2023-11-14T22:13:20.123456Z")


def test_json_lines_are_what_the_tables_are(tables: RunTables, tmp_path: Path) -> None:
    out = export("jsonl", tables, tmp_path / "out")
    for name, rows in plain(tables).items():
        assert [json.loads(line) for line in (out / f"{name}.jsonl").read_text().split("\n")[:-1]] == rows


def events(path: Path) -> Iterator[Event]:
    """Reads TFRecords by their description, with a checksum of another library."""
    data, offset = path.read_bytes(), 0
    while offset < len(data):
        (length,) = struct.unpack_from("<Q", data, offset)
        raw = data[offset + 12 : offset + 12 + length]
        for part, at in ((data[offset : offset + 8], offset + 8), (raw, offset + 12 + length)):
            crc = google_crc32c.value(part)
            masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
            assert struct.unpack_from("<I", data, at) == (masked,)
        yield Event.FromString(raw)
        offset += length + 16


def test_tensorboard_has_curves_with_the_ledgers_times(tables: RunTables, tmp_path: Path) -> None:
    (path,) = export("tensorboard", tables, tmp_path / "out").glob("*tfevents*")
    first, *rest = events(path)
    assert first.file_version == "brain.Event:2"
    curves: dict[str, list[tuple[int, float, float]]] = {}
    for event in rest:
        (value,) = event.summary.value
        curves.setdefault(value.tag, []).append((event.step, event.wall_time, value.simple_value))
    assert curves["loss/alpha"] == [(1, 1001.5, 3.5), (2, 1002.5, 3.0), (3, 1003.5, 2.5)]
    assert [(step, value) for step, _, value in curves["norm/alpha"]] == [(0, 1.5), (1, 1.5), (3, 1.5)]
    assert curves["cosine/beta"][0][2] == 0.75
    assert curves["bits_per_byte/de"] == [(2, 39.0, 2.5)]
    assert curves["round/seconds"][0] == (0, 13.0, 6.0)
    assert [step for step, _, _ in curves["round/aggregate_norm"]] == [0, 1, 3]
    assert "norm/gamma" not in curves


@each_format
def test_a_run_without_rounds_gives_empty_tables_with_headers(empty: RunTables, tmp_path: Path, name: str) -> None:
    out = export(name, empty, tmp_path / f"out{FORMATS[name].suffix}")
    match name:
        case "csv":
            assert (
                out / "scores.csv"
            ).read_text().strip() == "commits,language,site,request,bits_per_byte,num_bytes,at,reverted"
        case "json":
            assert json.loads(out.read_text())["rows"] == {name: [] for name in SCHEMAS}
        case "jsonl":
            assert (out / "steps.jsonl").read_text() == ""
        case "parquet":
            found = pq.read_table(out / "rounds.parquet")
            assert (found.num_rows, found.column_names[0]) == (0, "round")
        case "tensorboard":
            (path,) = out.glob("*tfevents*")
            assert [event.file_version for event in events(path)] == ["brain.Event:2"]


@each_format
def test_the_columns_are_described_beside_every_export(tables: RunTables, tmp_path: Path, name: str) -> None:
    out = export(name, tables, tmp_path / "out")
    document = json.loads((out if out.is_file() else out / "columns.json").read_text())
    assert document["ledger"] == {"size": 3}
    assert {c["name"]: c["unit"] for c in document["tables"]["scores"]["columns"]}["bits_per_byte"] == "bits per byte"


def test_the_same_run_gives_the_same_bytes(tables: RunTables, tmp_path: Path) -> None:
    for name in FORMATS:
        one, two = (export(name, tables, tmp_path / f"{which}-{name}" / "out") for which in ("one", "two"))
        assert everything(one.parent) == everything(two.parent)


# --- what is in the way ----------------------------------------------------------------------------------------------


@each_format
def test_nothing_is_overwritten_without_being_told(tables: RunTables, tmp_path: Path, name: str) -> None:
    out = export(name, tables, tmp_path / "out")
    before = everything(tmp_path)
    with pytest.raises(UsageError, match=r"expected a new .*, found something of that name") as error:
        export(name, tables, out)
    assert "--overwrite" in error.value.advice
    assert everything(tmp_path) == before
    (out / "columns.json" if out.is_dir() else out).write_text("old")
    export(name, tables, out, overwrite=True)
    assert everything(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@each_format
def test_only_an_export_is_overwritten(tables: RunTables, tmp_path: Path, name: str) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    for entry in ("thesis.tex", "data.csv"):
        (out / entry).write_text("years of work")
    before = everything(tmp_path)
    for _ in range(2):
        with pytest.raises(UsageError, match="found something else"):
            export(name, tables, out, overwrite=True)
        assert everything(tmp_path) == before
        before |= {"thesis/columns.json": b"{}"}
        (out / "columns.json").write_text("{}")
    other = tmp_path / ("as-file" if not FORMATS[name].suffix else "as-directory")
    other.write_text("mine") if not FORMATS[name].suffix else other.mkdir()
    with pytest.raises(UsageError, match="found something else"):
        export(name, tables, other, overwrite=True)


@each_format
def test_a_full_disk_leaves_nothing_and_what_was_there(
    tables: RunTables, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = export(name, tables, tmp_path / "out")
    before = everything(tmp_path)

    def full(*_: object) -> None:
        raise DiskFullError(".tmp-1: expected room, found none")

    written: list[str] = []
    flush = destination.Output.flush

    def once(output: destination.Output) -> None:
        written.append("x")
        full() if len(written) > 1 or FORMATS[name].suffix else flush(output)

    monkeypatch.setattr(destination.Output, "flush", once)
    for target, overwrite in ((out, True), (tmp_path / "new", False)):
        written.clear()
        with pytest.raises(DiskFullError, match=re.escape(f"{target}: expected room for the export")):
            export(name, tables, target, overwrite)
        assert everything(tmp_path) == before
        assert [path.name for path in tmp_path.iterdir()] == ["out"]


@each_format
def test_a_directory_that_cannot_be_is_refused_before_anything_is_asked(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"that you may write to, found .*file"):
        check_out(format_named(name), tmp_path / "file" / "deeper" / "out", False)
    check_out(format_named(name), tmp_path / "not-yet" / "out", False)


def test_a_directory_that_is_closed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(UsageError, match="that you may write to"):
        check_out(format_named("csv"), tmp_path / "out", False)
    (tmp_path / "open").mkdir()
    check_out(format_named("csv"), tmp_path / "open" / "out", False)


def test_a_failed_exchange_puts_the_older_export_back(
    tables: RunTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = export("csv", tables, tmp_path / "out")
    before = everything(tmp_path)

    def refuse(*_: object) -> None:
        raise DiskFullError("none left")

    monkeypatch.setattr(RealFileSystem, "publish_tree", refuse)
    with pytest.raises(DiskFullError):
        export("csv", tables, out, overwrite=True)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", ["parquet", "tensorboard"])
def test_a_missing_library_is_named_with_the_command_that_installs_it(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, FORMATS[name].needs, None)
    for module in [m for m in sys.modules if m.startswith(f"{FORMATS[name].needs}.")]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, FORMATS[name].module, raising=False)
    with pytest.raises(ConfigError, match=f"--format {name}: expected {FORMATS[name].needs} to be installed") as error:
        check_out(format_named(name), tmp_path / "out", False)
    assert "pip install 'hpc-federation[export]'" in error.value.advice


def test_an_unknown_format_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="expected csv, json, jsonl, parquet, tensorboard, found 'excel'"):
        format_named("excel")


def test_times_are_sortable_texts_as_far_as_years_go() -> None:
    assert iso(0) == "1970-01-01T00:00:00.000000Z"
    assert iso(2**62) == ""
    assert formats.FORMATS["csv"].default_out("demo") == Path("demo-metrics-csv")
    assert formats.FORMATS["json"].default_out("demo") == Path("demo-metrics.json")
