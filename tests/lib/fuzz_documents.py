# SPDX-License-Identifier: Apache-2.0
"""Fuzz targets of everything that is signed or sent: documents of `federation.wire`, envelopes, notes."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fuzz_target import Target, check_refusal
from mutations import Sample

from federation import notes, wire
from federation.dsse import peek_type, sign_envelope
from federation.errors import (
    BadSignatureError,
    LedgerForkError,
    LimitExceededError,
    ProtocolError,
)
from federation.signing import generate_key, public_bytes
from federation.wire.envelope import envelope_from_bytes, envelope_to_bytes

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "wire_bytes.json"

STRICT = {
    "Leaf": (wire.leaf_from_bytes, wire.leaf_to_bytes),
    "Manifest": (wire.manifest_from_bytes, wire.manifest_to_bytes),
    "Update": (wire.update_from_bytes, wire.update_to_bytes),
    "Evaluation": (wire.evaluation_from_bytes, wire.evaluation_to_bytes),
    "TaskEvaluation": (wire.tasks_from_bytes, wire.tasks_to_bytes),
    "KeyRequest": (wire.request_from_bytes, wire.request_to_bytes),
}
"""Documents of which only the one encoding is accepted."""

OPEN = {
    "Message": (wire.message_from_bytes, wire.message_to_bytes),
    "Roster": (wire.roster_from_bytes, wire.roster_to_bytes),
}
"""Documents in which fields of later releases are passed over."""

_ORIGIN, _WITNESS = "cons/ledger", "cons/site/alpha"


def document_targets() -> Iterator[Target]:
    """Documents, envelopes and notes."""
    golden = {name: bytes.fromhex(text) for name, text in json.loads(GOLDEN.read_text()).items()}
    for name, (read, write) in {**STRICT, **OPEN}.items():
        samples = [Sample(0, data) for key, data in golden.items() if key.split("/")[0] == name]
        yield Target(
            name=f"document-{name.lower()}",
            feed=_document(read, write, strict=name in STRICT),
            samples=samples,
            allocated_bytes=lambda size: 16_384 + 256 * size,
        )
    envelopes = [sign_envelope("type/x", data, generate_key()) for data in list(golden.values())[:3]]
    yield Target(
        name="envelope",
        feed=_envelope,
        samples=[Sample(0, data) for data in envelopes],
        allocated_bytes=lambda size: 16_384 + 64 * size,
    )
    yield _notes()


def _document(
    read: Callable[[bytes], Any], write: Callable[[Any], bytes], *, strict: bool
) -> Callable[[int, bytes], bool]:
    def feed(_: int, data: bytes) -> bool:
        try:
            document = read(data)
        except (ProtocolError, LimitExceededError) as error:
            check_refusal(error)
            return False
        written = write(document)
        assert written == data or not strict, "accepted bytes that this release would write otherwise"
        assert strict or write(read(written)) == written, "what was read and written reads differently"
        return True

    return feed


def _envelope(_: int, data: bytes) -> bool:
    try:
        envelope = envelope_from_bytes(data)
    except (ProtocolError, LimitExceededError) as error:
        check_refusal(error)
        return False
    assert envelope_to_bytes(envelope) == data
    assert peek_type(data) == envelope.payload_type
    return True


def _notes() -> Target:
    key, witness = generate_key(), generate_key()
    checkpoint = notes.Checkpoint(origin=_ORIGIN, size=1234, root=bytes(range(32)))
    signed = notes.sign_checkpoint(checkpoint, _ORIGIN, key)
    cosigned = notes.cosign(signed, _WITNESS, witness, 1_700_000_000)
    public, witness_public = public_bytes(key), public_bytes(witness)

    def feed(_: int, data: bytes) -> bool:
        answers = [
            _answer(lambda: notes.cosigners(data)),
            _answer(lambda: notes.peek_checkpoint(data)),
            _answer(lambda: notes.merge_notes(data, cosigned)),
            _answer(lambda: notes.merge_notes(cosigned, data)),
        ]
        if answers[2] is not None:
            assert notes.merge_notes(answers[2], data) == answers[2], "merged again it grows"
        opened = _answer(lambda: notes.open_checkpoint(data, _ORIGIN, public))
        assert opened in (None, checkpoint), "another checkpoint than the signed one"
        witnessed = _answer(lambda: notes.verify_cosignature(data, _WITNESS, witness_public))
        assert witnessed in (None, 1_700_000_000), "another time than the cosigned one"
        return answers[0] is not None

    samples = [Sample(0, signed), Sample(0, cosigned)]
    return Target(name="note", feed=feed, samples=samples, allocated_bytes=lambda size: 16_384 + 64 * size)


def _answer(ask: Callable[[], Any]) -> Any:
    """What is said, None for a refusal."""
    try:
        return ask()
    except (ProtocolError, LimitExceededError, BadSignatureError, LedgerForkError) as error:
        check_refusal(error)
        return None
