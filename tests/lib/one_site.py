# SPDX-License-Identifier: Apache-2.0
"""One agent against a hand-made coordinator: real ledger, mailboxes and files, and leaves as the test says."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from federation import leaves as lv
from federation import notes, wire
from federation.blobs.store import BlobStore
from federation.durable.api import FileSystem
from federation.ids import COORDINATOR
from federation.ledger.log import Ledger
from federation.mailbox.carrier import carry_both
from federation.mailbox.mailbox import Mailbox
from federation.manifest import Manifest
from federation.merkle import blob_digest
from federation.messages import Cosignature, MessageBody
from federation.roster import TrustedRosters, peek_roster, root_fingerprint
from federation.rounds import Federation, Run, apply
from federation.testing.manifests import manifest_of, plan_of, table_of
from federation.testing.rosters import MemoryConsortium
from site_agent import layout
from site_agent.driver import Agent
from site_agent.identity import SiteIdentity
from site_agent.launcher.api import Launcher
from site_agent.launcher.local import LocalLauncher
from site_agent.manifests import ManifestJudge
from site_agent.observations import AgentSettings
from site_agent.orders import JobSettings
from site_agent.policy import PerDay, Policy

SITE, OTHER, RUN, CONSORTIUM = "alpha", "beta", "run-1", "test"
TRAINER = "ab" * 32
START = 1_700_000_000.0
THETA = b"theta_0, as safetensors in a real run"
LIBRARY = Path(__file__).parent


def small_manifest(**changes: Any) -> Manifest:
    """A valid manifest of one fragment and two sites, with changes."""
    plan = plan_of({SITE: 4, OTHER: 4}, num_rounds=3, theta_digests=("cc" * 32,))
    table = table_of([("model.weight", (4, 4))])
    manifest = manifest_of(plan, [table])
    trainer = replace(manifest.trainer, name="reference")
    fixed = {"trainer": trainer, "run": RUN, "consortium": CONSORTIUM, "theta_blob": blob_digest(THETA)}
    return replace(manifest, **{**fixed, **changes})


class HandMadeCoordinator:
    """The coordinator's side of one site's mailbox; decides nothing by itself."""

    def __init__(self, fs: FileSystem, consortium: MemoryConsortium) -> None:
        self.fs, self.consortium = fs, consortium
        roster = consortium.roster(now_us=int(START * 1e6))
        self.document = consortium.document(roster)
        entry = roster.coordinator
        assert entry is not None

        def witnesses() -> dict[str, bytes]:
            return {notes.witness_name(CONSORTIUM, s.site): s.witness_public for s in roster.sites}

        key = consortium.key("ledger")
        self.ledger = Ledger.create(fs, "ledger", entry.ledger_origin, key, witnesses)
        self.blobs = BlobStore(fs)
        self.mailbox = Mailbox(
            fs, f"mailbox/{SITE}", self.blobs, COORDINATOR, SITE, CONSORTIUM, consortium.key("coordinator")
        )
        self.received: list[MessageBody] = []
        self.federation = Federation()

    def append(self, *bodies: lv.Body, blobs: tuple[bytes, ...] = (), tell: bool = True) -> None:
        """Decides: leaves into the ledger; then tells the site, with these blobs."""
        leaves = [lv.Leaf(at_us=int(START * 1e6), body=body) for body in bodies]
        first = self.ledger.append(leaves)
        for leaf in leaves:
            self.federation = apply(self.federation, leaf)
        digests = tuple(self.blobs.put(data) for data in blobs)
        if tell:
            self.mailbox.post(self.ledger.tail(first), blobs=digests)

    def tell(self) -> None:
        """Sends the newest cosignatures."""
        self.mailbox.post(self.ledger.tail(self.ledger.size))

    def cosign_as(self, site: str) -> None:
        """Another site has seen everything."""
        name = notes.witness_name(CONSORTIUM, site)
        key = self.consortium.key(f"site/{site}/witness")
        self.ledger.cosign(notes.cosign(self.ledger.checkpoint(), name, key, int(START)))

    def receive(self, now: float) -> None:
        """Takes what the site says."""
        for received in self.mailbox.collect(self.consortium.public(f"site/{SITE}/update"), int(now * 1e6)):
            if received.ready:
                self.received.append(received.message.body)
                self.mailbox.done(received.sequence)
        assert not self.mailbox.rejected, self.mailbox.rejected
        self.mailbox.acknowledge()
        self.mailbox.prune()

    def of(self, kind: type) -> list[Any]:
        """What the site said, of one kind."""
        return [body for body in self.received if isinstance(body, kind)]

    # --- a run, step by step ------------------------------------------------------------------------------------------

    @property
    def run(self) -> Run:
        """The run."""
        return self.federation.runs[RUN]

    def create(self, manifest: Manifest | None = None, *, data: bytes = b"", run: str = RUN) -> str:
        """Creates a run; `data` in place of the manifest's bytes if given. Returns the digest."""
        manifest = manifest or small_manifest()
        encoded = data or wire.manifest_to_bytes(manifest)
        digest = self.blobs.put(encoded)
        created = lv.RunCreatedV1(run=run, manifest_digest=digest, plan=manifest.plan, operator="olga", command="c1")
        self.append(created, blobs=(encoded, THETA))
        return digest

    def start(self, run: str = RUN) -> None:
        """Approves and starts the run; another site witnesses it."""
        approved = lv.RunApprovedV1(run=run, operator="olga", command="c2")
        self.append(approved, lv.RunStartedV1(run=run, operator="olga", command="c3"))
        self.cosign_as(OTHER)
        self.tell()

    def open(self, number: int, *, allocation: str = "a1") -> None:
        """Opens a round."""
        base = self.run.versions[0][-1]
        invitations = (lv.Invitation(site=SITE, allocation=allocation, num_steps=4),)
        opened = lv.RoundOpenedV1(
            run=RUN,
            round=number,
            fragment=0,
            base_version=base.number,
            base_digest=base.theta_digest,
            lr_position=4 * number,
            invitations=invitations,
            sentence="1 of 1",
        )
        self.append(opened)

    def commit(self, number: int, payload_digest: str) -> None:
        """Admits the site's update, seals and commits the round, with a blob."""
        blob = f"blob of round {number}".encode()
        mine = {"update_digest": "dd" * 32, "payload_digest": payload_digest}
        admitted = lv.VerdictV1(
            run=RUN, round=number, site=SITE, outcome=lv.Outcome.ADMITTED, reason=lv.Reason.NONE, sentence="", **mine
        )
        sealed = lv.RoundSealedV1(
            run=RUN, round=number, updates=(lv.SealedUpdate(site=SITE, weight=1.0, **mine),), sentence=""
        )
        committed = lv.RoundCommittedV1(
            run=RUN,
            round=number,
            fragment=0,
            version=number + 1,
            theta_digest=f"{number + 1:064x}",
            blob_digest=self.blobs.put(blob),
            blob_bytes=len(blob),
            aggregate_norm=1.0,
            contributions=(),
            numerics_version=1,
        )
        recorded = lv.StateRecordedV1(
            run=RUN, round=number, fragment=0, momentum_digest="ee" * 32, residual_digest="ff" * 32
        )
        self.append(admitted, sealed, committed, recorded, blobs=(blob,))


class OneSite:
    """The whole small world; `now` is the test's clock."""

    def __init__(
        self,
        coordinator_fs: FileSystem,
        site_fs: FileSystem,
        root: Path,
        launcher: Launcher | None = None,
        *,
        policy: Policy | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.consortium = MemoryConsortium(name=CONSORTIUM, sites=(SITE, OTHER), operators=("olga",))
        self.coordinator = HandMadeCoordinator(coordinator_fs, self.consortium)
        self.fs, self.root = site_fs, root
        self.launcher = launcher or tiny_launcher()
        budget = PerDay(gpu_hours=24.0, bytes=10**9)
        self.policy = policy or Policy(unlisted="accept", trainers={"reference": TRAINER}, per_day=budget)
        patience = {"backoff_seconds": 1.0, "stop_grace_seconds": 30.0, "adopt_grace_seconds": 5.0}
        self.settings = AgentSettings(site=SITE, **{**patience, **(settings or {})})
        self.now = START
        self.agent = self.start_agent()

    def start_agent(self, *, new_epoch: bool = False) -> Agent:
        """A new agent process on the same directory."""
        document = self.coordinator.document
        rosters = TrustedRosters.load([document], root_fingerprint(peek_roster(document)), int(START * 1e6))
        identity = SiteIdentity(
            site=SITE,
            update=self.consortium.key(f"site/{SITE}/update"),
            witness=self.consortium.key(f"site/{SITE}/witness"),
        )
        judge = ManifestJudge(policy=self.policy, site=SITE, consortium=CONSORTIUM, trainers={"reference": TRAINER})
        self.agent = Agent(
            fs=self.fs,
            root=self.root,
            settings=self.settings,
            identity=identity,
            rosters=rosters,
            judge=judge,
            launchers={"reference": self.launcher},
            jobs=JobSettings(data_dir="/data", languages=("de",)),
            new_epoch=new_epoch,
        )
        return self.agent

    def carry(self) -> None:
        """The courier passes by."""
        carry_both(self.fs, layout.MAILBOX, self.coordinator.fs, f"mailbox/{SITE}")

    def step(self) -> None:
        """Courier, agent, courier, coordinator."""
        self.now += 0.05
        self.carry()
        self.agent.tick(self.now)
        self.carry()
        self.coordinator.receive(self.now)
        for cosignature in self.coordinator.of(Cosignature):
            self.coordinator.ledger.cosign(cosignature.note)

    def until(self, condition: Callable[[], Any], seconds: float = 30.0) -> Any:
        """Steps until the condition holds; returns what it said."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, "the condition did not come true in time"
            self.step()
            time.sleep(0.005)
        return found

    def steps(self, number: int) -> None:
        """So many steps."""
        for _ in range(number):
            self.step()


def tiny_launcher() -> LocalLauncher:
    """Starts `tiny_job` as a process."""
    path = os.pathsep.join([str(LIBRARY), os.environ.get("PYTHONPATH", "")])
    return LocalLauncher(module="tiny_job", environment={**os.environ, "PYTHONPATH": path})
