# SPDX-License-Identifier: Apache-2.0
"""Signed ledger checkpoints and their cosignatures, in C2SP's formats (signed-note, tlog-checkpoint, tlog-cosignature).

A note is a text that ends in a newline, an empty line, and signature lines of the form
`— <name> <base64(4-byte key hash || signature)>`. A checkpoint's text is three lines: origin, size, base64 root. A log
signs the text; a witness signs `cosignature/v1`, the time and the text, and says with it that it has seen this
checkpoint grow from the ones before.
"""

import base64
import binascii
import hashlib
import re
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation import signing
from federation.errors import BadSignatureError, LedgerForkError, LimitExceededError, ProtocolError

ROOT_BYTES: Final = 32
MAX_NOTE_BYTES: Final = 1024 * 1024
MAX_SIGNATURE_LINES: Final = 4096
"""More than four cosignatures for each of the most members that a run may have."""

_PREFIX: Final = "— "
_LOG_TYPE: Final = b"\x01"
_COSIGNATURE_TYPE: Final = b"\x04"
_HASH_BYTES: Final = 4
_MAX_SIZE: Final = 2**63 - 1
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A ledger's size (leaves) and RFC 6962 root (32 bytes) under its origin's name."""

    origin: str
    size: int
    root: bytes


@dataclass(frozen=True, kw_only=True)
class _Line:
    """One signature line: the key's name, and key hash with signature (raw)."""

    name: str
    raw: bytes


@dataclass(frozen=True, kw_only=True)
class _Note:
    """A note taken apart: signed text (ends in a newline) and signature lines, in their order."""

    text: str
    lines: tuple[_Line, ...]


def witness_name(consortium: str, site: str) -> str:
    """The key name under which a site cosigns the consortium's ledger."""
    return f"{consortium}/site/{site}"


def witness_site(name: str) -> str:
    """The site whose `witness_name` this is, "" if it is nobody's."""
    _, marker, site = name.partition("/site/")
    return site if marker else ""


def default_origin(consortium: str) -> str:
    """Origin line of a consortium's ledger where its coordinator asks for no other one."""
    return f"{consortium}/ledger"


def sign_checkpoint(checkpoint: Checkpoint, origin_name: str, key: Ed25519PrivateKey) -> bytes:
    """The checkpoint as a note with the log's own signature. `origin_name` is the key's name, as readers expect it.

    Raises:
        ProtocolError: origin, name, size or root cannot be written in a checkpoint.
    """
    text = _checkpoint_text(checkpoint)
    _check_name(origin_name)
    raw = _key_hash(origin_name, _LOG_TYPE, signing.public_bytes(key)) + signing.sign(key, text.encode())
    return _write(_Note(text=text, lines=(_Line(name=origin_name, raw=raw),)))


def cosign(note: bytes, name: str, key: Ed25519PrivateKey, timestamp_s: int) -> bytes:
    """The note with one more line: `name` saw this checkpoint at `timestamp_s` (unix seconds).

    The caller MUST have verified the log's signature and a consistency proof first, and made (size, root) durable.

    Raises:
        ProtocolError, LimitExceededError: the bytes are no checkpoint note.
    """
    parsed = _parse(note)
    _parse_checkpoint(parsed.text)
    _check_name(name)
    if not 0 < timestamp_s <= _MAX_SIZE:
        raise ProtocolError(f"cosignature time: expected unix seconds above 0, found {timestamp_s}")
    head = _key_hash(name, _COSIGNATURE_TYPE, signing.public_bytes(key)) + struct.pack(">Q", timestamp_s)
    raw = head + signing.sign(key, _cosigned_text(parsed.text, timestamp_s))
    return _write(_Note(text=parsed.text, lines=_union(parsed.lines, (_Line(name=name, raw=raw),))))


def open_checkpoint(note: bytes, name: str, public: bytes) -> Checkpoint:
    """The checkpoint, if the log `name` signed it with this key. Cosignatures are not looked at.

    Raises:
        ProtocolError, LimitExceededError: the bytes are no checkpoint note, or one of another log.
        BadSignatureError: no good signature by this key.
    """
    parsed = _parse(note)
    checkpoint = _parse_checkpoint(parsed.text)
    if checkpoint.origin != name:
        raise ProtocolError(f"checkpoint: expected origin {name}, found {checkpoint.origin!r:.100}")
    for signature in _signatures(parsed, name, _LOG_TYPE, public):
        if _verifies(public, signature, parsed.text.encode()):
            return checkpoint
    raise BadSignatureError(f"checkpoint of size {checkpoint.size}: expected a signature by {name}, found no good one")


def verify_cosignature(note: bytes, name: str, public: bytes) -> int:
    """When (unix seconds) the witness `name` cosigned this checkpoint; the latest time if it did so repeatedly.

    Raises:
        ProtocolError, LimitExceededError: the bytes are no checkpoint note.
        BadSignatureError: no good cosignature by this key.
    """
    parsed = _parse(note)
    checkpoint = _parse_checkpoint(parsed.text)
    times = []
    for stamped in _signatures(parsed, name, _COSIGNATURE_TYPE, public):
        timestamp_s = int.from_bytes(stamped[:8], "big")
        if 0 < timestamp_s <= _MAX_SIZE and _verifies(public, stamped[8:], _cosigned_text(parsed.text, timestamp_s)):
            times.append(timestamp_s)
    if not times:
        raise BadSignatureError(
            f"checkpoint of size {checkpoint.size}: expected a cosignature by {name}, found no good one"
        )
    return max(times)


def merge_notes(a: bytes, b: bytes) -> bytes:
    """One note with the signature lines of both (those of `a` first, each once). Signatures are not verified.

    Raises:
        ProtocolError, LimitExceededError: one of them is no checkpoint note.
        LedgerForkError: their texts differ.
    """
    first, second = _parse(a), _parse(b)
    _parse_checkpoint(first.text)
    if first.text != second.text:
        raise LedgerForkError(f"notes to merge: expected one text, found {first.text!r:.200} and {second.text!r:.200}")
    return _write(_Note(text=first.text, lines=_union(first.lines, second.lines)))


def cosigners(note: bytes) -> list[str]:
    """Names on the note's lines other than the origin's, ascending, each once. UNVERIFIED.

    Raises:
        ProtocolError, LimitExceededError: the bytes are no checkpoint note.
    """
    parsed = _parse(note)
    origin = _parse_checkpoint(parsed.text).origin
    return sorted({line.name for line in parsed.lines} - {origin})


def peek_checkpoint(note: bytes) -> Checkpoint:
    """The checkpoint WITHOUT any verification: to know which size a note speaks of.

    Raises:
        ProtocolError, LimitExceededError: the bytes are no checkpoint note.
    """
    return _parse_checkpoint(_parse(note).text)


def _key_hash(name: str, kind: bytes, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + kind + public).digest()[:_HASH_BYTES]


def _cosigned_text(text: str, timestamp_s: int) -> bytes:
    return f"cosignature/v1\ntime {timestamp_s}\n{text}".encode()


def _verifies(public: bytes, signature: bytes, data: bytes) -> bool:
    try:
        signing.verify(public, signature, data)
    except BadSignatureError:
        return False
    return True


def _signatures(note: _Note, name: str, kind: bytes, public: bytes) -> list[bytes]:
    """What follows the key hash on each line of this name and key."""
    key_hash = _key_hash(name, kind, public)
    return [line.raw[_HASH_BYTES:] for line in note.lines if line.name == name and line.raw.startswith(key_hash)]


def _union(first: tuple[_Line, ...], second: tuple[_Line, ...]) -> tuple[_Line, ...]:
    lines = tuple(dict.fromkeys((*first, *second)))
    if len(lines) > MAX_SIGNATURE_LINES:
        raise LimitExceededError(f"note: expected at most {MAX_SIGNATURE_LINES} signature lines, found {len(lines)}")
    return lines


def _check_name(name: str) -> None:
    bad = not name or "+" in name or any(character.isspace() or not character.isprintable() for character in name)
    if bad:
        raise ProtocolError(f"key name: expected printable characters without spaces or '+', found {name!r:.100}")


def _checkpoint_text(checkpoint: Checkpoint) -> str:
    text = f"{checkpoint.origin}\n{checkpoint.size}\n{base64.b64encode(checkpoint.root).decode()}\n"
    if _parse_checkpoint(text) != checkpoint:  # what we write, we must be able to read
        raise ProtocolError(f"checkpoint: expected one that can be written, found {checkpoint!r:.200}")
    return text


def _parse_checkpoint(text: str) -> Checkpoint:
    lines = text.split("\n")
    if len(lines) != 4 or lines[3]:  # extension lines are allowed by C2SP; our ledger writes none
        raise ProtocolError(f"checkpoint: expected three lines, found {len(lines) - 1}")
    origin, size, root = lines[:3]
    _check_name(origin)
    if not (size.isascii() and size.isdigit() and str(int(size[:20])) == size and int(size) <= _MAX_SIZE):
        raise ProtocolError(f"checkpoint size: expected a decimal number without leading zeros, found {size!r:.40}")
    digest = _decode_base64(root)
    if len(digest) != ROOT_BYTES:
        raise ProtocolError(f"checkpoint root: expected {ROOT_BYTES} bytes, found {len(digest)}")
    return Checkpoint(origin=origin, size=int(size), root=digest)


def _decode_base64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProtocolError(f"note: expected base64, found {text!r:.60}") from error
    if base64.b64encode(raw).decode() != text:  # padding bits set: a second spelling of the same bytes
        raise ProtocolError(f"note: expected canonical base64, found {text!r:.60}")
    return raw


def _write(note: _Note) -> bytes:
    lines = (f"{_PREFIX}{line.name} {base64.b64encode(line.raw).decode()}\n" for line in note.lines)
    return f"{note.text}\n{''.join(lines)}".encode()


@lru_cache(maxsize=256)
def _parse(data: bytes) -> _Note:
    """Pure, and asked again and again about the newest few notes."""
    if len(data) > MAX_NOTE_BYTES:
        raise LimitExceededError(f"note: expected at most {MAX_NOTE_BYTES} bytes, found {len(data)}")
    try:
        whole = data.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError("note: expected UTF-8, found other bytes") from error
    if _CONTROL.search(whole):
        raise ProtocolError("note: expected no control characters, found one")
    text, separator, tail = whole.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise ProtocolError("note: expected a text, an empty line and signature lines, found no such parts")
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_SIGNATURE_LINES:
        raise LimitExceededError(f"note: expected at most {MAX_SIGNATURE_LINES} signature lines, found {len(lines)}")
    return _Note(text=text + "\n", lines=tuple(_parse_line(line) for line in lines))


def _parse_line(line: str) -> _Line:
    name, space, encoded = line.removeprefix(_PREFIX).partition(" ")
    if not line.startswith(_PREFIX) or not space:
        raise ProtocolError(f"note: expected a signature line, found {line!r:.100}")
    _check_name(name)
    raw = _decode_base64(encoded)
    if len(raw) <= _HASH_BYTES:
        raise ProtocolError(f"note: expected key hash and signature, found {len(raw)} bytes")
    return _Line(name=name, raw=raw)
