# SPDX-License-Identifier: Apache-2.0
"""When things happened: what the ledger's leaves and the sites' reports say, and how much of it is kept."""

from collections.abc import Iterable

from decider_world import World

from coordinator.decider import decide
from coordinator.timeline import NUM_ROUNDS, RunTimes, Timelines
from federation import leaves as lv
from federation.leaves import Reason
from federation.messages import AllocationReport, AllocationState, Phase, SiteStatus
from federation.rounds import apply


class Log:
    """Leaves in memory; counts what is read."""

    def __init__(self) -> None:
        self.all: list[lv.Leaf] = []
        self.num_read = 0

    @property
    def size(self) -> int:
        return len(self.all)

    def leaves(self, start: int, stop: int) -> Iterable[lv.Leaf]:
        self.num_read += stop - start
        return self.all[start:stop]


class LoggedWorld(World):
    """A run whose leaves are kept."""

    def __init__(self, **changes: object) -> None:
        self.log = Log()
        super().__init__(**changes)

    def put(self, event: object) -> list[lv.Body]:
        bodies = decide(self.state, event, self.now)  # type: ignore[arg-type]
        for body in bodies:
            leaf = lv.Leaf(at_us=int(self.now * 1e6), body=body)
            self.log.all.append(leaf)
            self.state = apply(self.state, leaf)
        return bodies

    def times(self) -> RunTimes:
        return Timelines(self.log).of(self.run)


def test_the_parts_of_a_round() -> None:
    world = LoggedWorld()
    world.ready()
    world.tick()
    world.now = 1010.0
    world.update("alpha")
    world.now = 1020.0
    world.update("beta")
    world.update("gamma")
    world.tick()
    found = world.times().rounds[0]
    assert found.verdicts_at_us == {"alpha": 1010_000_000, "beta": 1020_000_000, "gamma": 1020_000_000}
    assert (found.sealed_at_us, found.ended_at_us) == (1020_000_000, 0)
    assert "3 of 3 sites" in found.sentence


def test_why_a_round_was_abandoned_and_when() -> None:
    world = LoggedWorld()
    world.ready()
    world.tick()
    world.tick(400)
    found = world.times().rounds[0]
    assert found.ended_at_us == 1400_000_000
    assert "0 of 3 sites" in found.sentence


def test_leaves_are_read_once() -> None:
    world = LoggedWorld()
    times = Timelines(world.log)
    times.of(world.run)
    read = world.log.num_read
    world.ready()
    world.tick()
    times.of(world.run)
    times.of(world.run)
    assert world.log.num_read == read + 1


def test_a_site_says_when_it_began_each_phase() -> None:
    world = LoggedWorld()
    times = Timelines(world.log)
    world.ready()
    world.tick()
    for seconds, phase in ((5, Phase.INVITED), (10, Phase.TRAINING), (20, Phase.UPLOADING)):
        world.now = 1000.0 + seconds
        world.report("alpha", 0, phase)
        times.reported(world.state.runs.values(), "alpha", world.seen.sites["alpha"])
    progress = times.of(world.run).rounds[0].phases["alpha"]
    assert (progress.answered_at, progress.training_at, progress.uploading_at) == (1005.0, 1010.0, 1020.0)


def test_a_site_cannot_make_rounds_up() -> None:
    world = LoggedWorld()
    times = Timelines(world.log)
    world.ready()
    world.tick()
    world.report("alpha", 10**9, Phase.TRAINING)
    times.reported(world.state.runs.values(), "alpha", world.seen.sites["alpha"])
    times.reported(world.state.runs.values(), "stranger", world.seen.sites["alpha"])
    found = times.of(world.run)
    assert list(found.rounds) == [0]
    assert list(found.allocations) == ["alpha"]


def test_changes_of_an_allocation_are_kept_and_not_its_repetitions() -> None:
    world = LoggedWorld()
    times = Timelines(world.log)
    for at, state in ((1, AllocationState.QUEUED), (2, AllocationState.QUEUED), (3, AllocationState.READY)):
        report = AllocationReport(run="demo", allocation="a1", state=state, seconds_left=-1)
        world.seen = world.seen.seen("alpha", SiteStatus(ledger_size=0, allocations=(report,)), float(at))
        times.reported(world.state.runs.values(), "alpha", world.seen.sites["alpha"])
    assert list(times.of(world.run).allocations["alpha"]) == [(1.0, "queued"), (3.0, "ready")]


def test_only_the_newest_rounds_are_kept() -> None:
    times, log, world = RunTimes("demo"), Log(), LoggedWorld()
    log.all += world.log.all[: world.run.created_leaf]
    for number in range(NUM_ROUNDS + 20):
        reason = lv.RoundAbandonedV1(run="demo", round=number, reason=Reason.OPERATOR, sentence="")
        log.all.append(lv.Leaf(at_us=number, body=reason))
    times.follow(world.run, log)
    assert sorted(times.rounds) == list(range(20, NUM_ROUNDS + 20))
    assert times.rounds[NUM_ROUNDS].sentence == "operator"


def test_commits_of_a_run_and_since_when_it_goes_on() -> None:
    world = LoggedWorld()
    world.ready()
    world.tick()
    for site in ("alpha", "beta", "gamma"):
        world.update(site)
    world.tick()
    world.now = 1030.0
    world.commit(0)
    found = world.times()
    assert list(found.commits_at_us) == [1030_000_000]
    assert found.rounds[0].ended_at_us == 1030_000_000
    assert found.going_since_us == 1000_000_000
