# SPDX-License-Identifier: Apache-2.0
"""Both ends of a mailbox as a network courier uses them, on both file systems: mirroring, refusals, rollbacks, room."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation import signing
from federation.blobs.store import BlobStore
from federation.durable.api import FileSystem
from federation.durable.real import RealFileSystem
from federation.durable.simulated import SimulatedFileSystem
from federation.errors import (
    CorruptObjectError,
    DigestMismatchError,
    LimitExceededError,
    ObjectNotFoundError,
    OverloadedError,
    ProtocolError,
    RolledBackError,
)
from federation.leaves import Reason
from federation.mailbox.arriving import MAX_OPEN_BLOBS
from federation.mailbox.carrier import carry
from federation.mailbox.ends import InEnd, MailboxLimits, OutEnd
from federation.mailbox.inbox import WINDOW
from federation.mailbox.layout import message_name
from federation.mailbox.mailbox import Mailbox
from federation.merkle import BLOB_PIECE_BYTES, EMPTY_ROOT, blob_digest
from federation.messages import RoundDeclined

KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2)]
NAMES = ("alpha", "coordinator")
BASES = ("box", "mailbox/alpha")
TWO_PIECES = Random(5).randbytes(BLOB_PIECE_BYTES + 9)


class Side:
    """One party with its mailbox and both ends."""

    def __init__(self, fs: FileSystem, me: int, limits: MailboxLimits | None = None) -> None:
        self.fs, self.me, self.base = fs, me, BASES[me]
        self.blobs = BlobStore(fs)
        self.box = Mailbox(fs, self.base, self.blobs, NAMES[me], NAMES[1 - me], "consortium", KEYS[me])
        self.out = OutEnd(fs, self.base)
        self.into = InEnd(fs, self.base, limits)

    def post(self, number: int, *blobs: bytes) -> int:
        body = RoundDeclined(run="demo", round=number, reason=Reason.OPERATOR, sentence="")
        return self.box.post(body, blobs=[self.blobs.put(blob) for blob in blobs])

    def act(self, now_us: int = 1_000_000) -> list[int]:
        """Acts upon all that is ready, acknowledges, prunes."""
        found = [r for r in self.box.collect(signing.public_bytes(KEYS[1 - self.me]), now_us) if r.ready]
        for received in found:
            self.box.done(received.sequence)
        self.box.acknowledge()
        self.box.prune()
        return [received.sequence for received in found]

    def files(self, folder: str) -> dict[str, bytes]:
        names = [name for name in self.fs.list(f"{self.base}/{folder}") if name != "blobs"]
        return {name: self.fs.read(f"{self.base}/{folder}/{name}") for name in names}


def bring(source: Side, target: Side) -> None:
    """What the network's courier does in one direction."""
    offered = source.out.look()
    target.into.check_not_rolled_back(offered.first_offered)
    source.out.check_not_rolled_back(target.into.received_through())
    for digest in target.into.missing_blobs(offered.blobs):
        num_bytes = dict(offered.blobs)[digest]
        for first, last in target.into.pieces_missing(digest, num_bytes):
            for piece in range(first, last + 1):
                target.into.put_pieces(digest, num_bytes, piece, source.out.read_pieces(digest, piece))
    here = {number for first, last in target.into.have() for number in range(first, last + 1)}
    for number, name in offered.names.items():
        data = source.out.read_message(name)
        if number not in here and data is not None:
            target.into.accept(name, data)
    target.into.acknowledge(offered.acknowledgement)
    digests = [digest for digest, _ in offered.blobs]
    target.into.withdraw(offered.first_offered, digests, next_sequence=offered.next_sequence)


@pytest.fixture(params=["real", "simulated"])
def make_fs(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], FileSystem]:
    if request.param == "real":
        return lambda name: RealFileSystem(tmp_path / name)
    return lambda name: SimulatedFileSystem()


@pytest.fixture
def site(make_fs: Callable[[str], FileSystem]) -> Side:
    return Side(make_fs("site"), 0)


@pytest.fixture
def coordinator(make_fs: Callable[[str], FileSystem]) -> Side:
    return Side(make_fs("coordinator"), 1)


def test_in_becomes_what_out_is_as_with_the_carrier(
    site: Side, coordinator: Side, make_fs: Callable[[str], FileSystem]
) -> None:
    other = make_fs("other")
    for round_number in range(3):
        site.post(1, TWO_PIECES, b"%d" % round_number)
        site.post(2)
        bring(site, coordinator)
        carry(site.fs, site.base, other, "copy")
        assert coordinator.files("in") == site.files("out")
        assert coordinator.files("in/blobs") == site.files("out/blobs")
        assert other.list("copy/in") == coordinator.fs.list(f"{coordinator.base}/in")
        assert coordinator.act() == [2 * round_number + 1, 2 * round_number + 2]
        bring(coordinator, site)
        site.act()
    bring(site, coordinator)
    assert (coordinator.files("in"), coordinator.files("in/blobs")) == (site.files("out"), {})
    assert coordinator.fs.list(f"{coordinator.base}/partial") == []


def test_an_empty_mailbox_offers_nothing(site: Side, coordinator: Side) -> None:
    fresh = OutEnd(site.fs, "nowhere").look()
    assert (fresh.first_offered, fresh.next_sequence, fresh.names, fresh.blobs) == (1, 1, {}, ())
    assert fresh.acknowledgement == b""
    assert (coordinator.into.have(), coordinator.into.received_through()) == ((), 0)
    assert (coordinator.into.acknowledgement_digest(), coordinator.into.pending_bytes()) == (b"", 0)
    bring(site, coordinator)
    assert coordinator.files("in") == {}


def test_numbers_outlive_the_messages(site: Side, coordinator: Side) -> None:
    for number in (1, 2, 3):
        site.post(number)
    assert (site.out.look().first_offered, site.out.look().next_sequence) == (1, 4)
    bring(site, coordinator)
    coordinator.act()
    bring(coordinator, site)
    site.act()
    offered = site.out.look()
    assert (offered.first_offered, offered.next_sequence, offered.names) == (4, 4, {})
    site.post(4)
    assert (site.out.look().first_offered, site.out.look().next_sequence) == (4, 5)


def test_a_staged_message_counts_and_is_not_offered(site: Side, coordinator: Side) -> None:
    site.post(1)
    name = site.out.look().names[1]
    site.fs.rename(f"box/out/{name}", f"box/out/{name}.new")
    offered = site.out.look()
    assert (offered.first_offered, offered.next_sequence, offered.names) == (1, 2, {})
    site.out.check_not_rolled_back(1)
    coordinator.into.check_not_rolled_back(offered.first_offered)


class PostedMeanwhile(OutEnd):
    """Between its first look at the state and its look at the names, or after it, the mailbox moves on."""

    meanwhile: Callable[[], object]
    after: bool

    def _listed(self) -> tuple[dict[int, str], set[int]]:
        if self.after:
            found = super()._listed()
        self.meanwhile()
        self.meanwhile = lambda: None
        return found if self.after else super()._listed()


@pytest.mark.parametrize("after", [False, True])
def test_a_mailbox_that_moves_on_meanwhile_is_never_taken_for_rolled_back(
    site: Side, coordinator: Side, after: bool
) -> None:
    def post_and_forget() -> None:
        site.post(1)
        bring(site, coordinator)
        coordinator.act()
        bring(coordinator, site)
        site.act()

    def post_and_acknowledge() -> None:
        coordinator.post(1)
        bring(coordinator, site)
        site.post(1)
        site.act()

    for meanwhile in (post_and_forget, post_and_acknowledge):
        out = PostedMeanwhile(site.fs, site.base)
        out.meanwhile, out.after = meanwhile, after
        offered = out.look()
        coordinator.into.check_not_rolled_back(offered.first_offered)
        out.meanwhile = post_and_forget
        out.check_not_rolled_back(coordinator.into.received_through())


def test_what_was_withdrawn_is_none(site: Side) -> None:
    assert site.out.read_message("000000000001-0123456789abcdef.msg") is None
    with pytest.raises(ObjectNotFoundError):
        site.out.read_pieces("ab" * 32, 0)


@pytest.mark.parametrize("name", ["../../keys/tls.pem", "ack", "000000000000-0123456789abcdef.msg", "1.msg", ""])
def test_only_names_of_messages_are_read_and_written(site: Side, name: str) -> None:
    with pytest.raises(ProtocolError, match="message: expected"):
        site.out.read_message(name)
    with pytest.raises(ProtocolError, match="message: expected"):
        site.into.accept(name, b"x")


@pytest.mark.parametrize("digest", ["../state.json", "", "AB" * 32, "ab" * 31])
def test_only_digests_name_blobs(site: Side, digest: str) -> None:
    for call in (
        lambda: site.out.read_pieces(digest, 0),
        lambda: site.into.put_pieces(digest, 1, 0, b"x"),
        lambda: site.into.pieces_missing(digest, 1),
        lambda: site.into.missing_blobs([(digest, 1)]),
    ):
        with pytest.raises(ProtocolError, match="a digest"):
            call()


def test_pieces_of_a_blob(site: Side) -> None:
    site.post(1, TWO_PIECES)
    digest = blob_digest(TWO_PIECES)
    assert [site.out.read_pieces(digest, piece) for piece in (0, 1)] == [
        TWO_PIECES[:BLOB_PIECE_BYTES],
        TWO_PIECES[BLOB_PIECE_BYTES:],
    ]
    for piece in (2, -1, 2**63):
        with pytest.raises(ObjectNotFoundError):
            site.out.read_pieces(digest, piece)
    assert site.out.look().blobs == ((digest, len(TWO_PIECES)),)


def test_blobs_are_offered_in_the_order_of_the_messages_that_name_them(site: Side) -> None:
    """Whatever their digests are: a peer with little room must get first what it can act upon first."""
    contents = [bytes([number]) * 10 for number in range(9)]
    for number, content in enumerate(contents):
        site.post(number, content, contents[0])
    stray = blob_digest(b"named by nothing")
    site.fs.write(f"{site.base}/out/blobs/{stray}", b"named by nothing")
    offered = [digest for digest, _ in site.out.look().blobs]
    assert offered == [*map(blob_digest, contents), stray]
    assert sorted(offered) != offered


def test_a_message_is_taken_once(site: Side, coordinator: Side) -> None:
    site.post(1)
    name = site.out.look().names[1]
    data = site.out.read_message(name)
    assert data is not None
    assert coordinator.into.accept(name, data)
    assert not coordinator.into.accept(name, data)
    assert coordinator.into.have() == ((1, 1),)
    coordinator.act()
    coordinator.into.withdraw(2, [])
    assert not coordinator.into.accept(name, data)
    assert coordinator.into.have() == ()


def test_a_torn_message_is_mended(site: Side, coordinator: Side) -> None:
    site.post(1)
    name = site.out.look().names[1]
    data = site.out.read_message(name)
    assert data is not None
    coordinator.fs.write(f"{coordinator.base}/in/{name}", data[:-1])
    assert coordinator.into.accept(name, data)
    assert coordinator.act() == [1]


def test_lies_about_messages_are_refused(coordinator: Side) -> None:
    good = message_name(1, b"message")
    with pytest.raises(ProtocolError, match="the bytes that this name speaks of"):
        coordinator.into.accept(good, b"another message")
    with pytest.raises(LimitExceededError, match="bytes at most"):
        coordinator.into.accept(good, bytes(8 * 1024 * 1024 + 1))
    with pytest.raises(LimitExceededError, match="bytes at most"):
        coordinator.into.acknowledge(bytes(8 * 1024 * 1024 + 1))
    with pytest.raises(ProtocolError, match=f"a number up to {WINDOW}"):
        coordinator.into.accept(message_name(WINDOW + 1, b"message"), b"message")
    assert coordinator.into.accept(message_name(WINDOW, b"message"), b"message")
    assert coordinator.into.have() == ((WINDOW, WINDOW),)


def test_ranges_of_what_is_here(coordinator: Side) -> None:
    for number in (1, 2, 3, 7, 9, 10):
        coordinator.into.accept(message_name(number, b"m"), b"m")
    assert coordinator.into.have() == ((1, 3), (7, 7), (9, 10))


def test_the_acknowledgement_is_news_once(site: Side, coordinator: Side) -> None:
    site.post(1)
    bring(site, coordinator)
    coordinator.act()
    slot = coordinator.out.look().acknowledgement
    assert slot
    assert not site.into.acknowledge(b"")
    assert site.into.acknowledge(slot)
    assert not site.into.acknowledge(slot)
    assert len(site.into.acknowledgement_digest()) == 32
    site.act()
    assert site.out.look().names == {}


def test_a_rejected_acknowledgement_is_not_asked_for_again(coordinator: Side) -> None:
    coordinator.into.acknowledge(b"junk")
    before = coordinator.into.acknowledgement_digest()
    coordinator.act()
    coordinator.act(now_us=62_000_000)
    assert not coordinator.fs.exists(f"{coordinator.base}/in/ack")
    assert coordinator.into.acknowledgement_digest() == before
    assert not coordinator.into.acknowledge(b"junk")
    assert coordinator.into.acknowledge(b"other junk")


def test_a_withdrawal_removes_only_what_was_received(site: Side, coordinator: Side) -> None:
    for number in (1, 2, 3):
        site.post(number)
    bring(site, coordinator)
    coordinator.into.withdraw(10**9, [])
    assert coordinator.into.have() == ((1, 3),)
    coordinator.act()
    coordinator.into.withdraw(3, [])
    assert coordinator.into.have() == ((3, 3),)


def test_a_withdrawal_takes_blobs_and_unfinished_ones(coordinator: Side) -> None:
    whole, unfinished, kept = b"whole", TWO_PIECES, TWO_PIECES[:-1]
    assert coordinator.into.put_pieces(blob_digest(whole), len(whole), 0, whole)
    for blob in (unfinished, kept):
        assert not coordinator.into.put_pieces(blob_digest(blob), len(blob), 0, blob[:BLOB_PIECE_BYTES])
    assert coordinator.into.pending_bytes() == len(whole) + len(unfinished) + len(kept)
    coordinator.into.withdraw(1, [blob_digest(kept)])
    assert coordinator.files("in/blobs") == {}
    assert coordinator.into.pending_bytes() == len(kept)
    assert coordinator.into.pieces_missing(blob_digest(kept), len(kept)) == ((1, 1),)
    InEnd(coordinator.fs, coordinator.base).withdraw(1, [])  # another process: nothing is open there
    assert coordinator.fs.list(f"{coordinator.base}/partial") == []


def test_an_older_offer_takes_nothing_away(coordinator: Side) -> None:
    digest = blob_digest(b"blob")
    coordinator.into.withdraw(1, [digest], next_sequence=6)
    coordinator.into.put_pieces(digest, 4, 0, b"blob")
    coordinator.into.withdraw(1, [], next_sequence=5)
    assert coordinator.into.missing_blobs([(digest, 4)]) == []
    coordinator.into.withdraw(1, [], next_sequence=6)
    assert coordinator.into.missing_blobs([(digest, 4)]) == [digest]


def test_missing_blobs_and_pieces(coordinator: Side) -> None:
    digest, num_bytes = blob_digest(TWO_PIECES), len(TWO_PIECES)
    assert coordinator.into.missing_blobs([(digest, num_bytes)]) == [digest]
    assert coordinator.into.pieces_missing(digest, num_bytes) == ((0, 1),)
    assert coordinator.fs.list(f"{coordinator.base}/partial") == []  # a question makes no files
    assert not coordinator.into.put_pieces(digest, num_bytes, 1, TWO_PIECES[BLOB_PIECE_BYTES:])
    assert coordinator.into.pieces_missing(digest, num_bytes) == ((0, 0),)
    assert coordinator.into.put_pieces(digest, num_bytes, 0, TWO_PIECES[:BLOB_PIECE_BYTES])
    assert coordinator.into.pieces_missing(digest, num_bytes) == ()
    assert coordinator.into.put_pieces(digest, num_bytes, 0, TWO_PIECES[:BLOB_PIECE_BYTES])
    assert coordinator.files("in/blobs") == {digest: TWO_PIECES}


def test_the_empty_blob_needs_no_piece(coordinator: Side) -> None:
    assert coordinator.into.pieces_missing(EMPTY_ROOT.hex(), 0) == ()
    assert coordinator.files("in/blobs") == {EMPTY_ROOT.hex(): b""}
    with pytest.raises(DigestMismatchError):
        coordinator.into.pieces_missing("ab" * 32, 0)
    with pytest.raises(ProtocolError, match="a piece below 0"):
        coordinator.into.put_pieces("ab" * 32, 0, 0, b"")


def test_a_blob_that_a_careless_courier_began_is_brought_in_full(coordinator: Side) -> None:
    digest = blob_digest(TWO_PIECES)
    coordinator.fs.write(f"{coordinator.base}/in/blobs/{digest}", TWO_PIECES[:5])
    assert coordinator.into.pieces_missing(digest, len(TWO_PIECES)) == ((0, 1),)
    coordinator.into.put_pieces(digest, len(TWO_PIECES), 0, TWO_PIECES[:BLOB_PIECE_BYTES])
    coordinator.into.put_pieces(digest, len(TWO_PIECES), 1, TWO_PIECES[BLOB_PIECE_BYTES:])
    assert coordinator.files("in/blobs") == {digest: TWO_PIECES}


def test_lies_about_blobs_are_refused_and_lose_nothing(coordinator: Side) -> None:
    into, digest, num_bytes = coordinator.into, blob_digest(TWO_PIECES), len(TWO_PIECES)
    first, last = TWO_PIECES[:BLOB_PIECE_BYTES], TWO_PIECES[BLOB_PIECE_BYTES:]
    into.put_pieces(digest, num_bytes, 0, first)
    for _ in range(2):
        for wrong in (num_bytes - 1, num_bytes + 1, 10 * num_bytes):
            with pytest.raises(ProtocolError, match=f"expected {num_bytes} bytes as when it was begun"):
                into.put_pieces(digest, wrong, 0, first)
            with pytest.raises(ProtocolError, match=f"expected {num_bytes} bytes as when it was begun"):
                into.pieces_missing(digest, wrong)
        with pytest.raises(ProtocolError, match="in piece 1"):
            into.put_pieces(digest, num_bytes, 1, first)
        into.close()  # the second time around, nothing is open
    assert into.pieces_missing(digest, num_bytes) == ((1, 1),)
    with pytest.raises(DigestMismatchError):
        into.put_pieces(digest, num_bytes, 1, bytes(len(last)))
    assert into.pieces_missing(digest, num_bytes) == ((0, 1),)
    into.put_pieces(digest, num_bytes, 0, first)
    assert into.put_pieces(digest, num_bytes, 1, last)
    with pytest.raises(DigestMismatchError):
        into.put_pieces(digest, 3, 0, b"lie")
    assert coordinator.files("in/blobs") == {digest: TWO_PIECES}


def test_a_restart_goes_on_with_every_piece(coordinator: Side) -> None:
    digest, num_bytes = blob_digest(TWO_PIECES), len(TWO_PIECES)
    coordinator.into.put_pieces(digest, num_bytes, 0, TWO_PIECES[:BLOB_PIECE_BYTES])
    again = InEnd(coordinator.fs, coordinator.base)
    assert again.pieces_missing(digest, num_bytes) == ((1, 1),)
    assert again.put_pieces(digest, num_bytes, 1, TWO_PIECES[BLOB_PIECE_BYTES:])
    assert coordinator.files("in/blobs") == {digest: TWO_PIECES}


def test_more_blobs_than_are_kept_open(coordinator: Side) -> None:
    blobs = [TWO_PIECES[:-1] + bytes([number]) for number in range(MAX_OPEN_BLOBS + 2)]
    for piece in (slice(BLOB_PIECE_BYTES, None), slice(BLOB_PIECE_BYTES)):
        for blob in blobs:
            coordinator.into.put_pieces(blob_digest(blob), len(blob), int(piece.start == BLOB_PIECE_BYTES), blob[piece])
            assert len(coordinator.into._arriving._open) <= MAX_OPEN_BLOBS
    assert set(coordinator.files("in/blobs")) == set(map(blob_digest, blobs))


def test_the_size_of_a_blob_is_limited(make_fs: Callable[[str], FileSystem]) -> None:
    into = InEnd(make_fs("x"), "box", MailboxLimits(max_pending_bytes=100, max_blob_bytes=200))
    for num_bytes in (-1, 101, 2**63):
        with pytest.raises(LimitExceededError, match="0 to 100 bytes"):
            into.pieces_missing("ab" * 32, num_bytes)
        with pytest.raises(LimitExceededError, match="0 to 100 bytes"):
            into.put_pieces("ab" * 32, num_bytes, 0, b"x")


def test_room_is_limited_and_comes_back(make_fs: Callable[[str], FileSystem]) -> None:
    site = Side(make_fs("site"), 0)
    limits = MailboxLimits(max_pending_bytes=BLOB_PIECE_BYTES + 2000, max_pending_files=4)
    coordinator = Side(make_fs("coordinator"), 1, limits)
    site.post(1, TWO_PIECES)
    bring(site, coordinator)
    site.post(2, b"x" * 2000)
    with pytest.raises(OverloadedError, match=f"expected {BLOB_PIECE_BYTES + 2000} bytes") as caught:
        bring(site, coordinator)
    assert caught.value.retry_after_seconds > 0
    with pytest.raises(OverloadedError):
        coordinator.into.put_pieces(blob_digest(b"x" * 2000), 2000, 0, b"x" * 2000)
    assert coordinator.act() == [1]
    bring(coordinator, site)
    site.act()
    offered = site.out.look()
    coordinator.into.withdraw(offered.first_offered, [digest for digest, _ in offered.blobs])
    bring(site, coordinator)
    assert coordinator.act() == [2]


def test_the_number_of_files_is_limited(make_fs: Callable[[str], FileSystem]) -> None:
    fs = make_fs("x")
    into = InEnd(fs, "box", MailboxLimits(max_pending_files=3))
    for number in (1, 2, 3):
        into.accept(message_name(number, b"m"), b"m")
    with pytest.raises(OverloadedError, match="3 files"):
        into.accept(message_name(4, b"m"), b"m")
    fs.remove(f"box/in/{message_name(2, b'm')}")  # as the mailbox does with junk
    assert into.accept(message_name(4, b"m"), b"m")


def test_a_mailbox_restored_from_an_old_backup_is_found(site: Side, coordinator: Side) -> None:
    with pytest.raises(RolledBackError, match="found that it has received 1"):
        site.out.check_not_rolled_back(1)
    site.out.check_not_rolled_back(0)
    coordinator.into.check_not_rolled_back(1)
    with pytest.raises(RolledBackError, match=r"offer message 1, found messages from 2"):
        coordinator.into.check_not_rolled_back(2)
    for number in (1, 3):
        coordinator.into.accept(message_name(number, b"m"), b"m")
    coordinator.into.check_not_rolled_back(2)
    with pytest.raises(RolledBackError, match=r"offer message 2, found messages from 4"):
        coordinator.into.check_not_rolled_back(4)
    with pytest.raises(RolledBackError, match=r"offer message 2, found"):
        coordinator.into.check_not_rolled_back(2**63)


def test_damaged_state_is_named(site: Side) -> None:
    site.fs.write("box/state.json", b"{}")
    for call in (site.out.look, site.into.received_through):
        with pytest.raises(CorruptObjectError, match=r"box/state\.json"):
            call()


def test_looking_changes_nothing_on_disk() -> None:
    fs = SimulatedFileSystem()
    side = Side(fs, 0)
    side.post(1, TWO_PIECES)
    before = fs.operations
    side.out.look()
    side.out.read_pieces(blob_digest(TWO_PIECES), 0)
    side.into.have()
    side.into.received_through()
    side.into.pending_bytes()
    side.into.pieces_missing("ab" * 32, 5)
    side.into.flush()
    assert fs.operations == before
