# SPDX-License-Identifier: Apache-2.0
"""Budgets are never passed: whatever jobs do, whatever accounting says or never says, in any 24 hours and in any run.

Jobs here wait in a queue, run as long as they like up to their wall time, are taken back into the queue by the batch
system and begin anew with a whole wall time, and end unseen for a while; sacct answers at
once, late or never; the operator vouches for ends that nobody saw; site.toml changes between jobs. What they really
used is kept aside and compared with the limits at the end.
"""

import heapq
from dataclasses import dataclass, field
from datetime import UTC, datetime

from hypothesis import example, given
from hypothesis import strategies as st

from site_agent.agent_state import AgentState, fold
from site_agent.budget import DAY_US, US, JobSize, gpu_hours
from site_agent.entries import AllocationAccounted, AllocationEnded, AllocationIntended, AllocationSubmitted, Entry
from site_agent.observations import Answer
from site_agent.policy import PerDay, PerRun, Policy, StartFigures, may_start, must_stop

HOUR = 3600
DAY = 24 * HOUR
START = 1_000 * DAY
RUNS = ("one", "two")


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """After `pause` seconds the agent would like to start a job, which behaves like this if it may."""

    pause: int
    run: str
    size: JobSize
    queued: int
    used: int
    unseen: int
    accounted_after: int | None
    vouched: bool
    requeued_after: int | None = None
    pending: int = 120


@dataclass(frozen=True, kw_only=True)
class Requeue:
    """The agent sees that the batch system has taken a job back into the queue, and what it used before."""

    wish: Attempt
    number: int
    elapsed_seconds: int


@dataclass(frozen=True, kw_only=True)
class Use:
    """What a job really used, in seconds."""

    run: str
    begin: int
    end: int
    num_gpus: int

    def within(self, begin: int, end: int) -> int:
        """GPU-seconds inside these bounds."""
        return self.num_gpus * max(0, min(self.end, end) - max(self.begin, begin))


SIZES = st.builds(
    JobSize, num_gpus=st.integers(0, 8), seconds_limit=st.sampled_from((HOUR, 6 * HOUR, 12 * HOUR, 30 * HOUR))
)


@st.composite
def attempts(draw: st.DrawFn) -> Attempt:
    size = draw(SIZES)
    return Attempt(
        pause=draw(st.integers(0, 20 * HOUR)),
        run=draw(st.sampled_from(RUNS)),
        size=size,
        queued=draw(st.sampled_from((0, 60, 5 * HOUR, 40 * HOUR))),
        used=draw(st.one_of(st.just(size.seconds_limit), st.integers(0, size.seconds_limit))),
        unseen=draw(st.sampled_from((0, 30, 3 * HOUR, 30 * HOUR))),
        accounted_after=draw(st.sampled_from((None, 0, 60, 26 * HOUR))),
        vouched=draw(st.booleans()),
        requeued_after=draw(st.one_of(st.none(), st.integers(0, size.seconds_limit))),
        pending=draw(st.sampled_from((0, 120, 20 * HOUR))),
    )


@dataclass
class Site:
    """One site whose agent obeys its policy, and the truth beside its journal."""

    policy: Policy
    now: int = START
    state: AgentState = field(default_factory=AgentState)
    uses: list[Use] = field(default_factory=list)
    due: list[tuple[int, int, Entry | Requeue]] = field(default_factory=list)
    num_events: int = 0

    def advance(self, seconds: int) -> None:
        """Time passes; what the agent sees meanwhile is journaled in order."""
        self.now += seconds
        while self.due and self.due[0][0] <= self.now:
            at, _, event = heapq.heappop(self.due)
            if isinstance(event, Requeue):
                self.requeued(event, at)
            else:
                self.journal(event)

    def journal(self, *entries: Entry) -> None:
        self.state = fold(entries, self.state)

    def later(self, at: int, event: Entry | Requeue) -> None:
        self.num_events += 1
        heapq.heappush(self.due, (at, self.num_events, event))

    def figures(self, attempt: Attempt, now: int) -> StartFigures:
        now_us = now * US
        return StartFigures(
            day_gpu_hours=gpu_hours(self.state, attempt.size, now_us, since_us=now_us - DAY_US),
            run_gpu_hours=gpu_hours(self.state, attempt.size, now_us, run=attempt.run),
            job_gpu_hours=attempt.size.gpu_hours,
            wall_seconds=attempt.size.seconds_limit,
        )

    def attempt(self, attempt: Attempt) -> None:
        """Starts the job if none of its run lives and the policy lets it."""
        self.advance(attempt.pause)
        if self.state.live_allocation(attempt.run) is not None:
            return
        now = datetime.fromtimestamp(self.now, UTC)
        if may_start(self.policy, self.figures(attempt, self.now), now).answer is Answer.ACCEPT:
            self.start(attempt)

    def start(self, attempt: Attempt) -> None:
        run, number, at_us = attempt.run, len(self.state.allocations.get(attempt.run, ())) + 1, self.now * US
        size = attempt.size
        self.journal(
            AllocationIntended(
                run=run,
                number=number,
                fencing=number,
                at_us=at_us,
                num_gpus=size.num_gpus,
                seconds_limit=size.seconds_limit,
            ),
            AllocationSubmitted(run=run, number=number, handle="slurm:c:1", at_us=at_us),
        )
        begin, first = self.now + attempt.queued, attempt.requeued_after
        if first is None:
            self.executed(attempt, number, begin, attempt.used)
            return
        self.uses.append(Use(run=run, begin=begin, end=begin + first, num_gpus=size.num_gpus))
        self.later(begin + first, Requeue(wish=attempt, number=number, elapsed_seconds=first))

    def requeued(self, event: Requeue, at: int) -> None:
        """Seen while the job waits again; then the agent may order its end, and nothing more of it runs."""
        wish = event.wish
        self.journal(self.accounted(wish, event.number, event.elapsed_seconds, at))
        now = datetime.fromtimestamp(at, UTC)
        ends = must_stop(self.policy, self.figures(wish, at), now, 0.0) is not None
        used = 0 if ends else wish.used
        self.executed(wish, event.number, at + wish.pending, used, event.elapsed_seconds)

    def executed(self, wish: Attempt, number: int, begin: int, used: int, earlier: int = 0) -> None:
        """The job's last execution, how its end is seen, and what the accounting says."""
        end = begin + used
        seen = end + wish.unseen
        self.uses.append(Use(run=wish.run, begin=begin, end=end, num_gpus=wish.size.num_gpus))
        reason = "operator" if wish.vouched else "stopped"
        self.later(
            seen,
            AllocationEnded(run=wish.run, number=number, failed=False, reason=reason, sentence="", at_us=seen * US),
        )
        if wish.accounted_after is not None:
            told = seen + wish.accounted_after
            self.later(told, self.accounted(wish, number, earlier + used, told))

    @staticmethod
    def accounted(wish: Attempt, number: int, seconds: int, at: int) -> AllocationAccounted:
        return AllocationAccounted(
            run=wish.run, number=number, elapsed_seconds=seconds, num_gpus=wish.size.num_gpus, at_us=at * US
        )

    def used_within(self, begin: int, end: int) -> int:
        return sum(use.within(begin, end) for use in self.uses)


TWICE = Attempt(
    pause=0,
    run="one",
    size=JobSize(num_gpus=1, seconds_limit=12 * HOUR),
    queued=0,
    used=12 * HOUR,
    unseen=0,
    accounted_after=None,
    vouched=False,
    requeued_after=11 * HOUR,
)
"""A job that runs nearly for its whole wall time, and then once more."""


@example(day=16.0, run=None, wishes=[TWICE])
@example(day=100.0, run=16.0, wishes=[TWICE])
@given(
    day=st.floats(0, 100),
    run=st.one_of(st.none(), st.floats(0, 300)),
    wishes=st.lists(attempts(), max_size=25),
)
def test_no_24_hours_and_no_run_hold_more_than_their_limits(
    day: float, run: float | None, wishes: list[Attempt]
) -> None:
    site = Site(policy=Policy(per_day=PerDay(gpu_hours=day), per_run=PerRun(gpu_hours=run)))
    for wish in wishes:
        site.attempt(wish)
    site.advance(100 * DAY)
    # What is used within a sliding window is largest where one of its ends meets a begin or an end of a job.
    corners = {corner for use in site.uses for corner in (use.begin, use.end)}
    for corner in corners:
        for begin in (corner, corner - DAY):
            assert site.used_within(begin, begin + DAY) <= day * HOUR + 0.001
    if run is not None:
        for name in RUNS:
            assert sum(use.within(0, 10**12) for use in site.uses if use.run == name) <= run * HOUR + 0.001


@example(wishes=[TWICE], later=24 * HOUR)
@given(wishes=st.lists(attempts(), max_size=15), later=st.integers(0, 60 * HOUR))
def test_no_job_counts_for_less_than_it_used(wishes: list[Attempt], later: int) -> None:
    site = Site(policy=Policy(per_day=PerDay(gpu_hours=1e9)))
    for wish in wishes:
        site.attempt(wish)
    site.advance(later)
    for since in (site.now - DAY, site.now - HOUR, 0):
        counted = gpu_hours(site.state, JobSize(), site.now * US, since_us=since * US)
        assert counted * HOUR >= site.used_within(since, site.now) - 0.001
