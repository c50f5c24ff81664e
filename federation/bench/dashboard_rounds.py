# SPDX-License-Identifier: Apache-2.0
"""Whether many viewers of a dashboard slow the rounds of the federation that they look at.

Coordinator, sites and jobs are real ones (`federation.bench.world`). In turns some rounds pass with nobody looking at
the dashboard and some with everybody. Dashboard and viewers get one processor of their own, the federation the others:
as on a server with more of them than here, they meet in memory, disk and operating system only.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from federation.bench.figures import Document, Samples
from federation.bench.model import model_of
from federation.bench.processes import wait_until
from federation.bench.round import ROUND_SECONDS, WARM_UP_ROUNDS
from federation.bench.setting import RUN, WorldSetting
from federation.bench.timeline import timelines
from federation.bench.world import SET_UP_SECONDS, World
from federation.demo.children import Child, Children, command_line
from federation.demo.stages import command_module

VIEWERS_MODULE: Final = "coordinator.bench.viewers"
NUM_BLOCKS: Final = 6
"""Of rounds: nobody, viewers, nobody, ... What drifts meanwhile meets both."""


@dataclass(kw_only=True)
class LookedAtRounds:
    """One measurement.

    Attributes:
        base: directory for everything.
        num_rounds: timed, in all blocks together; at least one of each block is.
        say: told what is going on.
    """

    base: Path
    children: Children
    num_viewers: int
    num_rounds: int
    num_sites: int = 2
    num_parameters: int = 10_000_000
    say: Callable[[str], None] = lambda _: None
    _looks: list[Document] = field(default_factory=list)

    def run(self) -> Document:
        """Measures, and returns the part `rounds` of the document that docs/benchmarks.md describes.

        Raises:
            JobFailedError: a process failed.
            DeadlineExceededError: a round did not end, or the viewers did not come in.
        """
        each = max(1, self.num_rounds // NUM_BLOCKS)
        total = WARM_UP_ROUNDS + each * NUM_BLOCKS
        setting = WorldSetting(
            num_sites=self.num_sites, num_rounds=total, parameters=model_of(self.num_parameters), codec="int8"
        )
        theirs, ours = processors()
        with on_processors(ours), World(self.base, self.children, setting) as world:
            self.say(f"a federation of {self.num_sites} sites, {setting.num_parameters} parameters")
            world.set_up()
            with on_processors(theirs):
                dashboard = serve_dashboard(self.children, world.coordinator_dir)
            world.start_run()
            world.allow(WARM_UP_ROUNDS)
            world.start_agents()
            world.wait_recorded(WARM_UP_ROUNDS - 1, ROUND_SECONDS)
            blocks = [range(start, start + each) for start in range(WARM_UP_ROUNDS, total, each)]
            for index, block in enumerate(blocks):
                self._block(world, block, dashboard if index % 2 else None, theirs)
            found = [[one.seconds for one in timelines(world, block)] for block in blocks]
        nobody, viewers = (Samples.of([s for block in found[part::2] for s in block]) for part in (0, 1))
        return {
            "num_sites": self.num_sites,
            "num_parameters": setting.num_parameters,
            "own_processor": bool(theirs),
            "seconds_nobody": nobody.document,
            "seconds_viewers": viewers.document,
            "dashboard_cores": max(look["dashboard_cores"] for look in self._looks),
            "frames_per_second": min(look["frames_per_second"] for look in self._looks),
            "viewers_over_nobody": viewers.median / nobody.median,
        }

    def _block(self, world: World, rounds: range, dashboard: Child | None, processors: set[int]) -> None:
        """Some rounds; with viewers, if the dashboard that they look at is given."""
        self.say(f"rounds {rounds[0]} to {rounds[-1]}, {self.num_viewers if dashboard else 'no'} viewers")
        viewers = None
        if dashboard is not None:
            with on_processors(processors):
                viewers = self._come_in(world, dashboard)
        for number in rounds:
            world.allow(number + 1)
            world.wait_recorded(number, ROUND_SECONDS)
        if viewers is not None:
            self.children.stop(viewers)
            self._looks.append(json.loads(viewers.log.read_text().splitlines()[-1])["viewers"])

    def _come_in(self, world: World, dashboard: Child) -> Child:
        options = {
            "--pid": dashboard.process.pid,
            "--viewers": self.num_viewers,
            "--as": world.operator_dir,
            "--run": RUN,
        }
        words = [str(word) for option in options.items() for word in option]
        argv = [*command_module(VIEWERS_MODULE), str(world.coordinator_dir), *words]
        child = self.children.start(f"viewers-{len(self._looks)}", argv)
        wait_until(lambda: "looking" in child.log.read_text(), SET_UP_SECONDS, "all viewers", self.children.check)
        return child


def serve_dashboard(children: Children, directory: Path) -> Child:
    """Starts a coordinator's dashboard as people do, and waits until it listens.

    Raises:
        DeadlineExceededError: it does not.
        JobFailedError: it ended.
    """
    serve = command_line("coordinator", "dashboard", "serve", directory, "--listen", "127.0.0.1:0")
    child = children.start("dashboard", serve)
    address = directory / "dashboard" / "address"
    wait_until(address.exists, SET_UP_SECONDS, "the dashboard's address", children.check)
    return child


def processors() -> tuple[set[int], set[int]]:
    """One processor for the dashboard and its viewers, and all others; none and all where there is but one."""
    ours = sorted(os.sched_getaffinity(0))
    return ({ours[-1]}, set(ours[:-1])) if len(ours) > 1 else (set(), set(ours))


@contextmanager
def on_processors(chosen: set[int]) -> Iterator[None]:
    """Processes that are started inside run on these, and so does this one; an empty set changes nothing."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
