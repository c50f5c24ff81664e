# SPDX-License-Identifier: Apache-2.0
"""The coordinator's anonymous memory while it serves large models and many sites.

The sites' jobs hold no model: they hand in blocks that were encoded beforehand (`site_agent.bench.replay`). For the
coordinator nothing is different: payloads of the full size come over the network, are admitted, folded and committed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from federation.bench.anonymous import PeakAnonymous, rollup_bytes
from federation.bench.figures import Document, machine
from federation.bench.model import model_of
from federation.bench.setting import WorldSetting
from federation.bench.space import FP32_BYTES, check_disk, coordinator_disk_bytes
from federation.bench.timeline import timelines
from federation.bench.world import World
from federation.demo.children import Children
from federation.durable.real import RealFileSystem

CASE_SECONDS: Final = 3600.0
PARTS: Final = {"receiving": ("", "upload"), "admitting": ("upload", "seal"), "aggregating": ("seal", "aggregate")}
"""Parts of a round at the coordinator, each between the ends of two phases of `federation.bench.timeline`."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One federation whose coordinator is watched."""

    num_parameters: int
    num_sites: int


@dataclass(kw_only=True)
class MemoryBench:
    """Several cases, one after the other, each in a directory that is removed afterwards."""

    base: Path
    environment: dict[str, str]
    setting: WorldSetting
    num_rounds: int = 2
    say: Callable[[str], None] = lambda _: None

    def run(self, cases: Sequence[Case]) -> Document:
        """Measures every case.

        Raises:
            ConfigError: the disk is too small for one of them.
        """
        for case in cases:
            numbers = (case.num_parameters, case.num_sites)
            check_disk(self.base, coordinator_disk_bytes(*numbers, self.setting.codec, self.num_rounds), *numbers)
        found = [self._case(number, case) for number, case in enumerate(cases)]
        return {
            "benchmark": "memory",
            "machine": machine(),
            "codec": self.setting.codec,
            "num_rounds": self.num_rounds,
            "coordinator_anonymous_bytes": max(one["coordinator_anonymous_bytes"] for one in found),
            "cases": found,
            "ratios": {"most_over_fewest_sites": _growth(found)},
        }

    def _case(self, number: int, case: Case) -> Document:
        self.say(f"{case.num_parameters} parameters, {case.num_sites} sites")
        base, fs = self.base / f"case-{number}", RealFileSystem(self.base)
        setting = replace(
            self.setting,
            num_sites=case.num_sites,
            parameters=model_of(case.num_parameters),
            num_rounds=self.num_rounds,
            replay=True,
        )
        try:
            with Children(base / "logs", self.environment) as children, World(base, children, setting) as world:
                return {**self._watch(world), "num_parameters": case.num_parameters, "num_sites": case.num_sites}
        finally:
            fs.remove_tree(base.name)

    def _watch(self, world: World) -> Document:
        world.set_up()
        assert world.coordinator is not None
        pid = world.coordinator.process.pid
        peaks = {}
        with PeakAnonymous(pid) as memory:
            world.start_run()
            peaks["creating"] = memory.restart()
            world.allow(self.num_rounds)
            world.start_agents()
            world.wait_recorded(self.num_rounds - 1, CASE_SECONDS)
            peaks["rounds"] = memory.restart()
            rollup, num_samples = rollup_bytes(pid), memory.num_samples
        found = timelines(world, range(self.num_rounds))
        rounds = [one.seconds for one in found]
        for part, (first, last) in PARTS.items():
            peaks[part] = max(
                memory.peak_between(one.end(first) if first else one.began, one.end(last)) for one in found
            )
        peak = max(*peaks.values(), rollup)
        return {
            "coordinator_anonymous_bytes": peak,
            "coordinator_anonymous_bytes_by_part": peaks,
            "coordinator_anonymous_bytes_at_end": rollup,
            "anonymous_over_model_bytes": peak / (FP32_BYTES * world.setting.num_parameters),
            "num_samples": num_samples,
            "round_seconds": rounds,
        }


def _growth(found: Sequence[Document]) -> dict[str, float]:
    """Per size of model: the peak with the most sites over that with the fewest."""
    sizes: dict[str, dict[int, int]] = {}
    for one in found:
        by_sites = sizes.setdefault(str(one["num_parameters"]), {})
        by_sites[one["num_sites"]] = one["coordinator_anonymous_bytes"]
    return {size: peaks[max(peaks)] / peaks[min(peaks)] for size, peaks in sizes.items() if len(peaks) > 1}
