# SPDX-License-Identifier: Apache-2.0
"""Verdicts, exit codes and what is shown of hostile values."""

import pytest

from federation.verify.present import document, lines, sentences
from federation.verify.report import MAX_LISTED, NOWHERE, Anchors, Check, Findings, Place, Report, Verdict, shown

SUMMARY = dict.fromkeys(
    ("leaves", "rosters", "runs", "rounds", "committed", "reverted", "recomputed", "blobs", "blob_bytes"), 0
)


ROOT = Anchors(root="ab" * 32)


def report_of(findings: Findings, anchors: Anchors = ROOT, size: int = 0) -> Report:
    return Report(directory="d", anchors=anchors, findings=findings, size=size, summary=SUMMARY)


def found(*, differs: bool = False, gap: bool = False) -> Findings:
    findings = Findings()
    if differs:
        findings.differ(Check.BLOBS, Place(leaf=3, run="r", round=1), "blob", "it", "nothing")
    if gap:
        findings.skip(Check.COMMITS, NOWHERE, "no payload")
    return findings


@pytest.mark.parametrize(
    ("differs", "gap", "anchored", "verdict", "code"),
    [
        (False, False, True, Verdict.TRUE, 0),
        (True, True, False, Verdict.FALSE, 1),
        (True, False, True, Verdict.FALSE, 1),
        (False, True, True, Verdict.INCOMPLETE, 3),
        (False, True, False, Verdict.INCOMPLETE, 3),
        (False, False, False, Verdict.UNANCHORED, 3),
    ],
)
def test_the_verdict_follows_from_what_was_found(
    differs: bool, gap: bool, anchored: bool, verdict: Verdict, code: int
) -> None:
    anchors = Anchors(root="ab" * 32 if anchored else "")
    report = report_of(found(differs=differs, gap=gap), anchors)
    assert (report.verdict, report.exit_code) == (verdict, code)
    text = " ".join(sentences(report))
    assert text.startswith(verdict.value)
    assert ("Nothing from outside was compared" in text) is not anchored


def test_a_difference_names_its_place() -> None:
    report = report_of(found(differs=True))
    assert "leaf 3, run r, round 1: blob: expected it, found nothing" in "\n".join(lines(report))
    assert document(report)["differences"] == [
        {"check": 9, "leaf": 3, "run": "r", "round": 1, "what": "blob", "expected": "it", "found": "nothing"}
    ]


def test_hostile_values_cannot_write_to_the_terminal() -> None:
    assert shown("a\x1b[2Jb\n") == "a\\x1b[2Jb\\n"
    assert len(shown("x" * 10**6)) == 300
    assert shown("λ") == "λ"


def test_lists_are_bounded_and_numbers_are_not() -> None:
    findings = Findings()
    for _ in range(MAX_LISTED + 5):
        findings.differ(Check.BLOBS, NOWHERE, "blob", 1, 2)
        findings.skip(Check.BLOBS, NOWHERE, "gap")
        findings.note("note")
    assert (len(findings.differences), len(findings.gaps), len(findings.notes)) == (MAX_LISTED,) * 3
    assert findings.num_failed() == findings.skipped[Check.BLOBS] == MAX_LISTED + 5
    assert document(report_of(findings))["num_differences"] == MAX_LISTED + 5
    assert any(f"{MAX_LISTED + 5 - 50} more" in line for line in lines(report_of(findings)))


def test_leaves_after_the_kept_checkpoint_are_said_to_be_open() -> None:
    anchors = Anchors(checkpoints=(7, 5), files=("kept",))
    text = " ".join(sentences(report_of(Findings(), anchors, size=9)))
    assert "The last 2 leaves came after the kept checkpoint" in text
    assert "could be cut off" not in " ".join(sentences(report_of(Findings(), anchors, size=7)))
