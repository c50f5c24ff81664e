# SPDX-License-Identifier: Apache-2.0
"""`site-agent data check`: what each data set holds and what is wrong with it, in a process of its own."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from click.testing import CliRunner
from megatron_files import write_megatron

from site_agent.cli.main import cli
from site_agent.data_sets import DataFormat, DataSet
from site_agent.setup import NewSite, init_site
from site_agent.site_config import SITE_FILE
from site_agent.trainer.data_check import Inspected, Report, inspect

LINES = [f"Zeile {n} ä" for n in range(200)]


def data_set(path: Path, kind: DataFormat = DataFormat.TEXT, vocab_size: int = 0) -> DataSet:
    return DataSet(name="web", path=str(path), format=kind, language="de", vocab_size=vocab_size)


def looked_at(path: Path, kind: DataFormat = DataFormat.TEXT, vocab_size: int = 0) -> Report:
    return inspect(Inspected(data=data_set(path, kind, vocab_size)))


def test_text_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(LINES[:150]) + "\n\n")
    (tmp_path / "b.txt.zst").write_bytes(zstandard.compress("\n".join(LINES[150:]).encode()))
    report = looked_at(tmp_path)
    num_bytes = len(("\n".join(LINES) + "\n").encode())
    assert (report.num_files, report.num_documents, report.num_bytes) == (2, 200, num_bytes)
    assert 0 < report.num_held_out < 30
    assert (report.num_tokens, report.problems) == (num_bytes, ())


def test_token_ids_are_counted_and_compared_with_their_tokenizer(tmp_path: Path) -> None:
    path = write_megatron(tmp_path / "web", [[[n, n + 1], [n + 2]] for n in range(200)], "i4")
    report = looked_at(path, DataFormat.MEGATRON, 202)
    assert (report.num_documents, report.num_tokens, report.num_bytes, report.problems) == (200, 600, 2400, ())
    (problem,) = looked_at(path, DataFormat.MEGATRON, 201).problems
    assert problem == "data set web, web.bin: expected token ids from 0 to 200, found 201"


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: None, "data set web, data: expected files that end in .txt or .txt.gz or .txt.zst, found none"),
        (lambda path: (path / "a.txt").write_text(""), "data set web, a.txt: expected documents, found an empty file"),
        (lambda path: (path / "a.txt").write_text("nur eine"), "expected held-out documents, found none among 1"),
        (lambda path: (path / "a.txt.gz").write_bytes(b"x"), "expected readable UTF-8 text in a whole gzip file"),
    ],
)
def test_problems(make: Callable[[Path], object], problem: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    make(tmp_path / "data")
    assert [problem in found for found in looked_at(tmp_path / "data").problems] == [True]


def test_a_broken_file_does_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff")
    (tmp_path / "b.txt").write_text("\n".join(LINES))
    report = looked_at(tmp_path)
    assert (report.num_documents, len(report.problems)) == (200, 1)


def site_with(tmp_path: Path, more: str = "") -> Path:
    data = tmp_path / "texts"
    data.mkdir()
    (data / "de.txt").write_text("\n".join(LINES))
    init_site(
        tmp_path / "site", NewSite(site="a", profile="localhost", data_dir=str(data), languages=("de",), policy="ask")
    )
    file = tmp_path / "site" / SITE_FILE
    if more:
        kept = [line for line in file.read_text().splitlines() if not line.startswith(("data_dir", "languages"))]
        file.write_text("\n".join(kept) + "\n" + more)
    return tmp_path / "site"


def test_the_command_looks_at_the_simple_way(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["data", "check", str(site_with(tmp_path)), "--json"])
    said = json.loads(done.output)
    assert (done.exit_code, said["ok"]) == (0, True)
    assert [(one["name"], one["num_documents"]) for one in said["data_sets"]] == [("de", 200)]


def test_the_command_fails_where_something_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"body": 1}')
    sets = [("good", "texts", "text"), ("bad", "bad.jsonl", "jsonl")]
    more = "".join(
        f'[[data.sets]]\nname = "{name}"\npath = "../{path}"\nformat = "{kind}"\nlanguage = "de"\n'
        for name, path, kind in sets
    )
    done = CliRunner().invoke(cli, ["data", "check", str(site_with(tmp_path, more))])
    assert done.exit_code == 1
    assert done.output.splitlines()[0].startswith("FAILED  bad: jsonl, de, 0 documents (0 held out) in 0 files")
    assert "bad.jsonl: line 1: expected a JSON object with a text" in done.output
    assert "ok      good: text, de, 200 documents" in done.output
