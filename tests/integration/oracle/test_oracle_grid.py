# SPDX-License-Identifier: Apache-2.0
"""The federation equals the oracle to the bit, over a grid of everything that the protocol can be set to.

Crossed completely: fragments with τ, α, codec up, error feedback. Momentum, number of sites, weighting, H per site,
codec down, first window, timing of outcomes, restarts of jobs, how late they write and how often they compare digests
are drawn per case from a fixed seed; a test counts that every pair of values occurs.
"""

from dataclasses import dataclass
from itertools import combinations, product
from random import Random
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("short_chunks")

CODECS = ("fp32", "bf16", "int8", "int4")
UP, DOWN = (*CODECS, "sparse"), (*CODECS, "sparse-down")
TIMETABLES = (  # P, H, τ; the last τ of each P is H - H/P
    (1, 3, 0),
    *((2, 6, tau) for tau in (0, 1, 3)),
    *((4, 8, tau) for tau in (0, 1, 3, 6)),
)
IMPOSSIBLE = {(True, 1), ("sparse-down", 0.9), (0.9, "sparse")}
"""One site alone has no other H to differ from; the sparse codecs want an outer optimizer without momentum."""

NAMES = ("alpha", "beta", "beta-2", "gamma")


@dataclass(frozen=True)
class Case:
    """One point of the grid."""

    num_fragments: int
    num_inner_steps: int
    tau: int
    alpha: float
    up: str
    feedback: bool
    momentum: float
    steps: tuple[int, ...]
    weighting: str
    down: str
    first_window_steps: int
    late: bool
    restart: bool
    delay: int
    check_every: int

    def __str__(self) -> str:
        drawn = f"H{'-'.join(map(str, self.steps))}-{self.weighting}-{self.down}-f{self.first_window_steps}"
        how = ("late" if self.late else "early") + ("-restart" if self.restart else "")
        how += f"-w{self.delay}-c{self.check_every}"
        crossed = f"P{self.num_fragments}-tau{self.tau}-a{self.alpha}-{self.up}"
        return f"{crossed}-{'ef-' if self.feedback else ''}m{self.momentum}-{drawn}-{how}"


def _draw(crossed: tuple[Any, ...]) -> Case:
    (p, h, tau), alpha, up, feedback = crossed
    dice = Random(repr(crossed))
    others = [steps for steps in (h - p, h + p, h + 2 * p) if steps >= p and tau <= steps - steps // p]
    differ = dice.random() < 0.5
    down = "sparse-down" if up == "sparse" and dice.random() < 0.6 else dice.choice(DOWN)
    # Both want plain SGD outside.
    momentum = 0.0 if "sparse" in up + down else dice.choice((0.0, 0.9))
    steps = tuple(dice.choice(others) if differ and dice.random() < 0.6 else h for _ in range(dice.randint(1, 4)))
    return Case(
        num_fragments=p,
        num_inner_steps=h,
        tau=tau,
        alpha=alpha,
        up=up,
        feedback=feedback,
        momentum=momentum,
        steps=steps,
        weighting=dice.choice(("uniform", "tokens")),
        down=down,
        first_window_steps=dice.choice((0, 0, 1, 4)),
        late=dice.random() < 0.5,
        restart=dice.random() < 0.15,
        delay=dice.choice((0, 2, 5)),
        check_every=dice.choice((1, 2)),
    )


GRID = [_draw(crossed) for crossed in product(TIMETABLES, (0.0, 0.5, 1.0), UP, (False, True))]


def _values(case: Case) -> dict[str, object]:
    values = {name: value for name, value in vars(case).items() if name not in ("num_inner_steps", "steps")}
    values["tau"] = (case.num_fragments, case.tau)
    return {**values, "sites": len(case.steps), "differ": len(set(case.steps)) > 1}


def test_every_pair_of_values_occurs() -> None:
    points = [_values(case) for case in GRID]
    for one, other in combinations(sorted(set(points[0]) - {"num_fragments"}), 2):
        seen = {(point[one], point[other]) for point in points}
        wanted = set(product({point[one] for point in points}, {point[other] for point in points}))
        assert wanted - seen <= IMPOSSIBLE, (one, other)


@pytest.mark.parametrize("case", GRID, ids=str)
def test_federation_equals_the_oracle(case: Case, lab: Any) -> None:
    sites = NAMES[: len(case.steps)]
    plan = {
        "steps": dict(zip(sites, case.steps, strict=True)),
        "num_fragments": case.num_fragments,
        "tau": case.tau,
        "num_rounds": 2 * case.num_fragments + 1,
        "weighting": case.weighting,
        "first_window_steps": case.first_window_steps,
    }
    feedback_beta = 0.95 if case.feedback else None
    setting = lab.setting(
        plan, alpha=case.alpha, up=case.up, down=case.down, momentum=case.momentum, feedback_beta=feedback_beta
    )
    how = {name: getattr(case, name) for name in ("late", "restart", "delay", "check_every")}
    assert lab.compare(*setting, **how) == []
