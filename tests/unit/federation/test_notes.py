# SPDX-License-Identifier: Apache-2.0
import base64
import hashlib
import struct

import pytest

from federation import notes, signing
from federation.errors import BadSignatureError, LedgerForkError, LimitExceededError, ProtocolError
from federation.notes import Checkpoint

LOG, WITNESS, OTHER = signing.generate_key(), signing.generate_key(), signing.generate_key()
LOG_PUBLIC, WITNESS_PUBLIC, OTHER_PUBLIC = map(signing.public_bytes, (LOG, WITNESS, OTHER))
ORIGIN, NAME = "eu/ledger", notes.witness_name("eu", "lumi")
CHECKPOINT = Checkpoint(origin=ORIGIN, size=7, root=bytes(range(32)))


def _note(checkpoint: Checkpoint = CHECKPOINT) -> bytes:
    return notes.sign_checkpoint(checkpoint, ORIGIN, LOG)


def test_exact_format() -> None:
    lines = _note().decode().split("\n")
    assert lines[:4] == [ORIGIN, "7", base64.b64encode(CHECKPOINT.root).decode(), ""]
    dash, name, encoded = lines[4].split(" ")
    raw = base64.b64decode(encoded)
    assert (dash, name, len(raw), lines[5:]) == ("—", ORIGIN, 4 + 64, [""])
    assert raw[:4] == hashlib.sha256(ORIGIN.encode() + b"\n\x01" + LOG_PUBLIC).digest()[:4]
    signing.verify(LOG_PUBLIC, raw[4:], "\n".join([*lines[:3], ""]).encode())


def test_exact_format_of_a_cosignature() -> None:
    note = notes.cosign(_note(), NAME, WITNESS, 1_700_000_000).decode()
    text, lines = note.split("\n\n")
    raw = base64.b64decode(lines.split("\n")[1].split(" ")[2])
    assert raw[:4] == hashlib.sha256(NAME.encode() + b"\n\x04" + WITNESS_PUBLIC).digest()[:4]
    assert struct.unpack(">Q", raw[4:12]) == (1_700_000_000,)
    signing.verify(WITNESS_PUBLIC, raw[12:], f"cosignature/v1\ntime 1700000000\n{text}\n".encode())


def test_key_hash_and_signature_of_a_published_note() -> None:
    """Example of Go's note format: its verifier key and the line that goes with the text."""
    kind_and_key = base64.b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    line = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    parsed = notes._parse(f"{text}\n— PeterNeumann {line}\n".encode())
    (signature,) = notes._signatures(parsed, "PeterNeumann", kind_and_key[:1], kind_and_key[1:])
    signing.verify(kind_and_key[1:], signature, parsed.text.encode())
    assert parsed.text == text


def test_round_trip_with_cosignatures() -> None:
    note = notes.cosign(notes.cosign(_note(), NAME, WITNESS, 5), "eu/site/jupiter", OTHER, 6)
    assert notes.open_checkpoint(note, ORIGIN, LOG_PUBLIC) == CHECKPOINT == notes.peek_checkpoint(note)
    assert notes.verify_cosignature(note, NAME, WITNESS_PUBLIC) == 5
    assert notes.cosigners(note) == ["eu/site/jupiter", "eu/site/lumi"]


@pytest.mark.parametrize(
    ("name", "public"), [(ORIGIN, OTHER_PUBLIC), (ORIGIN, WITNESS_PUBLIC)], ids=["another-key", "witness-key"]
)
def test_checkpoint_of_another_key_is_refused(name: str, public: bytes) -> None:
    with pytest.raises(BadSignatureError):
        notes.open_checkpoint(_note(), name, public)


def test_checkpoint_of_another_origin_is_refused() -> None:
    with pytest.raises(ProtocolError, match="expected origin us/ledger"):
        notes.open_checkpoint(_note(), "us/ledger", LOG_PUBLIC)


def test_a_changed_size_or_root_breaks_both_signatures() -> None:
    note = notes.cosign(_note(), NAME, WITNESS, 5)
    root = base64.b64encode(CHECKPOINT.root)
    for changed in (note.replace(b"\n7\n", b"\n8\n"), note.replace(root, base64.b64encode(bytes(32)))):
        assert changed != note
        with pytest.raises(BadSignatureError):
            notes.open_checkpoint(changed, ORIGIN, LOG_PUBLIC)
        with pytest.raises(BadSignatureError):
            notes.verify_cosignature(changed, NAME, WITNESS_PUBLIC)


def test_a_changed_time_breaks_the_cosignature() -> None:
    note = notes.cosign(_note(), NAME, WITNESS, 5).decode()
    head, _, encoded = note.rstrip("\n").rpartition(" ")
    raw = bytearray(base64.b64decode(encoded))
    raw[11] ^= 1
    forged = f"{head} {base64.b64encode(raw).decode()}\n".encode()
    with pytest.raises(BadSignatureError):
        notes.verify_cosignature(forged, NAME, WITNESS_PUBLIC)


def test_a_log_signature_is_no_cosignature_and_the_reverse() -> None:
    with pytest.raises(BadSignatureError):
        notes.verify_cosignature(_note(), ORIGIN, LOG_PUBLIC)
    only = notes.cosign(_note(), ORIGIN, LOG, 5).decode().split("\n")
    note = "\n".join([*only[:4], only[5], ""]).encode()
    assert notes.verify_cosignature(note, ORIGIN, LOG_PUBLIC) == 5
    with pytest.raises(BadSignatureError):
        notes.open_checkpoint(note, ORIGIN, LOG_PUBLIC)


def test_anothers_name_does_not_vouch() -> None:
    note = notes.cosign(_note(), "eu/site/jupiter", WITNESS, 5)
    with pytest.raises(BadSignatureError):
        notes.verify_cosignature(note, NAME, WITNESS_PUBLIC)


def test_a_broken_line_does_not_hide_a_good_one() -> None:
    good = notes.cosign(_note(), NAME, WITNESS, 5)
    *head, line, _ = good.decode().split("\n")
    raw = bytearray(base64.b64decode(line.split(" ")[2]))
    raw[-1] ^= 1
    broken = "\n".join([*head, f"— {NAME} {base64.b64encode(raw).decode()}", ""]).encode()
    assert notes.verify_cosignature(notes.merge_notes(broken, good), NAME, WITNESS_PUBLIC) == 5


def test_merge_is_a_union_without_repetition() -> None:
    a = notes.cosign(_note(), NAME, WITNESS, 5)
    b = notes.cosign(_note(), "eu/site/jupiter", OTHER, 6)
    merged = notes.merge_notes(a, b)
    assert merged.count("— ".encode()) == 3
    assert notes.merge_notes(merged, a) == merged == notes.merge_notes(merged, merged)
    assert notes.cosign(a, NAME, WITNESS, 5) == a
    latest = notes.cosign(a, NAME, WITNESS, 9)
    assert notes.verify_cosignature(latest, NAME, WITNESS_PUBLIC) == 9


def test_merge_of_two_histories_is_a_fork() -> None:
    other = _note(Checkpoint(origin=ORIGIN, size=7, root=bytes(32)))
    with pytest.raises(LedgerForkError):
        notes.merge_notes(_note(), other)


@pytest.mark.parametrize(
    "checkpoint",
    [
        Checkpoint(origin="", size=1, root=bytes(32)),
        Checkpoint(origin="a b", size=1, root=bytes(32)),
        Checkpoint(origin="a\nb", size=1, root=bytes(32)),
        Checkpoint(origin="a+b", size=1, root=bytes(32)),
        Checkpoint(origin=ORIGIN, size=-1, root=bytes(32)),
        Checkpoint(origin=ORIGIN, size=2**63, root=bytes(32)),
        Checkpoint(origin=ORIGIN, size=1, root=bytes(31)),
    ],
)
def test_what_could_not_be_read_is_not_written(checkpoint: Checkpoint) -> None:
    with pytest.raises(ProtocolError):
        notes.sign_checkpoint(checkpoint, ORIGIN, LOG)


_TEXT = _note().decode()


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "\n\n",
        _TEXT[:-1],
        _TEXT.replace("\n\n", "\n"),
        _TEXT.replace("\n7\n", "\n07\n"),
        _TEXT.replace("\n7\n", "\n+7\n"),
        _TEXT.replace("\n7\n", "\n7 \n"),
        _TEXT.replace("\n7\n", "\n٧\n"),
        _TEXT.replace("\n7\n", f"\n{'9' * 5000}\n"),
        _TEXT.replace("\n7\n", "\n\n"),
        _TEXT.replace("\n7\n", "\n7\r\n"),
        _TEXT.replace("\n\n", "\nextension\n\n"),
        _TEXT.replace("Hh8=", "Hh9="),
        _TEXT.replace("Hh8=", "Hh8"),
        _TEXT.replace("— eu/ledger", "- eu/ledger"),
        _TEXT.replace("— eu/ledger", "— "),
        _TEXT + "— x AAAA\n",
        _TEXT + "junk\n",
    ],
    ids=map(str, range(18)),  # keys are fresh in every process, so the texts must not become test names
)
def test_malformed_notes_are_protocol_errors(bad: str) -> None:
    assert bad != _TEXT
    for read in (notes.peek_checkpoint, notes.cosigners, lambda note: notes.merge_notes(note, note)):
        with pytest.raises(ProtocolError):
            read(bad.encode())


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(ProtocolError, match="UTF-8"):
        notes.peek_checkpoint(b"\xff\xfe")


def test_limits() -> None:
    with pytest.raises(LimitExceededError, match="bytes"):
        notes.peek_checkpoint(b"x" * (notes.MAX_NOTE_BYTES + 1))
    many = _note() + "— x AAAAAAA=\n".encode() * notes.MAX_SIGNATURE_LINES
    with pytest.raises(LimitExceededError, match="signature lines"):
        notes.peek_checkpoint(many)


@pytest.mark.parametrize("timestamp_s", [0, -1, 2**63])
def test_time_of_a_cosignature_is_bounded(timestamp_s: int) -> None:
    with pytest.raises(ProtocolError, match="time"):
        notes.cosign(_note(), NAME, WITNESS, timestamp_s)


def test_witness_names() -> None:
    assert notes.witness_site(NAME) == "lumi"
    assert notes.witness_site("eu/ledger") == ""
    assert notes.default_origin("eu") == ORIGIN
