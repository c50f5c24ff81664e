# SPDX-License-Identifier: Apache-2.0
"""Bytes that were once signed or hashed must keep their meaning: one sample of every leaf, body and document.

Run this file with --write to add samples of new types; an existing sample that changes is a broken release.
"""

import json
import sys
import typing
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from federation import wire
from federation.leaves import Body, Leaf
from federation.manifest import Manifest
from federation.messages import Evaluation, Header, Message, MessageBody, TaskEvaluation, Update
from federation.roster import KeyRequest, Roster
from federation.wire.convert import SLUG_FIELDS, snake_case

GOLDEN = Path(__file__).with_name("wire_bytes.json")
_DIGESTS = ("digest", "digests", "blobs", "blobs_wanted", "root", "checkpoint_root", "theta_blob")
LATER: dict[str, tuple[str, ...]] = {
    "OperatorEntry": ("tls_public",),
    "TrainerSettings": ("data_sets",),
    "KeyRequest": ("tls_issuer",),
    "Command": ("token_digest", "public", "expires_at_us"),
    "CommandReply": ("document",),
    "LedgerTail": ("suggested_starts",),
    "AllocationReport": ("start_in_seconds",),
    "SiteStatus": ("measured_round_trip_seconds", "declared_round_trip_seconds"),
}
"""Fields that a type got after its first release: its first sample does without them, a second one has them."""

LATEST: dict[str, tuple[str, ...]] = {"SiteStatus": ("facts",)}
"""Fields that a type of `LATER` got after that: a third sample has them."""

_FIXED = {"protocol_version": 1, "algorithm": "ed25519", "encryption": ""}

TO_BYTES: dict[str, Callable[[Any], bytes]] = {
    "Leaf": wire.leaf_to_bytes,
    "Message": wire.message_to_bytes,
    "Manifest": wire.manifest_to_bytes,
    "Update": wire.update_to_bytes,
    "Evaluation": wire.evaluation_to_bytes,
    "TaskEvaluation": wire.tasks_to_bytes,
    "Roster": wire.roster_to_bytes,
    "KeyRequest": wire.request_to_bytes,
}
FROM_BYTES: dict[str, Callable[[bytes], Any]] = {
    "Leaf": wire.leaf_from_bytes,
    "Message": wire.message_from_bytes,
    "Manifest": wire.manifest_from_bytes,
    "Update": wire.update_from_bytes,
    "Evaluation": wire.evaluation_from_bytes,
    "TaskEvaluation": wire.tasks_from_bytes,
    "Roster": wire.roster_from_bytes,
    "KeyRequest": wire.request_from_bytes,
}


def _sample(name: str, hint: Any, numbers: Iterator[int], later: int = 0) -> Any:
    """A value of that type which differs from every other one of the sample."""
    if typing.get_origin(hint) is tuple:
        return tuple(_sample(name, typing.get_args(hint)[0], numbers, later) for _ in range(2))
    arguments = [argument for argument in typing.get_args(hint) if argument is not type(None)]
    if arguments:
        return _sample(name, arguments[0], numbers, later)
    if is_dataclass(hint) and isinstance(hint, type):
        return _instance(hint, numbers, later)
    if name in _FIXED:
        return _FIXED[name]
    number = next(numbers)
    if issubclass(hint, StrEnum):
        members = list(hint)
        return members[number % len(members)]
    if hint is str:
        if name.endswith(_DIGESTS):
            return f"{number:064x}"
        return f"{name[:20].replace('_', '-')}-{number}" if name in SLUG_FIELDS else f"{name} {number}"
    return {int: number, float: number + 0.5, bool: True, bytes: bytes([number % 256]) * 32}[hint]


def _instance(cls: type, numbers: Iterator[int], later: int = 0) -> Any:
    hints, new = (
        typing.get_type_hints(cls),
        {name for kept in (LATER, LATEST)[later:] for name in kept.get(cls.__name__, ())},
    )
    names = [field.name for field in fields(cls) if field.name not in new]
    return cls(**{name: _sample(name, hints[name], numbers, later) for name in names})


def _samples() -> dict[str, Any]:
    samples: dict[str, Any] = {}
    for cls in typing.get_args(Body):
        samples[f"Leaf/{snake_case(cls.__name__)}"] = Leaf(at_us=1, body=_instance(cls, count(1)))
    for cls in typing.get_args(MessageBody):
        header = _instance(Header, count(1))
        samples[f"Message/{snake_case(cls.__name__)}"] = Message(header=header, body=_instance(cls, count(1)))
        if cls.__name__ in LATER:
            newer = _instance(cls, count(1), later=1)
            samples[f"Message/{snake_case(cls.__name__)}/later"] = Message(header=header, body=newer)
        if cls.__name__ in LATEST:
            newest = _instance(cls, count(1), later=2)
            samples[f"Message/{snake_case(cls.__name__)}/latest"] = Message(header=header, body=newest)
    for document in (Manifest, Update, Evaluation, TaskEvaluation, Roster, KeyRequest):
        samples[document.__name__] = _instance(document, count(1))
    for document in (Manifest, Roster, KeyRequest):
        samples[f"{document.__name__}/later"] = _instance(document, count(1), later=1)
    return samples


def _stored() -> dict[str, str]:
    return dict(json.loads(GOLDEN.read_text())) if GOLDEN.exists() else {}


@pytest.mark.parametrize("name", sorted(_samples()))
def test_bytes_are_those_of_every_earlier_release(name: str) -> None:
    kind, sample = name.split("/")[0], _samples()[name]
    assert TO_BYTES[kind](sample).hex() == _stored().get(name)
    assert FROM_BYTES[kind](bytes.fromhex(_stored()[name])) == sample


def test_no_type_was_forgotten_or_removed() -> None:
    assert _stored().keys() == _samples().keys()


if __name__ == "__main__" and "--write" in sys.argv:
    fresh = {name: TO_BYTES[name.split("/")[0]](sample).hex() for name, sample in sorted(_samples().items())}
    GOLDEN.write_text(json.dumps(fresh, indent=2) + "\n")
