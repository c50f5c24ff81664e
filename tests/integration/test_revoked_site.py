# SPDX-License-Identifier: Apache-2.0
"""A site is revoked in mid-run: its messages stay unread, the others finish, and an audit finds nothing amiss."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from audit_bench import MAX_STEPS, audit, build_with, until
from majority_world import MajorityWorld
from simulator.checks import check
from simulator.jobs import FakeLauncher
from simulator.settings import CONSORTIUM, Setting, roster_document
from simulator.world import World

from coordinator.home import roster_path
from federation import leaves as lv
from federation.durable.simulated import SimulatedFileSystem
from federation.leaves import Leaf, Outcome, Reason
from federation.messages import CommandKind
from federation.roster import peek_roster
from federation.rounds import RoundState, Run, RunState
from federation.testing.rosters import MemoryConsortium
from federation.verify import Verdict
from federation.verify.present import lines

SITE = "site-c"
SETTING = Setting(num_sites=3, num_rounds=4, codec="fp32", patient=False)


def waits_for_it(run: Run) -> bool:
    """One commit is behind the federation, and a round waits for the site."""
    waiting = [r for r in run.rounds.values() if r.state is RoundState.OPEN and SITE in r.waiting_for()]
    return run.num_commits() >= 1 and bool(waiting)


def revoke(world: World) -> None:
    """An operator revokes the site; returns when the coordinator has answered."""
    identifier = world.command(CommandKind.SITE_REVOKE, subject=SITE)
    for _ in range(MAX_STEPS):
        if identifier in world.replies:
            assert world.replies[identifier].ok, world.replies[identifier].sentence
            return
        world.step()
    raise AssertionError("no reply to the revocation")


def after_revocation(leaves: list[Leaf]) -> list[lv.Body]:
    bodies = [leaf.body for leaf in leaves]
    kinds = [type(body) for body in bodies]
    return bodies[kinds.index(lv.SiteRevokedV1) + 1 :]


def about_it(body: lv.Body) -> bool:
    """Whether a leaf is something that the site said, or an invitation of it."""
    if isinstance(body, lv.RoundOpenedV1):
        return any(invitation.site == SITE for invitation in body.invitations)
    return SITE in (getattr(body, "site", ""), getattr(getattr(body, "invitation", None), "site", ""))


def test_the_run_goes_on_without_it_and_the_audit_is_true(tmp_path: Path) -> None:
    world = World(seed=4, setting=SETTING)
    bench = build_with(tmp_path, world, lambda w: until(w, waits_for_it), revoke)
    leaves = bench.leaves(bench.directory)
    about = [body for body in after_revocation(leaves) if about_it(body)]
    assert [(b.outcome, b.reason) for b in about if isinstance(b, lv.VerdictV1)] == [(Outcome.REJECTED, Reason.REVOKED)]
    assert len(about) == 1, about
    report = audit(bench, bench.directory)
    assert report.verdict is Verdict.TRUE, "\n".join(lines(report))
    run = world.state_of_run()
    assert run is not None
    assert (run.state, run.num_commits()) == (RunState.COMPLETED, SETTING.num_rounds)
    check(world)


def test_what_it_sends_stays_unread_and_nothing_is_sent_to_it(caplog: pytest.LogCaptureFixture) -> None:
    world = MajorityWorld(setting=SETTING, seed=6)
    until(world, waits_for_it)
    revoke(world)
    assert world.coordinator is not None
    mailbox = world.coordinator._mailboxes[SITE]
    before = (mailbox.received_through, mailbox.last_sequence)
    with caplog.at_level(logging.WARNING, "federation.security"):
        until(world, lambda run: run.state is RunState.COMPLETED)
    assert (mailbox.received_through, mailbox.last_sequence) == before
    assert [name for name in world.fs.list(f"mailbox/{SITE}/in") if name.endswith(".msg")]
    assert any(f"{SITE}: revoked" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("seed", range(6))
def test_invariants_hold_when_a_site_is_revoked_among_crashes(seed: int) -> None:
    world = MajorityWorld(setting=SETTING, seed=200 + seed)
    until(world, waits_for_it)
    world.faults = 0.04
    revoke(world)
    until(world, lambda run: run.state is RunState.COMPLETED)
    world.faults = 0.0
    assert world.coordinator is not None
    about = [body for body in after_revocation(world.coordinator.ledger.leaves()) if about_it(body)]
    verdicts = {b.reason for b in about if isinstance(b, lv.VerdictV1)}
    assert verdicts <= {Reason.REVOKED}, "\n".join(world.log)
    assert len(about) <= 1, "\n".join(world.log)
    check(world)


def test_it_comes_back_in_a_new_directory_with_new_keys() -> None:
    world = MajorityWorld(setting=replace(SETTING, num_rounds=12), seed=6)
    until(world, waits_for_it)
    revoke(world)
    num_commits = world.run_now.num_commits()
    until(world, lambda run: run.num_commits() >= num_commits + 1)
    sign_new_key(world)
    until(world, lambda run: world.coordinator is not None and not world.coordinator.state.revoked)
    num_commits = world.run_now.num_commits()
    until(world, lambda run: run.state is RunState.COMPLETED)
    took_part = [r.number for r in world.run_now.rounds.values() if SITE in {u.site for u in r.sealed}]
    assert any(number > num_commits for number in took_part), "\n".join(world.log)
    (readmitted,) = world.bodies(lv.SiteReadmittedV1)
    assert (readmitted.site, readmitted.roster_version) == (SITE, 2)


def sign_new_key(world: World) -> None:
    """Roster version 2 gives the site another update key; it begins in an empty directory, with no job."""
    holder = f"site/{SITE}/update"
    new = MemoryConsortium(name=CONSORTIUM, seed="after the theft").key(holder)
    world.keys = replace(world.keys, keys={**world.keys.keys, holder: new})
    first = peek_roster(roster_document(len(SETTING.sites)))
    roster = replace(world.keys.next(first), sites=tuple(world.keys.site_entry(site) for site in SETTING.sites))
    world.fs.write(roster_path(2), world.keys.document(roster))
    machine = next(machine for machine in world.machines if machine.site == SITE)
    machine.agent, machine.fs = None, SimulatedFileSystem(99)
    machine.launcher = FakeLauncher(world.manifest, machine.launcher.theta0)
