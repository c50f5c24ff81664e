# SPDX-License-Identifier: Apache-2.0
"""One round's instants out of the marks of all processes: when the last of them was through with each phase."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from federation.bench.marks import Mark, Marks
from federation.bench.world import World
from federation.errors import JobFailedError

PHASES: Final = ("encode", "store", "offer", "upload", "admit", "seal", "aggregate", "deliver", "apply")
"""In their order: see docs/benchmarks.md. Each ends when the last party is through with it."""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Instants of one round (`time.monotonic()`).

    Attributes:
        began: the first site has reached the boundary and begins to encode.
        ends: of each phase, in the order of `PHASES`.
        recorded: the digests of m and r are in the ledger.
    """

    round: int
    began: float
    ends: tuple[float, ...]
    recorded: float

    @property
    def seconds(self) -> float:
        """From the first site's encode to the last site's merge."""
        return self.end("apply") - self.began

    @property
    def critical_seconds(self) -> float:
        """From the last byte that the coordinator received to the commit's leaf, durable and in force."""
        return self.end("aggregate") - self.end("upload")

    @property
    def recorded_seconds(self) -> float:
        """From the last site's merge until the digests of m and r are recorded; 0 if they were before."""
        return max(0.0, self.recorded - self.end("apply"))

    def end(self, phase: str) -> float:
        """When the last party was through with a phase."""
        return self.ends[PHASES.index(phase)]

    def phase_seconds(self) -> dict[str, float]:
        """How much later each phase ended than the one before; together they are `seconds`."""
        before = (self.began, *self.ends)
        return {phase: end - start for phase, start, end in zip(PHASES, before, self.ends, strict=False)}


def timelines(world: World, rounds: Sequence[int]) -> list[Timeline]:
    """The timelines of rounds that are over.

    Raises:
        JobFailedError: a mark is missing, a round was not committed, or sites hold different bits after it.
    """
    pieces: dict[str, float] = {}
    for mark in world.coordinator_marks().of("piece"):
        pieces[mark["digest"]] = max(pieces.get(mark["digest"], 0.0), mark["at"])
    return [_timeline(world, number, pieces) for number in rounds]


def _timeline(world: World, number: int, pieces: dict[str, float]) -> Timeline:
    sites = [world.site_marks(site) for site in world.setting.sites]
    published = _each(sites, "published", number)
    applied = _each(sites, "applied", number)
    if len({mark["theta"] for mark in applied}) != 1:
        raise JobFailedError(f"round {number}: expected the same theta at every site, found {applied}")
    if not all(mark["digest"] in pieces for mark in published):
        raise JobFailedError(f"round {number}: expected every payload to have reached the coordinator over the network")
    encoded = "boundary" if world.setting.replay else "encode-end"
    ends = (
        _last(_each(sites, encoded, number)),
        _last(published),
        _last(_posted(world, number)),
        max(pieces[mark["digest"]] for mark in published),
        _last(_leaves(world, "VerdictV1", number)),
        _last(_leaves(world, "RoundSealedV1", number)),
        _last(_leaves(world, "RoundCommittedV1", number)),
        _last(_each(sites, "outcome-seen", number)),
        _last(applied),
    )
    return Timeline(
        round=number,
        began=min(mark["at"] for mark in _each(sites, "boundary", number)),
        ends=ends,
        recorded=_last(_leaves(world, "StateRecordedV1", number)),
    )


def _each(sites: Sequence[Marks], name: str, number: int) -> list[Mark]:
    found = [marks.by_round(name).get(number) for marks in sites]
    if None in found:
        raise JobFailedError(f"round {number}: expected a mark {name} of every site, found {found.count(None)} missing")
    return [mark for mark in found if mark is not None]


def _posted(world: World, number: int) -> list[Mark]:
    """The agents' offers of a round's updates; each mark's key begins with update/<run>/<round>/."""
    found = []
    for site in world.setting.sites:
        marks = [m for m in world.agent_marks(site).of("posted") if m["key"].split("/")[0] == "update"]
        found += [m for m in marks if int(m["key"].split("/")[2]) == number][:1]
    return _all_of(world, found, f"round {number}: an update posted")


def _leaves(world: World, kind: str, number: int) -> list[Mark]:
    marks = [m for m in world.coordinator_marks().of("leaf") if m["kind"] == kind and m["round"] == number]
    if not marks:
        raise JobFailedError(f"round {number}: expected a leaf {kind}, found none")
    return marks


def _all_of(world: World, found: list[Mark], what: str) -> list[Mark]:
    if len(found) != world.setting.num_sites:
        raise JobFailedError(f"{what}: expected one of each of {world.setting.num_sites} sites, found {len(found)}")
    return found


def _last(marks: Sequence[Mark]) -> float:
    at: float = max(mark["at"] for mark in marks)
    return at
