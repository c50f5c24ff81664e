# SPDX-License-Identifier: Apache-2.0
"""A site with valid keys and no good intentions, in a simulated federation whose other sites are honest.

It answers the manifest, reports a ready job and cosigns like everybody, so that it is invited; what it then sends is
the test's choice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from majority_world import MajorityWorld
from simulator.settings import CONSORTIUM, RUN
from simulator.world import SiteMachine, World, rosters_of

from federation import dsse, notes, wire
from federation.blobs.store import BlobStore
from federation.codecs.payload import encode_vector
from federation.codecs.registry import get_codec
from federation.ids import COORDINATOR
from federation.leaves import Reason
from federation.ledger.copy import LedgerCopy
from federation.mailbox.mailbox import Mailbox
from federation.merkle import blob_digest
from federation.messages import (
    AllocationReport,
    AllocationState,
    Cosignature,
    LedgerTail,
    ManifestAnswer,
    MessageBody,
    SiteStatus,
    Update,
    UpdateOffer,
)
from federation.rounds import Federation, Round, RoundState, fold

BOX = "spool/mailbox/coordinator"
EVIL = "site-c"

Deed = Callable[["HostileSite", Round], None]


class HostileSite:
    """Speaks for a site with that site's own keys."""

    def __init__(self, world: World, machine: SiteMachine, deed: Deed) -> None:
        self.world, self.machine, self.deed, self.site = world, machine, deed, machine.site
        self.update_key = world.keys.key(f"site/{self.site}/update")
        self.witness_key = world.keys.key(f"site/{self.site}/witness")
        self.blobs = BlobStore(machine.fs, "spool/blobs")
        roster = rosters_of(world.setting.num_sites).current
        assert roster.coordinator is not None
        publics = {notes.witness_name(CONSORTIUM, s.site): s.witness_public for s in roster.sites}
        entry = roster.coordinator
        self.copy = LedgerCopy(machine.fs, "state/ledger", entry.ledger_origin, entry.ledger_public, lambda: publics)
        self.mailbox = Mailbox(machine.fs, BOX, self.blobs, self.site, COORDINATOR, CONSORTIUM, self.update_key)
        self.federation = Federation()
        self.served: set[int] = set()
        self.greeted = False

    def tick(self, now: float) -> bool:
        """Hears, says what is needed to be invited, and does its deed once in every round."""
        before = self.copy.size
        for received in self.mailbox.collect(self.world.keys.public("coordinator"), int(now * 1e6)):
            if received.ready:
                if isinstance(received.message.body, LedgerTail):
                    self.federation = fold(self.copy.accept(received.message.body), self.federation)
                self.mailbox.done(received.sequence)
        if self.copy.size > before:
            name = notes.witness_name(CONSORTIUM, self.site)
            note = self.copy.cosign(self.witness_key, name, int(now))
            self.post(Cosignature(size=self.copy.size, root=self.copy.root(), note=note))
        self._take_part()
        self.mailbox.acknowledge()
        self.mailbox.prune()
        return self.copy.size > before

    def _take_part(self) -> None:
        run = self.federation.runs.get(RUN)
        if run is None:
            return
        if not self.greeted:
            self.greeted = True
            self.post(
                ManifestAnswer(
                    run=RUN, manifest_digest=run.manifest_digest, accepted=True, reason=Reason.NONE, sentence=""
                )
            )
            self.report()
        for number in run.open_rounds:
            found = run.rounds[number]
            if found.state is RoundState.OPEN and found.invitation(self.site) and number not in self.served:
                self.served.add(number)
                self.deed(self, found)

    # --- saying things ------------------------------------------------------------------------------------------------

    def report(self, **changes: Any) -> None:
        """A status report with a ready job."""
        job = AllocationReport(run=RUN, allocation="a1", state=AllocationState.READY, seconds_left=-1)
        self.post(replace(SiteStatus(ledger_size=self.federation.size, allocations=(job,)), **changes))

    def post(self, body: MessageBody, blobs: Sequence[str] = ()) -> None:
        """Any message, validly signed."""
        self.mailbox.post(body, blobs=blobs)

    def payload(self, found: Round, size: int = 0) -> bytes:
        """A well-formed payload of zeros and ones."""
        manifest = self.world.manifest
        num_elements = size or manifest.fragments[found.fragment].num_elements
        return bytes(encode_vector(get_codec(manifest.codecs.up), np.ones(num_elements, dtype=np.float32)))

    def descriptor(self, found: Round, payload: bytes) -> Update:
        """The update that an honest site would sign for this payload."""
        manifest, invitation = self.world.manifest, found.invitation(self.site)
        assert invitation is not None
        return Update(
            consortium=CONSORTIUM,
            run=RUN,
            manifest_digest=self.federation.runs[RUN].manifest_digest,
            round=found.number,
            fragment=found.fragment,
            base_digest=found.base_digest,
            site=self.site,
            allocation=invitation.allocation,
            codec=manifest.codecs.up,
            weight_tokens=invitation.num_steps,
            new_tokens=invitation.num_steps,
            num_steps=invitation.num_steps,
            payload_digest=blob_digest(payload),
            payload_bytes=len(payload),
        )

    def offer(self, update: Update, payload: bytes | None, *, key: Any = None) -> str:
        """Signs (with the site's key unless told otherwise) and offers an update; returns the evidence's digest."""
        signed = dsse.sign_envelope(dsse.UPDATE_TYPE, wire.update_to_bytes(update), key or self.update_key)
        blobs = () if payload is None else (self.blobs.put(payload),)
        self.post(UpdateOffer(signed_update=signed), blobs)
        return blob_digest(signed)


@dataclass(kw_only=True)
class HostileWorld(MajorityWorld):
    """A federation in which `site-c` is hostile; two of three sites are enough."""

    deed: Deed = lambda site, found: None
    hostile: HostileSite = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        machine = next(m for m in self.machines if m.site == EVIL)
        self.hostile = HostileSite(self, machine, self.deed)

    def _tick(self, machine: SiteMachine) -> None:
        if machine.site == EVIL:
            machine.news = self.hostile.tick(self.now)
        else:
            super()._tick(machine)
