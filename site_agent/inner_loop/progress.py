# SPDX-License-Identifier: Apache-2.0
"""Where a job is in the run: the small state beside the vectors. Frozen; every event makes a new one."""

from dataclasses import dataclass, field, replace
from typing import Any

from federation.errors import ProtocolError
from federation.manifest import Manifest
from federation.schedule import Schedule
from site_agent.jobs import OutcomeFile, OutcomeKind, RoundOrder, UpdateFile


@dataclass(frozen=True, kw_only=True)
class Window:
    """A window in progress: its order, inner steps done and tokens trained in it."""

    order: RoundOrder
    step: int = 0
    tokens: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether its boundary is reached."""
        return self.step >= self.order.num_steps


@dataclass(frozen=True, kw_only=True)
class InFlight:
    """A round between its boundary and its merge.

    Attributes:
        update: what this site published, None if it took no part.
    """

    round: int
    update: UpdateFile | None = None

    @property
    def payload_digest(self) -> str:
        """Of what this site published, "" if it took no part."""
        return self.update.payload_digest if self.update else ""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Position of one job in one run.

    Attributes:
        num_steps: inner steps that this site ever took.
        tokens: tokens that it ever trained on.
        last_round: of the last window whose boundary was passed, -1 before the first.
        generation: rollbacks that it knows of.
        window: the one in progress.
        in_flight: rounds to be merged, ascending.
        tokens_at_boundary: per fragment, `tokens` when it was last encoded, or set to its base.
        joined_at: schedule position at which this site's optimizer began, -1 if it was there from the start.
        must_reload: a window was left before its end: the next one begins from the committed versions.
    """

    num_steps: int = 0
    tokens: int = 0
    last_round: int = -1
    generation: int = 0
    window: Window | None = None
    in_flight: tuple[InFlight, ...] = ()
    tokens_at_boundary: tuple[int, ...]
    joined_at: float = -1.0
    must_reload: bool = False

    def position(self, schedule: Schedule) -> int:
        """Inner steps from the run's start, as the timetable counts them (windows that were skipped included)."""
        if self.window is not None:
            return schedule.start_of(self.window.order.round) + self.window.step
        return schedule.boundary_of(self.last_round) if self.last_round >= 0 else 0

    def due(self, schedule: Schedule) -> InFlight | None:
        """The first round whose merge position is reached."""
        position = self.position(schedule)
        return next((entry for entry in self.in_flight if schedule.merge_of(entry.round) <= position), None)

    def follows(self, order: RoundOrder) -> bool:
        """Whether this window continues the last one, so that nothing is reloaded."""
        in_sequence = order.round == self.last_round + 1 and order.generation == self.generation
        return in_sequence and not self.must_reload

    def entering(self, order: RoundOrder) -> "Progress":
        """At the first step of a window."""
        return replace(self, window=Window(order=order), generation=order.generation, must_reload=False)

    def leaving_window(self) -> "Progress":
        """The window in progress is given up: its round ended or is no longer this job's."""
        return replace(self, window=None, must_reload=True)

    def after_reload(self, order: RoundOrder, schedule: Schedule) -> "Progress":
        """Every fragment was set to the versions that are merged by this window's begin.

        Earlier rounds whose merge position is still ahead stay in flight, whether or not this site took part; after a
        rollback nobody's payload of an earlier generation counts.
        """
        keep = self.in_flight if order.generation == self.generation else ()
        sent = {entry.round: entry for entry in keep}
        start = schedule.start_of(order.round)
        ahead = [j for j in range(self._first_ahead(order, schedule), order.round) if schedule.merge_of(j) > start]
        in_flight = tuple(sent.get(j, InFlight(round=j)) for j in ahead)
        is_new = self.num_steps == 0
        return replace(
            self,
            in_flight=in_flight,
            tokens_at_boundary=(self.tokens,) * len(self.tokens_at_boundary),
            joined_at=float(order.lr_position) if is_new else self.joined_at,
        )

    @staticmethod
    def _first_ahead(order: RoundOrder, schedule: Schedule) -> int:
        """A round below which every merge position is passed: at most P are in flight."""
        return max(0, order.round - schedule.num_fragments)

    def after_step(self, tokens: int, num_steps: int = 1) -> "Progress":
        """So many inner steps later, which trained on so many tokens together."""
        assert self.window is not None
        window = replace(self.window, step=self.window.step + num_steps, tokens=self.window.tokens + tokens)
        return replace(self, window=window, num_steps=self.num_steps + num_steps, tokens=self.tokens + tokens)

    def after_boundary(self, update: UpdateFile) -> "Progress":
        """The window is encoded and published."""
        return replace(
            self,
            window=None,
            last_round=update.round,
            in_flight=(*self.in_flight, InFlight(round=update.round, update=update)),
            tokens_at_boundary=self._marked(update.fragment),
        )

    def after_merge(self, entry: InFlight, outcome: OutcomeFile) -> "Progress":
        """A round has been merged; after any end but a commit its fragment begins anew from the base."""
        in_flight = tuple(e for e in self.in_flight if e.round != entry.round)
        if outcome.kind is OutcomeKind.COMMITTED:
            return replace(self, in_flight=in_flight)
        return replace(self, in_flight=in_flight, tokens_at_boundary=self._marked(outcome.fragment))

    def _marked(self, fragment: int) -> tuple[int, ...]:
        return tuple(self.tokens if p == fragment else mark for p, mark in enumerate(self.tokens_at_boundary))


@dataclass(frozen=True, kw_only=True)
class SavedLoop:
    """The record of a training checkpoint: what is not a tensor."""

    run: str
    site: str
    progress: Progress
    versions: tuple[int, ...]
    digests: tuple[str, ...]
    trainer: dict[str, Any] = field(default_factory=dict)


def site_schedule(manifest: Manifest, site: str) -> Schedule:
    """The timetable of one member.

    Raises:
        ProtocolError: the run has no such member.
    """
    plan = manifest.plan
    for member in plan.members:
        if member.site == site:
            return Schedule(
                num_inner_steps=member.num_inner_steps,
                num_fragments=plan.num_fragments,
                tau=plan.tau,
                first_window_steps=plan.first_window_steps,
            )
    raise ProtocolError(f"run {manifest.run}: expected {site} among its members, found it is none")
