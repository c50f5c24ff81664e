# SPDX-License-Identifier: Apache-2.0
"""Two mailboxes under couriers that lose, repeat, reorder and tear, and machines that stop at any step.

Every posted message is acted upon, in sequence, at least once, always with the same content; what one side is told to
have been received was acted upon; the number told never falls.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from random import Random

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from federation import signing
from federation.blobs.partial import num_pieces_of
from federation.blobs.store import BlobStore
from federation.durable.simulated import SimulatedCrash, SimulatedFileSystem
from federation.errors import ObjectNotFoundError
from federation.leaves import Reason
from federation.mailbox.carrier import carry
from federation.mailbox.ends import InEnd, Offered, OutEnd
from federation.mailbox.mailbox import Mailbox
from federation.merkle import BLOB_PIECE_BYTES
from federation.messages import RoundDeclined

NAMES = ("alpha", "coordinator")
KEYS = {name: Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n, name in enumerate(NAMES, start=1)}
BASE = "mailbox"
LONG = bytes(BLOB_PIECE_BYTES)
MINUTES_US = 100_000_000
"""After so long without growth a wrong blob is thrown away."""
parties = st.integers(0, 1)
stops = st.one_of(st.none(), st.tuples(st.integers(0, 40), st.booleans()))
"""None, or (after how many steps the machine stops, whether the power is lost too)."""


class Party:
    def __init__(self, me: int, seed: int) -> None:
        self.name, self.peer = NAMES[me], NAMES[1 - me]
        self.fs = SimulatedFileSystem(seed)
        self.next_content = 0
        self.posted: dict[int, int] = {}
        self.acted: dict[int, int] = {}
        self.told = 0
        self.now_us = 1
        self.open()

    def open(self) -> None:
        self.blobs = BlobStore(self.fs)
        self.box = Mailbox(self.fs, BASE, self.blobs, self.name, self.peer, "consortium", KEYS[self.name])
        self.out, self.into = OutEnd(self.fs, BASE), InEnd(self.fs, BASE)

    def restart(self, power: bool) -> None:
        self.fs = self.fs.crash() if power else self.fs.kill()
        self.open()

    def stopping(self, stop: tuple[int, bool] | None, action: Callable[[], None]) -> None:
        """Runs an action; the machine may stop in the middle of it, and then comes up again."""
        left = stop[0] if stop else -1

        def hook(step: str, path: str) -> None:
            nonlocal left
            if left == 0:
                raise SimulatedCrash(step)
            left -= 1

        self.fs.hook = hook
        try:
            action()
        except SimulatedCrash:
            assert stop is not None
            self.restart(stop[1])
        finally:
            self.fs.hook = None

    def post(self, with_blob: bool) -> None:
        self.next_content += 1
        content = self.next_content
        # Every third blob has a second piece.
        blob = f"{self.name} {content}".encode() + (LONG if content % 3 == 0 else b"")
        blobs = [self.blobs.put(blob)] if with_blob else []
        body = RoundDeclined(run="demo", round=content, reason=Reason.OPERATOR, sentence="")
        self.posted[self.box.post(body, blobs=blobs)] = content

    def tick(self, acknowledge: bool = True, prune: bool = True) -> None:
        before = self.box.received_through
        for received in self.box.collect(signing.public_bytes(KEYS[self.peer]), self.now_us):
            if received.ready:
                self.act(received.sequence, received.message.body, received.message.header.blobs)
                self.box.done(received.sequence)
        if acknowledge:
            self.box.acknowledge()
        assert self.box.received_through >= before
        if prune:
            self.box.prune()

    def act(self, sequence: int, body: object, blobs: tuple[str, ...]) -> None:
        assert isinstance(body, RoundDeclined)
        assert self.acted.setdefault(sequence, body.round) == body.round
        waiting = set(range(1, sequence)) - set(self.acted)
        held = {r.sequence for r in self.box.collect(signing.public_bytes(KEYS[self.peer]), self.now_us) if not r.ready}
        assert waiting <= held, "acted out of sequence"
        for digest in blobs:
            assert self.blobs.read(digest)


def network_calls(out: OutEnd, into: InEnd, offered: Offered) -> list[Callable[[], object]]:
    """What a network courier may do for one offer, each of it a call of its own."""

    def message(name: str) -> None:
        data = out.read_message(name)
        if data is not None:
            into.accept(name, data)

    def piece(digest: str, num_bytes: int, index: int) -> None:
        with suppress(ObjectNotFoundError):  # withdrawn meanwhile
            into.put_pieces(digest, num_bytes, index, out.read_pieces(digest, index))

    calls: list[Callable[[], object]] = [partial(message, name) for name in offered.names.values()]
    for digest, num_bytes in offered.blobs:
        calls += [partial(piece, digest, num_bytes, index) for index in range(num_pieces_of(num_bytes))]
        calls.append(partial(into.pieces_missing, digest, num_bytes))
    calls.append(partial(into.acknowledge, offered.acknowledgement))
    digests = [digest for digest, _ in offered.blobs]
    calls.append(partial(into.withdraw, offered.first_offered, digests, next_sequence=offered.next_sequence))
    return calls


def bring(source: Party, target: Party) -> None:
    """One undisturbed round of the network's courier."""
    offered = source.out.look()
    for call in network_calls(source.out, target.into, offered):
        call()


@settings(max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
class MailboxMachine(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 2**16))
    def begin(self, seed: int) -> None:
        self.parties = [Party(0, seed), Party(1, seed + 1)]
        self.offers: dict[int, list[Offered]] = {}

    @rule(who=parties, with_blob=st.booleans(), stop=stops)
    def post(self, who: int, with_blob: bool, stop: tuple[int, bool] | None) -> None:
        party = self.parties[who]
        party.stopping(stop, lambda: party.post(with_blob))

    @rule(who=parties, acknowledge=st.booleans(), prune=st.booleans(), stop=stops)
    def tick(self, who: int, acknowledge: bool, prune: bool, stop: tuple[int, bool] | None) -> None:
        party = self.parties[who]
        party.stopping(stop, lambda: party.tick(acknowledge, prune))

    @rule(to=parties, stop=stops)
    def carry(self, to: int, stop: tuple[int, bool] | None) -> None:
        source, target = self.parties[1 - to], self.parties[to]
        target.stopping(stop, lambda: carry(source.fs, BASE, target.fs, BASE) and None)

    @rule(to=parties, stop=stops, chance=st.randoms(use_true_random=False))
    def network(self, to: int, stop: tuple[int, bool] | None, chance: Random) -> None:
        """Calls of one offer, perhaps an old one: some lost, some twice, in any order, with a stop in the middle."""
        source, target = self.parties[1 - to], self.parties[to]
        offers = self.offers.setdefault(to, [])
        offers.append(source.out.look())
        target.into.check_not_rolled_back(offers[-1].first_offered)
        source.out.check_not_rolled_back(target.into.received_through())
        calls = network_calls(source.out, target.into, chance.choice(offers[-3:]))
        picked = chance.choices(calls, k=chance.randrange(2 * len(calls)))
        target.stopping(stop, lambda: [call() for call in picked] and None)

    @rule(to=parties)
    def network_undisturbed(self, to: int) -> None:
        source, target = self.parties[1 - to], self.parties[to]
        bring(source, target)
        for name in source.out.look().names.values():
            sequence = int(name[:12])
            assert sequence <= target.into.received_through() or target.fs.exists(f"{BASE}/in/{name}")
        assert set(source.fs.list(f"{BASE}/out/blobs")) == set(target.fs.list(f"{BASE}/in/blobs"))

    @rule(to=parties, pick=st.integers(0, 99), kept=st.floats(0, 1), folder=st.sampled_from(["", "blobs/"]))
    def bring_one_file_torn(self, to: int, pick: int, kept: float, folder: str) -> None:
        source, target = self.parties[1 - to], self.parties[to]
        names = [n for n in source.fs.list(f"{BASE}/out/{folder}".rstrip("/")) if n != "blobs"]
        if names:
            name = names[pick % len(names)]
            data = source.fs.read(f"{BASE}/out/{folder}{name}")
            # A courier that replaces files without any fsync; half of the time it stops in the middle.
            torn = data[: int(2 * kept * len(data))]
            target.fs.write_unsynced(f"{BASE}/in/{folder}{name}", torn)

    @rule(to=parties, pick=st.integers(0, 99), folder=st.sampled_from(["", "blobs/"]))
    def lose_one_file(self, to: int, pick: int, folder: str) -> None:
        fs = self.parties[to].fs
        names = [n for n in fs.list(f"{BASE}/in/{folder}".rstrip("/")) if n != "blobs"]
        if names:
            fs.remove(f"{BASE}/in/{folder}{names[pick % len(names)]}")

    @rule(who=parties, power=st.booleans())
    def stop(self, who: int, power: bool) -> None:
        self.parties[who].restart(power)

    @invariant()
    def what_is_told_was_acted_upon_and_never_falls(self) -> None:
        for party, peer in zip(self.parties, reversed(self.parties), strict=True):
            told = party.box.peer_received_through
            assert set(range(1, told + 1)) <= set(peer.acted)
            assert peer.box.received_through >= told, "told more than is durable"
            assert party.box.received_through >= party.told
            party.told = party.box.received_through

    @invariant()
    def content_is_what_was_posted(self) -> None:
        for party, peer in zip(self.parties, reversed(self.parties), strict=True):
            for sequence, content in peer.acted.items():
                assert party.posted.get(sequence, content) == content

    def teardown(self) -> None:
        if not hasattr(self, "parties"):
            return
        for _ in range(8):
            for to in (0, 1):
                source, target = self.parties[1 - to], self.parties[to]
                self.finish_by(source, target)
                target.now_us += MINUTES_US
                target.tick()
        for party, peer in zip(self.parties, reversed(self.parties), strict=True):
            assert set(party.posted) <= set(peer.acted), "a message was lost"
            assert party.box.outstanding == ()
            assert [n for n in party.fs.list(f"{BASE}/out") if n.endswith(".msg")] == []
            assert party.fs.list(f"{BASE}/out/blobs") == []

    def finish_by(self, source: Party, target: Party) -> None:
        carry(source.fs, BASE, target.fs, BASE)


class NetworkMachine(MailboxMachine):
    """The same, and nothing but the network at the end."""

    def finish_by(self, source: Party, target: Party) -> None:
        bring(source, target)

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "parties"):
            for to in (0, 1):
                bring(self.parties[1 - to], self.parties[to])
                fs = self.parties[to].fs
                assert [n for n in fs.list(f"{BASE}/in") if n.endswith(".msg")] == []
                assert fs.list(f"{BASE}/in/blobs") + fs.list(f"{BASE}/partial") == []


TestMailboxMachine = MailboxMachine.TestCase
TestNetworkMachine = NetworkMachine.TestCase
