# SPDX-License-Identifier: Apache-2.0
"""Invariants I1, I2, I3 and I6, checked on what a simulated federation left on its disks."""

from functools import cache

from federation import dsse, wire
from federation.aggregate import initial_state
from federation.blobs.store import BlobStore
from federation.leaves import Leaf, Outcome, RoundCommittedV1, RoundSealedV1, VerdictV1
from federation.ledger.log import Ledger
from federation.messages import UpdateOffer
from federation.rebuild import commit_chain, rebuild
from federation.rounds import Run, fold
from federation.state.memory_store import MemoryStateStore
from federation.state_digest import state_digest
from simulator.settings import RUN, Setting, model
from simulator.world import SiteMachine, World, rosters_of


def check(world: World) -> None:
    """All invariants; raises AssertionError with what was found."""
    for machine in world.machines:
        machine.fs.hook = None  # a crash that was still to come does not come any more
    world.fs = world.fs.crash()
    ledger = _reopened(world)
    leaves = ledger.leaves()
    run = fold(leaves).runs.get(RUN)
    if run is None:
        return
    _i1_state_is_a_function_of_ledger_and_blobs(world, leaves, run)
    _i2_acknowledged_updates_are_counted_once(world, leaves)
    _i3_only_fitting_updates_are_aggregated(world, run)
    _i6_seals_never_change(leaves)
    for machine in world.machines:
        _copies_are_prefixes(world, machine, ledger)


def _reopened(world: World) -> Ledger:
    rosters = rosters_of(world.setting.num_sites)
    entry = rosters.coordinator()
    return Ledger.open(world.fs, "ledger", entry.ledger_origin, None, entry.ledger_public)


def _i1_state_is_a_function_of_ledger_and_blobs(world: World, leaves: list[Leaf], run: Run) -> None:
    commits = [leaf.body.round for leaf in leaves if isinstance(leaf.body, RoundCommittedV1)]
    assert len(commits) == len(set(commits)), f"a round committed twice: {commits}"
    coordinator = world.start_coordinator()
    assert state_digest(coordinator.state) == state_digest(fold(leaves))
    store, blobs = MemoryStateStore(), BlobStore(world.fs)
    initial_state(store, RUN, world.manifest, model(world.setting.num_fragments)[1])
    for fragment in range(world.setting.num_fragments):
        # Recomputes every commit from the signed updates and compares all digests with the ledger's.
        chain = commit_chain(run, fragment)
        if chain:
            rebuild(store, blobs, RUN, world.manifest, fragment, chain)


def _i2_acknowledged_updates_are_counted_once(world: World, leaves: list[Leaf]) -> None:
    verdicts = [leaf.body for leaf in leaves if isinstance(leaf.body, VerdictV1)]
    for machine in world.machines:
        agent = machine.agent or world.start_agent(machine)
        signed = {(u.round, u.payload_digest) for u in agent.state.signed.values()}
        waiting = {_offered(raw) for raw in _outstanding(machine)}
        for round_number, payload in signed:
            posted = f"update/{RUN}/{round_number}/{payload}" in agent.state.posted
            if not posted or (round_number, payload) in waiting:
                continue
            mine = [v for v in verdicts if (v.site, v.round, v.payload_digest) == (machine.site, round_number, payload)]
            assert len(mine) == 1, f"{machine.site} round {round_number}: acknowledged, {len(mine)} verdicts"
        admitted = [v.round for v in verdicts if v.site == machine.site and v.outcome is Outcome.ADMITTED]
        assert len(admitted) == len(set(admitted)), f"{machine.site}: counted twice in {admitted}"


def _outstanding(machine: SiteMachine) -> list[bytes]:
    base = "spool/mailbox/coordinator/out"
    return [machine.fs.read(f"{base}/{name}") for name in machine.fs.list(base) if name.endswith(".msg")]


def _offered(raw: bytes) -> tuple[int, str]:
    body = wire.message_from_bytes(dsse.peek_payload(raw, dsse.MESSAGE_TYPE)).body
    if not isinstance(body, UpdateOffer):
        return (-1, "")
    update = wire.update_from_bytes(dsse.peek_payload(body.signed_update, dsse.UPDATE_TYPE))
    return (update.round, update.payload_digest)


def _i3_only_fitting_updates_are_aggregated(world: World, run: Run) -> None:
    blobs = BlobStore(world.fs)
    for found in run.rounds.values():
        for sealed in found.sealed:
            public = world.keys.public(f"site/{sealed.site}/update")
            payload = dsse.open_envelope(blobs.read(sealed.update_digest), dsse.UPDATE_TYPE, public)
            update = wire.update_from_bytes(payload)
            assert (update.run, update.round, update.fragment) == (run.id, found.number, found.fragment)
            assert (update.base_digest, update.payload_digest) == (found.base_digest, sealed.payload_digest)
            blobs.verify(sealed.payload_digest)


def _i6_seals_never_change(leaves: list[Leaf]) -> None:
    seals = [leaf.body.round for leaf in leaves if isinstance(leaf.body, RoundSealedV1)]
    assert len(seals) == len(set(seals)), f"a round was sealed twice: {seals}"


def _copies_are_prefixes(world: World, machine: SiteMachine, ledger: Ledger) -> None:
    machine.fs = machine.fs.crash()
    agent = world.start_agent(machine)
    assert agent.fault == "", agent.fault
    assert agent.copy.root() == ledger.root(agent.copy.size), f"{machine.site} has another history"


@cache
def undisturbed(setting: Setting) -> tuple[str, ...]:
    """theta digests at the end of an undisturbed run, by fragment."""
    world = World(seed=0, setting=setting).run(20_000)
    run = world.state_of_run()
    assert run is not None
    assert run.num_commits() == setting.num_rounds, "an undisturbed run completes"
    return tuple(head.theta_digest for head in run.heads())
