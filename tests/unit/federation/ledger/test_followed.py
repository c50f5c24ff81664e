# SPDX-License-Identifier: Apache-2.0
"""A followed ledger: what is tampered with, what vanishes, what cannot be read. Property tests walk the rest."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from read_only import ReadOnly

from federation import leaves as lv
from federation import notes, signing
from federation.durable.simulated import SimulatedFileSystem
from federation.errors import ObjectNotFoundError
from federation.ledger.followed import FollowedLog
from federation.ledger.frames import encode_record, scan_records
from federation.ledger.log import Ledger
from federation.notes import witness_name

ORIGIN = "consortium/ledger"
KEY, ALPHA, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2, 3))
PUBLIC = signing.public_bytes(KEY)
A = witness_name("consortium", "alpha")
SEGMENT = "ledger/segments/000000.seg"


def begun(fs: SimulatedFileSystem, count: int) -> Ledger:
    ledger = Ledger.create(fs, "ledger", ORIGIN, KEY, lambda: {A: signing.public_bytes(ALPHA)})
    grown(ledger, count)
    return ledger


def grown(ledger: Ledger, count: int) -> None:
    ledger.append([lv.Leaf(at_us=n, body=lv.RunCompletedV1(run="demo")) for n in range(count)])


def follower(fs: SimulatedFileSystem, witness: Ed25519PrivateKey = ALPHA, public: bytes = PUBLIC) -> FollowedLog:
    reading: Any = ReadOnly(fs)
    publics = {A: signing.public_bytes(witness)}
    return FollowedLog(reading, "ledger", origin=ORIGIN, public=public, witness_publics=lambda: publics)


def tampered(fs: SimulatedFileSystem, index: int) -> None:
    """Another leaf in one's place, with a checksum that holds."""
    records = list(scan_records(fs.read(SEGMENT)).records)
    records[index] = bytes(reversed(records[index]))
    fs.write(SEGMENT, b"".join(map(encode_record, records)))


def test_a_ledger_that_nobody_has_begun_is_no_fault() -> None:
    log = follower(SimulatedFileSystem())
    assert (log.refresh(), log.fault, log.size, log.note) == ([], "", 0, b"")


def test_a_leaf_that_was_exchanged_is_not_taken_in_and_its_repair_is() -> None:
    fs = SimulatedFileSystem()
    ledger, log = begun(fs, 3), follower(fs)
    log.refresh()
    grown(ledger, 4)
    good = fs.read(SEGMENT)
    tampered(fs, 5)
    assert (log.refresh(), log.size) == ([], 3)
    assert "do not have the root of their checkpoint" in log.fault
    assert notes.open_checkpoint(log.note, ORIGIN, PUBLIC).size == 3
    fs.write(SEGMENT, good)
    assert len(log.refresh()) == 4
    assert (log.fault, log.tree.root().hex()) == ("", ledger.root(7))


def test_a_tampered_ledger_is_shown_at_the_first_look_with_its_fault() -> None:
    fs = SimulatedFileSystem()
    begun(fs, 3)
    tampered(fs, 1)
    log = follower(fs)
    assert len(log.refresh()) == 3
    assert log.fault
    assert log.note == b""


def test_what_was_tampered_with_before_the_first_look_is_given_up_once_it_is_repaired() -> None:
    fs = SimulatedFileSystem()
    ledger = begun(fs, 3)
    good = fs.read(SEGMENT)
    tampered(fs, 1)
    log = follower(fs)
    log.refresh()
    assert (log.refresh(), log.num_restarts) == ([], 0)
    assert log.fault
    tampered(fs, 0)
    assert (log.refresh(), log.num_restarts) == ([], 0)
    fs.write(SEGMENT, good)
    assert log.refresh() == list(scan_records(good).records)
    assert (log.fault, log.num_restarts, log.tree.root().hex()) == ("", 1, ledger.root(3))
    assert log.leaf_bytes(1) == scan_records(good).records[1]
    assert (log.refresh(), log.num_restarts) == ([], 1)


def test_another_key_is_not_believed() -> None:
    fs = SimulatedFileSystem()
    begun(fs, 3)
    log = follower(fs, public=signing.public_bytes(OTHER))
    assert log.refresh() == []
    assert log.fault.startswith("ledger: ")


def test_a_checkpoint_that_vanishes_is_said_until_it_is_back() -> None:
    fs = SimulatedFileSystem()
    begun(fs, 3)
    log = follower(fs)
    log.refresh()
    note = fs.read("ledger/checkpoint")
    fs.remove("ledger/checkpoint")
    log.refresh()
    assert log.fault == "ledger: its checkpoint is gone"
    fs.write("ledger/checkpoint", note)
    log.refresh()
    assert log.fault == ""


def test_a_leaf_is_checked_when_it_is_read_again() -> None:
    fs = SimulatedFileSystem()
    begun(fs, 3)
    log = follower(fs)
    data = log.refresh()
    tampered(fs, 1)
    assert log.leaf_bytes(0) == data[0]
    with pytest.raises(ObjectNotFoundError, match="changed or gone"):
        follower_without_cache(log).leaf_bytes(1)
    for index in (-1, 3):
        with pytest.raises(IndexError):
            log.leaf_bytes(index)


def follower_without_cache(log: FollowedLog) -> FollowedLog:
    log._cache.clear()
    return log


@pytest.mark.parametrize("witness", [ALPHA, OTHER], ids=["its key", "another key"])
def test_cosignatures_count_under_the_keys_in_force(witness: Ed25519PrivateKey) -> None:
    fs = SimulatedFileSystem()
    ledger, log = begun(fs, 3), follower(fs, witness)
    log.refresh()
    read = log.num_cosigned_bytes
    ledger.cosign(notes.cosign(ledger.checkpoint(), A, ALPHA, 1_700_000_000))
    assert log.refresh() == []
    assert log.num_cosigned_bytes > read
    assert log.witnessed() == ({A: 3} if witness is ALPHA else {})


def test_a_file_of_cosignatures_that_is_none_is_a_fault_and_the_leaves_wait() -> None:
    fs = SimulatedFileSystem()
    begun(fs, 3)
    log = follower(fs)
    fs.write("ledger/cosigned.seg", encode_record(encode_record(b"no note at all")))
    log.refresh()
    assert log.fault
    fs.write("ledger/cosigned.seg", b"")
    assert len(log.refresh()) == 3
    assert log.fault == ""
