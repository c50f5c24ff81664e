# SPDX-License-Identifier: Apache-2.0
"""A site's copy: grows by what continues it, refuses and keeps evidence of everything else."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation import leaves as lv
from federation import notes, signing
from federation.durable.simulated import SimulatedFileSystem
from federation.errors import (
    BadSignatureError,
    CorruptObjectError,
    DiskFullError,
    LedgerForkError,
    ProtocolError,
    UnknownLeafError,
)
from federation.ledger.copy import LedgerCopy
from federation.ledger.log import Ledger
from federation.messages import LedgerTail
from federation.wire import leaf_to_bytes

ORIGIN = "consortium/ledger"
KEY = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
PUBLIC = signing.public_bytes(KEY)
ALPHA, BETA = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (2, 3))
A, B = "consortium/site/alpha", "consortium/site/beta"
WITNESSES = {A: signing.public_bytes(ALPHA), B: signing.public_bytes(BETA)}
NOW_S = 1_700_000_000


def leaf(number: int) -> lv.Leaf:
    return lv.Leaf(at_us=number, body=lv.RunCompletedV1(run="demo"))


def ledger_of(*numbers: int) -> Ledger:
    ledger = Ledger.create(SimulatedFileSystem(), "ledger", ORIGIN, KEY, lambda: WITNESSES)
    ledger.append([leaf(number) for number in numbers])
    return ledger


def copy_in(fs: SimulatedFileSystem, keys: Callable[[], Mapping[str, bytes]] = lambda: WITNESSES) -> LedgerCopy:
    return LedgerCopy(fs, "copy", ORIGIN, PUBLIC, keys)


def copy_of(ledger: Ledger) -> LedgerCopy:
    copy = copy_in(SimulatedFileSystem())
    copy.accept(ledger.tail(0))
    return copy


def test_a_copy_follows_the_ledger_and_returns_what_is_new() -> None:
    fs = SimulatedFileSystem()
    ledger, copy = ledger_of(0, 1), copy_in(fs)
    assert copy.accept(ledger.tail(0)) == [leaf(0), leaf(1)]
    ledger.append([leaf(2)])
    assert copy.accept(ledger.tail(1)) == [leaf(2)]
    assert copy.accept(ledger.tail(1)) == []
    again = copy_in(fs.crash())
    assert (again.root(), again.leaves()) == (ledger.root(), ledger.leaves())
    assert notes.open_checkpoint(again.checkpoint(), ORIGIN, PUBLIC).size == 3


def test_an_older_tail_changes_nothing() -> None:
    ledger = ledger_of(0, 1)
    old = ledger.tail(0)
    ledger.append([leaf(2)])
    copy = copy_of(ledger)
    assert copy.accept(old) == []
    assert copy.size == 3


def test_an_empty_ledger_is_accepted() -> None:
    fs = SimulatedFileSystem()
    copy = copy_in(fs)
    assert copy.accept(ledger_of().tail(0)) == []
    assert notes.open_checkpoint(copy_in(fs.crash()).checkpoint(), ORIGIN, PUBLIC).size == 0


def test_a_gap_is_refused() -> None:
    with pytest.raises(ProtocolError, match="begin at leaf 0"):
        copy_in(SimulatedFileSystem()).accept(ledger_of(0, 1).tail(1))


def test_a_checkpoint_must_cover_exactly_the_leaves() -> None:
    tail = ledger_of(0, 1).tail(0)
    with pytest.raises(ProtocolError, match="size 1, found 2"):
        copy_in(SimulatedFileSystem()).accept(replace(tail, leaves=tail.leaves[:1]))


def test_another_signer_is_refused() -> None:
    checkpoint = notes.peek_checkpoint(ledger_of(0).checkpoint())
    tail = replace(ledger_of(0).tail(0), checkpoint=notes.sign_checkpoint(checkpoint, ORIGIN, ALPHA))
    with pytest.raises(BadSignatureError):
        copy_in(SimulatedFileSystem()).accept(tail)


def test_an_unknown_leaf_stops_before_anything_is_kept() -> None:
    fs = SimulatedFileSystem()
    copy, tail = copy_in(fs), ledger_of(0).tail(0)
    before = fs.operations
    with pytest.raises(UnknownLeafError):
        copy.accept(replace(tail, leaves=(b"\xff\xff\xff",)))
    assert (copy.size, fs.operations) == (0, before)


def test_other_leaves_under_our_checkpoint_are_no_fork() -> None:
    ledger = ledger_of(0, 1)
    copy, tail = copy_of(ledger), ledger.tail(0)
    with pytest.raises(ProtocolError, match="another leaf 1"):
        copy.accept(replace(tail, leaves=(tail.leaves[0], leaf_to_bytes(leaf(9)))))
    assert not copy.forked


FORKS: dict[str, Callable[[], LedgerTail]] = {
    "shorter": lambda: ledger_of(9).tail(0),
    "as long": lambda: ledger_of(0, 9).tail(2),
    "longer": lambda: ledger_of(0, 9, 2).tail(2),
    "longer, overlapping": lambda: ledger_of(0, 9, 2).tail(0),
}


@pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS.keys())
def test_another_history_is_refused_and_kept_as_evidence(fork: Callable[[], LedgerTail]) -> None:
    fs = SimulatedFileSystem()
    ledger, copy, tail = ledger_of(0, 1), copy_in(fs), fork()
    copy.accept(ledger.tail(0))
    with pytest.raises(LedgerForkError, match="copy/forks/"):
        copy.accept(tail)
    again = copy_in(fs.crash())
    assert (again.size, again.root()) == (2, ledger.root())
    assert again.forked
    assert again.fork_evidence() == [(ledger.checkpoint(), tail.checkpoint)]


def test_a_forked_cosigned_note_is_evidence_too() -> None:
    ledger, other = ledger_of(0, 1), ledger_of(9)
    foreign = notes.cosign(other.checkpoint(), A, ALPHA, NOW_S)
    copy = copy_in(SimulatedFileSystem())
    with pytest.raises(LedgerForkError):
        copy.accept(replace(ledger.tail(0), cosigned=(foreign,)))
    assert copy.size == 0
    copy = copy_of(ledger)
    with pytest.raises(LedgerForkError):
        copy.accept(replace(ledger.tail(2), cosigned=(foreign,)))
    assert copy.fork_evidence() == [(ledger.checkpoint(), foreign)]


def test_a_refused_tail_can_be_followed_by_the_right_one() -> None:
    ledger = ledger_of(0, 1)
    copy = copy_of(ledger)
    with pytest.raises(LedgerForkError):
        copy.accept(ledger_of(0, 9, 2).tail(2))
    ledger.append([leaf(2), leaf(3)])
    assert copy.accept(ledger.tail(2)) == [leaf(2), leaf(3)]
    assert copy.root() == ledger.root()


def test_a_witness_that_saw_a_fork_says_no_more() -> None:
    copy = copy_of(ledger_of(0, 1))
    with pytest.raises(LedgerForkError):
        copy.accept(ledger_of(9).tail(0))
    with pytest.raises(LedgerForkError, match="evidence"):
        copy.cosign(ALPHA, A, NOW_S)


def test_cosign_gives_the_ledger_what_it_can_verify() -> None:
    ledger = ledger_of(0, 1)
    copy = copy_of(ledger)
    note = copy.cosign(ALPHA, A, NOW_S)
    assert notes.verify_cosignature(note, A, WITNESSES[A]) == NOW_S
    assert copy.witnessed == {A: 2}
    assert ledger.cosign(note) == (A,)


def test_cosign_repeats_nobody_else() -> None:
    ledger = ledger_of(0, 1)
    ledger.cosign(copy_of(ledger).cosign(ALPHA, A, NOW_S))
    assert notes.cosigners(copy_of(ledger).cosign(BETA, B, NOW_S)) == [B]


def test_there_is_nothing_to_cosign_at_the_beginning() -> None:
    with pytest.raises(ProtocolError, match="empty"):
        copy_in(SimulatedFileSystem()).cosign(ALPHA, A, NOW_S)


def test_cosignatures_of_others_are_counted_from_tails() -> None:
    fs = SimulatedFileSystem()
    ledger, copy = ledger_of(0, 1), copy_in(fs)
    ledger.cosign(copy_of(ledger).cosign(ALPHA, A, NOW_S))
    ledger.append([leaf(2)])
    ledger.cosign(copy_of(ledger).cosign(BETA, B, NOW_S))
    copy.accept(ledger.tail(0))
    assert copy.witnessed == {A: 2, B: 3}
    assert copy_in(fs.crash()).witnessed == {A: 2, B: 3}


def test_a_late_cosignature_of_a_smaller_size_arrives_without_leaves() -> None:
    ledger = ledger_of(0, 1)
    late = copy_of(ledger).cosign(ALPHA, A, NOW_S)
    ledger.append([leaf(2)])
    copy = copy_of(ledger)
    ledger.cosign(late)
    assert copy.accept(ledger.tail(3)) == []
    assert copy.witnessed == {A: 2}


def test_false_and_foreign_cosignatures_do_not_hold_up_a_tail() -> None:
    ledger = ledger_of(0, 1)
    note = notes.cosign(notes.cosign(ledger.checkpoint(), A, BETA, NOW_S), "someone", ALPHA, NOW_S)
    copy = copy_in(SimulatedFileSystem())
    assert len(copy.accept(replace(ledger.tail(0), checkpoint=note))) == 2
    assert copy.witnessed == {}


def test_a_note_beyond_our_end_says_nothing_yet() -> None:
    ledger = ledger_of(0)
    first = ledger.tail(0)
    ledger.append([leaf(1)])
    beyond = notes.cosign(ledger.checkpoint(), A, ALPHA, NOW_S)
    copy = copy_in(SimulatedFileSystem())
    copy.accept(replace(first, cosigned=(beyond,)))
    assert (copy.size, copy.witnessed) == (1, {})


def test_too_many_notes_are_refused() -> None:
    ledger = ledger_of(0)
    with pytest.raises(ProtocolError, match="notes at most"):
        copy_in(SimulatedFileSystem()).accept(replace(ledger.tail(0), cosigned=(ledger.checkpoint(),) * 2000))


@pytest.mark.parametrize("room", range(0, 700, 23))
def test_a_full_disk_keeps_nothing(room: int) -> None:
    fs = SimulatedFileSystem()
    ledger, copy = ledger_of(0), copy_in(fs)
    copy.accept(ledger.tail(0))
    ledger.append([leaf(number) for number in range(1, 20)])
    fs.fail_writes_after(room)
    try:
        copy.accept(ledger.tail(1))
    except DiskFullError:
        assert copy.size == 1
    fs.fail_writes_after(None)
    copy.accept(ledger.tail(1))
    assert copy_in(fs.crash()).root() == ledger.root()


def test_a_damaged_copy_is_refused() -> None:
    fs = SimulatedFileSystem()
    copy_in(fs).accept(ledger_of(0, 1).tail(0))
    content = bytearray(fs.read("copy/segments/000000.seg"))
    content[-1] ^= 1
    fs.write("copy/segments/000000.seg", bytes(content))
    with pytest.raises(CorruptObjectError, match="leaf 1"):
        copy_in(fs)
