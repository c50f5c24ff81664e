# SPDX-License-Identifier: Apache-2.0
"""What of the ledger a site is sent, and when it is sent again."""

import pytest

from coordinator.tails import Tails
from federation import dsse, signing
from federation import leaves as lv
from federation.blobs.store import BlobStore
from federation.durable.simulated import SimulatedFileSystem
from federation.ids import COORDINATOR
from federation.ledger.log import Ledger
from federation.mailbox.mailbox import Mailbox
from federation.messages import LedgerTail
from federation.roster import TrustedRosters, peek_roster, root_fingerprint
from federation.rounds import fold
from federation.testing.rosters import MemoryConsortium
from federation.wire import message_from_bytes

SITE = "alpha"


class Post:
    """A ledger, and the mailbox of one site that nobody empties."""

    def __init__(self) -> None:
        fs = SimulatedFileSystem()
        key = signing.generate_key()
        self.ledger = Ledger.create(fs, "ledger", "origin", key, lambda: {})
        drained = lv.SiteDrainedV1(site=SITE, operator="olga", command="drain")
        self.ledger.append([lv.Leaf(at_us=number, body=drained) for number in range(3)])
        blobs = BlobStore(fs)
        self.mailbox = Mailbox(fs, "mailbox/site", blobs, COORDINATOR, SITE, "demo", key)
        self.tails = Tails(ledger=self.ledger, blobs=blobs)
        self.rosters = three_rosters()
        self.fs = fs

    def publish(self, now: float = 0.0) -> bool:
        """Whether there was something to send."""
        return self.tails.publish(SITE, self.mailbox, fold([]), {}, self.rosters, now=now)

    def append(self, *bodies: lv.Body) -> None:
        self.ledger.append([lv.Leaf(at_us=9, body=body) for body in bodies])

    def rosters_sent(self) -> list[int]:
        """Versions in the messages that wait for the site, one message each."""
        names = (name for name in self.fs.list("mailbox/site/out") if name.endswith(".msg"))
        raw = (dsse.peek_payload(self.fs.read(f"mailbox/site/out/{name}"), dsse.MESSAGE_TYPE) for name in names)
        bodies = (message_from_bytes(payload).body for payload in raw)
        documents = (body.roster for body in bodies if isinstance(body, LedgerTail))
        return [peek_roster(document).version if document else 0 for document in documents]


def three_rosters() -> TrustedRosters:
    """Versions 1 to 3 of one consortium."""
    eu = MemoryConsortium(sites=(SITE,))
    first = eu.roster()
    second = eu.next(first)
    documents = [eu.document(roster) for roster in (first, second, eu.next(second))]
    return TrustedRosters.load(documents, root_fingerprint(first), 1)


@pytest.fixture
def post() -> Post:
    return Post()


def test_a_site_is_sent_each_leaf_once(post: Post) -> None:
    assert post.publish()
    assert not post.publish()
    post.tails.reported(SITE, 0, received_through=0)
    assert not post.publish(), "the tail is still on its way"
    post.tails.reported(SITE, post.ledger.size, received_through=1)
    assert not post.publish()


def test_a_site_that_lost_leaves_which_it_had_received_is_sent_them_again(post: Post) -> None:
    assert post.publish()
    post.tails.reported(SITE, 1, received_through=1)
    assert post.publish()
    assert not post.publish()
    post.tails.reported(SITE, 1, received_through=1)
    assert not post.publish(), "the repetition is on its way"
    post.tails.reported(SITE, 1, received_through=2)
    assert post.publish()


def test_a_site_of_which_nothing_is_known_is_sent_the_newest_roster(post: Post) -> None:
    assert post.publish()
    assert post.rosters_sent() == [3]


def test_a_site_that_was_away_is_sent_one_roster_after_the_other(post: Post) -> None:
    post.tails.reported(SITE, post.ledger.size, received_through=0, roster_version=1)
    assert post.publish()
    assert post.publish()
    assert not post.publish()
    assert post.rosters_sent() == [2, 3]


def test_a_site_that_could_not_take_the_newest_roster_is_sent_those_before(post: Post) -> None:
    assert post.publish()
    post.tails.reported(SITE, post.ledger.size, received_through=1, roster_version=1)
    while post.publish():
        pass
    assert post.rosters_sent() == [3, 2, 3]


SEALED = lv.RoundSealedV1(run="run", round=0, sentence="", updates=())
RECORDED = lv.StateRecordedV1(run="run", round=0, fragment=0, momentum_digest="", residual_digest="")
DRAINED = lv.SiteDrainedV1(site=SITE, operator="olga", command="drain")


def verdict(outcome: lv.Outcome) -> lv.VerdictV1:
    return lv.VerdictV1(run="run", round=0, site=SITE, outcome=outcome, reason=lv.Reason.NONE, sentence="")


@pytest.mark.parametrize("body", [SEALED, RECORDED, verdict(lv.Outcome.ADMITTED)])
def test_leaves_that_no_site_acts_upon_wait_for_others(post: Post, body: lv.Body) -> None:
    assert post.publish()
    post.append(body)
    assert not post.publish(100.0)
    assert not post.publish(100.9)
    post.append(SEALED)
    assert not post.publish(100.9), "the second one does not begin another wait"
    assert post.publish(101.0)
    post.append(body)
    assert not post.publish(101.5)
    post.append(DRAINED)
    assert post.publish(101.5)
    assert not post.publish(105.0)


@pytest.mark.parametrize("body", [DRAINED, *(verdict(o) for o in lv.Outcome if o is not lv.Outcome.ADMITTED)])
def test_leaves_that_a_site_acts_upon_go_at_once(post: Post, body: lv.Body) -> None:
    assert post.publish()
    post.append(body)
    assert post.publish()


def test_leaves_do_not_wait_for_a_clock_that_was_set_back(post: Post) -> None:
    assert post.publish()
    post.append(SEALED)
    assert not post.publish(1000.0)
    assert post.publish(10.0)
