# SPDX-License-Identifier: Apache-2.0
"""Signed notes about the ledger's tree: its own checkpoint, checkpoints that others kept, stored cosignatures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from federation import notes
from federation.errors import BadSignatureError, ConfigError, FederationError, ProtocolError
from federation.ledger.frames import scan_records
from federation.merkle import Tree
from federation.verify.log_files import CHECKPOINT, COSIGNED, LogFiles
from federation.verify.report import NOWHERE, Check, Findings
from federation.verify.trust import Installed, Rosters, WitnessKeys

_MAX_FILE_BYTES = 64 * 1024**2


@dataclass(frozen=True, kw_only=True)
class KeptNote:
    """A checkpoint that came from outside the directory."""

    file: str
    note: bytes
    checkpoint: notes.Checkpoint


@dataclass(kw_only=True)
class Witnessed:
    """Per site the largest size of a checkpoint of this tree that it cosigned."""

    sizes: dict[str, int] = field(default_factory=dict)


def read_kept(path: Path, directory: Path) -> list[KeptNote]:
    """Notes of a file that an agent kept: one checkpoint, or its `cosigned.seg`.

    Raises:
        ConfigError: the file is not readable or holds no checkpoint, or lies inside the audited directory.
    """
    if path.resolve().is_relative_to(directory.resolve()):
        raise ConfigError(
            f"--checkpoint {path}: expected a file from outside {directory}, found one inside",
            advice="Ask a site for SITE_DIR/state/ledger/checkpoint; the directory's own word proves nothing.",
        )
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"--checkpoint {path}: expected a readable file, found: {error.strerror}") from error
    batches = scan_records(data).records
    found = [record for batch in batches for record in scan_records(batch).records] or [data]
    try:
        return [KeptNote(file=str(path), note=note, checkpoint=notes.peek_checkpoint(note)) for note in found]
    except FederationError as error:
        raise ConfigError(
            f"--checkpoint {path}: expected a signed checkpoint, found: {error}",
            advice="An agent keeps one in SITE_DIR/state/ledger/checkpoint.",
        ) from error


def check_own(findings: Findings, files: LogFiles, tree: Tree, rosters: Rosters, installed: Sequence[Installed]) -> str:
    """The directory's checkpoint: signed with the key of the newest roster, and of this tree. Returns its origin."""
    if not files.note:
        return ""
    keys = rosters.ledger_keys()
    allowed = {version: keys[version] for version in _in_force(rosters, installed, tree.size) if version in keys}
    try:
        checkpoint = _opened(files.note, allowed)
    except FederationError as error:
        findings.differ(Check.CHECKPOINT, NOWHERE, CHECKPOINT, "one signed by the ledger's key", error)
        checkpoint = notes.peek_checkpoint(files.note)
    else:
        findings.agree(Check.CHECKPOINT)
    if checkpoint.size <= tree.size:
        what = f"{CHECKPOINT}: root over {checkpoint.size} leaves"
        findings.compare(Check.LEDGER, NOWHERE, what, checkpoint.root.hex(), tree.root(checkpoint.size).hex())
    return checkpoint.origin


def _in_force(rosters: Rosters, installed: Sequence[Installed], size: int) -> set[int]:
    """Versions whose ledger key may have signed the newest checkpoint.

    The newest in the ledger or a newer one; the one before only while its `roster installed` leaf is the last leaf.
    """
    recorded = [entry.body.version for entry in installed]
    newest = recorded[-1] if recorded else 0
    allowed = {version for version in rosters.by_version if version >= newest}
    if len(recorded) > 1 and installed[-1].leaf == size - 1:
        allowed.add(recorded[-2])
    return allowed


def _opened(note: bytes, keys: dict[int, tuple[str, bytes]]) -> notes.Checkpoint:
    """The checkpoint, if one of the keys signed it."""
    failure: FederationError = ProtocolError("no roster names a ledger key")
    for origin, public in dict.fromkeys(keys.values()):
        try:
            return notes.open_checkpoint(note, origin, public)
        except (BadSignatureError, ProtocolError) as error:
            failure = error
    raise failure


def check_kept(
    findings: Findings, kept: Sequence[KeptNote], tree: Tree, rosters: Rosters, witnessed: Witnessed
) -> list[int]:
    """Each kept checkpoint must be signed by this ledger's key and be a prefix of this tree; returns sizes that are."""
    good = []
    for note in kept:
        what = f"kept checkpoint {note.file} of size {note.checkpoint.size}"
        try:
            _opened(note.note, rosters.ledger_keys())
        except FederationError as error:
            findings.differ(Check.KEPT, NOWHERE, what, "a signature by this directory's ledger", error)
            continue
        if _is_prefix(findings, Check.KEPT, what, note.checkpoint, tree):
            good.append(note.checkpoint.size)
            findings.agree(Check.KEPT)
            _learn(note.note, note.checkpoint.size, rosters.witness_keys(), witnessed)
    return good


def check_cosigned(findings: Findings, files: LogFiles, tree: Tree, rosters: Rosters, witnessed: Witnessed) -> None:
    """Each stored note: signed by the ledger, of this tree, and every cosignature under a roster's witness key."""
    ledger, witnesses = rosters.ledger_keys(), rosters.witness_keys()
    for number, note in enumerate(files.cosigned, start=1):
        try:
            checkpoint = _opened(note, ledger)
        except FederationError as error:
            what = f"{COSIGNED}: note {number}"
            findings.differ(Check.COSIGNATURES, NOWHERE, what, "one signed by the ledger's key", error)
            continue
        what = f"{COSIGNED}: note {number}, of size {checkpoint.size}"
        if not _is_prefix(findings, Check.COSIGNATURES, what, checkpoint, tree):
            continue
        for name in _learn(note, checkpoint.size, witnesses, witnessed):
            findings.differ(Check.COSIGNATURES, NOWHERE, what, f"a good cosignature by {name}", "one that fails")
        findings.agree(Check.COSIGNATURES)


def _is_prefix(findings: Findings, check: Check, what: str, checkpoint: notes.Checkpoint, tree: Tree) -> bool:
    if checkpoint.size > tree.size:
        found = f"{tree.size}: an older copy, or one with its tail cut"
        findings.differ(check, NOWHERE, what, f"at least {checkpoint.size} leaves", found)
        return False
    root = tree.root(checkpoint.size)
    return findings.compare(check, NOWHERE, f"{what}: root", checkpoint.root.hex(), root.hex())


def _learn(note: bytes, size: int, keys: WitnessKeys, witnessed: Witnessed) -> list[str]:
    """Counts the good cosignatures of a note of this tree; returns the names of the others."""
    bad = []
    for name in notes.cosigners(note):
        site, publics = keys.get(name, ("", set()))
        if any(_cosigned(note, name, public) for public in publics):
            witnessed.sizes[site] = max(size, witnessed.sizes.get(site, 0))
        else:
            bad.append(name)
    return bad


def _cosigned(note: bytes, name: str, public: bytes) -> bool:
    try:
        notes.verify_cosignature(note, name, public)
    except FederationError:
        return False
    return True
