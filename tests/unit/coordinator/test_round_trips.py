# SPDX-License-Identifier: Apache-2.0
"""What operators are told of couriers' round trips: in `coordinator status`, and when a run is created."""

from types import SimpleNamespace
from typing import cast

import pytest
from decider_world import SITES, World

from coordinator import observation_store
from coordinator.cli.create import _sites
from coordinator.cli.sites import print_status
from coordinator.observations import Observations
from coordinator.operator_client import OperatorClient
from coordinator.round_trips import known_round_trips, round_trip_document, slow_couriers, too_short
from federation import leaves as lv
from federation.durable.simulated import SimulatedFileSystem
from federation.errors import DeadlineExceededError, FederationError, UsageError
from federation.messages import CommandKind, SiteStatus
from federation.round_trips import MAX_SECONDS, Source


def world_of(**added: int) -> World:
    members = tuple(
        lv.Member(site=s, num_inner_steps=4, planned_tokens=100, courier_round_trip_seconds=added.get(s, 0))
        for s in SITES
    )
    return World(members=members)


def report(world: World, site: str, measured: int = 0, declared: int = 0) -> None:
    status = SiteStatus(
        ledger_size=0, measured_round_trip_seconds=measured, declared_round_trip_seconds=declared, sent_at_us=1
    )
    world.seen = world.seen.seen(site, status, world.now)


def slow(world: World) -> list[str]:
    return slow_couriers(world.state, world.seen)


def test_measured_declared_and_added_stand_beside_each_other() -> None:
    world = world_of(beta=600)
    report(world, "beta", measured=1900, declared=1800)
    assert round_trip_document(world.state, world.seen, "beta") == {
        "measured_seconds": 1900,
        "declared_seconds": 1800,
        "added_seconds": {"demo": 600},
    }
    silent = round_trip_document(world.state, world.seen, "alpha")
    assert (silent["measured_seconds"], silent["declared_seconds"]) == (0, 0)
    world.command(CommandKind.RUN_ABORT)
    assert round_trip_document(world.state, world.seen, "beta")["added_seconds"] == {}


def test_a_way_longer_than_the_manifest_adds_is_a_problem_with_what_to_do() -> None:
    world = world_of(beta=600, gamma=3600)
    report(world, "beta", measured=1900)
    report(world, "gamma", measured=3600)
    (said,) = slow(world)
    assert said.startswith("run demo: site beta: its courier's round trip is 1900 s, as its agent measured, and 600 s")
    assert "The manifest is fixed" in said
    assert "create a new run with courier_round_trip_seconds = 1900 for beta" in said
    world.command(CommandKind.RUN_ABORT)
    assert slow(world) == [], "nothing can be done about a run that is over"


def test_what_is_declared_counts_until_something_was_measured() -> None:
    world = world_of(beta=600)
    report(world, "beta", declared=1800)
    assert "1800 s, as the site declares" in slow(world)[0]
    report(world, "beta", measured=300, declared=1800)
    assert slow(world) == []


@pytest.mark.parametrize("measured", [0, 1, 60])
def test_a_site_on_the_network_or_of_an_older_release_is_no_problem(measured: int) -> None:
    world = world_of()
    report(world, "alpha", measured=measured)
    assert slow(world) == []


def test_nonsense_from_a_site_is_not_advised() -> None:
    world = world_of()
    report(world, "alpha", measured=2**64 - 1)
    assert f"courier_round_trip_seconds = {MAX_SECONDS} " in slow(world)[0]


def test_a_report_that_an_older_coordinator_kept_is_read() -> None:
    fs, world = SimulatedFileSystem(), world_of()
    report(world, "beta", measured=1900)
    observation_store.save(fs, "beta", world.seen.sites["beta"])
    assert observation_store.load(fs).sites == {"beta": world.seen.sites["beta"]}
    old = fs.read("status/beta.json").replace(b',"measured_round_trip_seconds":1900', b"")
    fs.write("status/beta.json", old.replace(b',"declared_round_trip_seconds":0', b""))
    assert observation_store.load(fs).sites["beta"].status.measured_round_trip_seconds == 0


# -- run create --------------------------------------------------------------------------------------------------------


def test_a_new_run_reckons_with_the_longer_of_declared_and_measured() -> None:
    world = world_of(alpha=600, beta=600)
    report(world, "alpha", measured=1900, declared=1800)
    report(world, "beta", measured=100, declared=1800)
    plan = world.state.runs["demo"].plan
    lines = [{"site": s, "round_trip": round_trip_document(world.state, world.seen, s)} for s in SITES]
    known = known_round_trips(plan, lines)
    assert {site: (found.seconds, found.source) for site, found in known.items()} == {
        "alpha": (1900, Source.MEASURED),
        "beta": (1800, Source.DECLARED),
        "gamma": (0, Source.RUN),
    }
    alpha, beta = too_short(plan, known)
    assert "1900 s, as its agent measured, and 600 s are added" in alpha
    assert alpha.endswith("create another one with courier_round_trip_seconds = 1900 for alpha.")
    assert "1800 s, as the site declares" in beta


def test_a_coordinator_that_says_nothing_of_it_leaves_run_toml() -> None:
    plan = world_of(beta=600).state.runs["demo"].plan
    for lines in ([], [{"site": "beta"}]):
        known = known_round_trips(plan, lines)
        assert known["beta"].source is Source.RUN
        assert too_short(plan, known) == []


@pytest.mark.parametrize("error", [DeadlineExceededError("no reply"), UsageError("not you")])
def test_a_run_that_is_created_needs_no_answer_about_the_sites(error: FederationError) -> None:
    def query(*_: object) -> None:
        raise error

    assert _sites(cast(OperatorClient, SimpleNamespace(query=query)), 1.0) == []


# -- coordinator status ------------------------------------------------------------------------------------------------


def status_of(world: World, *, old: bool = False) -> dict[str, object]:
    line = {"state": "active", "last_seen": None, "allocations": {}, "waited_for": []}
    trips = {s: {} if old else {"round_trip": round_trip_document(world.state, world.seen, s)} for s in SITES}
    return {
        "consortium": "test",
        "roster": {"version": 1, "expires_at_us": 2e15},
        "ledger": {"size": 1, "root": "0" * 64},
        "network": {},
        "compiler": "numba",
        "runs": [],
        "sites": [{"site": s, **line, **trips[s]} for s in SITES],
        "problems": slow(world),
    }


def test_status_prints_a_line_for_each_site(capsys: pytest.CaptureFixture[str]) -> None:
    world = world_of(beta=600)
    report(world, "beta", measured=1900, declared=1800)
    print_status(status_of(world), 1.0)
    text = " ".join(capsys.readouterr().out.split())
    assert "courier's round trip measured declared in the manifest" in text
    assert "beta 1900 s 1800 s demo 600 s" in text
    assert "alpha not yet no demo 0 s" in text
    assert "courier_round_trip_seconds = 1900" in text


def test_the_status_of_an_older_coordinator_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    world = world_of()
    world.seen = Observations()
    print_status(status_of(world, old=True), 1.0)
    assert "round trip" not in capsys.readouterr().out
