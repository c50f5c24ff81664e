# SPDX-License-Identifier: Apache-2.0
"""The ledger and its copy on machines that stop at any step.

What was returned stays; a batch is there as a whole or not at all; no two checkpoints that anybody saw contradict each
other; a copy never runs ahead of its ledger.
"""

from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federation import leaves as lv
from federation import notes, signing
from federation.durable.simulated import SimulatedCrash, SimulatedFileSystem
from federation.ledger.copy import LedgerCopy
from federation.ledger.log import Ledger

ORIGIN = "consortium/ledger"
KEY, WITNESS = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))
PUBLIC = signing.public_bytes(KEY)
NAME = "consortium/site/alpha"
WITNESSES = {NAME: signing.public_bytes(WITNESS)}

stops = st.one_of(st.none(), st.tuples(st.integers(0, 14), st.booleans()))
batches = st.one_of(st.integers(1, 4), st.integers(120, 300))
actions = st.tuples(st.sampled_from(["append", "follow", "cosign"]), batches, stops)


class Machine:
    """One file system and what is opened on it again after each stop."""

    def __init__(
        self, fs: SimulatedFileSystem, open_again: Callable[[SimulatedFileSystem], Ledger | LedgerCopy]
    ) -> None:
        self.fs = fs
        self._open = open_again
        self.log = open_again(fs)

    def stopping(self, stop: tuple[int, bool] | None, action: Callable[[], object]) -> bool:
        """Runs the action; returns whether it came to its end."""
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
            self.fs = self.fs.crash() if stop[1] else self.fs.kill()
            self.log = self._open(self.fs)
            return False
        finally:
            self.fs.hook = None
        return True


def _ledger(fs: SimulatedFileSystem) -> Ledger:
    if not fs.exists("ledger/checkpoint"):
        return Ledger.create(fs, "ledger", ORIGIN, KEY, lambda: WITNESSES)
    return Ledger.open(fs, "ledger", ORIGIN, KEY, PUBLIC, lambda: WITNESSES)


def _copy(fs: SimulatedFileSystem) -> LedgerCopy:
    return LedgerCopy(fs, "copy", ORIGIN, PUBLIC, lambda: WITNESSES)


class World:
    """A coordinator, a site, and all that was ever promised."""

    def __init__(self, seed: int) -> None:
        self.coordinator = Machine(SimulatedFileSystem(seed), _ledger)
        self.site = Machine(SimulatedFileSystem(seed + 1), _copy)
        self.returned: list[lv.Leaf] = []
        self.clock = 0

    @property
    def ledger(self) -> Ledger:
        assert isinstance(self.coordinator.log, Ledger)
        return self.coordinator.log

    @property
    def copy(self) -> LedgerCopy:
        assert isinstance(self.site.log, LedgerCopy)
        return self.site.log

    def append(self, count: int, stop: tuple[int, bool] | None) -> None:
        batch = []
        for _ in range(count):
            self.clock += 1
            batch.append(lv.Leaf(at_us=self.clock, body=lv.RunCompletedV1(run="demo")))
        if self.coordinator.stopping(stop, lambda: self.ledger.append(batch)) or self.ledger.size > len(self.returned):
            self.returned += batch
        assert self.ledger.leaves() == self.returned, "a batch is there as a whole or not at all"

    def follow(self, stop: tuple[int, bool] | None) -> None:
        tail = self.ledger.tail(self.copy.size)
        before, witnessed = self.copy.size, self.copy.witnessed
        if not self.site.stopping(stop, lambda: self.copy.accept(tail)):
            assert self.copy.size in (before, self.ledger.size)
        else:
            assert self.copy.size == self.ledger.size
        assert self.copy.witnessed.get(NAME, 0) >= witnessed.get(NAME, 0)
        assert self.copy.root() == self.ledger.root(self.copy.size)

    def cosign(self, stop: tuple[int, bool] | None) -> None:
        if not self.copy.size:
            return
        note = notes.cosign(self.copy.checkpoint(), NAME, WITNESS, 1)
        if self.coordinator.stopping(stop, lambda: self.ledger.cosign(note)):
            assert self.ledger.witnessed[NAME] >= self.copy.size


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**16), steps=st.lists(actions, min_size=1, max_size=12))
def test_nothing_promised_is_lost_wherever_the_machines_stop(
    seed: int, steps: list[tuple[str, int, tuple[int, bool] | None]]
) -> None:
    world = World(seed)
    for kind, count, stop in steps:
        if kind == "append":
            world.append(count, stop)
        elif kind == "follow":
            world.follow(stop)
        else:
            world.cosign(stop)
    witnessed = world.ledger.witnessed
    reopened = _ledger(world.coordinator.fs.crash())
    assert reopened.leaves() == world.returned
    assert reopened.witnessed == witnessed
    assert _copy(world.site.fs.crash()).root() == reopened.root(world.copy.size)
