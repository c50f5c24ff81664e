# SPDX-License-Identifier: Apache-2.0
"""Who has cosigned how much of one tree: verified notes, durable, and per witness the largest size.

A witness's cosignature of a larger size covers every smaller one of the same tree, so only what exceeds a witness's
largest size so far is stored. Keys are asked for at each use: when a roster replaces a witness's key, what the old key
signed counts no longer.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from federation import notes
from federation.durable.api import FileSystem
from federation.errors import BadSignatureError, CorruptObjectError, LedgerForkError
from federation.ledger.frames import FramedFile
from federation.merkle import Tree

WitnessKeys: TypeAlias = Callable[[], Mapping[str, bytes]]
"""Returns the witnesses of the roster in force: name in notes -> raw Ed25519 public key."""

_MAX_LINES_PER_NAME: Final = 4


def no_witnesses() -> Mapping[str, bytes]:
    """For a log that counts no cosignatures."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a note of another party holds for us.

    Attributes:
        size: of its checkpoint.
        note: the log's signature and the new cosignatures, nothing else; b"" if there is none.
        good: witnesses whose cosignature verifies and says more than we knew.
        bad: witnesses whose cosignature does not verify under the roster's key.
    """

    size: int
    note: bytes = b""
    good: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Newest:
    """The largest size that a witness cosigned, and the note that says so."""

    size: int
    note: bytes


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """Whether a witness's newest note verifies under a key: kept, because it is asked for all the time."""

    size: int
    public: bytes
    verifies: bool


class Cosignatures:
    """The cosigned notes of one log."""

    def __init__(
        self, fs: FileSystem, path: str, *, origin: str, public: bytes, witness_publics: WitnessKeys, writable: bool
    ) -> None:
        """Reads the notes stored so far; `check_stored` compares them with the tree."""
        self._origin = origin
        self._public = public
        self._keys = witness_publics
        self._file = FramedFile(fs, path, writable=writable)
        self._path = path
        self._newest: dict[str, _Newest] = {}
        self._answers: dict[str, _Answer] = {}
        self._merged: dict[int, bytes] = {}
        for note in self._file.records:
            for name in notes.cosigners(note):
                self._learn(name, _Newest(size=notes.peek_checkpoint(note).size, note=note))

    @property
    def num_notes(self) -> int:
        """Notes stored so far: grows whenever some witness has said more than before."""
        return len(self._file.records)

    def witnessed(self) -> dict[str, int]:
        """Largest verified size per witness of the roster in force; a witness that has signed nothing is left out."""
        sizes = {}
        for name, public in self._keys().items():
            newest = self._newest.get(name)
            if newest is not None and self._holds(name, newest, public):
                sizes[name] = newest.size
        return sizes

    def notes_since(self, size: int) -> tuple[bytes, ...]:
        """The newest note of each witness, of checkpoints of at least `size` leaves, merged, smallest first."""
        if not self._merged:
            for _, newest in sorted(self._newest.items()):
                known = self._merged.get(newest.size, newest.note)
                self._merged[newest.size] = notes.merge_notes(known, newest.note)
        return tuple(self._merged[found] for found in sorted(self._merged) if found >= size)

    def check_stored(self, tree: Tree) -> None:
        """Compares every stored note with the tree.

        Raises:
            CorruptObjectError: a note is of a larger tree (the log's tail is gone) or of another one.
        """
        for note in self._file.records:
            checkpoint = notes.peek_checkpoint(note)
            if checkpoint.size > tree.size:
                raise CorruptObjectError(
                    f"{self._path}: expected at least the {checkpoint.size} leaves that were cosigned, found"
                    f" {tree.size}: tail cut",
                    advice="Restore the ledger from a newer backup, or from a site's copy.",
                )
            if tree.root(checkpoint.size) != checkpoint.root:
                raise CorruptObjectError(
                    f"{self._path}: expected the root that was cosigned at size {checkpoint.size}, found another"
                )

    def check(self, note: bytes, tree: Tree) -> Finding:
        """Verifies a note of another party against the log's key, the tree and the witnesses' keys.

        Signatures are verified only where the note says something new. Nothing is stored.

        Raises:
            ProtocolError, LimitExceededError: the bytes are no checkpoint note of this log.
            BadSignatureError: the log did not sign it.
            LedgerForkError: the log signed another root than the tree has at that size.
            CorruptObjectError: the log signed a size that the tree has not reached.
        """
        checkpoint = notes.peek_checkpoint(note)
        agrees = checkpoint.size <= tree.size and tree.root(checkpoint.size) == checkpoint.root
        keys = self._keys()
        new = [n for n in notes.cosigners(note) if n in keys and self._says_more(n, keys[n], checkpoint.size)]
        if agrees and not new and checkpoint.origin == self._origin:
            return Finding(size=checkpoint.size)
        notes.open_checkpoint(note, self._origin, self._public)
        if not agrees:
            _refuse(checkpoint, tree)
        return self._collect(note, checkpoint.size, {name: keys[name] for name in new})

    def add(self, findings: Iterable[Finding]) -> None:
        """Stores what `check` found, durably, with one fsync. Raises DiskFullError."""
        useful = [finding for finding in findings if finding.good]
        self._file.extend(finding.note for finding in useful)
        for finding in useful:
            for name in finding.good:
                self._learn(name, _Newest(size=finding.size, note=finding.note))

    def close(self) -> None:
        """Releases the file."""
        self._file.close()

    def _learn(self, name: str, found: _Newest) -> None:
        known = self._newest.get(name)
        if known is None or found.size >= known.size:
            self._newest[name] = found
            self._answers.pop(name, None)
            self._merged = {}

    def _says_more(self, name: str, public: bytes, size: int) -> bool:
        newest = self._newest.get(name)
        return newest is None or size > newest.size or not self._holds(name, newest, public)

    def _holds(self, name: str, newest: _Newest, public: bytes) -> bool:
        """Whether the newest note verifies under the key in force."""
        known = self._answers.get(name)
        if known is None or (known.size, known.public) != (newest.size, public):
            verifies = _is_cosigned(newest.note, name, public)
            known = _Answer(size=newest.size, public=public, verifies=verifies)
            self._answers[name] = known
        return known.verifies

    def _collect(self, note: bytes, size: int, keys: Mapping[str, bytes]) -> Finding:
        """The smallest note that holds the log's signature and each new cosignature."""
        text, lines = _taken_apart(note)
        kept = _first(lines[self._origin], lambda line: self._is_ours(_put_together(text, [line])))
        good: list[str] = []
        for name, public in sorted(keys.items()):
            line = _first(lines[name], partial(_line_verifies, text, name, public))
            kept = [*kept, *line]
            good += [name] * len(line)
        bad = tuple(sorted(set(keys) - set(good)))
        return Finding(size=size, note=_put_together(text, kept) if good else b"", good=tuple(good), bad=bad)

    def _is_ours(self, note: bytes) -> bool:
        try:
            notes.open_checkpoint(note, self._origin, self._public)
        except BadSignatureError:
            return False
        return True


def _refuse(checkpoint: notes.Checkpoint, tree: Tree) -> None:
    if checkpoint.size > tree.size:
        raise CorruptObjectError(
            f"ledger: expected at least the {checkpoint.size} leaves that it has signed, found {tree.size}: tail cut",
            advice="Stop, and restore the ledger from a newer backup or from a site's copy; never write on.",
        )
    raise LedgerForkError(
        f"ledger: expected root {tree.root(checkpoint.size).hex()[:12]} at size {checkpoint.size}, found that its key"
        f" signed {checkpoint.root.hex()[:12]}",
        advice="Two histories were signed. Keep both notes, stop the run and tell the consortium.",
    )


def log_signed_only(note: bytes, origin: str) -> bytes:
    """The note without cosignatures. The caller has parsed it before."""
    text, lines = _taken_apart(note)
    return _put_together(text, lines.get(origin, []))


def _first(lines: Sequence[bytes], holds: Callable[[bytes], bool]) -> list[bytes]:
    """The first line that holds, or none; hostile repetitions beyond a few are not looked at."""
    return [line for line in lines[:_MAX_LINES_PER_NAME] if holds(line)][:1]


def _line_verifies(text: bytes, name: str, public: bytes, line: bytes) -> bool:
    return _is_cosigned(_put_together(text, [line]), name, public)


def _is_cosigned(note: bytes, name: str, public: bytes) -> bool:
    try:
        notes.verify_cosignature(note, name, public)
    except BadSignatureError:
        return False
    return True


def _taken_apart(note: bytes) -> tuple[bytes, dict[str, list[bytes]]]:
    """The text, and the signature lines by name, of a note that parses."""
    text, _, tail = note.rpartition(b"\n\n")
    lines: dict[str, list[bytes]] = {}
    for line in tail.rstrip(b"\n").split(b"\n"):
        lines.setdefault(line.split(b" ")[1].decode(), []).append(line)
    return text, lines


def _put_together(text: bytes, lines: Iterable[bytes]) -> bytes:
    return text + b"\n\n" + b"".join(line + b"\n" for line in lines)
