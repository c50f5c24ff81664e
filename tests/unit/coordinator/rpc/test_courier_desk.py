# SPDX-License-Identifier: Apache-2.0
"""What the courier's calls do to files, without a socket."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.rpc import courier_desk as desk
from coordinator.rpc.courier_desk import CourierDesk, Pushed, Wanted
from federation.durable.simulated import SimulatedFileSystem
from federation.errors import (
    ConfigError,
    LimitExceededError,
    ProtocolError,
    ProtocolVersionError,
    RolledBackError,
)
from federation.mailbox.ends import MailboxLimits, Offered, Ranges
from federation.mailbox.layout import message_name
from federation.mailbox.state import StateFile
from federation.merkle import BLOB_PIECE_BYTES

MIB = 1024 * 1024


def wanted(have: Ranges = (), received_through: int = 0, digest: bytes = b"", max_bytes: int = 0) -> Wanted:
    return Wanted(have=have, received_through=received_through, acknowledgement_digest=digest, max_bytes=max_bytes)


def offered(*sequences: int) -> Offered:
    names = {number: f"m{number}" for number in sequences}
    return Offered(first_offered=1, next_sequence=100, names=names, blobs=(), acknowledgement=b"")


@given(st.sets(st.integers(1, 60)), st.sets(st.integers(1, 60)), st.integers(0, 60))
def test_what_is_lacking_is_a_difference_of_sets(there: set[int], have: set[int], through: int) -> None:
    ranges = desk.checked_ranges((number, number) for number in sorted(have))
    expected = [f"m{number}" for number in sorted(there - have) if number > through]
    assert desk.lacking(offered(*sorted(there)), wanted(ranges, through)) == expected


def test_ranges_cover_all_between() -> None:
    assert desk.lacking(offered(*range(1, 9)), wanted(((1, 2), (4, 6)))) == ["m3", "m7", "m8"]


@pytest.mark.parametrize("ranges", [[(0, 1)], [(2, 1)], [(1, 3), (3, 4)], [(5, 6), (1, 2)]])
def test_ranges_of_another_form_are_refused(ranges: list[tuple[int, int]]) -> None:
    with pytest.raises(ProtocolError):
        desk.checked_ranges(ranges)


def test_counts_are_bounded() -> None:
    with pytest.raises(LimitExceededError):
        desk.checked_ranges((2 * n + 1, 2 * n + 1) for n in range(desk.MAX_RANGES + 1))
    for first, count in ((0, 0), (0, desk.MAX_PIECES + 1), (2**63, 1)):
        with pytest.raises(LimitExceededError):
            desk.checked_pieces(first, count, 1)
    with pytest.raises(LimitExceededError, match="2 pieces in a message at most"):
        desk.checked_data(bytes(2 * BLOB_PIECE_BYTES + 1))
    for digest in (b"", bytes(31), bytes(33)):
        with pytest.raises(ProtocolError):
            desk.checked_digest(digest)


def test_the_highest_common_version_is_chosen() -> None:
    assert desk.common_version([1, 9]) == 1
    for theirs in ([], [2], [0]):
        with pytest.raises(ProtocolVersionError):
            desk.common_version(theirs)


def with_messages(fs: SimulatedFileSystem, sizes: list[int]) -> list[str]:
    names = []
    for number, size in enumerate(sizes, 1):
        data = bytes([number]) * size
        names.append(message_name(number, data))
        fs.write(f"mailbox/lumi/out/{names[-1]}", data)
    return names


def test_a_reply_is_bounded_and_has_at_least_one_message() -> None:
    fs = SimulatedFileSystem()
    names = with_messages(fs, [3 * MIB, 3 * MIB, 3 * MIB])
    mailbox = CourierDesk(fs, MailboxLimits()).mailbox("lumi")
    found = [[name for name, _ in mailbox.pull(wanted(max_bytes=n)).messages] for n in (0, 1, 6 * MIB, 2**63)]
    assert found == [names[:2], names[:1], names[:2], names[:2]]


def test_a_slot_that_the_caller_has_is_no_news() -> None:
    fs = SimulatedFileSystem()
    fs.write("mailbox/lumi/out/ack", b"slot")
    mailbox = CourierDesk(fs, MailboxLimits()).mailbox("lumi")
    assert mailbox.pull(wanted()).is_news
    assert not mailbox.pull(wanted(digest=hashlib.sha256(b"slot").digest())).is_news


def test_who_has_received_what_we_have_not_sent_talks_to_an_old_backup() -> None:
    mailbox = CourierDesk(SimulatedFileSystem(), MailboxLimits()).mailbox("lumi")
    with pytest.raises(RolledBackError):
        mailbox.pull(wanted(received_through=1))
    with pytest.raises(RolledBackError):
        mailbox.push(Pushed(messages=(), first_offered=5, next_sequence=9, acknowledgement=b"", blobs=()))


def test_a_push_that_brings_nothing_new_wakes_nobody() -> None:
    mailbox = CourierDesk(SimulatedFileSystem(), MailboxLimits()).mailbox("lumi")
    messages = ((message_name(1, b"one"), b"one"),)
    pushed = Pushed(messages=messages, first_offered=1, next_sequence=2, acknowledgement=b"a", blobs=())
    first, second = mailbox.push(pushed), mailbox.push(pushed)
    assert (first.is_news, second.is_news) == (True, False)
    assert first.have == second.have == ((1, 1),)


@pytest.mark.parametrize("peer", ["..", "a/b", "", "A", "lumi\n", "x" * 41])
def test_a_mailbox_is_a_members(peer: str) -> None:
    with pytest.raises(ConfigError):
        CourierDesk(SimulatedFileSystem(), MailboxLimits()).mailbox(peer)


def test_a_mailbox_is_opened_once() -> None:
    courier = CourierDesk(SimulatedFileSystem(), MailboxLimits())
    assert courier.mailbox("lumi") is courier.mailbox("lumi")
    assert courier.mailbox("lumi") is not courier.mailbox("jupiter")


def test_a_readmitted_peer_begins_with_an_empty_mailbox() -> None:
    """Its old mailbox counted far beyond; offers of the new one must not be taken for late ones."""
    fs = SimulatedFileSystem()
    couriers = CourierDesk(fs, MailboxLimits())
    couriers.mailbox("lumi").push(
        Pushed(messages=(), first_offered=1, next_sequence=500, acknowledgement=b"", blobs=())
    )
    others = couriers.mailbox("jupiter")
    couriers.forget({"lumi", "never-seen"})
    fs.remove_tree("mailbox/lumi")
    raw = b"the first message of its new keys"
    name = message_name(1, raw)
    offer = Pushed(messages=((name, raw),), first_offered=1, next_sequence=2, acknowledgement=b"", blobs=())
    assert couriers.mailbox("lumi").push(offer).is_news
    withdrawn = Pushed(messages=(), first_offered=2, next_sequence=2, acknowledgement=b"", blobs=())
    state = StateFile(fs, "mailbox/lumi/state.json")
    state.now = state.now.with_done(1)
    state.flush()
    couriers.mailbox("lumi").push(withdrawn)
    assert fs.list("mailbox/lumi/in") == []
    assert couriers.mailbox("jupiter") is others


@pytest.mark.parametrize(
    ("per_message", "expected"),
    [
        (0, [(3, 1), (4, 1), (5, 1), (6, 1), (7, 1)]),
        (2, [(3, 2), (5, 2), (7, 1)]),
        (2**32 - 1, [(3, 2), (5, 2), (7, 1)]),
    ],
)
def test_messages_have_as_many_pieces_as_were_asked_for_up_to_two(
    per_message: int, expected: list[tuple[int, int]]
) -> None:
    assert list(desk.checked_pieces(3, 5, per_message)) == expected
