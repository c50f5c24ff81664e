# SPDX-License-Identifier: Apache-2.0
"""What happens to real processes over real gRPC when machines die, move, come back old, lie, or lose their standing."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import courier_world
import pytest
from mishap_world import DAY, RUN, SERVER, MishapWorld
from ports import free_port
from recording_proxy import RecordingProxy
from services import run_command
from travelling_blob import noise

from coordinator.rpc.operator_courier import Watching
from federation import leaves as lv
from federation.errors import FederationError, RevokedError, RolledBackError
from federation.mailbox.ends import InEnd, OutEnd
from federation.messages import CommandKind
from federation.rpc import credentials
from federation.rpc.once import Line, with_line
from federation.rpc.thread import Station
from site_agent.answers import accept, refuse

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("network mishaps")]

MIB = 1024 * 1024
BLOB_BYTES = 32 * MIB + 12_345
BYTES_PER_SECOND = 20.0 * MIB
KILL_AT = (0.2, 0.4, 0.6)
LOST_PER_KILL = 6 * MIB
"""What may be on its way at a kill, in buffers and in unfinished pieces of two streams."""

DRAIN, RESUME = CommandKind.SITE_DRAIN, CommandKind.SITE_RESUME
START = (CommandKind.RUN_APPROVE, CommandKind.RUN_START)


# --- 1: an end is killed while a large blob travels -------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["alpha", SERVER])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_transfer_goes_on_where_kills_cut_it(direction: str, victim: str, tmp_path: Path) -> None:
    data = noise(BLOB_BYTES)
    with MishapWorld(base=tmp_path) as world, RecordingProxy(world.address, bytes_per_second=BYTES_PER_SECOND) as link:
        blob = world.send_up("alpha", data) if direction == "up" else world.send_down("alpha", data)
        world.dial("alpha", link.address)
        world.start(SERVER, "alpha")
        for share in KILL_AT:
            world.wait_for(partial(blob.has, share), f"{share:.0%} of the blob")
            world.kill(victim)
            missing = blob.bytes_missing
            assert missing > 0, "the kill came after the end"
            world.start(victim)
        world.wait_for(lambda: blob.arrived, "the blob")
        world.stop("alpha")
        world.stop(SERVER)
    assert blob.read() == data
    assert blob.fs.list(f"{blob.mailbox}/partial") == []
    # What was there at the last kill was not carried again; nor, by the link's own count, after the kills before.
    status = world.courier("alpha")
    assert 0 < (status.bytes_up if direction == "up" else status.bytes_down) <= missing
    carried = sum(len(connection.up if direction == "up" else connection.down) for connection in link.connections)
    assert BLOB_BYTES < carried < BLOB_BYTES + len(KILL_AT) * LOST_PER_KILL


def test_a_blob_whose_message_is_here_already_comes_at_once(tmp_path: Path) -> None:
    """As after a kill in between, when nobody has anything new to say: a long poll alone would wait for that."""
    with courier_world.world(tmp_path) as quiet:
        (digest,) = quiet.theirs.post("a message", noise(3 * MIB))
        offered = OutEnd(quiet.bench.fs, f"mailbox/{courier_world.SITE}")
        for name in offered.look().names.values():
            data = offered.read_message(name)
            assert data is not None
            assert InEnd(quiet.site, courier_world.MAILBOX).accept(name, data)
        with quiet.courier(replace(courier_world.QUICK, pull=50.0)):
            here = partial(quiet.site.exists, f"{courier_world.MAILBOX}/in/blobs/{digest}")
            courier_world.wait_until(here, "the blob", 20.0)


# --- 2: the coordinator is away, and comes back elsewhere -------------------------------------------------------------


def test_a_coordinator_that_was_away_and_moved(tmp_path: Path) -> None:
    with MishapWorld(base=tmp_path) as world:
        world.set_policy("alpha", "ask")
        world.start(SERVER, "alpha")
        world.create_run()
        world.wait_for(lambda: (view := world.view("alpha")) and view.waits_for_operator, "a question to the operator")
        world.kill(SERVER)
        world.wait_for(lambda: not world.courier("alpha").connected, "a courier that notices")
        posted = world.outgoing("alpha")
        for say, answer in ((accept, "accepted"), (refuse, "declined"), (accept, "accepted")):
            say(world.site("alpha"), RUN)
            world.wait_for(partial(gave, world, answer), f"the answer {answer}")
        assert len(world.outgoing("alpha") - posted) >= 3
        # The first failure is the cut itself; the next one finds nobody.
        world.wait_for(lambda: "nothing listens there" in world.status("alpha"), "another try to connect")
        world.check_status("alpha", "NOT CONNECTED", "nothing listens there", "waits in the mailbox", world.address)
        posted = world.outgoing("alpha")
        world.port = free_port()
        world.start(SERVER)
        run_command("site-agent", "courier", "set", tmp_path / "alpha", "grpc", "--endpoint", world.address)
        world.wait_for(lambda: not posted & world.outgoing("alpha"), "everything acknowledged")
        world.check_status("alpha", f"courier grpc to {world.address}: connected")
        assert answers(world) == [True, False, True]


def gave(world: MishapWorld, answer: str) -> bool:
    """Whether alpha's agent has given this answer to the manifest."""
    return world.answered("alpha") == answer


# --- 3: the coordinator's directory is an older copy of itself --------------------------------------------------------


def test_a_coordinator_that_was_restored_from_an_old_backup(tmp_path: Path) -> None:
    with MishapWorld(base=tmp_path) as world:
        accepted(world)
        world.kill(SERVER)
        world.keep("old")
        world.start(SERVER)
        for _ in range(4):
            world.command(DRAIN, RESUME, subject="alpha")
        settled(world)
        world.kill(SERVER)
        world.keep("newest")
        size, before = world.ledger().size, world.agent_state("alpha").cosigned
        world.restore("old")
        world.start(SERVER)
        world.command(*START)  # what would make the site start a job, if it listened
        world.wait_for(partial(failed_by, world, "alpha", RolledBackError), "a refusal")
        world.check_status("alpha", "NOT CONNECTED", "old backup", "waits in the mailbox")
        refused_both_ways(world.station("alpha"))
        refuse(world.site("alpha"), RUN)
        world.wait_for(partial(gave, world, "declined"), "another answer")
        posted = world.outgoing("alpha")
        assert posted
        world.wait_for(lambda: world.courier("alpha").failures >= 2, "it to be tried and refused again")
        world.check_status("alpha", "NOT CONNECTED", "old backup")
        now, found = world.agent_state("alpha"), world.site_view("alpha")
        assert (now.allocations, now.cosigned) == ({}, before)
        assert found is not None
        assert found.ledger_size == size
        assert world.outgoing("alpha") >= posted
        world.kill(SERVER)
        world.restore("newest")
        world.start(SERVER)
        world.wait_for(lambda: answers(world) == [True, False], "what was said meanwhile")
        accept(world.site("alpha"), RUN)
        world.wait_for(lambda: answers(world) == [True, False, True], "the newest answer")
        world.command(*START)
        world.wait_for(lambda: commits(world, "alpha") >= 1, "a first commit")


def answers(world: MishapWorld) -> list[bool]:
    """Answers to the manifest, as the ledger has them."""
    return [leaf.body.accepted for leaf in world.leaves() if isinstance(leaf.body, lv.SiteAnsweredV1)]


def failed_by(world: MishapWorld, site: str, error: type[FederationError]) -> bool:
    """Whether a site's courier has no connection for this reason."""
    found = world.courier(site)
    return (found.connected, found.error) == (False, error.__name__)


def accepted(world: MishapWorld) -> None:
    """A run that its sites have accepted and nobody has approved."""
    world.start(SERVER, *world.sites)
    world.create_run()
    world.wait_for(lambda: all(world.answered(site) == "accepted" for site in world.sites), "acceptance")
    settled(world)


def settled(world: MishapWorld) -> None:
    """Waits until all sites have the whole ledger, have cosigned it, and the coordinator has heard all they said."""

    def all_said() -> bool:
        size = world.ledger().size
        views = [world.site_view(site) for site in world.sites]
        seen = all(view is not None and view.ledger_size == size for view in views)
        return seen and not any(map(world.outgoing, world.sites)) and set(witnessed(world)) == {size}

    world.wait_for(all_said, "nothing more to say")


def witnessed(world: MishapWorld) -> list[int]:
    """The largest size that each site has cosigned, by the coordinator's ledger."""
    return list(world.ledger().witnessed.values())


def commits(world: MishapWorld, site: str) -> int:
    view = world.view(site)
    return view.num_commits if view else 0


def refused_both_ways(station: Station) -> None:
    """Nothing is given to this site, and nothing taken from it."""
    for call, words in ((pull, "expected the peer to have received"), (push, "expected the peer to offer")):
        with pytest.raises(RolledBackError, match=words):
            with_line(station, call, 20.0)


async def pull(line: Line) -> None:
    await line.mirror.pull(0.0)


async def push(line: Line) -> None:
    await line.mirror.push()


# --- 4: the coordinator shows another history -------------------------------------------------------------------------


def test_a_coordinator_that_shows_another_history(tmp_path: Path) -> None:
    with MishapWorld(base=tmp_path) as world:
        accepted(world)
        before = world.agent_state("alpha")
        world.kill(SERVER)
        world.fork_ledger()
        world.start(SERVER)
        world.command(*START)
        world.wait_for(lambda: (view := world.site_view("alpha")) and view.fault, "the agent's fault")
        world.check_status("alpha", "LEDGER CANNOT BE FOLLOWED", "both notes are kept")
        num_leaves = world.ledger().size
        world.command(DRAIN, RESUME, subject="alpha")
        # It has received and refused what came since, and says no more: nothing is cosigned, nothing starts.
        world.wait_for(lambda: received_all(world, "alpha"), "everything received")
        assert world.ledger().size == num_leaves + 2
        after = world.agent_state("alpha")
        assert (after.allocations, after.cosigned) == ({}, before.cosigned)
        assert witnessed(world) == []
        assert world.courier("alpha").connected
        world.stop("alpha")
        world.start("alpha")
        world.wait_for(lambda: world.courier("alpha").connected, "a connection")
        world.check_status("alpha", "LEDGER CANNOT BE FOLLOWED", "evidence of a second history", "state/ledger/forks")


def received_all(world: MishapWorld, site: str) -> bool:
    """Whether nothing waits in the coordinator's mailbox for a site."""
    return not [name for name in world.coordinator.list(f"mailbox/{site}/out") if name.endswith(".msg")]


# --- 5: a site is revoked while streams are open ----------------------------------------------------------------------


def test_a_revoked_site_is_cut_off_at_once_and_the_quorum_decides(tmp_path: Path) -> None:
    bounds = "max_open_wait_seconds = 8\nopen_grace_seconds = 0"
    with MishapWorld(base=tmp_path, sites=("alpha", "beta", "gamma"), settings={"bounds": bounds}) as world:
        accepted(world)
        world.enrol_operator()
        watching = Watching(world.operator, RUN, 0.2, 30.0)
        world.command(*START)
        world.wait_for(lambda: all(commits(world, site) >= 1 for site in world.sites), "a first commit")
        revoke(world, "gamma")
        num_commits = world.show()["commits"]
        world.wait_for(lambda: world.show()["commits"] >= num_commits + 2, "the others to go on")
        revoke(world, "beta")
        world.wait_for(lambda: watching.look()["state"] == "paused", "a pause, told to who watches")
        watching.close()
        assert "1 of " in world.show()["reason"]
        world.wait_for(lambda: paused(world, "alpha") and not world.outgoing("alpha"), "alpha to rest")
        revoke(world, "alpha")  # now that nothing else passes by that would end its Pull
        for site in world.sites:
            world.wait_for(partial(failed_by, world, site, RevokedError), f"{site} to know")
            world.check_status(site, "NOT CONNECTED", f"site {site}: revoked by an operator", "new invite")
            assert [body for body in after_revocation(world, site) if about(site, body)] == []


def paused(world: MishapWorld, site: str) -> bool:
    """Whether a site knows that the run rests."""
    view = world.view(site)
    return view is not None and view.state == "paused"


def revoke(world: MishapWorld, site: str) -> None:
    """Revokes a site while a Pull of it waits, which ends at once."""
    begun, ended = [0.0], [0.0]

    async def pull_on(line: Line) -> None:
        await line.mirror.pull(0.0)
        try:
            while True:
                begun.append(time.monotonic())
                await line.mirror.pull(50.0)
        finally:
            ended.append(time.monotonic())

    with ThreadPoolExecutor(1) as beside:
        pulling = beside.submit(with_line, world.station(site), pull_on, 120.0)
        world.wait_for(lambda: len(begun) > 1, "a Pull that waits")
        world.command(CommandKind.SITE_REVOKE, subject=site)
        revoked = time.monotonic()
        with pytest.raises(RevokedError, match=f"site {site}: revoked by an operator"):
            pulling.result(60)
    assert begun[-1] < revoked
    assert ended[-1] < revoked + 4


def after_revocation(world: MishapWorld, site: str) -> list[lv.Body]:
    """What the ledger says after a site was revoked."""
    bodies = [leaf.body for leaf in world.leaves()]
    (index,) = [i for i, body in enumerate(bodies) if isinstance(body, lv.SiteRevokedV1) and body.site == site]
    return bodies[index + 1 :]


def about(site: str, body: lv.Body) -> bool:
    """Whether a leaf was caused by a site, or asks something of it."""
    if isinstance(body, lv.VerdictV1) and body.reason is lv.Reason.REVOKED:
        return False
    if isinstance(body, lv.RoundOpenedV1):
        return any(invitation.site == site for invitation in body.invitations)
    return site in (getattr(body, "site", ""), getattr(getattr(body, "invitation", None), "site", ""))


# --- 6: a site's certificate has expired ------------------------------------------------------------------------------


def test_an_expired_certificate_is_renewed_by_the_other_one(tmp_path: Path) -> None:
    with MishapWorld(base=tmp_path) as world:
        world.certify("alpha", made_at=time.time() - 31 * DAY)
        site = world.site("alpha")
        expired, renewal = site.read(credentials.CERTIFICATE), site.read(credentials.RENEWAL)
        site.remove(credentials.RENEWAL)
        world.start(SERVER, "alpha")
        world.wait_for(lambda: world.courier("alpha").sentence, "a courier that cannot connect")
        world.check_status("alpha", "NOT CONNECTED", "found expired ones", "Ask an operator", "an invite", "`enroll`")
        assert site.read(credentials.CERTIFICATE) == expired
        site.write(credentials.RENEWAL, renewal)
        world.wait_for(lambda: world.courier("alpha").connected, "a connection")
        days = world.courier("alpha").certificate_days
        assert days is not None
        assert 29 < days < 30.1
        assert site.read(credentials.CERTIFICATE) != expired
        world.check_status("alpha", f"courier grpc to {world.address}: connected", "certificate: 30.0 days left")
