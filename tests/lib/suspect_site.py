# SPDX-License-Identifier: Apache-2.0
"""One honest agent on a simulated disk, with virtual jobs, and a coordinator that says whatever the test wants."""

from collections.abc import Callable, Iterator
from typing import Any

from one_site import OTHER, START, OneSite
from virtual_jobs import ROOT, VirtualLauncher

from federation import leaves as lv
from federation.durable.simulated import SimulatedFileSystem
from federation.ledger.log import Ledger
from federation.messages import AllocationState, Cosignature, LedgerTail, SiteStatus


class SuspectSite(OneSite):
    """The site that is lied to."""

    launcher: VirtualLauncher

    def __init__(self, **settings: Any) -> None:
        launcher = VirtualLauncher()
        super().__init__(SimulatedFileSystem(1), SimulatedFileSystem(2), ROOT, launcher, settings=settings)

    def step(self) -> None:
        """One pass of everybody, jobs included."""
        super().step()
        self.now += 1.0
        for job in [job for job in self.launcher.jobs.values() if job.alive]:
            job.step(self.fs)  # type: ignore[arg-type]

    def until(self, condition: Callable[[], Any], seconds: float = 200.0) -> Any:
        """Steps until the condition holds; `seconds` are the simulated clock's."""
        end = self.now + seconds
        while not (found := condition()):
            assert self.now < end, "the condition did not come true in time"
            self.step()
        return found

    def ready(self) -> bool:
        """Whether the site reports a ready job."""
        reports = self.coordinator.of(SiteStatus)
        return bool(reports) and any(a.state is AllocationState.READY for a in reports[-1].allocations)

    def started(self) -> "SuspectSite":
        """A run that the site accepted and has a job for; everything is witnessed."""
        self.coordinator.create()
        self.coordinator.start()
        self.until(self.ready)
        self.steps(5)
        return self

    def say(self, tail: LedgerTail) -> None:
        """The coordinator's key on any tail."""
        self.coordinator.mailbox.post(tail)

    def deeds(self) -> tuple[int, int, int, int, int]:
        """How much this site has started, ordered, signed, evaluated and cosigned so far."""
        state = self.agent.state
        cosigned = state.cosigned.size if state.cosigned else 0
        return len(self.launcher.jobs), len(state.issued), len(state.signed), len(state.evaluations), cosigned

    def num_cosignatures(self) -> int:
        """Cosignatures that arrived at the coordinator."""
        return len(self.coordinator.of(Cosignature))

    def other_history(self, leaves: list[lv.Leaf]) -> Ledger:
        """Another ledger under the same key."""
        key = self.consortium.key("ledger")
        ledger = Ledger.create(SimulatedFileSystem(3), "ledger", self.coordinator.ledger.origin, key)
        ledger.append(leaves)
        return ledger

    def leaf(self, body: lv.Body) -> lv.Leaf:
        """A leaf of any content."""
        return lv.Leaf(at_us=int(START * 1e6), body=body)

    def force(self, *bodies: lv.Body) -> None:
        """Appends leaves that no honest coordinator's fold would take, and tells the site."""
        first = self.coordinator.ledger.append([self.leaf(body) for body in bodies])
        self.say(self.coordinator.ledger.tail(first))

    def force_bytes(self, data: bytes) -> None:
        """Appends a leaf of any bytes."""
        ledger = self.coordinator.ledger
        first = ledger.size
        ledger._grow([data], ledger._signed)
        self.say(ledger.tail(first))

    def witness(self) -> None:
        """The other site has seen everything, and this one is told."""
        self.coordinator.cosign_as(OTHER)
        self.coordinator.tell()

    def paths(self) -> Iterator[str]:
        """Every name on the site's disk."""
        below = [""]
        while below:
            directory = below.pop()
            for name in self.fs.list(directory):
                path = f"{directory}/{name}" if directory else name
                yield path
                below.append(path)
