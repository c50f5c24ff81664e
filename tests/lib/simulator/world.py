# SPDX-License-Identifier: Apache-2.0
"""The federation in one thread: real coordinator, agents, mailboxes, ledger, admission and aggregation.

Virtual are the clock, the disks, the couriers and the training jobs. Every choice is drawn from one seed.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from coordinator.home import Keys
from coordinator.service import Coordinator
from federation import wire
from federation.blobs.store import BlobStore
from federation.durable.simulated import SimulatedCrash, SimulatedFileSystem
from federation.ids import COORDINATOR
from federation.ledger.log import Ledger
from federation.mailbox.carrier import carry
from federation.mailbox.mailbox import Mailbox
from federation.messages import Command, CommandKind, CommandReply
from federation.roster import TrustedRosters, peek_roster, root_fingerprint
from federation.rounds import Run, RunState
from federation.signing import public_bytes
from federation.state.memory_store import MemoryStateStore
from simulator.jobs import ROOT, FakeLauncher
from simulator.settings import CONSORTIUM, OPERATOR, RUN, START, Setting, consortium, manifest, model, roster_document
from site_agent.driver import Agent
from site_agent.identity import SiteIdentity
from site_agent.launcher.api import JobPresence
from site_agent.manifests import ManifestJudge
from site_agent.observations import AgentSettings
from site_agent.orders import JobSettings
from site_agent.policy import PerDay, Policy

TRAINER_DIGEST = "ab" * 32
OPERATOR_BOX = f"mailbox/{OPERATOR}"


def rosters_of(num_sites: int) -> TrustedRosters:
    """Trusted rosters of a party."""
    document = roster_document(num_sites)
    return TrustedRosters.load([document], root_fingerprint(peek_roster(document)), int(START * 1e6))


@dataclass(kw_only=True)
class SiteMachine:
    """A site: disk, agent process (None while it is down), launcher with its jobs; `is_off`: nothing runs there yet."""

    site: str
    fs: SimulatedFileSystem
    launcher: FakeLauncher
    agent: Agent | None = None
    cut_off_until: float = 0.0
    news: bool = True
    is_off: bool = False


@dataclass(kw_only=True)
class World:
    """One simulated federation.

    Attributes:
        faults: how likely a step is a fault, 0 for an undisturbed run.
        log: what happened, for a failing seed's reader.
    """

    seed: int
    setting: Setting
    faults: float = 0.0
    now: float = START
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.manifest = manifest(self.setting)
        self.keys = consortium(self.setting.num_sites)
        self.fs = SimulatedFileSystem(self.seed)
        self.coordinator: Coordinator | None = None
        theta0 = model(self.setting.num_fragments)[1]
        self.machines = [
            SiteMachine(
                site=site,
                fs=SimulatedFileSystem(self.seed * 31 + index),
                launcher=FakeLauncher(self.manifest, theta0),
            )
            for index, site in enumerate(self.setting.sites)
        ]
        self.operator_fs = SimulatedFileSystem(self.seed + 7)
        self.operator = Mailbox(
            self.operator_fs,
            "mailbox/coordinator",
            BlobStore(self.operator_fs),
            OPERATOR,
            COORDINATOR,
            CONSORTIUM,
            self.keys.key(f"operator/{OPERATOR}"),
        )
        self.replies: dict[str, CommandReply] = {}
        self.news = True
        self._create()

    # -- operator ----------------------------------------------------------------------------------------------------

    def _create(self) -> None:
        blobs = BlobStore(self.operator_fs)
        digest = blobs.put(wire.manifest_to_bytes(self.manifest))
        theta = blobs.put(model(self.setting.num_fragments)[0])
        self.command(CommandKind.RUN_CREATE, manifest_digest=digest, blobs=(digest, theta))
        self.command(CommandKind.RUN_APPROVE)
        self.command(CommandKind.RUN_START)

    def command(
        self,
        kind: CommandKind,
        number: int = 0,
        manifest_digest: str = "",
        blobs: tuple[str, ...] = (),
        subject: str = RUN,
    ) -> str:
        """An operator posts a command; returns its id."""
        identifier = f"{kind.value}-{self.operator.last_sequence}"
        body = Command(
            id=identifier, kind=kind, subject=subject, number=number, manifest_digest=manifest_digest, blobs=blobs
        )
        self.operator.post(body, blobs=blobs)
        return identifier

    def _operate(self) -> None:
        self.news = bool(carry(self.operator_fs, "mailbox/coordinator", self.fs, OPERATOR_BOX)) or self.news
        carry(self.fs, OPERATOR_BOX, self.operator_fs, "mailbox/coordinator")
        for received in self.operator.collect(self.keys.public("coordinator"), int(self.now * 1e6)):
            if isinstance(received.message.body, CommandReply):
                self.replies[received.message.body.id] = received.message.body
            self.operator.done(received.sequence)
        self.operator.acknowledge()
        self.operator.prune()

    # -- machines ----------------------------------------------------------------------------------------------------

    def start_coordinator(self) -> Coordinator:
        """A coordinator process on what is on its disk."""
        rosters = rosters_of(self.setting.num_sites)
        entry, key = rosters.coordinator(), self.keys.key("ledger")

        if self.fs.exists("ledger/checkpoint"):
            ledger = Ledger.open(
                self.fs, "ledger", entry.ledger_origin, key, public_bytes(key), rosters.witness_publics
            )
        else:
            ledger = Ledger.create(self.fs, "ledger", entry.ledger_origin, key, rosters.witness_publics)
        return Coordinator(
            fs=self.fs,
            keys=Keys(coordinator=self.keys.key("coordinator"), ledger=key),
            rosters=rosters,
            ledger=ledger,
            blobs=BlobStore(self.fs),
            states=MemoryStateStore(),
        )

    def start_agent(self, machine: SiteMachine) -> Agent:
        """An agent process on what is on its site's disk."""
        site = machine.site
        machine.launcher.fs = machine.fs
        identity = SiteIdentity(
            site=site, update=self.keys.key(f"site/{site}/update"), witness=self.keys.key(f"site/{site}/witness")
        )
        policy = Policy(
            unlisted="accept", trainers={"reference": TRAINER_DIGEST}, per_day=PerDay(gpu_hours=1e6, bytes=10**12)
        )
        judge = ManifestJudge(policy=policy, site=site, consortium=CONSORTIUM, trainers={"reference": TRAINER_DIGEST})
        return Agent(
            fs=machine.fs,
            root=ROOT,
            settings=AgentSettings(
                site=site,
                backoff_seconds=5.0,
                max_failures=10**6,
                adopt_grace_seconds=10.0,
                tasks_every=self.setting.tasks_every,
            ),
            identity=identity,
            rosters=rosters_of(self.setting.num_sites),
            judge=judge,
            launchers={"reference": machine.launcher},
            jobs=JobSettings(data_dir="/data", languages=("de",)),
            new_epoch=self.random.random() < 0.5,
        )

    # -- one step ----------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Time passes a little, and one actor does something or suffers something.

        Processes that have no news mostly rest: looking in vain costs time and finds nothing.
        """
        self.now += self.random.choice((0.1, 0.5, 1.0, 1.0, 2.0))
        if self.faults and self.random.random() < self.faults:
            self.random.choice(self._faults())()
            return
        actor = self.random.random()
        machine = self.random.choice([machine for machine in self.machines if not machine.is_off])
        curious = self.random.random() < 0.15
        if actor < 0.2:
            if self.news or curious:
                self._coordinate()
        elif actor < 0.45:
            if machine.news or curious:
                self._tick(machine)
        elif actor < 0.65:
            self._work(machine)
        elif actor < 0.95:
            self._carry(machine)
        else:
            self._on_coordinator(self._operate)

    def _coordinate(self) -> None:
        def act() -> None:
            if self.coordinator is None:
                self.coordinator = self.start_coordinator()
            self.news = self.coordinator.step(self.now)

        self._on_coordinator(act)

    def _tick(self, machine: SiteMachine) -> None:
        def act() -> None:
            if machine.agent is None:
                machine.agent = self.start_agent(machine)
            machine.news = machine.agent.tick(self.now)

        self._on_site(machine, act)

    def _carry(self, machine: SiteMachine) -> None:
        if self.now < machine.cut_off_until:
            return
        box = f"mailbox/{machine.site}"
        here = ("spool/mailbox/coordinator", machine.fs)

        def up() -> None:
            self.news = bool(carry(here[1], here[0], self.fs, box)) or self.news

        def down() -> None:
            machine.news = bool(carry(self.fs, box, here[1], here[0])) or machine.news

        if self.random.random() < 0.5:
            self._on_coordinator(up)
        else:
            self._on_site(machine, down)

    def _work(self, machine: SiteMachine) -> None:
        def act() -> None:
            for job in machine.launcher.living():
                job.step(self.now)
                machine.news = True

        self._on_site(machine, act)

    def _on_coordinator(self, act: Callable[[], object]) -> None:
        try:
            act()
        except SimulatedCrash:
            self._coordinator_down(power=self.random.random() < 0.5)

    def _on_site(self, machine: SiteMachine, act: Callable[[], object]) -> None:
        try:
            act()
        except SimulatedCrash:
            self._site_down(machine, power=self.random.random() < 0.5)

    # -- faults ------------------------------------------------------------------------------------------------------

    def _faults(self) -> list[Callable[[], None]]:
        machine = self.random.choice([machine for machine in self.machines if not machine.is_off])
        faults: list[Callable[[], None]] = [
            lambda: self._coordinator_down(power=True),
            lambda: self._coordinator_down(power=False),
            lambda: self._site_down(machine, power=True),
            lambda: self._site_down(machine, power=False),
            lambda: self._crash_later(self.fs),
            lambda: self._crash_later(machine.fs),
            lambda: self._kill_job(machine),
            lambda: self._cut_off(machine),
        ]
        return faults

    def _crash_later(self, fs: SimulatedFileSystem) -> None:
        """The machine goes down at one of its next durable operations, wherever that is."""
        countdown = [self.random.randrange(1, 40)]

        def hook(step: str, path: str) -> None:
            countdown[0] -= 1
            if countdown[0] <= 0:
                raise SimulatedCrash(f"{step} {path}")

        fs.hook = hook
        self.log.append(f"{self.now - START:.1f} a machine will crash after {countdown[0]} operations")

    def _coordinator_down(self, *, power: bool) -> None:
        self.log.append(f"{self.now - START:.1f} coordinator down, power {power}")
        self.coordinator = None
        self.fs = self.fs.crash() if power else self.fs.kill()

    def _site_down(self, machine: SiteMachine, *, power: bool) -> None:
        self.log.append(f"{self.now - START:.1f} {machine.site} down, power {power}")
        machine.agent = None
        machine.fs = machine.fs.crash() if power else machine.fs.kill()
        machine.launcher.fs = machine.fs
        for job in machine.launcher.living():
            if power:
                job.alive = False
            else:
                job.fs = machine.fs

    def _kill_job(self, machine: SiteMachine) -> None:
        for job in machine.launcher.living():
            self.log.append(f"{self.now - START:.1f} {machine.site} {job.execution} killed")
            job.alive = False

    def _cut_off(self, machine: SiteMachine) -> None:
        machine.cut_off_until = self.now + self.random.choice((5.0, 30.0, 120.0))
        self.log.append(f"{self.now - START:.1f} {machine.site} cut off until {machine.cut_off_until - START:.1f}")

    # -- ends --------------------------------------------------------------------------------------------------------

    def run(self, max_steps: int) -> "World":
        """Steps until the run has ended (or paused) or the steps are used up; faults stop at two thirds of them."""
        for count in range(max_steps):
            if count > 2 * max_steps // 3:
                self.faults = 0.0
            if count % 16 == 0 and self.ended():
                break
            self.step()
        return self

    def ended(self) -> bool:
        """Whether the run is over."""
        run = self.state_of_run()
        return run is not None and run.state in (RunState.COMPLETED, RunState.ABORTED, RunState.PAUSED)

    def state_of_run(self) -> Run | None:
        """The run as the coordinator knows it now."""
        return self.coordinator.state.runs.get(RUN) if self.coordinator else None

    def num_running(self, machine: SiteMachine) -> int:
        """Jobs of a site that the launcher sees running."""
        return sum(machine.launcher.query(handle) is JobPresence.RUNNING for handle in machine.launcher.jobs)
