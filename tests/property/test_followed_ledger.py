# SPDX-License-Identifier: Apache-2.0
"""Whatever happens to a ledger's files, its follower shows a prefix of what was signed, says faults, and recovers."""

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from read_only import ReadOnly

from federation import leaves as lv
from federation import notes, signing
from federation.durable.simulated import SimulatedFileSystem
from federation.ledger.followed import FollowedLog
from federation.ledger.frames import encode_record, scan_records
from federation.ledger.log import Ledger
from federation.merkle import leaf_hash, verify_inclusion
from federation.notes import witness_name
from federation.wire import leaf_to_bytes

ORIGIN = "consortium/ledger"
KEY, ALPHA, BETA = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2, 3))
WITNESSES = {witness_name("consortium", site): key for site, key in (("alpha", ALPHA), ("beta", BETA))}
PUBLICS = {name: signing.public_bytes(key) for name, key in WITNESSES.items()}
SEGMENT, CHECKPOINT = "ledger/segments/000000.seg", "ledger/checkpoint"


class FollowedLedger(RuleBasedStateMachine):
    """One writes and fails in every way that files can; another one follows and never writes."""

    @initialize()
    def begin(self) -> None:
        self.fs = SimulatedFileSystem()
        self.ledger = Ledger.create(self.fs, "ledger", ORIGIN, KEY, lambda: PUBLICS)
        self.signed: list[bytes] = []
        self.cosigned: dict[str, int] = {}
        self.harm: dict[str, bytes] = {}  # files as they were before
        self.damaged = -1
        self.begin_anew()

    @rule()
    def begin_anew(self) -> None:
        follower: Any = ReadOnly(self.fs)
        self.log = FollowedLog(
            follower, "ledger", origin=ORIGIN, public=signing.public_bytes(KEY), witness_publics=lambda: PUBLICS
        )
        self.shown: list[bytes] = []

    # --- the writer ---

    @precondition(lambda self: not self.harm)
    @rule(count=st.integers(1, 5))
    def append(self, count: int) -> None:
        first = len(self.signed)
        batch = [lv.Leaf(at_us=first + n, body=lv.RunCompletedV1(run="demo")) for n in range(count)]
        self.ledger.append(batch)
        self.signed += [leaf_to_bytes(leaf) for leaf in batch]

    @precondition(lambda self: not self.harm and self.signed)
    @rule(name=st.sampled_from(sorted(WITNESSES)))
    def cosign(self, name: str) -> None:
        note = notes.cosign(self.ledger.checkpoint(), name, WITNESSES[name], 1_700_000_000)
        self.ledger.cosign(note)
        self.cosigned[name] = len(self.signed)

    # --- what befalls the files ---

    @precondition(lambda self: not self.harm and self.signed)
    @rule(tail=st.sampled_from([b"\x00", b"\xff" * 30, encode_record(b"not promised"), encode_record(b"torn")[:-1]]))
    def leave_a_tail(self, tail: bytes) -> None:
        self._replace(SEGMENT, self.fs.read(SEGMENT) + tail)

    @precondition(lambda self: not self.harm and self.signed)
    @rule(data=st.data())
    def damage_a_leaf(self, data: st.DataObject) -> None:
        content = self.fs.read(SEGMENT)
        ends = scan_records(content).ends
        self.damaged = data.draw(st.integers(0, len(ends) - 1))
        last = ends[self.damaged] - 1
        self._replace(SEGMENT, content[:last] + bytes([content[last] ^ 1]) + content[last + 1 :])

    @precondition(lambda self: not self.harm and len(self.signed) > 1)
    @rule(data=st.data())
    def go_back(self, data: st.DataObject) -> None:
        self._replace(CHECKPOINT, self.ledger.checkpoint_at(data.draw(st.integers(0, len(self.signed) - 1))))

    @precondition(lambda self: not self.harm and self.signed)
    @rule(junk=st.sampled_from([b"", b"consortium/ledger\n", b"\xff" * 100]))
    def spoil_the_checkpoint(self, junk: bytes) -> None:
        self._replace(CHECKPOINT, junk)

    @precondition(lambda self: self.harm)
    @rule()
    def repair(self) -> None:
        for path, content in self.harm.items():
            self.fs.write(path, content)
        self.harm, self.damaged = {}, -1
        self.ledger = Ledger.open(self.fs, "ledger", ORIGIN, KEY, signing.public_bytes(KEY), lambda: PUBLICS)

    def _replace(self, path: str, content: bytes) -> None:
        self.harm[path] = self.fs.read(path)
        self.fs.write(path, content)

    # --- the follower ---

    @rule()
    def refresh(self) -> None:
        before = len(self.shown)
        self.shown += self.log.refresh()
        if not self.harm:
            assert self.log.fault == ""
            assert self.shown == self.signed
            assert self.log.witnessed() == self.cosigned
        if before <= self.damaged < len(self.signed):
            assert len(self.shown) == self.damaged
            assert "missing or damaged" in self.log.fault

    @invariant()
    def what_is_shown_is_a_prefix_of_what_was_signed(self) -> None:
        assert self.shown == self.signed[: len(self.shown)]
        assert self.log.size == len(self.shown)

    @precondition(lambda self: self.shown)
    @rule(data=st.data())
    def prove(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.shown) - 1))
        leaf, size, root = leaf_hash(self.shown[index]), self.log.size, self.log.tree.root()
        verify_inclusion(leaf, index, size, self.log.tree.inclusion_proof(index), root)
        if self.log.note and not self.log.fault:
            promised = notes.open_checkpoint(self.log.note, ORIGIN, signing.public_bytes(KEY))
            assert (promised.size, promised.root) == (size, root)
        if not self.harm:
            assert self.log.leaf_bytes(index) == self.shown[index]


FollowedLedger.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestFollowedLedger = FollowedLedger.TestCase
