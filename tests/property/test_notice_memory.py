# SPDX-License-Identifier: Apache-2.0
"""Whatever comes, goes, flaps, gets worse, cannot be judged or meets a restart: nothing is said twice."""

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from coordinator.notices.conditions import Findings
from coordinator.notices.memory import Event, Memory, Saying, Timing
from coordinator.notices.notice import Kind, Notice, Severity, key_of, notice
from coordinator.notices.store import Kept, load, save
from federation.durable.simulated import SimulatedFileSystem

HOLD, REPEAT = 60.0, 600.0
TIMING = Timing(hold_seconds=HOLD, repeat_seconds=REPEAT)
KINDS = (Kind.SITE_SILENT, Kind.BUDGET, Kind.SITE_DRAINED)
KEYS = tuple(key_of(kind) for kind in KINDS)

Look = tuple[float, Mapping[Kind, Severity], frozenset[Kind], bool]
LOOKS = st.lists(
    st.tuples(
        st.sampled_from([1.0, 10.0, 30.0, 61.0, 200.0]),
        st.dictionaries(st.sampled_from(KINDS), st.sampled_from(Severity)),
        st.frozensets(st.sampled_from(KINDS), max_size=1),
        st.booleans(),
    ),
    max_size=40,
)


def thing(kind: Kind, severity: Severity) -> Notice:
    return notice(kind, severity, what="what", why="why", advice="advice")


def findings(found: Mapping[Kind, Severity], unjudged: frozenset[Kind]) -> Findings:
    notices = tuple(thing(kind, severity) for kind, severity in found.items() if kind not in unjudged)
    return Findings(notices=notices, unjudged_kinds=frozenset(kind.value for kind in unjudged))


def restarted(memory: Memory) -> Memory:
    """As the next process has it."""
    fs = SimulatedFileSystem()
    save(fs, memory, {})
    return load(fs).memory()


def history(looks: list[Look]) -> tuple[list[Saying], Memory, float]:
    """Everything that is said, in order."""
    now, memory, said = 1_000.0, Memory(), []
    for seconds, found, unjudged, restart in looks:
        now += seconds
        memory = restarted(memory) if restart else memory
        memory, sayings = memory.step(findings(found, unjudged), now, TIMING)
        said += sayings
    return said, memory, now


@settings(deadline=None, max_examples=60)
@given(LOOKS)
def test_nothing_is_said_twice(looks: list[Look]) -> None:
    said, memory, _ = history(looks)
    assert len({saying.id for saying in said}) == len(said)
    for key in KEYS:
        open_since: Saying | None = None
        worst = 0
        for saying in (s for s in said if s.notice.key == key):
            match saying.event:
                case Event.BEGINS:
                    assert open_since is None
                    worst = saying.severity.rank
                case Event.WORSE:
                    assert open_since is not None
                    assert saying.severity.rank > worst
                    worst = saying.severity.rank
                case Event.REPEATS:
                    assert open_since is not None
                    assert saying.at - open_since.at >= REPEAT
                case Event.ENDS:
                    assert open_since is not None
                    assert saying.severity.rank == worst
            open_since = None if saying.event is Event.ENDS else saying
        assert (open_since is not None) == (key in memory.told)


@settings(deadline=None, max_examples=60)
@given(LOOKS)
def test_what_ends_is_said_to_end(looks: list[Look]) -> None:
    said, memory, now = history(looks)
    assume(memory.told)
    for seconds in (1.0, HOLD + 1.0):
        now += seconds
        memory, sayings = memory.step(Findings(notices=()), now, TIMING)
        said += sayings
    assert memory == Memory()
    for key in KEYS:
        events = [s.event for s in said if s.notice.key == key]
        assert events.count(Event.BEGINS) == events.count(Event.ENDS)


@settings(deadline=None, max_examples=60)
@given(LOOKS)
def test_nothing_is_said_that_did_not_hold(looks: list[Look]) -> None:
    """Each begin was the case in every look of the last minute."""
    now, seen = 1_000.0, []
    for seconds, found, unjudged, _ in looks:
        now += seconds
        seen.append((now, {key_of(kind) for kind in found if kind not in unjudged}))
    said, _, _ = history([replace_restart(look) for look in looks])
    for saying in (s for s in said if s.event is Event.BEGINS):
        last_without = max((at for at, keys in seen if at < saying.at and saying.notice.key not in keys), default=0.0)
        first_with = min(at for at, keys in seen if at > last_without and saying.notice.key in keys)
        assert saying.at - first_with >= HOLD


def replace_restart(look: Look) -> Look:
    return (*look[:3], False)


@given(st.binary(max_size=300))
def test_junk_in_the_file_is_as_good_as_none(data: bytes) -> None:
    fs = SimulatedFileSystem()
    fs.place("dashboard/notices.json", data)
    assert load(fs) == Kept()


def test_what_waits_to_be_said_is_kept_to_the_letter() -> None:
    fs, memory = SimulatedFileSystem(), Memory()
    for now in (1_000.0, 1_000.0 + HOLD):
        memory, sayings = memory.step(findings({Kind.BUDGET: Severity.CRITICAL}, frozenset()), now, TIMING)
    odd = replace(sayings[0], notice=replace(sayings[0].notice, why="ä \ud800 <b>".encode(errors="replace").decode()))
    save(fs, memory, {"slack-1": (odd,), "idle": ()})
    kept = load(fs)
    assert kept.unsent == {"slack-1": (odd,)}
    assert kept.memory() == memory
