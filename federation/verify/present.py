# SPDX-License-Identifier: Apache-2.0
"""A report for people (lines) and for programs (a document).

The document (`--json`), version 1:

    version                 1
    verdict                 "TRUE", "FALSE", "INCOMPLETE" or "UNANCHORED"; exit_code 0, 1, 3, 3
    sentences               the verdict in words
    directory               as given
    anchors                 root (as given, "" if not), root_found, checkpoints (sizes that anchor), files
    ledger                  origin, size, root: the head that was read
    models                  per run the theta digest of each fragment's current version
    summary                 leaves, rosters, runs, rounds, committed, reverted, recomputed, blobs, blob_bytes
    checks                  per check: number, title, passed, failed, skipped
    differences             per difference: check, leaf, run, round (-1 and "" where none), what, expected, found
    gaps                    per gap: check, leaf, run, round, sentence
    notes                   sentences
    num_differences         all of them; at most 1000 are listed, and as many gaps
"""

from dataclasses import asdict
from typing import Any, Final

from federation.durations import count
from federation.ids import short
from federation.verify.report import TITLES, Check, Difference, Gap, Report, Verdict

DOCUMENT_VERSION: Final = 1
MAX_SHOWN: Final = 50
"""Differences, gaps and notes that are printed for people; `--json` has more."""

_OPENINGS: Final = {
    Verdict.TRUE: "everything that this ledger says follows from the evidence in the directory.",
    Verdict.FALSE: "the directory is not what an honest coordinator leaves: {differences}.",
    Verdict.INCOMPLETE: "nothing speaks against the directory, but not everything could be looked at: {gaps}.",
    Verdict.UNANCHORED: "the directory agrees with itself, which a directory made up from end to end does too.",
}
_NO_ANCHOR: Final = (
    "Nothing from outside was compared with it: give the consortium root's fingerprint (--root) and a checkpoint that a"
    " site keeps (--checkpoint SITE_DIR/state/ledger/checkpoint)."
)
_NO_CHECKPOINT: Final = (
    "Only the root was given: a rollback to an older copy of the directory, or another history signed with the same"
    " keys, can't be seen without a checkpoint that a site keeps (--checkpoint)."
)
_NO_ROOT: Final = (
    "No root fingerprint was given: the rosters are trusted because the kept checkpoint covers the leaf that names"
    " the first of them."
)


def sentences(report: Report) -> list[str]:
    """The verdict in words."""
    differences = _count(report.findings.num_failed(), "difference")
    gaps = _count(sum(report.findings.skipped.values()), "gap")
    text = _OPENINGS[report.verdict].format(differences=differences, gaps=gaps)
    found = [f"{report.verdict.value}: {text}"]
    anchors = report.anchors
    if not anchors.hold:
        found.append(_NO_ANCHOR)
    elif not anchors.checkpoints and not anchors.files:
        found.append(_NO_CHECKPOINT)
    elif not anchors.root:
        found.append(_NO_ROOT)
    beyond = report.size - max(anchors.checkpoints, default=report.size)
    if beyond:
        found.append(
            f"The last {_count(beyond, 'leaf', 'leaves')} came after the kept checkpoint and could be cut off."
        )
    return found


def lines(report: Report) -> list[str]:
    """One line per check, then differences, gaps and notes, then the verdict."""
    summary = report.summary
    size = count(report.size, "leaf", "leaves")
    head = f"{report.directory}: {report.origin or 'ledger'} with {size}, root {short(report.root_hash)}"
    counts = (
        f"{count(summary['runs'], 'run')}, {count(summary['committed'], 'committed round')}"
        f" ({summary['reverted']} reverted), {summary['recomputed']} recomputed,"
        f" {count(summary['blobs'], 'blob')} of {count(summary['blob_bytes'], 'byte')}"
    )
    found = [head, counts, *(_check_line(report, check) for check in Check)]
    found += _listed("difference", report.findings.differences, report.findings.num_failed())
    found += _listed("gap", report.findings.gaps, sum(report.findings.skipped.values()))
    found += [f"note: {note}" for note in report.findings.notes[:MAX_SHOWN]]
    for run, digests in sorted(report.heads.items()):
        found.append(f"model of {run}: {' '.join(digests)}")
    return [*found, *sentences(report)]


def document(report: Report) -> dict[str, Any]:
    """The structure that the module's docstring describes."""
    findings = report.findings
    return {
        "version": DOCUMENT_VERSION,
        "verdict": report.verdict.value,
        "exit_code": report.exit_code,
        "sentences": sentences(report),
        "directory": report.directory,
        "anchors": asdict(report.anchors),
        "ledger": {"origin": report.origin, "size": report.size, "root": report.root_hash},
        "models": report.heads,
        "summary": report.summary,
        "checks": [
            {
                "number": int(check),
                "title": TITLES[check],
                "passed": findings.passed[check],
                "failed": findings.failed[check],
                "skipped": findings.skipped[check],
            }
            for check in Check
        ],
        "differences": [
            {**_placed(entry), "what": entry.what, "expected": entry.expected, "found": entry.found}
            for entry in findings.differences
        ],
        "gaps": [{**_placed(entry), "sentence": entry.sentence} for entry in findings.gaps],
        "notes": findings.notes,
        "num_differences": findings.num_failed(),
    }


def _placed(entry: Difference | Gap) -> dict[str, Any]:
    return {"check": int(entry.check), **asdict(entry.place)}


def _check_line(report: Report, check: Check) -> str:
    passed, failed = report.findings.passed[check], report.findings.failed[check]
    skipped = report.findings.skipped[check]
    mark = "✗" if failed else "–" if skipped or not passed else "✓"
    counts = [f"{passed} good"] if passed else []
    counts += [_count(failed, "difference")] if failed else []
    counts += [_count(skipped, "gap")] if skipped else []
    return f"{mark} {int(check):2} {TITLES[check]}: {', '.join(counts) or 'nothing to check'}"


def _listed(what: str, entries: list[Difference] | list[Gap], total: int) -> list[str]:
    found = [f"{what} ({int(entry.check)} {TITLES[entry.check]}): {entry}" for entry in entries[:MAX_SHOWN]]
    rest = total - len(found)
    return [*found, f"{what}s: {rest} more (--json lists up to 1000)"] if rest else found


def _count(number: int, singular: str, plural: str = "") -> str:
    return f"{number} {singular if number == 1 else plural or singular + 's'}"
