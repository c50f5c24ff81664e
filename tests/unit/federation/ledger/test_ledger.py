# SPDX-License-Identifier: Apache-2.0
"""The coordinator's ledger: append, replay, checkpoints, cosignatures, tails."""

from contextlib import suppress
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation import leaves as lv
from federation import notes, signing
from federation.durable.simulated import SimulatedCrash, SimulatedFileSystem
from federation.errors import (
    BadSignatureError,
    CorruptObjectError,
    DiskFullError,
    LedgerForkError,
    ObjectNotFoundError,
    ProtocolError,
    UsageError,
)
from federation.ledger.log import Ledger
from federation.ledger.store import by_site
from federation.merkle import EMPTY_ROOT, Tree, leaf_hash
from federation.notes import witness_name
from federation.wire import leaf_to_bytes

ORIGIN = "consortium/ledger"
KEY = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
PUBLIC = signing.public_bytes(KEY)
ALPHA, BETA = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (2, 3))
A, B = (witness_name("consortium", site) for site in ("alpha", "beta"))
WITNESSES = {A: signing.public_bytes(ALPHA), B: signing.public_bytes(BETA)}
NOW_S = 1_700_000_000


def leaf(number: int) -> lv.Leaf:
    return lv.Leaf(at_us=number, body=lv.RunCompletedV1(run="demo"))


def created(fs: SimulatedFileSystem, count: int = 0) -> Ledger:
    ledger = Ledger.create(fs, "ledger", ORIGIN, KEY, lambda: WITNESSES)
    ledger.append([leaf(number) for number in range(count)])
    return ledger


def opened(fs: SimulatedFileSystem, key: Ed25519PrivateKey | None = KEY) -> Ledger:
    return Ledger.open(fs, "ledger", ORIGIN, key, PUBLIC, lambda: WITNESSES)


def test_a_new_ledger_has_a_signed_checkpoint_of_nothing() -> None:
    ledger = created(SimulatedFileSystem())
    checkpoint = notes.open_checkpoint(ledger.checkpoint(), ORIGIN, PUBLIC)
    assert (checkpoint.size, checkpoint.root, ledger.size) == (0, EMPTY_ROOT, 0)


def test_a_ledger_is_made_once() -> None:
    fs = SimulatedFileSystem()
    created(fs)
    with pytest.raises(UsageError):
        created(fs)


def test_append_returns_the_first_index_and_signs_the_root() -> None:
    ledger = created(SimulatedFileSystem(), 3)
    assert ledger.append([leaf(3), leaf(4)]) == 3
    tree = Tree([leaf_hash(leaf_to_bytes(leaf(number))) for number in range(5)])
    checkpoint = notes.open_checkpoint(ledger.checkpoint(), ORIGIN, PUBLIC)
    assert (checkpoint.size, checkpoint.root) == (5, tree.root())
    assert ledger.root(3) == tree.root(3).hex()
    assert ledger.leaves(1, 4) == [leaf(1), leaf(2), leaf(3)]


def test_appending_nothing_changes_nothing() -> None:
    fs = SimulatedFileSystem()
    ledger = created(fs, 2)
    before = fs.operations
    assert ledger.append([]) == 2
    assert fs.operations == before


def test_what_append_returned_survives_a_power_loss() -> None:
    fs = SimulatedFileSystem()
    created(fs, 300)
    ledger = opened(fs.crash())
    assert ledger.leaves() == [leaf(number) for number in range(300)]


def test_reading_needs_no_key_and_writes_nothing() -> None:
    fs = SimulatedFileSystem()
    created(fs, 3)
    fs.write("ledger/segments/000000.seg", fs.read("ledger/segments/000000.seg") + b"torn")
    before = fs.operations
    ledger = opened(fs, None)
    assert (ledger.size, fs.operations) == (3, before)
    with pytest.raises(UsageError, match="reading"):
        ledger.append([leaf(9)])


def test_open_wants_a_ledger_and_its_own_key() -> None:
    fs = SimulatedFileSystem()
    with pytest.raises(ObjectNotFoundError):
        opened(fs)
    created(fs)
    with pytest.raises(UsageError, match="private key"):
        opened(fs, ALPHA)
    with pytest.raises(CorruptObjectError, match="checkpoint"):
        Ledger.open(fs, "ledger", ORIGIN, None, signing.public_bytes(ALPHA))
    with pytest.raises(CorruptObjectError, match="checkpoint"):
        Ledger.open(fs, "ledger", "another/ledger", None, PUBLIC)


def test_a_changed_leaf_with_a_good_checksum_is_found_by_the_root() -> None:
    fs, other = SimulatedFileSystem(), SimulatedFileSystem()
    created(fs, 3)
    ledger = created(other, 2)
    ledger.append([leaf(99)])
    fs.write("ledger/segments/000000.seg", other.read("ledger/segments/000000.seg"))
    with pytest.raises(CorruptObjectError, match="root"):
        opened(fs)


def test_a_cut_tail_is_refused() -> None:
    fs = SimulatedFileSystem()
    created(fs, 3)
    fs.truncate("ledger/segments/000000.seg", 20)
    with pytest.raises(CorruptObjectError, match="leaf"):
        opened(fs)


@pytest.mark.parametrize("room", range(0, 400, 9))
def test_a_full_disk_appends_nothing_and_leaves_the_ledger_usable(room: int) -> None:
    fs = SimulatedFileSystem()
    ledger = created(fs, 3)
    checkpoint = ledger.checkpoint()
    fs.fail_writes_after(room)
    try:
        ledger.append([leaf(number) for number in range(10)])
    except DiskFullError:
        assert (ledger.size, ledger.checkpoint()) == (3, checkpoint)
        fs.fail_writes_after(None)
        assert ledger.append([leaf(3)]) == 3
        assert opened(fs.crash()).leaves() == [leaf(number) for number in range(4)]
    else:
        assert room >= 330


def cosigned(ledger: Ledger, key: Ed25519PrivateKey, name: str) -> bytes:
    return notes.cosign(ledger.checkpoint(), name, key, NOW_S)


def test_cosignatures_are_merged_counted_and_kept() -> None:
    fs = SimulatedFileSystem()
    ledger = created(fs, 3)
    first, second = cosigned(ledger, ALPHA, A), cosigned(ledger, BETA, B)
    assert ledger.cosign(first) == (A,)
    assert ledger.cosign(second) == (B,)
    assert ledger.cosign(first) == ()
    assert notes.cosigners(ledger.checkpoint()) == [A, B]
    ledger.append([leaf(3)])
    assert notes.cosigners(ledger.checkpoint()) == []
    assert ledger.cosign(cosigned(ledger, ALPHA, A)) == (A,)
    again = opened(fs.crash())
    assert again.witnessed == ledger.witnessed == {A: 4, B: 3}
    assert by_site("consortium", again.witnessed) == {"alpha": 4, "beta": 3}
    assert [notes.peek_checkpoint(note).size for note in again.notes_since(0)] == [3, 4]
    assert [notes.peek_checkpoint(note).size for note in again.notes_since(4)] == [4]
    assert again.num_cosigned == 3


def test_a_known_cosignature_is_not_written_again() -> None:
    fs = SimulatedFileSystem()
    ledger = created(fs, 3)
    note = cosigned(ledger, ALPHA, A)
    ledger.cosign(note)
    before = fs.operations
    assert ledger.cosign(note) == ()
    assert fs.operations == before


def test_strangers_count_for_nothing() -> None:
    ledger = created(SimulatedFileSystem(), 3)
    assert ledger.cosign(cosigned(ledger, ALPHA, "consortium/site/gamma")) == ()
    assert ledger.witnessed == {}


def test_a_false_cosignature_is_refused_unless_another_one_holds() -> None:
    ledger = created(SimulatedFileSystem(), 3)
    false = cosigned(ledger, BETA, A)
    with pytest.raises(BadSignatureError):
        ledger.cosign(false)
    assert ledger.cosign(notes.cosign(false, B, BETA, NOW_S)) == (B,)
    assert ledger.witnessed == {B: 3}


def test_only_what_holds_is_stored() -> None:
    fs = SimulatedFileSystem()
    ledger = created(fs, 3)
    note = notes.cosign(cosigned(ledger, ALPHA, A), "consortium/site/gamma", BETA, NOW_S)
    ledger.cosign(notes.cosign(note, B, ALPHA, NOW_S))
    assert notes.cosigners(ledger.notes_since(0)[0]) == [A]


def test_a_replaced_witness_key_makes_the_old_word_void() -> None:
    keys = dict(WITNESSES)
    ledger = Ledger.create(SimulatedFileSystem(), "ledger", ORIGIN, KEY, lambda: keys)
    ledger.append([leaf(0)])
    ledger.cosign(cosigned(ledger, ALPHA, A))
    assert ledger.witnessed == {A: 1}
    keys[A] = signing.public_bytes(BETA)
    assert ledger.witnessed == {}
    assert ledger.cosign(cosigned(ledger, BETA, A)) == (A,)
    assert ledger.witnessed == {A: 1}


def test_keys_that_are_known_only_after_opening_count() -> None:
    fs = SimulatedFileSystem()
    ledger = created(fs, 1)
    ledger.cosign(cosigned(ledger, ALPHA, A))
    keys: dict[str, bytes] = {}
    again = Ledger.open(fs, "ledger", ORIGIN, KEY, PUBLIC, lambda: keys)
    assert again.witnessed == {}
    keys.update(WITNESSES)
    assert again.witnessed == {A: 1}


def test_another_history_under_our_key_is_a_fork() -> None:
    ledger, other = created(SimulatedFileSystem(), 3), created(SimulatedFileSystem(), 1)
    other.append([leaf(7)])
    with pytest.raises(LedgerForkError):
        ledger.cosign(cosigned(other, ALPHA, A))


def test_a_larger_size_under_our_key_means_that_our_tail_is_gone() -> None:
    ledger, longer = created(SimulatedFileSystem(), 3), created(SimulatedFileSystem(), 4)
    with pytest.raises(CorruptObjectError, match="tail cut"):
        ledger.cosign(cosigned(longer, ALPHA, A))


def test_a_ledger_restored_from_before_its_cosignatures_is_refused() -> None:
    fs, older = SimulatedFileSystem(), SimulatedFileSystem()
    ledger = created(fs, 4)
    ledger.cosign(cosigned(ledger, ALPHA, A))
    created(older, 3)
    older.write("ledger/cosigned.seg", fs.read("ledger/cosigned.seg"))
    with pytest.raises(CorruptObjectError, match="tail cut"):
        opened(older)


def test_notes_of_others_are_refused() -> None:
    ledger = created(SimulatedFileSystem(), 3)
    checkpoint = notes.open_checkpoint(ledger.checkpoint(), ORIGIN, PUBLIC)
    foreign = notes.sign_checkpoint(replace(checkpoint, origin="other/ledger"), "other/ledger", KEY)
    unsigned = notes.sign_checkpoint(checkpoint, ORIGIN, ALPHA)
    with pytest.raises(ProtocolError):
        ledger.cosign(notes.cosign(foreign, A, ALPHA, NOW_S))
    with pytest.raises(BadSignatureError):
        ledger.cosign(notes.cosign(unsigned, A, ALPHA, NOW_S))
    with pytest.raises(ProtocolError):
        ledger.cosign(b"junk")


def test_a_tail_has_leaves_checkpoint_and_smaller_cosigned_notes() -> None:
    ledger = created(SimulatedFileSystem(), 2)
    ledger.cosign(cosigned(ledger, ALPHA, A))
    ledger.append([leaf(2)])
    ledger.cosign(cosigned(ledger, BETA, B))
    tail = ledger.tail(1, roster=b"roster")
    assert tail.leaves == (leaf_to_bytes(leaf(1)), leaf_to_bytes(leaf(2)))
    assert (tail.first_index, tail.roster, tail.checkpoint) == (1, b"roster", ledger.checkpoint())
    assert tail.cosigned == (ledger.notes_since(0)[0],)
    assert ledger.tail(3).leaves == ()
    with pytest.raises(UsageError):
        ledger.tail(4)


def test_a_long_tail_comes_in_parts_with_a_checkpoint_each() -> None:
    ledger = created(SimulatedFileSystem(), 10)
    size, index, parts = len(leaf_to_bytes(leaf(1))), 0, 0
    while index < 10:
        tail = ledger.tail(index, max_bytes=3 * size)
        index += len(tail.leaves)
        parts += 1
        checkpoint = notes.open_checkpoint(tail.checkpoint, ORIGIN, PUBLIC)
        assert (checkpoint.size, checkpoint.root) == (index, ledger.tree.root(index))
    assert parts == 4


@pytest.mark.parametrize("seed", range(4))
def test_what_was_read_after_a_killed_process_survives_a_power_loss(seed: int) -> None:
    for stop in range(30):
        fs = SimulatedFileSystem(seed)
        ledger = created(fs, 2)
        left = stop

        def hook(step: str, path: str) -> None:
            nonlocal left
            if left == 0:
                raise SimulatedCrash(step)
            left -= 1

        fs.hook = hook
        with suppress(SimulatedCrash):
            ledger.append([leaf(2), leaf(3)])
        fs.hook = None
        alive = fs.kill()
        seen = opened(alive).leaves()
        assert len(seen) in (2, 4)
        assert opened(alive.crash()).leaves() == seen
