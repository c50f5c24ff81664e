# SPDX-License-Identifier: Apache-2.0
"""Who is told that its next allocation need not begin yet, and when it is told."""

from dataclasses import replace

import pytest
from decider_world import SITES, World

from coordinator.cli.show import print_run
from coordinator.suggestions import (
    LOOK_SECONDS,
    MAX_EXPECTED_SECONDS,
    MAX_REPORT_AGE_SECONDS,
    MAX_SUGGESTION_SECONDS,
    MIN_REST_SECONDS,
    RENEW_SECONDS,
    StartBoard,
    expected_starts,
    suggested_start,
)
from coordinator.tails import Tails
from federation import dsse, signing
from federation import leaves as lv
from federation.blobs.store import BlobStore
from federation.durable.simulated import SimulatedFileSystem
from federation.ids import COORDINATOR
from federation.ledger.log import Ledger
from federation.mailbox.mailbox import Mailbox
from federation.messages import (
    AllocationReport,
    AllocationState,
    CommandKind,
    LedgerTail,
    SiteStatus,
    SuggestedStart,
)
from federation.roster import TrustedRosters, root_fingerprint
from federation.rounds import Federation
from federation.testing.rosters import MemoryConsortium
from federation.wire import message_from_bytes

HOUR = 3600


def report(world: World, site: str, state: AllocationState | None, seconds: int = 0) -> None:
    """The site's newest word about its job, None for no job."""
    job = AllocationReport(
        run="demo", allocation="a1", state=state or AllocationState.ENDED, seconds_left=-1, start_in_seconds=seconds
    )
    status = SiteStatus(ledger_size=0, allocations=(job,) if state is not None else ())
    world.seen = world.seen.seen(site, status, world.now)


def queued(world: World, **seconds: int) -> None:
    for site, expected in seconds.items():
        report(world, site, AllocationState.QUEUED, expected)


def starts(world: World) -> dict[str, float | None]:
    return expected_starts(world.state, world.state.runs["demo"], world.seen, world.now)


def told(world: World) -> dict[str, int]:
    board = StartBoard()
    board.look(world.state, world.seen, world.now)
    return dict(board.newest["demo"].seconds)


def test_the_expected_start_of_each_member_ages_with_its_report() -> None:
    world = World()
    world.ready("alpha")
    queued(world, beta=2 * HOUR)
    world.now += HOUR
    assert starts(world) == {"alpha": 0.0, "beta": HOUR, "gamma": None}
    world.now += HOUR
    queued(world, beta=60)
    assert starts(world) == {"alpha": None, "beta": 60.0, "gamma": None}, "nobody knows what an old report says of now"


@pytest.mark.parametrize(
    ("state", "seconds", "expected"),
    [
        (AllocationState.READY, 0, 0.0),
        (AllocationState.READY, 7, 0.0),
        (AllocationState.QUEUED, 0, None),
        (AllocationState.QUEUED, 7, 7.0),
        (AllocationState.SUBMITTED, 7, 7.0),
        (AllocationState.QUEUED, MAX_EXPECTED_SECONDS + 1, None),
        (AllocationState.QUEUED, 2**64 - 1, None),
        (AllocationState.ENDED, 7, 0.0),
        (None, 0, 0.0),
    ],
)
def test_what_a_report_lets_expect(state: AllocationState | None, seconds: int, expected: float | None) -> None:
    world = World()
    report(world, "beta", state, seconds)
    assert starts(world)["beta"] == expected


def test_a_slow_courier_may_report_rarely() -> None:
    world = World(members=members(beta=6 * HOUR))
    queued(world, alpha=9 * HOUR, beta=9 * HOUR)
    world.now += MAX_REPORT_AGE_SECONDS + 1
    assert starts(world)["alpha"] is None
    assert starts(world)["beta"] is not None


def members(**round_trips: int) -> tuple[lv.Member, ...]:
    return tuple(
        lv.Member(site=s, num_inner_steps=4, planned_tokens=100, courier_round_trip_seconds=round_trips.get(s, 0))
        for s in SITES
    )


def test_the_site_with_the_short_queue_waits_for_the_quorum() -> None:
    world = World()
    queued(world, beta=4 * HOUR, gamma=6 * HOUR)
    world.ready("alpha")
    assert told(world) == {"alpha": 2 * HOUR, "beta": 0, "gamma": 0}, "two of three are enough, and alpha is there"
    everybody = World(quorum_sites=3)
    queued(everybody, beta=4 * HOUR, gamma=6 * HOUR)
    everybody.ready("alpha")
    assert told(everybody) == {"alpha": 3 * HOUR, "beta": 3 * HOUR, "gamma": 2 * HOUR}


def test_the_share_of_planned_tokens_counts_as_in_the_quorum() -> None:
    plan_members = (replace(members()[0], planned_tokens=10), members()[1], replace(members()[2], planned_tokens=1000))
    world = World(members=plan_members)
    queued(world, alpha=2 * HOUR, beta=2 * HOUR, gamma=6 * HOUR)
    assert told(world) == {"alpha": 3 * HOUR, "beta": 3 * HOUR, "gamma": HOUR}


def test_at_once_where_a_round_can_open_now() -> None:
    world = World()
    world.ready("alpha", "beta")
    queued(world, gamma=2 * HOUR)
    assert told(world) == dict.fromkeys(SITES, 0)


def test_nothing_where_too_little_is_known() -> None:
    world = World()
    world.ready("alpha")
    queued(world, beta=0)
    assert told(world) == {"beta": 0, "gamma": 0}, "alpha, which waits for others, is told nothing"
    world.command(CommandKind.SITE_DRAIN, subject="alpha")
    world.command(CommandKind.SITE_DRAIN, subject="beta")
    assert told(world) == {}


def test_two_sites_without_a_job_are_not_both_told_to_wait_for_a_third() -> None:
    world = World()
    report(world, "alpha", None)
    report(world, "beta", AllocationState.ENDED)
    queued(world, gamma=2 * HOUR)
    assert told(world) == dict.fromkeys(SITES, 0)


def test_a_suggestion_is_bounded_and_shorter_by_the_way_to_the_site() -> None:
    world = World(quorum_sites=3, members=members(alpha=2 * HOUR, beta=48 * HOUR))
    world.ready("alpha", "beta")
    queued(world, gamma=72 * HOUR)
    assert told(world) == {"alpha": MAX_SUGGESTION_SECONDS - 2 * HOUR, "beta": 0, "gamma": 0}


def test_a_run_that_opens_no_round_suggests_nothing() -> None:
    world = World()
    world.ready("alpha")
    queued(world, beta=2 * HOUR)
    assert told(world)["alpha"] == HOUR
    world.command(CommandKind.RUN_PAUSE)
    assert told(world) == {}


def test_the_sentence_shows_the_arithmetic() -> None:
    world = World()
    world.ready("alpha")
    queued(world, beta=2 * HOUR)
    run = world.state.runs["demo"]
    sentence = suggested_start(run, world.state.excluded, starts(world)).sentence
    assert sentence == (
        "expected starts: alpha now, beta in 2 hours, gamma unknown; "
        "new allocations need not begin: alpha for 60 minutes; "
        "at once there could be 1 of 3 sites (alpha), 2 needed; 33.3% of planned tokens, 50% needed; "
        "missing: beta, gamma"
    )
    queued(world, beta=0)
    assert suggested_start(run, world.state.excluded, starts(world)).sentence == ""


class Asked:
    """A board that is asked again and again while reports come. What is expected is twice what is asked."""

    def __init__(self) -> None:
        self.world, self.board = World(), StartBoard()
        self.world.ready("alpha")

    def after(self, seconds: float, beta: int) -> list[int]:
        """What alpha is told `seconds` later, when beta expects to start in so many."""
        self.world.now += seconds
        report(self.world, "alpha", AllocationState.READY)
        queued(self.world, beta=2 * beta)
        self.board.look(self.world.state, self.world.seen, self.world.now)
        words = self.board.news("alpha", self.world.now)
        assert all(word.run == "demo" for word in words)
        return [word.seconds for word in words]


def test_a_site_is_told_once_and_again_when_it_changes() -> None:
    asked = Asked()
    assert asked.after(0, beta=2 * HOUR) == [2 * HOUR]
    assert asked.after(100, beta=2 * HOUR - 100) == [], "the same moment"
    assert asked.after(100, beta=2 * HOUR) == [], "nearly the same"
    assert asked.after(100, beta=0) == [], "what is not known takes nothing back"
    assert asked.after(100, beta=3 * HOUR) == [3 * HOUR]
    asked.world.ready("gamma")
    assert asked.after(LOOK_SECONDS, beta=HOUR) == [], "too soon after the last word"
    assert asked.after(MIN_REST_SECONDS, beta=HOUR) == [0], "gamma is there"
    assert asked.after(MIN_REST_SECONDS, beta=HOUR) == []


def test_what_holds_is_repeated_before_the_site_forgets_it() -> None:
    asked = Asked()
    assert asked.after(0, beta=4 * HOUR) == [4 * HOUR]
    assert asked.after(RENEW_SECONDS - LOOK_SECONDS, beta=4 * HOUR - RENEW_SECONDS + LOOK_SECONDS) == []
    assert asked.after(LOOK_SECONDS, beta=4 * HOUR - RENEW_SECONDS) == [4 * HOUR - RENEW_SECONDS]


def test_what_is_over_by_itself_is_not_taken_back() -> None:
    asked = Asked()
    assert asked.after(0, beta=HOUR) == [HOUR]
    asked.world.ready("beta")
    assert asked.after(HOUR + 1, beta=1) == [1]


def test_estimates_that_jump_cost_one_message_a_minute() -> None:
    asked = Asked()
    words = [word for second in range(0, 1800, 10) for word in asked.after(10, beta=HOUR * (1 + second // 10 % 5))]
    assert 1 < len(words) <= 1 + 1800 / MIN_REST_SECONDS


def test_a_clock_that_is_set_back_does_not_silence_the_board() -> None:
    asked = Asked()
    assert asked.after(0, beta=2 * HOUR) == [2 * HOUR]
    assert asked.after(-HOUR, beta=2 * HOUR) == [2 * HOUR]


def test_a_stranger_is_told_nothing() -> None:
    asked = Asked()
    asked.after(0, beta=2 * HOUR)
    assert asked.board.news("delta", asked.world.now) == ()


def test_it_travels_with_a_tail_that_brings_nothing_else() -> None:
    fs, key = SimulatedFileSystem(), signing.generate_key()
    ledger = Ledger.create(fs, "ledger", "origin", key, lambda: {})
    ledger.append([lv.Leaf(at_us=1, body=lv.SiteDrainedV1(site="alpha", operator="olga", command="drain"))])
    mailbox = Mailbox(fs, "mailbox/alpha", BlobStore(fs), COORDINATOR, "alpha", "demo", key)
    tails, eu = Tails(ledger=ledger, blobs=BlobStore(fs)), MemoryConsortium(sites=("alpha",))
    rosters = TrustedRosters.load([eu.document(eu.roster())], root_fingerprint(eu.roster()), 1)
    word = SuggestedStart(run="demo", seconds=60)
    assert tails.publish("alpha", mailbox, Federation(), {}, rosters, now=0.0)
    assert tails.publish("alpha", mailbox, Federation(), {}, rosters, suggested=(word,), now=0.0)
    assert not tails.publish("alpha", mailbox, Federation(), {}, rosters, now=0.0)
    name = sorted(name for name in fs.list("mailbox/alpha/out") if name.endswith(".msg"))[-1]
    payload = dsse.peek_payload(fs.read(f"mailbox/alpha/out/{name}"), dsse.MESSAGE_TYPE)
    body = message_from_bytes(payload).body
    assert isinstance(body, LedgerTail)
    assert (body.leaves, body.suggested_starts) == ((), (word,))


def test_run_show_has_the_sentence_as_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    shown = {"run": "demo", "state": "running", "commits": 0, "rounds": 2, "reason": "", "answers": {}, "missed": {}}
    shown |= {"sites": [], "sites_now": {}, "round_log": [], "evaluations": [], "ledger": {"size": 1, "root": "0" * 64}}
    print_run({**shown, "suggested_starts": "expected starts: alpha now"})
    assert "expected starts: alpha now" in capsys.readouterr().out.splitlines()
    print_run({**shown, "suggested_starts": ""})
    print_run(shown)
    assert "expected" not in capsys.readouterr().out
