# SPDX-License-Identifier: Apache-2.0
"""When things happen inside a run: windows, boundaries, merges, learning-rate positions (no I/O, integers only).

Window k is what a site trains for round k; boundary k is its end, where fragment `k mod P` is encoded; the merge of
round k happens exactly tau inner steps after boundary k. Positions count a site's inner steps from the run's start.
"""

from dataclasses import dataclass
from math import ceil

from federation.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The timetable of one site in one run.

    Attributes:
        num_inner_steps: H, inner steps between two boundaries of the same fragment.
        num_fragments: P; divides H.
        tau: inner steps between a boundary and the merge of its round, 0 <= tau <= H - H/P.
        first_window_steps: inner steps of window 0; 0 means H/P.
    """

    num_inner_steps: int
    num_fragments: int = 1
    tau: int = 0
    first_window_steps: int = 0

    def __post_init__(self) -> None:
        h, p = self.num_inner_steps, self.num_fragments
        if h < 1:
            raise ConfigError(f"num_inner_steps: expected at least 1, found {h}")
        if p < 1 or h % p:
            raise ConfigError(f"num_fragments: expected a divisor of num_inner_steps = {h}, found {p}")
        if not 0 <= self.tau <= h - h // p:
            raise ConfigError(f"tau: expected 0 to H - H/P = {h - h // p}, found {self.tau}")
        if self.first_window_steps < 0:
            raise ConfigError(f"first_window_steps: expected 0 (meaning H/P) or more, found {self.first_window_steps}")

    @property
    def window_steps(self) -> int:
        """Inner steps of every window but the first: H/P."""
        return self.num_inner_steps // self.num_fragments

    def steps_of_window(self, round_number: int) -> int:
        """Inner steps that a site takes for this round."""
        if round_number == 0 and self.first_window_steps:
            return self.first_window_steps
        return self.window_steps

    def start_of(self, round_number: int) -> int:
        """Position where this round's window begins; windows follow without a gap."""
        return 0 if round_number == 0 else self.steps_of_window(0) + (round_number - 1) * self.window_steps

    def boundary_of(self, round_number: int) -> int:
        """Position where this round's window ends and its fragment is encoded."""
        return self.start_of(round_number) + self.steps_of_window(round_number)

    def merge_of(self, round_number: int) -> int:
        """Position where this round's outcome is merged: tau inner steps after its boundary."""
        return self.boundary_of(round_number) + self.tau

    def fragment_of(self, round_number: int) -> int:
        """Index of the fragment that this round exchanges: round mod P."""
        return round_number % self.num_fragments

    @property
    def min_rounds_in_flight(self) -> int:
        """Rounds that must be able to be open at once: 1 + ceil(tau * P / H)."""
        return 1 + ceil(self.tau * self.num_fragments / self.num_inner_steps)


def lr_position(round_number: int, num_void_below: int, window_steps: int) -> int:
    """Position in the learning-rate schedule, in nominal inner steps, where a round's window begins.

    Args:
        round_number: the round.
        num_void_below: lower round numbers abandoned or reverted by the time this round opens.
        window_steps: nominal H/P of the run.
    """
    return (round_number - num_void_below) * window_steps
