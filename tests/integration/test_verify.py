# SPDX-License-Identifier: Apache-2.0
"""`federation verify` on honest directories, its anchors, rosters over time, and the command."""

import errno
import json
import shutil
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from audit_bench import Bench, audit, bench_of, blob_of, changed, expect, index_of, is_verdict, put_blob
from click.testing import CliRunner
from simulator.world import START

from federation import leaves as lv
from federation import notes, wire
from federation.cli.main import federation as command_line
from federation.errors import ConfigError, NumericsMismatchError
from federation.leaves import Leaf, Outcome, Reason
from federation.merkle import EMPTY_ROOT
from federation.verify import Check, Verdict, verify_directory
from federation.verify.present import lines


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """P = 1."""
    return bench_of(tmp_path_factory.mktemp("one"), 1)


@pytest.fixture(scope="module")
def streaming(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """P = 2, with pauses by the decider."""
    return bench_of(tmp_path_factory.mktemp("two"), 2)


@pytest.fixture
def copy(bench: Bench, tmp_path: Path) -> Path:
    """A copy to be tampered with."""
    return bench.copy(tmp_path / "copy")


def snapshot(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything below a directory, with times."""
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in [directory, *directory.rglob("*")]
    }


# --- honest directories -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bench", "streaming"])
def test_an_honest_directory_is_true(name: str, request: pytest.FixtureRequest) -> None:
    bench: Bench = request.getfixturevalue(name)
    before = snapshot(bench.directory)
    report = audit(bench, bench.directory)
    assert report.verdict is Verdict.TRUE, "\n".join(lines(report))
    assert report.findings.gaps == []
    assert report.summary["recomputed"] == report.summary["committed"] > 4
    assert report.summary["reverted"] >= 1, "the history has a rollback"
    unseen = [check.name for check in Check if not report.findings.passed[check]]
    assert unseen == [], "every check had something to look at"
    assert snapshot(bench.directory) == before, "an audit changes nothing"
    assert audit(bench, bench.older, anchored=False).verdict is Verdict.TRUE


def test_the_history_has_what_the_tests_speak_of(bench: Bench) -> None:
    verdicts = {(leaf.body.outcome, leaf.body.reason) for leaf in bench.leaves(bench.directory) if is_verdict(leaf)}
    wanted = {(Outcome.ADMITTED, Reason.NONE), (Outcome.REJECTED, Reason.MALFORMED_PAYLOAD)}
    wanted |= {(Outcome.EQUIVOCATION, Reason.SECOND_DIGEST), (Outcome.MISSED, Reason.NO_ANSWER)}
    assert wanted <= verdicts


def test_a_rewritten_but_unchanged_history_is_true(bench: Bench, copy: Path) -> None:
    """The lies below are found by their checks, not by how they are written."""
    bench.rewrite(copy, lambda leaves: leaves)
    report = audit(bench, copy)
    assert report.verdict is Verdict.TRUE, "\n".join(lines(report))


def test_a_running_coordinator_may_be_ahead_of_its_checkpoint(bench: Bench, copy: Path) -> None:
    data = wire.leaf_to_bytes(bench.leaves(copy)[0])
    with (copy / "ledger/segments/000000.seg").open("ab") as file:
        file.write(struct.pack(">II", len(data), zlib.crc32(data)) + data)
    report = audit(bench, copy)
    assert report.verdict is Verdict.TRUE
    assert any("beyond the checkpoint" in note for note in report.findings.notes)


def test_large_fragments_are_recomputed_in_a_private_directory_that_is_removed(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.verify.scratch.MAX_ELEMENTS_IN_MEMORY", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    modes = []

    def progress(what: str, done: int, total: int) -> None:
        modes.extend(path.stat().st_mode & 0o777 for path in tmp_path.iterdir())

    report = verify_directory(bench.directory, root=bench.root, progress=progress)
    assert report.verdict is Verdict.TRUE
    assert set(modes) == {0o700}
    assert list(tmp_path.iterdir()) == []


def test_a_full_scratch_disk_is_no_verdict(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.verify.scratch.MAX_ELEMENTS_IN_MEMORY", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def full(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(ConfigError, match="room for recomputed versions"):
        verify_directory(bench.directory, root=bench.root)
    assert list(tmp_path.iterdir()) == []


def test_a_machine_that_computes_other_bits_gives_no_verdict(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def differ() -> None:
        raise NumericsMismatchError("other bits")

    monkeypatch.setattr("federation.verify.recomputation.require_golden_vectors", differ)
    with pytest.raises(NumericsMismatchError):
        verify_directory(bench.directory, root=bench.root)


# --- anchors ----------------------------------------------------------------------------------------------------------


def test_without_an_anchor_the_verdict_says_so(bench: Bench) -> None:
    report = verify_directory(bench.directory)
    assert (report.verdict, report.exit_code) == (Verdict.UNANCHORED, 3)
    assert report.anchors.root_found == bench.root
    assert report.summary["recomputed"] > 4, "everything else is checked"


def test_a_root_alone_says_what_it_cannot_see(bench: Bench) -> None:
    report = audit(bench, bench.older, anchored=False)
    assert report.exit_code == 0
    assert "older copy of the directory" in "\n".join(lines(report))


def test_a_kept_checkpoint_alone_is_an_anchor(bench: Bench) -> None:
    report = verify_directory(bench.directory, checkpoints=bench.checkpoints[:1])
    assert report.verdict is Verdict.TRUE
    assert "No root fingerprint" in "\n".join(lines(report))


def test_an_agents_cosigned_notes_are_an_anchor(bench: Bench, tmp_path: Path) -> None:
    kept = tmp_path / "cosigned.seg"
    shutil.copy(bench.directory / "ledger/cosigned.seg", kept)
    report = verify_directory(bench.directory, checkpoints=[kept])
    assert report.verdict is Verdict.TRUE
    assert len(report.anchors.checkpoints) > 5


def test_a_checkpoint_of_an_empty_ledger_anchors_nothing(bench: Bench, tmp_path: Path) -> None:
    origin = notes.default_origin(bench.keys.name)
    empty = notes.Checkpoint(origin=origin, size=0, root=EMPTY_ROOT)
    (tmp_path / "kept").write_bytes(notes.sign_checkpoint(empty, origin, bench.keys.key("ledger")))
    assert verify_directory(bench.directory, checkpoints=[tmp_path / "kept"]).verdict is Verdict.UNANCHORED


def test_an_older_copy_is_found_by_a_kept_checkpoint(bench: Bench) -> None:
    expect(audit(bench, bench.older), Check.KEPT, "an older copy, or one with its tail cut")


def test_another_root_is_found(bench: Bench) -> None:
    report = verify_directory(bench.directory, root="ab" * 32)
    expect(report, Check.ROSTERS, "roster version 1")
    assert report.summary["recomputed"] > 4, "the rest is still checked"


def test_a_directory_signed_anew_with_other_keys_is_found(bench: Bench, copy: Path) -> None:
    forged = bench.rekey(copy)
    assert verify_directory(copy).verdict is Verdict.UNANCHORED, "\n".join(lines(verify_directory(copy)))
    assert verify_directory(copy, root=forged.root).verdict is Verdict.TRUE, "the forgery has no seam"
    expect(verify_directory(copy, root=bench.root), Check.ROSTERS, "fingerprint")
    expect(verify_directory(copy, checkpoints=bench.checkpoints), Check.KEPT, "a signature by this directory's ledger")


def test_another_history_under_the_same_keys_is_found_by_a_kept_checkpoint(bench: Bench, copy: Path) -> None:
    bench.rewrite(copy, lambda leaves: [replace(leaf, at_us=leaf.at_us + 1) for leaf in leaves])
    assert audit(bench, copy, anchored=False).verdict is Verdict.TRUE
    expect(audit(bench, copy), Check.KEPT, "root")


# --- rosters over time ------------------------------------------------------------------------------------------------


def with_roster(bench: Bench, copy: Path, document: bytes, version: int, at_end: bool) -> None:
    """Puts a roster document in force, everywhere where it belongs."""
    (copy / f"rosters/{version:06d}.roster").write_bytes(document)
    digest = put_blob(copy, document)

    def install(leaves: list[Leaf]) -> list[Leaf]:
        if not at_end:
            return changed(leaves, 0, digest=digest)
        body = lv.RosterInstalledV1(version=version, digest=digest, sites=bench.keys.sites)
        return [*leaves, replace(leaves[-1], body=body)]

    bench.rewrite(copy, install)


def test_a_second_roster_is_followed(bench: Bench, copy: Path) -> None:
    roster = bench.keys.next(bench.keys.roster(now_us=int(START * 1e6)))
    with_roster(bench, copy, bench.keys.document(roster), 2, at_end=True)
    report = audit(bench, copy, anchored=False)
    assert report.verdict is Verdict.TRUE, "\n".join(lines(report))
    assert report.summary["rosters"] == 2


def test_a_second_roster_of_another_root_is_found(bench: Bench, copy: Path) -> None:
    other = replace(bench.keys, keys={**bench.keys.keys, "root/1": bench.keys.key("another root")})
    roster = other.next(other.roster(now_us=int(START * 1e6)))
    with_roster(bench, copy, other.document(roster), 2, at_end=True)
    expect(audit(bench, copy, anchored=False), Check.ROSTERS, "roster version 2", len(bench.leaves(copy)) - 1)


def test_a_roster_that_had_expired_when_it_was_installed_is_found(bench: Bench, copy: Path) -> None:
    roster = replace(bench.keys.roster(), expires_at_us=int((START - 60) * 1e6))
    with_roster(bench, copy, bench.keys.document(roster), 1, at_end=False)
    expect(audit(bench, copy, anchored=False), Check.ROSTERS, "time of installing roster version 1", 0)


def test_rounds_under_an_expired_roster_are_found(bench: Bench, copy: Path) -> None:
    first = bench.leaves(copy)[0].at_us
    roster = replace(bench.keys.roster(now_us=int((START - 3600) * 1e6)), expires_at_us=first + 1_000_000)
    with_roster(bench, copy, bench.keys.document(roster), 1, at_end=False)
    opened = index_of(bench.leaves(copy), lv.RoundOpenedV1)
    expect(audit(bench, copy, anchored=False), Check.ROSTERS, "one that is in force", opened)


def test_files_that_are_no_rosters_are_found(bench: Bench, copy: Path) -> None:
    (copy / "rosters/000001.roster").rename(copy / "rosters/000007.roster")
    (copy / "rosters/000002.roster").write_bytes(b"junk")
    report = audit(bench, copy)
    expect(report, Check.ROSTERS, "the name rosters/000001.roster")
    expect(report, Check.ROSTERS, "a roster document")


def test_a_directory_without_rosters_is_found(bench: Bench, copy: Path) -> None:
    shutil.rmtree(copy / "rosters")
    blob_of(copy, bench.leaves(bench.directory)[0].body.digest).unlink()
    expect(audit(bench, copy), Check.ROSTERS, "rosters: expected a roster, found none")


# --- the command ------------------------------------------------------------------------------------------------------


def run(*arguments: object) -> tuple[int, str]:
    """The command line's exit code and standard output."""
    result = CliRunner().invoke(command_line, ["verify", *map(str, arguments)])
    code = getattr(result.exception, "exit_code", result.exit_code)
    return code, result.stdout


def test_the_command_prints_a_line_per_check_and_the_verdict(bench: Bench) -> None:
    kept = [word for path in bench.checkpoints for word in ("--checkpoint", path)]
    code, out = run(bench.directory, "--root", bench.root, *kept)
    assert code == 0
    assert len([line for line in out.splitlines() if line.startswith("✓")]) == len(Check)
    assert out.splitlines()[-1].startswith("TRUE: ")


def test_the_command_prints_json(bench: Bench) -> None:
    code, out = run(bench.older, "--root", bench.root, "--checkpoint", bench.checkpoints[0], "--json")
    document = json.loads(out)
    assert (code, document["verdict"], document["exit_code"]) == (1, "FALSE", 1)
    assert document["differences"][0]["check"] == Check.KEPT
    assert document["num_differences"] == len(document["differences"])
    assert [len(digests) for digests in document["models"].values()] == [1]
    assert document["ledger"]["size"] == len(bench.leaves(bench.older))


def test_misuse_is_told_from_damage(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("no note")
    assert run(tmp_path / "nowhere")[0] == 2
    assert run(tmp_path / "empty")[0] == 2
    assert run(bench.directory, "--root", "abc")[0] == 2
    assert run(bench.directory, "--checkpoint", tmp_path / "text")[0] == 2
    assert run(bench.directory, "--checkpoint", tmp_path / "nothing")[0] == 2
    assert run(bench.directory, "--checkpoint", bench.directory / "ledger/checkpoint")[0] == 2
    assert run(bench.directory)[0] == 3
