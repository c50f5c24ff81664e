# SPDX-License-Identifier: Apache-2.0
"""An update whose payload is still on its way: the driver rests, and acts upon it once the payload is there."""

import time
from pathlib import Path

import pytest
from network_bench import consortium_of, coordinator_directory, membership_of

from coordinator.service import Coordinator
from coordinator.startup import open_coordinator
from federation.blobs.store import BlobStore
from federation.durable.real import RealFileSystem
from federation.ids import COORDINATOR
from federation.mailbox.carrier import carry
from federation.mailbox.mailbox import Mailbox
from federation.messages import MessageBody, Query, QueryKind, UpdateOffer

SITE, OURS, THEIRS = "lumi", "mailbox/coordinator", "mailbox/lumi"
PAYLOAD = b"payload of one update"
UPDATE = UpdateOffer(signed_update=b"no update of any run: what is looked at is when it is taken")


class Situation:
    """A coordinator, and a site's mailbox whose courier brings messages at once and blobs when it is told to."""

    def __init__(self, base: Path) -> None:
        consortium = consortium_of()
        self.now = time.time()
        self.fs = coordinator_directory(base / "coordinator", consortium, membership_of(consortium))
        self.coordinator: Coordinator = open_coordinator(base / "coordinator", self.now)
        self.site = RealFileSystem(base / "site")
        self.blobs = BlobStore(self.site)
        key = consortium.key(f"site/{SITE}/update")
        self.mailbox = Mailbox(self.site, OURS, self.blobs, SITE, COORDINATOR, consortium.name, key)
        self.until_idle()

    def offer(self, body: MessageBody) -> str:
        digest = self.blobs.put(PAYLOAD)
        self.mailbox.post(body, blobs=(digest,))
        for name in self.site.list(f"{OURS}/out"):
            if name.endswith(".msg"):
                self.fs.write(f"{THEIRS}/in/{name}", self.site.read(f"{OURS}/out/{name}"))
        return digest

    def until_idle(self, most: int = 10) -> int:
        """Passes until one finds nothing to do; returns how many did."""
        for count in range(most):
            if not self.coordinator.step(self.now):
                return count
        raise AssertionError(f"the driver was still busy after {most} passes")


@pytest.fixture
def met(tmp_path: Path) -> Situation:
    return Situation(tmp_path)


def test_the_driver_rests_while_an_update_waits_for_its_payload(met: Situation) -> None:
    digest = met.offer(UPDATE)
    met.until_idle()
    for _ in range(3):
        assert not met.coordinator.step(met.now)
    assert met.coordinator._mailbox(SITE).pending_blobs() == (digest,)


def test_the_payload_makes_it_act(met: Situation) -> None:
    met.offer(UPDATE)
    met.until_idle()
    carry(met.site, OURS, met.fs, THEIRS)
    assert met.until_idle() >= 1
    assert met.coordinator._mailbox(SITE).received_through == 1


def test_another_message_is_not_waited_for(met: Situation) -> None:
    met.offer(Query(id="q", kind=QueryKind.RUNS))
    assert met.until_idle() >= 1
    assert met.coordinator._mailbox(SITE).received_through == 1
