# SPDX-License-Identifier: Apache-2.0
"""What somebody on the way can read of a recorded connection: TLS records, and everything that is not encrypted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
CLIENT_HELLO, SERVER_HELLO = 1, 2
SUPPORTED_VERSIONS = 43
TLS_1_2, TLS_1_3 = 0x0303, 0x0304
MIN_SECRET_BYTES = 8
"""Shorter words may occur in encrypted bytes by chance: they are only looked for outside of them."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One TLS record (RFC 8446, section 5.1)."""

    kind: int
    body: bytes


def records(stream: bytes) -> tuple[list[Record], bytes]:
    """The records that one direction begins with, and what is left: b"", a record cut off, or no TLS at all."""
    found, at = [], 0
    while len(stream) - at >= 5 and stream[at] in range(CHANGE_CIPHER_SPEC, APPLICATION_DATA + 1):
        length = int.from_bytes(stream[at + 3 : at + 5], "big")
        if stream[at + 1] != 3 or len(stream) - at - 5 < length:
            break
        found.append(Record(kind=stream[at], body=stream[at + 5 : at + 5 + length]))
        at += 5 + length
    return found, stream[at:]


def is_cut_off(found: list[Record], rest: bytes) -> bool:
    """Whether what is left after the records of one direction is the beginning of an encrypted one."""
    beginning = bytes([APPLICATION_DATA, 3, 3])
    return bool(found) and rest[:3] == beginning[: len(rest)]


def plain_handshake(stream: bytes) -> list[tuple[int, bytes]]:
    """Kind and body of each handshake message that is not encrypted: those before any record of another kind."""
    plain = b""
    for record in records(stream)[0]:
        if record.kind in (APPLICATION_DATA, ALERT):
            break
        plain += record.body if record.kind == HANDSHAKE else b""
    found = []
    while len(plain) >= 4:
        length = int.from_bytes(plain[1:4], "big")
        found.append((plain[0], plain[4 : 4 + length]))
        plain = plain[4 + length :]
    return found


def negotiated_versions(stream: bytes) -> list[int]:
    """What each ServerHello of a server's direction settles on."""
    return [_negotiated(body) for kind, body in plain_handshake(stream) if kind == SERVER_HELLO]


def _negotiated(hello: bytes) -> int:
    """The version in supported_versions, or in the field of TLS 1.2 and before (RFC 8446, sections 4.1.3, 4.2.1)."""
    at = 2 + 32 + 1 + hello[34] + 2 + 1 + 2
    for kind, body in _extensions(hello[at:]):
        if kind == SUPPORTED_VERSIONS:
            return int.from_bytes(body, "big")
    return int.from_bytes(hello[:2], "big")


def _extensions(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length = int.from_bytes(data[2:4], "big")
        yield int.from_bytes(data[:2], "big"), data[4 : 4 + length]
        data = data[4 + length :]


def plain_part(stream: bytes) -> bytes:
    """One direction without the bodies of its encrypted records; all of it if it is no TLS."""
    found, rest = records(stream)
    plain = b"".join(record.body for record in found if record.kind != APPLICATION_DATA)
    return plain if is_cut_off(found, rest) else plain + rest


def readable(stream: bytes, secrets: Mapping[str, bytes]) -> list[str]:
    """Names of the secrets that occur in one direction."""
    plain = plain_part(stream)
    return [
        name for name, secret in secrets.items() if secret in (stream if len(secret) >= MIN_SECRET_BYTES else plain)
    ]


def check_tls_1_3_only(up: bytes, down: bytes) -> None:
    """Asserts that a connection is TLS 1.3 from its first byte to its last, and nothing else is readable of it.

    Readable are one or two hellos of each end; TLS 1.2 would show certificates as well.
    """
    versions = negotiated_versions(down)
    assert versions, f"expected a ServerHello, found {down[:16]!r}"
    assert set(versions) == {TLS_1_3}, f"expected TLS 1.3 (0x0304), found {[hex(version) for version in versions]}"
    for stream, hello in ((up, CLIENT_HELLO), (down, SERVER_HELLO)):
        found, rest = records(stream)
        assert is_cut_off(found, rest), f"expected TLS records, found {rest[:16]!r}"
        assert {kind for kind, _ in plain_handshake(stream)} == {hello}
        kinds = {record.kind for record in found[1:]} - {APPLICATION_DATA}
        assert kinds <= {CHANGE_CIPHER_SPEC, HANDSHAKE}, f"expected nothing else in plain text, found kinds {kinds}"
