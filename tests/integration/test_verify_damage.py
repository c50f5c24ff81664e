# SPDX-License-Identifier: Apache-2.0
"""`federation verify` names what one changed byte, a missing file or a cut tail has damaged."""

import shutil
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from audit_bench import Bench, audit, bench_of, blob_of, changed, expect, flip, index_of
from simulator.world import START

from federation import leaves as lv
from federation import notes, wire
from federation.leaves import Outcome, Reason
from federation.ledger.frames import scan_records
from federation.verify import Check, Verdict
from federation.verify.present import lines
from federation.wire import manifest_from_bytes


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """P = 1."""
    return bench_of(tmp_path_factory.mktemp("one"), 1)


@pytest.fixture
def copy(bench: Bench, tmp_path: Path) -> Path:
    """A copy to be tampered with."""
    return bench.copy(tmp_path / "copy")


# --- one byte, file by file -------------------------------------------------------------------------------------------


def blobs_by_kind(bench: Bench) -> Iterator[tuple[str, str, int]]:
    """One blob of each kind that the ledger names: kind, digest, the leaf that names it first."""
    leaves = bench.leaves(bench.directory)
    manifest = index_of(leaves, lv.RunCreatedV1)
    digest = leaves[manifest].body.manifest_digest
    yield "roster", leaves[0].body.digest, 0
    yield "manifest", digest, manifest
    yield "theta_0", manifest_from_bytes(blob_of(bench.directory, digest).read_bytes()).theta_blob, manifest
    for outcome in (Outcome.ADMITTED, Outcome.REJECTED, Outcome.EQUIVOCATION):
        reason = {"reason": Reason.MALFORMED_PAYLOAD} if outcome is Outcome.REJECTED else {}
        index = index_of(leaves, lv.VerdictV1, outcome=outcome, **reason)
        yield f"{outcome} update", leaves[index].body.update_digest, index
        if outcome is not Outcome.EQUIVOCATION:
            yield f"{outcome} payload", leaves[index].body.payload_digest, index
    commit = index_of(leaves, lv.RoundCommittedV1)
    yield "commit blob", leaves[commit].body.blob_digest, commit
    evaluation = index_of(leaves, lv.EvaluationRecordedV1)
    yield "evaluation", leaves[evaluation].body.evidence_digest, evaluation


KINDS = ("roster", "manifest", "theta_0", "admitted update", "admitted payload", "rejected update")
KINDS += ("rejected payload", "equivocation update", "commit blob", "evaluation")


@pytest.mark.parametrize("kind", KINDS)
def test_one_byte_in_a_blob_is_found(bench: Bench, copy: Path, kind: str) -> None:
    found = {name: (digest, leaf) for name, digest, leaf in blobs_by_kind(bench)}
    assert set(found) == set(KINDS)
    digest, leaf = found[kind]
    flip(blob_of(copy, digest))
    expect(audit(bench, copy), Check.BLOBS, digest, leaf)


@pytest.mark.parametrize("kind", ["manifest", "theta_0", "admitted update", "evaluation", "roster"])
def test_a_missing_blob_that_is_never_pruned_is_found(bench: Bench, copy: Path, kind: str) -> None:
    digest, leaf = {name: (digest, leaf) for name, digest, leaf in blobs_by_kind(bench)}[kind]
    blob_of(copy, digest).unlink()
    expect(audit(bench, copy), Check.BLOBS, digest, leaf)


@pytest.mark.parametrize("kind", ["admitted payload", "rejected update", "rejected payload", "commit blob"])
def test_a_missing_blob_that_may_be_pruned_leaves_the_audit_incomplete(bench: Bench, copy: Path, kind: str) -> None:
    digest, leaf = {name: (digest, leaf) for name, digest, leaf in blobs_by_kind(bench)}[kind]
    blob_of(copy, digest).unlink()
    report = audit(bench, copy)
    assert (report.verdict, report.exit_code) == (Verdict.INCOMPLETE, 3), "\n".join(lines(report))
    assert any(digest in gap.sentence and gap.place.leaf == leaf for gap in report.findings.gaps)


def test_after_a_pruned_payload_a_stored_version_carries_on(bench: Bench, copy: Path) -> None:
    """Versions of the last two commits are stored: the last round is recomputed though the one before cannot be."""
    leaves = bench.leaves(copy)
    sealed = leaves[index_of(leaves, lv.RoundSealedV1, -2)].body
    blob_of(copy, sealed.updates[0].payload_digest).unlink()
    report = audit(bench, copy)
    assert report.verdict is Verdict.INCOMPLETE
    assert report.summary["recomputed"] == report.summary["committed"] - 1
    shutil.rmtree(copy / "state")
    assert audit(bench, copy).summary["recomputed"] == report.summary["committed"] - 2


def test_theta_is_checked_by_its_blob_where_a_payload_was_pruned(bench: Bench, copy: Path) -> None:
    leaves = bench.leaves(copy)
    commit = index_of(leaves, lv.RoundCommittedV1)
    sealed = next(leaf.body for leaf in leaves[commit::-1] if isinstance(leaf.body, lv.RoundSealedV1))
    blob_of(copy, sealed.updates[0].payload_digest).unlink()
    bench.rewrite(copy, lambda old: changed(old, commit, theta_digest="ab" * 32))
    expect(audit(bench, copy, anchored=False), Check.COMMITS, "one that leads to the ledger's theta", commit)


def test_one_byte_in_a_segment_is_found(bench: Bench, copy: Path) -> None:
    path = copy / "ledger/segments/000000.seg"
    flip(path)
    leaf = len(scan_records(path.read_bytes()).records)
    assert 5 < leaf < len(bench.leaves(bench.directory))
    expect(audit(bench, copy), Check.LEDGER, f"leaf {leaf} under the checkpoint, found a damaged record", leaf)


def test_a_changed_leaf_with_its_checksum_is_found(bench: Bench, copy: Path) -> None:
    """What a disk error never does: then the tree's root tells."""
    path = copy / "ledger/segments/000000.seg"
    leaves = bench.leaves(copy)
    leaves[9] = replace(leaves[9], at_us=leaves[9].at_us + 1)
    frames = (wire.leaf_to_bytes(leaf) for leaf in leaves)
    path.write_bytes(b"".join(struct.pack(">II", len(d), zlib.crc32(d)) + d for d in frames))
    expect(audit(bench, copy), Check.LEDGER, "root over")


@pytest.mark.parametrize(
    ("name", "check", "what"),
    [
        ("ledger/segments/000000.seg", Check.LEDGER, "a readable segment"),
        ("ledger/cosigned.seg", Check.COSIGNATURES, "a readable file"),
        ("ledger/checkpoint", Check.CHECKPOINT, "a signed checkpoint"),
        ("rosters/000001.roster", Check.ROSTERS, "a roster document"),
        ("root", Check.ROSTERS, "found nothing"),
    ],
)
def test_a_directory_in_the_place_of_a_file_is_found(
    bench: Bench, copy: Path, name: str, check: Check, what: str
) -> None:
    (copy / name).unlink()
    (copy / name).mkdir()
    expect(audit(bench, copy), check, what)


@pytest.mark.parametrize("at", [0.0, 0.2, 0.99])
def test_one_byte_in_the_checkpoint_is_found(bench: Bench, copy: Path, at: float) -> None:
    flip(copy / "ledger/checkpoint", at)
    expect(audit(bench, copy), Check.CHECKPOINT, "ledger/checkpoint")


@pytest.mark.parametrize("at", [0.0, 0.1, 0.5, 0.999])
def test_one_byte_in_the_cosigned_notes_is_found(bench: Bench, copy: Path, at: float) -> None:
    flip(copy / "ledger/cosigned.seg", at)
    expect(audit(bench, copy), Check.COSIGNATURES, "ledger/cosigned.seg")


def test_a_false_cosignature_is_found(bench: Bench, copy: Path) -> None:
    path = copy / "ledger/cosigned.seg"
    note = (copy / "ledger/checkpoint").read_bytes()
    name = notes.witness_name(bench.keys.name, "site-a")
    false = notes.cosign(note, name, bench.keys.key("nobody"), int(START))
    record = struct.pack(">II", len(false), zlib.crc32(false)) + false
    path.write_bytes(path.read_bytes() + struct.pack(">II", len(record), zlib.crc32(record)) + record)
    expect(audit(bench, copy), Check.COSIGNATURES, f"a good cosignature by {name}")


@pytest.mark.parametrize("at", [0.02, 0.5, 0.99])
def test_one_byte_in_a_roster_is_found(bench: Bench, copy: Path, at: float) -> None:
    flip(copy / "rosters/000001.roster", at)
    report = audit(bench, copy)
    expect(report, Check.ROSTERS, "rosters/000001.roster")
    assert report.summary["recomputed"] > 4, "the blob of the same roster carries on"


def test_one_byte_in_the_pinned_root_is_found(bench: Bench, copy: Path) -> None:
    flip(copy / "root")
    expect(audit(bench, copy), Check.ROSTERS, "root")


def state_files(copy: Path) -> list[Path]:
    """Files of the newest stored version."""
    versions = sorted((copy / "state/run-1/0").iterdir(), key=lambda path: int(path.name))
    return sorted(path for path in versions[-1].rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["theta/c/0", "momentum/c/0", "residual/c/0", "theta/zarr.json", "zarr.json"])
def test_one_byte_in_the_stored_state_is_found(bench: Bench, copy: Path, name: str) -> None:
    path = next(path for path in state_files(copy) if str(path).endswith(f"/{name}"))
    version = path.relative_to(copy / "state/run-1/0").parts[0]
    flip(path, 0.1)
    expect(audit(bench, copy), Check.STATE, f"state/run-1/0/{version}:")


# --- cut tails --------------------------------------------------------------------------------------------------------


def test_a_cut_segment_is_found(bench: Bench, copy: Path) -> None:
    path = copy / "ledger/segments/000000.seg"
    size = len(bench.leaves(copy))
    scan = scan_records(path.read_bytes())
    path.write_bytes(path.read_bytes()[: scan.ends[-3]])
    expect(audit(bench, copy), Check.LEDGER, "the tail is cut", size - 2)


def test_a_tail_cut_by_the_holder_of_the_key_is_found(bench: Bench, copy: Path) -> None:
    cosigned = (copy / "ledger/cosigned.seg").read_bytes()
    bench.rewrite(copy, lambda leaves: leaves[:30])
    expect(audit(bench, copy), Check.KEPT, "at least")
    (copy / "ledger/cosigned.seg").write_bytes(cosigned)
    expect(audit(bench, copy, anchored=False), Check.COSIGNATURES, "at least")


def test_dropped_cosignatures_leave_the_witness_rule_unshown(bench: Bench, copy: Path) -> None:
    (copy / "ledger/cosigned.seg").unlink()
    report = audit(bench, copy, anchored=False)
    assert report.verdict is Verdict.INCOMPLETE
    assert {gap.check for gap in report.findings.gaps} == {Check.WITNESSES}
