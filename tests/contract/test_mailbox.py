# SPDX-License-Identifier: Apache-2.0
"""The mailbox on both file systems: delivery in sequence, blobs, epochs, refusals, and what couriers may do."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation import dsse, signing
from federation.blobs.store import BlobStore
from federation.durable.api import FileSystem
from federation.durable.real import RealFileSystem
from federation.durable.simulated import SimulatedCrash, SimulatedFileSystem
from federation.errors import (
    CorruptObjectError,
    DiskFullError,
    InvalidTransition,
    LimitExceededError,
    ObjectNotFoundError,
    StorageUnavailableError,
    UsageError,
)
from federation.leaves import Reason
from federation.mailbox.carrier import carry, carry_both
from federation.mailbox.layout import message_name
from federation.mailbox.mailbox import Mailbox
from federation.messages import Header, Message, MessageBody, RoundDeclined, Telemetry
from federation.wire import message_from_bytes, message_to_bytes

SITE_KEY, OTHER_KEY = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))
SITE_PUBLIC, COORDINATOR_PUBLIC = signing.public_bytes(SITE_KEY), signing.public_bytes(OTHER_KEY)
SITE, COORDINATOR = "out-box", "mailbox/alpha"
NOW_US = 1_000_000_000
DAY_US = 24 * 3600 * 1_000_000


def body(number: int) -> RoundDeclined:
    return RoundDeclined(run="demo", round=number, reason=Reason.OPERATOR, sentence="")


class Party:
    """One side: its file system, blob store and mailbox."""

    def __init__(self, fs: FileSystem, me: str, peer: str, base: str, key: Ed25519PrivateKey) -> None:
        self.fs, self.base, self.key, self.me, self.peer = fs, base, key, me, peer
        self.blobs = BlobStore(fs)
        self.open()

    def open(self, epoch: int = 1) -> Mailbox:
        self.blobs = BlobStore(self.fs)
        self.box = Mailbox(
            self.fs, self.base, self.blobs, self.me, self.peer, "consortium", self.key, epoch, max_blob_wait_seconds=600
        )
        return self.box

    def numbers(self, public: bytes, now_us: int = NOW_US) -> list[int]:
        """Numbers of the bodies that are ready; all are marked as done."""
        found = [r for r in self.box.collect(public, now_us) if r.ready]
        for received in found:
            self.box.done(received.sequence)
        return [number_of(received.message) for received in found]


def number_of(message: Message) -> int:
    assert isinstance(message.body, RoundDeclined)
    return message.body.round


@pytest.fixture(params=["real", "simulated"])
def make_fs(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], FileSystem]:
    if request.param == "real":
        return lambda name: RealFileSystem(tmp_path / name)
    return lambda name: SimulatedFileSystem()


@pytest.fixture
def site(make_fs: Callable[[str], FileSystem]) -> Party:
    return Party(make_fs("site"), "alpha", "coordinator", SITE, SITE_KEY)


@pytest.fixture
def coordinator(make_fs: Callable[[str], FileSystem]) -> Party:
    return Party(make_fs("coordinator"), "coordinator", "alpha", COORDINATOR, OTHER_KEY)


def bring(site: Party, coordinator: Party) -> int:
    return carry_both(site.fs, site.base, coordinator.fs, coordinator.base)


def forged(
    sequence: int, what: MessageBody | None = None, key: Ed25519PrivateKey = SITE_KEY, **changes: object
) -> bytes:
    header = Header(
        consortium="consortium", sender="alpha", recipient="coordinator", sequence=sequence, received_through=0, epoch=1
    )
    message = Message(header=replace(header, **changes), body=what or body(sequence))  # type: ignore[arg-type]
    return dsse.sign_envelope(dsse.MESSAGE_TYPE, message_to_bytes(message), key)


def put(party: Party, name: str, data: bytes) -> None:
    party.fs.write(f"{party.base}/in/{name}", data)


def put_message(party: Party, raw: bytes, sequence: int) -> str:
    name = message_name(sequence, raw)
    put(party, name, raw)
    return name


def reasons(party: Party) -> list[str]:
    return [rejected.reason for rejected in party.box.rejected]


def test_messages_arrive_in_sequence_with_their_header(site: Party, coordinator: Party) -> None:
    assert site.box.post(body(1), roster_version=3, checkpoint=(7, "ab" * 32)) == 1
    assert site.box.post(body(2)) == 2
    bring(site, coordinator)
    first, second = coordinator.box.collect(SITE_PUBLIC, NOW_US)
    assert (number_of(first.message), number_of(second.message)) == (1, 2)
    header = first.message.header
    assert (header.sender, header.recipient, header.consortium) == ("alpha", "coordinator", "consortium")
    assert (header.roster_version, header.checkpoint_size, header.checkpoint_root) == (3, 7, "ab" * 32)
    assert message_from_bytes(dsse.open_envelope(first.raw, dsse.MESSAGE_TYPE, SITE_PUBLIC)) == first.message
    assert coordinator.box.rejected == []


def test_what_is_not_done_comes_again_what_is_done_does_not(site: Party, coordinator: Party) -> None:
    for number in (1, 2, 3):
        site.box.post(body(number))
    bring(site, coordinator)
    assert len(coordinator.box.collect(SITE_PUBLIC, NOW_US)) == 3
    coordinator.box.done(1)
    coordinator.box.done(3)
    coordinator.box.done(3)
    assert coordinator.numbers(SITE_PUBLIC) == [2]
    assert coordinator.numbers(SITE_PUBLIC) == []


def test_acknowledged_messages_are_pruned_and_withdrawn(site: Party, coordinator: Party) -> None:
    for number in (1, 2, 3):
        site.box.post(body(number))
    bring(site, coordinator)
    assert coordinator.numbers(SITE_PUBLIC) == [1, 2, 3]
    assert coordinator.box.received_through == 0
    assert coordinator.box.acknowledge()
    assert not coordinator.box.acknowledge()
    assert coordinator.box.received_through == 3
    bring(site, coordinator)
    assert site.box.collect(COORDINATOR_PUBLIC, NOW_US) == []
    assert (site.box.peer_received_through, site.box.outstanding) == (3, ())
    assert site.box.prune() == 3
    bring(site, coordinator)
    assert site.fs.list(f"{SITE}/out") == site.fs.list(f"{SITE}/out")
    assert [n for n in site.fs.list(f"{SITE}/out") if n.endswith(".msg")] == []
    assert [n for n in coordinator.fs.list(f"{COORDINATOR}/in") if n.endswith(".msg")] == []
    assert site.box.post(body(4)) == 4
    bring(site, coordinator)
    assert coordinator.numbers(SITE_PUBLIC) == [4]


def test_a_message_acknowledges_too(site: Party, coordinator: Party) -> None:
    site.box.post(body(1))
    bring(site, coordinator)
    coordinator.numbers(SITE_PUBLIC)
    coordinator.box.post(body(7))
    bring(site, coordinator)
    assert site.numbers(COORDINATOR_PUBLIC) == [7]
    assert site.box.peer_received_through == 0, "what was done was not durable when the message was signed"
    coordinator.box.acknowledge()
    coordinator.box.post(body(8))
    coordinator.fs.remove(f"{COORDINATOR}/out/ack")
    bring(site, coordinator)
    assert site.numbers(COORDINATOR_PUBLIC) == [8]
    assert site.box.peer_received_through == 1


def test_nothing_is_carried_twice(site: Party, coordinator: Party) -> None:
    site.box.post(body(1), blobs=[site.blobs.put(b"blob")])
    assert bring(site, coordinator) == 2
    assert bring(site, coordinator) == 0
    assert coordinator.numbers(SITE_PUBLIC) == [1]
    assert bring(site, coordinator) == 0


def test_a_gap_holds_up_what_is_behind_it(site: Party, coordinator: Party) -> None:
    for number in (1, 2, 3):
        site.box.post(body(number))
    bring(site, coordinator)
    name = next(n for n in coordinator.fs.list(f"{COORDINATOR}/in") if n.startswith("000000000002"))
    coordinator.fs.remove(f"{COORDINATOR}/in/{name}")
    assert coordinator.numbers(SITE_PUBLIC) == [1]
    bring(site, coordinator)
    assert coordinator.numbers(SITE_PUBLIC) == [2, 3]


def test_a_message_that_waits_for_blobs_does_not_hold_up_others(site: Party, coordinator: Party) -> None:
    digest = site.blobs.put(b"payload" * 1000)
    site.box.post(body(1), blobs=[digest])
    site.box.post(body(2))
    site.fs.rename(f"{SITE}/out/blobs", "hidden")
    bring(site, coordinator)
    first, second = coordinator.box.collect(SITE_PUBLIC, NOW_US)
    assert (first.ready, second.ready) == (False, True)
    assert coordinator.box.pending_blobs() == (digest,)
    with pytest.raises(InvalidTransition):
        coordinator.box.done(1)
    coordinator.box.done(2)
    coordinator.box.acknowledge()
    assert coordinator.box.received_through == 0
    site.fs.rename("hidden", f"{SITE}/out/blobs")
    bring(site, coordinator)
    assert coordinator.numbers(SITE_PUBLIC) == [1]
    coordinator.box.acknowledge()
    assert coordinator.box.received_through == 2
    assert coordinator.blobs.read(digest) == b"payload" * 1000


def test_a_blob_of_two_messages_stays_until_both_are_received(site: Party, coordinator: Party) -> None:
    digest = site.blobs.put(b"blob")
    site.box.post(body(1), blobs=[digest, digest])
    site.box.post(body(2), blobs=[digest])
    bring(site, coordinator)
    coordinator.box.collect(SITE_PUBLIC, NOW_US)
    for sequence, left in ((1, [digest]), (2, [])):
        coordinator.box.done(sequence)
        coordinator.box.acknowledge()
        bring(site, coordinator)
        site.box.collect(COORDINATOR_PUBLIC, NOW_US)
        site.box.prune()
        assert site.fs.list(f"{SITE}/out/blobs") == left
    assert site.blobs.has(digest)


def test_a_blob_that_does_not_come_is_refused_in_time(site: Party, coordinator: Party) -> None:
    site.box.post(body(1), blobs=[site.blobs.put(b"blob")])
    site.fs.remove_tree(f"{SITE}/out/blobs")
    bring(site, coordinator)
    assert coordinator.numbers(SITE_PUBLIC, NOW_US) == []
    coordinator.box.acknowledge()
    coordinator.open()
    assert coordinator.numbers(SITE_PUBLIC, NOW_US + 600_000_000) == []
    assert coordinator.box.rejected == []
    assert coordinator.box.collect(SITE_PUBLIC, NOW_US + 600_000_001) == []
    assert "did not come within 600 seconds" in reasons(coordinator)[0]
    coordinator.box.acknowledge()
    assert coordinator.box.received_through == 1


def test_a_partial_blob_is_not_yet_there(site: Party, coordinator: Party) -> None:
    digest = site.blobs.put(b"blob")
    site.box.post(body(1), blobs=[digest])
    bring(site, coordinator)
    put(coordinator, f"blobs/{digest}", b"bl")
    assert coordinator.numbers(SITE_PUBLIC) == []
    assert coordinator.box.rejected == []
    put(coordinator, f"blobs/{digest}", b"blob")
    assert coordinator.numbers(SITE_PUBLIC) == [1]


def test_a_wrong_blob_is_thrown_away_when_it_no_longer_grows(site: Party, coordinator: Party) -> None:
    digest = site.blobs.put(b"blob")
    site.box.post(body(1), blobs=[digest])
    bring(site, coordinator)
    put(coordinator, f"blobs/{digest}", b"bolb")
    assert coordinator.numbers(SITE_PUBLIC, NOW_US) == []
    assert coordinator.numbers(SITE_PUBLIC, NOW_US + 59_000_000) == []
    assert bring(site, coordinator) == 0
    assert coordinator.numbers(SITE_PUBLIC, NOW_US + 61_000_000) == []
    assert coordinator.box.rejected[0].name == f"blobs/{digest}"
    assert bring(site, coordinator) == 1
    assert coordinator.numbers(SITE_PUBLIC, NOW_US + 62_000_000) == [1]


def test_a_blob_that_nobody_names_is_not_taken_in(site: Party, coordinator: Party) -> None:
    digest = site.blobs.put(b"blob")
    put(coordinator, f"blobs/{digest}", b"blob")
    site.box.post(body(1))
    bring(site, coordinator)
    assert coordinator.numbers(SITE_PUBLIC) == [1]
    assert not coordinator.blobs.has(digest)


def test_an_expired_message_is_refused_and_counts_as_received(site: Party, coordinator: Party) -> None:
    site.box.post(body(1), expires_at_us=NOW_US)
    site.box.post(body(2), expires_at_us=NOW_US + 1)
    bring(site, coordinator)
    assert coordinator.numbers(SITE_PUBLIC, NOW_US + 1) == [2]
    assert "expired" in reasons(coordinator)[0]
    coordinator.box.acknowledge()
    assert coordinator.box.received_through == 2


def test_the_caller_may_refuse(site: Party, coordinator: Party) -> None:
    site.box.post(body(1), blobs=[site.blobs.put(b"blob")])
    site.fs.remove_tree(f"{SITE}/out/blobs")
    bring(site, coordinator)
    coordinator.box.collect(SITE_PUBLIC, NOW_US)
    coordinator.box.refuse(1, "not wanted")
    coordinator.box.refuse(1, "not wanted")
    assert reasons(coordinator) == ["not wanted"]
    coordinator.box.acknowledge()
    assert coordinator.box.received_through == 1
    with pytest.raises(InvalidTransition):
        coordinator.box.refuse(2, "unknown")
    with pytest.raises(InvalidTransition):
        coordinator.box.done(2)


JUNK: dict[str, tuple[Callable[[], bytes], str]] = {
    "no envelope": (lambda: b"junk", "envelope"),
    "empty": (lambda: b"", "envelope"),
    "another key": (lambda: forged(1, key=OTHER_KEY), "signature"),
    "another payload": (lambda: dsse.sign_envelope(dsse.MESSAGE_TYPE, b"\xff\xff", SITE_KEY), "Message"),
    "another type": (lambda: dsse.sign_envelope(dsse.UPDATE_TYPE, b"", SITE_KEY), "type"),
    "another consortium": (lambda: forged(1, consortium="elsewhere"), "header"),
    "another sender": (lambda: forged(1, sender="beta"), "header"),
    "another recipient": (lambda: forged(1, recipient="beta"), "header"),
    "another sequence": (lambda: forged(2), "header"),
    "no epoch": (lambda: forged(1, epoch=0), "epoch"),
    "epoch without room": (lambda: forged(1, epoch=2, previous_epoch_last=1), "epoch"),
    "oversize": (lambda: bytes(8 * 1024 * 1024 + 1), "bytes"),
}


@pytest.mark.parametrize(("make", "reason"), JUNK.values(), ids=JUNK.keys())
def test_junk_is_removed_and_reported_and_counts_for_nothing(
    site: Party, coordinator: Party, make: Callable[[], bytes], reason: str
) -> None:
    name = put_message(coordinator, make(), 1)
    assert coordinator.box.collect(SITE_PUBLIC, NOW_US) == []
    assert [(r.name, reason in r.reason) for r in coordinator.box.rejected] == [(name, True)], reasons(coordinator)
    assert not coordinator.fs.exists(f"{COORDINATOR}/in/{name}")
    site.box.post(body(1))
    bring(site, coordinator)
    assert coordinator.numbers(SITE_PUBLIC) == [1]


def test_bytes_under_the_name_of_others_are_rejected_when_they_no_longer_change(
    site: Party, coordinator: Party
) -> None:
    site.box.post(body(1))
    bring(site, coordinator)
    name = next(n for n in coordinator.fs.list(f"{COORDINATOR}/in") if n.endswith(".msg"))
    whole = coordinator.fs.read(f"{COORDINATOR}/in/{name}")
    put(coordinator, name, whole[:-1])
    assert coordinator.numbers(SITE_PUBLIC) == []
    assert coordinator.numbers(SITE_PUBLIC, NOW_US + 59_000_000) == []
    assert reasons(coordinator) == []
    assert coordinator.fs.exists(f"{COORDINATOR}/in/{name}")
    assert coordinator.numbers(SITE_PUBLIC, NOW_US + 60_000_000) == []
    assert "incomplete" in reasons(coordinator)[0]
    assert coordinator.box.rejected[0].error == "DigestMismatchError"
    bring(site, coordinator)
    assert coordinator.numbers(SITE_PUBLIC, NOW_US + 60_000_000) == [1]


@pytest.mark.parametrize("torn", [0, 1, -1])
def test_a_message_that_is_still_being_written_is_not_taken_away(site: Party, coordinator: Party, torn: int) -> None:
    """A carrier that writes straight to the final name."""
    site.box.post(body(1))
    bring(site, coordinator)
    name = next(n for n in coordinator.fs.list(f"{COORDINATOR}/in") if n.endswith(".msg"))
    whole = coordinator.fs.read(f"{COORDINATOR}/in/{name}")
    put(coordinator, name, whole[:torn])
    assert coordinator.numbers(SITE_PUBLIC) == []
    assert coordinator.fs.read(f"{COORDINATOR}/in/{name}") == whole[:torn]
    put(coordinator, name, whole)
    assert coordinator.numbers(SITE_PUBLIC, NOW_US + 1_000_000) == [1]
    assert reasons(coordinator) == []


def test_a_torn_acknowledgement_waits_for_the_rest(site: Party, coordinator: Party) -> None:
    site.box.post(body(1))
    bring(site, coordinator)
    coordinator.numbers(SITE_PUBLIC)
    coordinator.box.acknowledge()
    slot = coordinator.fs.read(f"{COORDINATOR}/out/ack")
    for torn in (slot[:0], slot[:-7]):
        put(site, "ack", torn)
        assert site.box.collect(COORDINATOR_PUBLIC, NOW_US) == []
        assert site.fs.exists(f"{SITE}/in/ack")
    put(site, "ack", slot)
    site.box.collect(COORDINATOR_PUBLIC, NOW_US + 1_000_000)
    assert site.box.peer_received_through == 1
    assert reasons(site) == []


CARRIERS_OWN = (
    ".000000000001-0123456789abcdef.msg.Xy12zQ",
    "000000000001-0123456789abcdef.msg.filepart",
    "ack.part",
    "~partial",
    "000000000001-0123456789abcdef.msg~",
)


@pytest.mark.parametrize("name", CARRIERS_OWN)
def test_what_a_carrier_has_not_finished_is_left_to_it_for_a_while(coordinator: Party, name: str) -> None:
    put(coordinator, name, b"half")
    put(coordinator, f"blobs/{'0' * 64}.part", b"half")
    put(coordinator, ".~tmp~/deeper", b"half")
    for seconds in (0, 600):
        coordinator.box.collect(SITE_PUBLIC, NOW_US + seconds * 1_000_000)
        assert coordinator.fs.exists(f"{COORDINATOR}/in/{name}")
    coordinator.box.collect(SITE_PUBLIC, NOW_US + 601_000_000)
    assert reasons(coordinator) == []
    assert coordinator.fs.list(f"{COORDINATOR}/in") == ["blobs"]
    assert coordinator.fs.list(f"{COORDINATOR}/in/blobs") == []


def test_what_a_carrier_never_takes_away_goes_in_the_end(site: Party, coordinator: Party) -> None:
    digest = site.blobs.put(b"blob")
    site.box.post(body(1), blobs=[digest])
    bring(site, coordinator)
    assert coordinator.numbers(SITE_PUBLIC) == [1]
    coordinator.box.acknowledge()
    for seconds in (1, 601):
        coordinator.box.collect(SITE_PUBLIC, NOW_US + seconds * 1_000_000)
        assert len(coordinator.fs.list(f"{COORDINATOR}/in")) == 2
    coordinator.box.collect(SITE_PUBLIC, NOW_US + 602_000_000)
    assert coordinator.fs.list(f"{COORDINATOR}/in") == ["blobs"]
    assert coordinator.fs.list(f"{COORDINATOR}/in/blobs") == []
    assert coordinator.blobs.read(digest) == b"blob"


def test_a_file_system_that_does_not_answer_loses_nothing(
    site: Party, coordinator: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = site.blobs.put(b"blob")
    site.box.post(body(1))
    site.box.post(body(2), blobs=[digest])
    bring(site, coordinator)

    def unavailable(*_: object, **__: object) -> bytes:
        raise StorageUnavailableError("stale")

    with monkeypatch.context() as patched:
        patched.setattr(coordinator.fs, "read", unavailable)
        patched.setattr(coordinator.fs, "read_range", unavailable)
        for seconds in (0, 100, 600):
            assert coordinator.box.collect(SITE_PUBLIC, NOW_US + seconds * 1_000_000) == []
    assert reasons(coordinator) == []
    assert coordinator.numbers(SITE_PUBLIC, NOW_US + 601_000_000) == [1, 2]


@pytest.mark.parametrize("name", ["hello.txt", "000000000000-0123456789abcdef.msg", "1-0123456789abcdef.msg"])
def test_strange_names_are_removed(coordinator: Party, name: str) -> None:
    put(coordinator, name, b"x")
    coordinator.box.collect(SITE_PUBLIC, NOW_US)
    assert coordinator.box.rejected[0].name == name
    assert coordinator.fs.list(f"{COORDINATOR}/in") == []


def test_a_directory_under_a_message_name_holds_up_nothing(site: Party, coordinator: Party) -> None:
    coordinator.fs.mkdir(f"{COORDINATOR}/in/000000000001-0123456789abcdef.msg/deeper")
    coordinator.fs.mkdir(f"{COORDINATOR}/in/ack")
    site.box.post(body(1))
    carry(site.fs, SITE, coordinator.fs, COORDINATOR)
    assert coordinator.numbers(SITE_PUBLIC) == [1]


def test_reports_are_bounded() -> None:
    coordinator = Party(SimulatedFileSystem(), "coordinator", "alpha", COORDINATOR, OTHER_KEY)
    for number in range(1100):
        put(coordinator, f"junk{number}", b"x")
    coordinator.box.collect(SITE_PUBLIC, NOW_US)
    assert len(coordinator.box.rejected) == 1000


def test_one_sequence_with_two_digests_is_rejected(coordinator: Party) -> None:
    first, second = forged(1, body(1)), forged(1, body(2))
    put_message(coordinator, first, 1)
    assert len(coordinator.box.collect(SITE_PUBLIC, NOW_US)) == 1
    name = put_message(coordinator, second, 1)
    assert coordinator.numbers(SITE_PUBLIC) == [1]
    put(coordinator, name, second)
    assert coordinator.numbers(SITE_PUBLIC) == []
    assert [r.name for r in coordinator.box.rejected] == [name, name]


def test_a_new_epoch_makes_void_what_an_older_one_signed_beyond_it(coordinator: Party) -> None:
    put_message(coordinator, forged(1), 1)
    void = put_message(coordinator, forged(2, body(20)), 2)
    assert len(coordinator.box.collect(SITE_PUBLIC, NOW_US)) == 2
    put_message(coordinator, forged(2, body(21), epoch=2, previous_epoch_last=1), 2)
    later = put_message(coordinator, forged(3, body(30)), 3)
    put_message(coordinator, forged(3, body(31), epoch=2, previous_epoch_last=1), 3)
    found = coordinator.numbers(SITE_PUBLIC) + coordinator.numbers(SITE_PUBLIC)
    assert found == [1, 21, 31]
    assert {r.name for r in coordinator.box.rejected} >= {void, later}


def test_an_epoch_names_one_end(coordinator: Party) -> None:
    put_message(coordinator, forged(2, epoch=2, previous_epoch_last=1), 2)
    put_message(coordinator, forged(3, epoch=2, previous_epoch_last=2), 3)
    coordinator.box.collect(SITE_PUBLIC, NOW_US)
    assert "expected to follow 1" in reasons(coordinator)[0]


def test_a_takeover_continues_the_numbers_and_stops_the_old_process(site: Party, coordinator: Party) -> None:
    site.box.post(body(1))
    site.open(epoch=2)
    assert site.box.post(body(2)) == 2
    bring(site, coordinator)
    _, second = coordinator.box.collect(SITE_PUBLIC, NOW_US)
    assert (second.message.header.epoch, second.message.header.previous_epoch_last) == (2, 1)
    with pytest.raises(UsageError, match="epoch 2"):
        site.open(epoch=1)


def test_a_new_epoch_acknowledges_anew_and_an_old_acknowledgement_is_ignored(site: Party, coordinator: Party) -> None:
    site.box.post(body(1))
    bring(site, coordinator)
    coordinator.numbers(SITE_PUBLIC)
    coordinator.box.acknowledge()
    old = coordinator.fs.read(f"{COORDINATOR}/out/ack")
    coordinator.open(epoch=2)
    assert coordinator.box.acknowledge()
    bring(site, coordinator)
    site.box.collect(COORDINATOR_PUBLIC, NOW_US)
    put(site, "ack", old)
    site.box.collect(COORDINATOR_PUBLIC, NOW_US)
    assert "present epoch" in reasons(site)[0]


def test_nobody_acknowledges_what_was_not_posted(site: Party, coordinator: Party) -> None:
    put_message(coordinator, forged(1, received_through=5), 1)
    assert coordinator.numbers(SITE_PUBLIC) == [1]
    assert "acknowledges message 5" in reasons(coordinator)[0]
    assert coordinator.box.peer_received_through == 0
    assert coordinator.box.post(body(1)) == 1


def test_an_old_acknowledgement_does_not_take_anything_back(site: Party, coordinator: Party) -> None:
    acks = []
    for number in (1, 2):
        site.box.post(body(number))
        bring(site, coordinator)
        coordinator.numbers(SITE_PUBLIC)
        coordinator.box.acknowledge()
        acks.append(coordinator.fs.read(f"{COORDINATOR}/out/ack"))
    for ack in (acks[1], acks[0]):
        put(site, "ack", ack)
        site.box.collect(COORDINATOR_PUBLIC, NOW_US)
    assert site.box.peer_received_through == 2


def test_post_wants_its_blobs_and_a_size_that_can_travel(site: Party) -> None:
    with pytest.raises(ObjectNotFoundError):
        site.box.post(body(1), blobs=["ab" * 32])
    lines = tuple("x" * 400 for _ in range(30_000))
    with pytest.raises(LimitExceededError):
        site.box.post(Telemetry(run="demo", allocation="a1", lines=lines))
    assert site.box.post(body(1)) == 1


def test_a_restart_offers_and_numbers_as_before(site: Party, coordinator: Party) -> None:
    site.box.post(body(1), blobs=[site.blobs.put(b"blob")])
    site.box.post(body(2))
    site.open()
    assert site.box.outstanding == (1, 2)
    assert site.box.post(body(3)) == 3
    bring(site, coordinator)
    assert coordinator.numbers(SITE_PUBLIC) == [1, 2, 3]
    coordinator.box.acknowledge()
    coordinator.open()
    assert coordinator.numbers(SITE_PUBLIC) == []
    assert not coordinator.box.acknowledge()
    bring(site, coordinator)
    site.box.collect(COORDINATOR_PUBLIC, NOW_US)
    site.box.prune()
    site.open()
    assert (site.box.outstanding, site.box.last_sequence) == ((), 3)
    assert site.fs.list(f"{SITE}/out/blobs") == []


def test_damaged_files_of_our_own_are_refused(site: Party) -> None:
    site.box.post(body(1))
    name = next(n for n in site.fs.list(f"{SITE}/out") if n.endswith(".msg"))
    whole = site.fs.read(f"{SITE}/out/{name}")
    site.fs.write(f"{SITE}/out/{name}", whole[:-1])
    with pytest.raises(CorruptObjectError, match=name):
        site.open()
    site.fs.write(f"{SITE}/out/{name}", whole)
    for state in (b"", b"{}", b"[]", b'{"format": 2}', b"\xff"):
        site.fs.write(f"{SITE}/state.json", state)
        with pytest.raises(CorruptObjectError, match=r"state\.json"):
            site.open()


def test_a_courier_takes_only_what_belongs_to_a_mailbox(site: Party, coordinator: Party) -> None:
    site.fs.write(f"{SITE}/out/secret", b"x")
    site.fs.write(f"{SITE}/out/blobs/README", b"x")
    site.fs.write(f"{SITE}/out/000000000001-0123456789abcdef.msg.new", b"x")
    assert carry(site.fs, SITE, coordinator.fs, COORDINATOR) == 0
    assert coordinator.fs.list(f"{COORDINATOR}/in") == []


def test_a_courier_mends_what_another_one_left_half_done(site: Party, coordinator: Party) -> None:
    digest = site.blobs.put(b"blob")
    site.box.post(body(1), blobs=[digest])
    put(coordinator, f"blobs/{digest}", b"b")
    assert carry(site.fs, SITE, coordinator.fs, COORDINATOR) == 2
    assert coordinator.numbers(SITE_PUBLIC) == [1]


def test_a_full_disk_posts_nothing_twice() -> None:
    fs = SimulatedFileSystem()
    site = Party(fs, "alpha", "coordinator", SITE, SITE_KEY)
    coordinator = Party(SimulatedFileSystem(), "coordinator", "alpha", COORDINATOR, OTHER_KEY)
    site.box.post(body(1))
    fs.fail_writes_after(10)
    with pytest.raises(DiskFullError):
        site.box.post(body(2))
    fs.fail_writes_after(None)
    assert site.box.post(body(3)) == 2
    bring(site, coordinator)
    assert coordinator.numbers(SITE_PUBLIC) == [1, 3]


@pytest.mark.parametrize("seed", range(6))
def test_what_a_restart_reads_and_tells_survives_a_power_loss(seed: int) -> None:
    for stop in range(12):
        site = Party(SimulatedFileSystem(), "alpha", "coordinator", SITE, SITE_KEY)
        fs = SimulatedFileSystem(seed)
        coordinator = Party(fs, "coordinator", "alpha", COORDINATOR, OTHER_KEY)
        site.box.post(body(1))
        bring(site, coordinator)
        coordinator.numbers(SITE_PUBLIC)
        left = stop

        def hook(step: str, path: str) -> None:
            nonlocal left
            if left == 0:
                raise SimulatedCrash(step)
            left -= 1

        fs.hook = hook
        with suppress(SimulatedCrash):
            coordinator.box.acknowledge()
        fs.hook = None
        coordinator.fs = alive = fs.kill()
        coordinator.open()
        told = coordinator.box.received_through
        coordinator.fs = alive.crash()
        assert coordinator.open().received_through == told


def test_numbers_outlive_the_messages_that_showed_them() -> None:
    fs = SimulatedFileSystem()
    site = Party(fs, "alpha", "coordinator", SITE, SITE_KEY)
    coordinator = Party(SimulatedFileSystem(), "coordinator", "alpha", COORDINATOR, OTHER_KEY)
    site.box.post(body(1))
    bring(site, coordinator)
    coordinator.numbers(SITE_PUBLIC)
    coordinator.box.acknowledge()
    bring(site, coordinator)
    site.box.collect(COORDINATOR_PUBLIC, NOW_US)
    site.box.prune()
    site.fs = fs.kill()
    assert site.open().post(body(2)) == 2


def test_an_idle_mailbox_changes_nothing_on_disk() -> None:
    fs, other = SimulatedFileSystem(), SimulatedFileSystem()
    site = Party(fs, "alpha", "coordinator", SITE, SITE_KEY)
    coordinator = Party(other, "coordinator", "alpha", COORDINATOR, OTHER_KEY)
    site.box.post(body(1))
    for _ in range(3):
        for party, public in ((site, COORDINATOR_PUBLIC), (coordinator, SITE_PUBLIC)):
            bring(site, coordinator)
            party.numbers(public)
            party.box.acknowledge()
            party.box.prune()
    before = fs.operations, other.operations
    bring(site, coordinator)
    site.numbers(COORDINATOR_PUBLIC)
    coordinator.numbers(SITE_PUBLIC)
    site.box.acknowledge()
    site.box.prune()
    coordinator.box.acknowledge()
    coordinator.box.prune()
    assert (fs.operations, other.operations) == before
