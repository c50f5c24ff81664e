# SPDX-License-Identifier: Apache-2.0
"""Rosters: every version from the root fingerprint on, signatures, order, times of use; and the keys that follow.

Where a document is refused, the difference is recorded and the audit goes on with what the document says, so that other
damage shows too; the verdict is FALSE by then.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from federation import leaves as lv
from federation.errors import FederationError
from federation.ids import is_digest
from federation.merkle import blob_digest
from federation.notes import witness_name
from federation.roster import TrustedRosters, check_roster, peek_roster, root_fingerprint
from federation.roster_document import Role, Roster
from federation.verify.evidence import Evidence
from federation.verify.files import ReadOnlyFileSystem
from federation.verify.report import NOWHERE, Check, Findings, Place
from federation.wire.documents import MAX_ROSTER_BYTES

ROSTERS: Final = "rosters"
ROOT_FILE: Final = "root"
_NAME: Final = re.compile(r"([0-9]{6,18})\.roster")
_MAX_SKEW_US: Final = 24 * 3600 * 1_000_000

WitnessKeys: TypeAlias = dict[str, tuple[str, set[bytes]]]
"""By name on notes: the site, and every key that it ever had for cosignatures."""


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A `roster installed` leaf."""

    leaf: int
    at_us: int
    body: lv.RosterInstalledV1


@dataclass(kw_only=True)
class Rosters:
    """Rosters by version, and what they say about keys."""

    by_version: dict[int, Roster] = field(default_factory=dict)
    root_found: str = ""

    def at(self, version: int) -> Roster | None:
        """The roster of a version, None if it could not be read."""
        return self.by_version.get(version)

    def newest(self) -> Roster | None:
        """The roster of the highest version."""
        return self.by_version[max(self.by_version)] if self.by_version else None

    def update_public(self, version: int, site: str) -> bytes:
        """The key of a site's updates and evaluations in that version, b"" if it names no such site."""
        roster = self.at(version)
        return next((s.update_public for s in roster.sites if s.site == site), b"") if roster else b""

    def may_command(self, version: int, operator: str) -> bool:
        """Whether that version gives this operator the role of one."""
        roster = self.at(version)
        return roster is not None and any(
            entry.operator == operator and Role.OPERATOR in entry.roles for entry in roster.operators
        )

    def ledger_keys(self) -> dict[int, tuple[str, bytes]]:
        """Origin and key of the ledger by roster version."""
        return {
            version: (roster.coordinator.ledger_origin, roster.coordinator.ledger_public)
            for version, roster in self.by_version.items()
            if roster.coordinator is not None
        }

    def witness_keys(self) -> WitnessKeys:
        """Keys of all versions: a cosignature stays evidence when its key is replaced."""
        found: WitnessKeys = {}
        for roster in self.by_version.values():
            for entry in roster.sites:
                name = witness_name(roster.consortium, entry.site)
                found.setdefault(name, (entry.site, set()))[1].add(entry.witness_public)
        return found


def verify_rosters(
    fs: ReadOnlyFileSystem, findings: Findings, evidence: Evidence, installed: Sequence[Installed], root: str
) -> Rosters:
    """Accepts the directory's rosters one after the other, ascending.

    Args:
        installed: what the ledger says came into force, and when.
        root: fingerprint that the auditor brings, "" if there is none: then the directory's own is taken.
    """
    leaves = {entry.body.version: entry for entry in installed}
    documents = _documents(fs, findings, evidence, leaves)
    pinned = _pinned(fs)
    rosters, trusted = Rosters(), TrustedRosters()
    for version, document in sorted(documents.items()):
        entry = leaves.get(version)
        place = Place(leaf=entry.leaf) if entry else NOWHERE
        try:
            roster = peek_roster(document)
            if not rosters.by_version:
                rosters.root_found = root_fingerprint(roster)
            _accept(trusted, document, roster, root or pinned or rosters.root_found, entry)
            _check_times(findings, roster, entry)
        except FederationError as error:
            findings.differ(Check.ROSTERS, place, f"roster version {version}", "one that its root signed", error)
            _keep_unverified(rosters, document)
            continue
        rosters.by_version[roster.version] = roster
        findings.agree(Check.ROSTERS)
    if not documents:
        findings.differ(Check.ROSTERS, NOWHERE, ROSTERS, "a roster", "none")
    elif pinned != rosters.root_found:
        findings.differ(Check.ROSTERS, NOWHERE, ROOT_FILE, rosters.root_found, pinned or "nothing")
    return rosters


def _accept(
    trusted: TrustedRosters, document: bytes, roster: Roster, fingerprint: str, entry: Installed | None
) -> None:
    if trusted.versions:
        # What is not in force yet is judged by the time at which it was issued.
        trusted.update(document, entry.at_us if entry else roster.issued_at_us)
    else:
        trusted.anchor(document, fingerprint)


def _check_times(findings: Findings, roster: Roster, entry: Installed | None) -> None:
    """The anchor is accepted at any time; the leaf says when it was used. Later ones were checked by `update`."""
    if entry is None or roster.issued_at_us - _MAX_SKEW_US <= entry.at_us < roster.expires_at_us:
        return
    what = f"time of installing roster version {roster.version}, in microseconds"
    expected = f"{roster.issued_at_us} to {roster.expires_at_us}"
    findings.differ(Check.ROSTERS, Place(leaf=entry.leaf), what, expected, entry.at_us)


def _keep_unverified(rosters: Rosters, document: bytes) -> None:
    try:
        roster = peek_roster(document)
        check_roster(roster)
    except FederationError:
        return
    rosters.by_version.setdefault(roster.version, roster)


def _documents(
    fs: ReadOnlyFileSystem, findings: Findings, evidence: Evidence, leaves: dict[int, Installed]
) -> dict[int, bytes]:
    """Documents by version: the directory's, or the blob that the ledger names where that is another one."""
    documents = _files(fs, findings)
    for version, entry in leaves.items():
        place, digest = Place(leaf=entry.leaf), entry.body.digest
        kept = evidence.require(digest, place, f"roster version {version}")
        found = blob_digest(documents[version]) if version in documents else "no file"
        findings.compare(Check.ROSTERS, place, f"{_path(version)}: digest", digest, found)
        if kept and found != digest and is_digest(digest):
            documents[version] = evidence.read(digest, MAX_ROSTER_BYTES)
    return documents


def _files(fs: ReadOnlyFileSystem, findings: Findings) -> dict[int, bytes]:
    documents: dict[int, bytes] = {}
    for name in names_in(fs, ROSTERS):
        match = _NAME.fullmatch(name)
        try:
            data = fs.read(f"{ROSTERS}/{name}", max_bytes=2 * MAX_ROSTER_BYTES)
            version = peek_roster(data).version
        except FederationError as error:
            findings.differ(Check.ROSTERS, NOWHERE, f"{ROSTERS}/{name}", "a roster document", error)
            continue
        if match is None or int(match[1]) != version:
            findings.differ(Check.ROSTERS, NOWHERE, f"{ROSTERS}/{name}", f"the name {_path(version)}", name)
        documents[version] = data
    return documents


def names_in(fs: ReadOnlyFileSystem, path: str) -> list[str]:
    """Names in a directory; none if it cannot be read, which is then missed by whoever needs one of them."""
    try:
        return fs.list(path)
    except FederationError:
        return []


def _pinned(fs: ReadOnlyFileSystem) -> str:
    try:
        return fs.read(ROOT_FILE, max_bytes=4096).decode(errors="replace").strip()
    except FederationError:
        return ""


def _path(version: int) -> str:
    return f"{ROSTERS}/{version:06d}.roster"
