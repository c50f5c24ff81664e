# SPDX-License-Identifier: Apache-2.0
"""Reading a ledger's files: more than one segment, damage at their borders, files that change meanwhile."""

from pathlib import Path

import pytest

from federation import signing
from federation.durable.real import RealFileSystem
from federation.leaves import Leaf, RunCompletedV1
from federation.ledger.log import Ledger
from federation.ledger.segments import LEAVES_PER_SEGMENT
from federation.verify.files import ReadOnlyFileSystem
from federation.verify.log_files import LeafFiles, has_ledger, read_log_files
from federation.verify.report import Check, Findings
from federation.wire import leaf_to_bytes


def leaf(number: int) -> Leaf:
    return Leaf(at_us=number, body=RunCompletedV1(run="r"))


def ledger_of(directory: Path, size: int) -> Ledger:
    ledger = Ledger.create(RealFileSystem(directory), "ledger", "o", signing.generate_key())
    ledger.append([leaf(number) for number in range(size)])
    ledger.close()
    return ledger


def read(directory: Path, size: int) -> tuple[LeafFiles, Findings]:
    findings = Findings()
    files = LeafFiles(ReadOnlyFileSystem(directory), findings, size)
    for index, data in files.first_pass():
        assert data == leaf_to_bytes(leaf(index))
    return files, findings


@pytest.mark.parametrize("size", [0, 1, LEAVES_PER_SEGMENT - 1, LEAVES_PER_SEGMENT, 2 * LEAVES_PER_SEGMENT + 1])
def test_every_leaf_is_read_once_in_order(tmp_path: Path, size: int) -> None:
    ledger = ledger_of(tmp_path, size)
    files, findings = read(tmp_path, size)
    assert files.tree.root().hex() == ledger.root()
    assert [index for index, _ in files.leaves()] == list(range(size))
    assert (findings.differences, findings.notes) == ([], [])


@pytest.mark.parametrize("missing", [0, 1])
def test_a_missing_segment_is_a_cut_tail(tmp_path: Path, missing: int) -> None:
    ledger_of(tmp_path, 2 * LEAVES_PER_SEGMENT)
    (tmp_path / f"ledger/segments/00000{missing}.seg").unlink()
    files, findings = read(tmp_path, 2 * LEAVES_PER_SEGMENT)
    assert files.size == missing * LEAVES_PER_SEGMENT
    assert [(d.check, d.place.leaf) for d in findings.differences] == [(Check.LEDGER, files.size)]
    assert "tail is cut" in findings.differences[0].found


def test_without_a_checkpoint_all_leaves_are_read(tmp_path: Path) -> None:
    ledger_of(tmp_path, 5)
    (tmp_path / "ledger/checkpoint").unlink()
    findings = Findings()
    fs = ReadOnlyFileSystem(tmp_path)
    assert has_ledger(fs)
    log = read_log_files(fs, findings)
    assert (log.note, log.size) == (b"", -1)
    assert [d.check for d in findings.differences] == [Check.CHECKPOINT]
    assert read(tmp_path, log.size)[0].size == 5


def test_a_leaf_that_changes_between_the_passes_is_found(tmp_path: Path) -> None:
    ledger_of(tmp_path, 5)
    files, findings = read(tmp_path, 5)
    path = tmp_path / "ledger/segments/000000.seg"
    other = tmp_path / "other"
    ledger = Ledger.create(RealFileSystem(other), "ledger", "o", signing.generate_key())
    ledger.append([leaf(number if number < 3 else number + 1) for number in range(5)])
    path.write_bytes((other / "ledger/segments/000000.seg").read_bytes())
    assert [index for index, _ in files.leaves()] == [0, 1, 2]
    assert [(d.check, d.place.leaf) for d in findings.differences] == [(Check.LEDGER, 3)]


def test_records_beyond_the_checkpoint_are_noted(tmp_path: Path) -> None:
    ledger_of(tmp_path, 5)
    files, findings = read(tmp_path, 3)
    assert files.size == 3
    assert findings.differences == []
    assert "beyond the checkpoint" in findings.notes[0]
