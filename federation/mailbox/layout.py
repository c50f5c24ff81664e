# SPDX-License-Identifier: Apache-2.0
"""Names in a mailbox: all that a courier has to know.

    out/<sequence, 12 digits>-<first 16 characters of the bytes' SHA-256>.msg
    out/ack                  one slot, overwritten
    out/blobs/<digest>
    in/                      the peer's out/, as far as a courier has brought it
    partial/                 blobs that a network courier has not brought in full
    carrier/                 what a carrier over ssh has not brought in full
    login-rest.json          until when a carrier over ssh lets a refused login rest
    state.json               the owner's counters

A courier brings what `in` lacks, and takes away what `out` no longer offers: only the writer of a message deletes it.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

OUT: Final = "out"
IN: Final = "in"
ACK: Final = "ack"
BLOBS: Final = "blobs"
PARTIAL: Final = "partial"
CARRIER: Final = "carrier"
LOGIN_REST: Final = "login-rest.json"
STATE: Final = "state.json"
STAGED_SUFFIX: Final = ".new"
"""A message that is durable and not offered yet; couriers leave it alone."""

MAX_SEQUENCE: Final = 10**12 - 1
_MESSAGE_NAME = re.compile(r"([0-9]{12})-([0-9a-f]{16})\.msg")
_UNFINISHED_NAME = re.compile(r"[.~].*|([0-9]{12}-[0-9a-f]{16}\.msg|[0-9a-f]{64}|ack).+|.*~", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class MessageName:
    """What a message's file name says: sequence, and the beginning of the SHA-256 of its bytes."""

    sequence: int
    digest: str


def message_name(sequence: int, raw: bytes) -> str:
    """The file name of a message."""
    return f"{sequence:012d}-{_digest_of(raw)}.msg"


def parse_message_name(name: str) -> MessageName | None:
    """Takes a file name apart; None if it is no message's."""
    match = _MESSAGE_NAME.fullmatch(name)
    if match is None or int(match[1]) == 0:
        return None
    return MessageName(sequence=int(match[1]), digest=match[2])


def is_carriers_own(name: str) -> bool:
    """Whether a name in in/ is one under which carriers keep what is unfinished.

    It begins with a dot or tilde (rsync's .NAME.XXXXXX and .~tmp~), has something behind a name of ours (.filepart,
    .part, .tmp, .new), or ends with a tilde.
    """
    return _UNFINISHED_NAME.fullmatch(name) is not None


def is_named_by(name: MessageName, raw: bytes) -> bool:
    """Whether the bytes are the ones that the name speaks of."""
    return _digest_of(raw) == name.digest


def _digest_of(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:16]
