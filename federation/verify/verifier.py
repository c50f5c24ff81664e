# SPDX-License-Identifier: Apache-2.0
"""`verify_directory`: all numbered checks of `federation.verify`, in the order in which the directory may be read."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from federation.errors import ConfigError
from federation.rounds import Federation
from federation.state.api import StateStore
from federation.verify.context import Audit
from federation.verify.evidence import Evidence
from federation.verify.files import ReadOnlyFileSystem
from federation.verify.history import check_history
from federation.verify.log_files import LeafFiles, LogFiles, has_ledger, read_log_files
from federation.verify.recomputation import Recomputation
from federation.verify.report import Anchors, Findings, Report
from federation.verify.scratch import scratch_store
from federation.verify.signatures import (
    KeptNote,
    Witnessed,
    check_cosigned,
    check_kept,
    check_own,
    read_kept,
)
from federation.verify.stored_state import CheckedZarrStore, check_stored
from federation.verify.survey import Survey, survey_leaves
from federation.verify.trust import Rosters, verify_rosters

Progress = Callable[[str, int, int], None]
"""What is being done, how many leaves of how many."""

_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """What is audited, and what from outside it is compared with."""

    directory: Path
    fs: ReadOnlyFileSystem
    root: str
    kept: tuple[KeptNote, ...]


def verify_directory(
    directory: Path,
    *,
    root: str = "",
    checkpoints: Sequence[Path] = (),
    progress: Progress = lambda what, done, total: None,
) -> Report:
    """Audits a coordinator's directory, or a copy of it.

    Args:
        directory: may be damaged, hostile, read-only, or in use.
        root: fingerprint of the consortium root, from another source than the directory.
        checkpoints: files with signed checkpoints that agents kept.

    Raises:
        ConfigError: there is no such directory, no ledger in it, or an anchor is malformed.
    """
    subject = _subject(directory, root, checkpoints)
    findings = Findings()
    evidence = Evidence(subject.fs, findings)
    log = read_log_files(subject.fs, findings)
    leaves = LeafFiles(subject.fs, findings, log.size)
    survey = survey_leaves(leaves, lambda done: progress("reading", done, log.size))
    rosters = verify_rosters(subject.fs, findings, evidence, survey.installed, subject.root)
    origin, witnessed, sizes = _check_notes(subject, findings, log, leaves, rosters, survey)
    with scratch_store() as scratch:
        audit = _audit(subject, findings, evidence, rosters, witnessed, survey, scratch)
        state = check_history(audit, leaves.leaves(), lambda done: progress("checking", done, leaves.size))
        check_stored(findings, audit.recomputation)
    return _report(subject, audit, _anchors(subject, rosters, survey, sizes), leaves, origin, state)


def _audit(
    subject: _Subject,
    findings: Findings,
    evidence: Evidence,
    rosters: Rosters,
    witnessed: Witnessed,
    survey: Survey,
    scratch: StateStore,
) -> Audit:
    stored, newest = CheckedZarrStore(subject.fs), rosters.newest()
    recomputation = Recomputation(
        findings=findings, evidence=evidence, scratch=scratch, stored=stored, uses=survey.uses
    )
    return Audit(
        findings=findings,
        evidence=evidence,
        rosters=rosters,
        witnessed=witnessed,
        recomputation=recomputation,
        consortium=newest.consortium if newest else "",
    )


def _anchors(subject: _Subject, rosters: Rosters, survey: Survey, sizes: Sequence[int]) -> Anchors:
    """A kept checkpoint anchors something only if it covers the leaf that names the first roster, and so all keys."""
    covered = survey.installed[0].leaf if survey.installed else max(sizes, default=0)
    return Anchors(
        root=subject.root,
        root_found=rosters.root_found,
        checkpoints=tuple(size for size in sizes if size > covered),
        files=tuple(dict.fromkeys(note.file for note in subject.kept)),
    )


def _subject(directory: Path, root: str, checkpoints: Sequence[Path]) -> _Subject:
    if not directory.is_dir():
        raise ConfigError(f"{directory}: expected a coordinator's directory, found none")
    fs = ReadOnlyFileSystem(directory)
    if not has_ledger(fs):
        raise ConfigError(
            f"{directory}: expected a coordinator's directory, found no ledger in it",
            advice="Give the directory that holds `ledger/` and `blobs/`, or a copy of it.",
        )
    if root and _FINGERPRINT.fullmatch(root) is None:
        raise ConfigError(
            f"--root: expected a fingerprint of 64 hexadecimal characters, found {root!r:.80}",
            advice="It is what `federation consortium init` printed; ask a holder of a root key.",
        )
    kept = tuple(note for path in checkpoints for note in read_kept(path, directory))
    return _Subject(directory=directory, fs=fs, root=root, kept=kept)


def _check_notes(
    subject: _Subject, findings: Findings, log: LogFiles, leaves: LeafFiles, rosters: Rosters, survey: Survey
) -> tuple[str, Witnessed, list[int]]:
    """Everything that was signed about the tree; returns origin, cosignatures, and sizes of kept checkpoints."""
    witnessed = Witnessed()
    origin = check_own(findings, log, leaves.tree, rosters, survey.installed)
    sizes = check_kept(findings, subject.kept, leaves.tree, rosters, witnessed)
    check_cosigned(findings, log, leaves.tree, rosters, witnessed)
    return origin, witnessed, sizes


def _report(
    subject: _Subject, audit: Audit, anchors: Anchors, leaves: LeafFiles, origin: str, state: Federation
) -> Report:
    runs = state.runs.values()
    rounds = [found for run in runs for found in run.rounds.values()]
    return Report(
        directory=str(subject.directory),
        anchors=anchors,
        findings=audit.findings,
        size=leaves.size,
        root_hash=leaves.tree.root().hex(),
        origin=origin,
        heads={run.id: tuple(head.theta_digest for head in run.heads()) for run in runs},
        summary={
            "leaves": state.size,
            "rosters": len(audit.rosters.by_version),
            "runs": len(state.runs),
            "rounds": len(rounds),
            "committed": sum(found.commit is not None for found in rounds),
            "reverted": sum(found.reverted for found in rounds),
            "recomputed": audit.recomputation.num_recomputed,
            "blobs": audit.evidence.num_blobs,
            "blob_bytes": audit.evidence.num_bytes,
        },
    )
