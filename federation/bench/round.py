# SPDX-License-Identifier: Apache-2.0
"""How long a round takes, from the first site's encode to the last site's merge, and what it costs.

Three parts of one run: a round to warm up, which also writes the one training checkpoint that is timed apart; the timed
rounds, every site dialling the coordinator itself; at last a few rounds through a proxy that counts bytes.

Inner steps of a real round take minutes, the ones here next to no time. So a round begins when the coordinator has
recorded the digests of m and r of the one before, which it does meanwhile, and every site has cosigned that; how long
it took is reported apart. The copy of (theta, m, r) to the disk is not waited for: what is left of it then costs the
rounds that follow what it costs.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from federation.bench.anonymous import PeakAnonymous, rollup_bytes
from federation.bench.counted_link import Carried, CountedLink
from federation.bench.figures import Document, Samples, machine, spreads
from federation.bench.processes import wait_until
from federation.bench.references import copy_model_seconds, write_seconds
from federation.bench.setting import WorldSetting
from federation.bench.space import FP32_BYTES, check_disk, federation_disk_bytes
from federation.bench.timeline import PHASES, Timeline, timelines
from federation.bench.world import World, settings_document
from federation.chunks import ChunkGrid
from federation.codecs.payload import payload_bytes
from federation.codecs.registry import get_codec
from federation.demo.children import Children
from federation.fragments import build_fragments
from federation.state.mapped_store import NUM_SETS

WARM_UP_ROUNDS: Final = NUM_SETS
"""In these the state's sets of files are written for the first time: later rounds write them again, for ever."""

ROUND_SECONDS: Final = 900.0
"""Patience with one round."""

_SETTLE_SECONDS: Final = 1.0
"""What is told after a round's end (acknowledgements, cosignatures) belongs to it."""


@dataclass(kw_only=True)
class RoundBench:
    """One measurement of rounds.

    Attributes:
        base: directory for everything; on the disk that is measured.
        setting: the federation; its number of rounds follows from the others.
        num_rounds: timed.
        counted_rounds: through the proxy that counts bytes; 0 leaves that part out.
        say: told what is going on.
    """

    base: Path
    children: Children
    setting: WorldSetting
    num_rounds: int = 10
    counted_rounds: int = 2
    say: Callable[[str], None] = lambda _: None
    _peaks: dict[str, int] = field(default_factory=dict)

    def run(self) -> Document:
        """Sets everything up, measures, and returns the document that docs/benchmarks.md describes.

        Raises:
            ConfigError: the disk is too small.
        """
        total = WARM_UP_ROUNDS + self.num_rounds + self.counted_rounds
        setting = replace(self.setting, num_rounds=total)
        numbers = (setting.num_parameters, setting.num_sites)
        check_disk(self.base, federation_disk_bytes(*numbers, setting.codec, total), *numbers)
        with World(self.base, self.children, setting) as world:
            self.say("keys, roster, initial model, enrolment")
            world.set_up()
            assert world.coordinator is not None
            with PeakAnonymous(world.coordinator.process.pid) as memory:
                self._begin(world, memory)
                self._timed(world, memory)
                carried = self._counted(world) if self.counted_rounds else None
                self._peaks["counted"] = memory.restart()
                rollup = rollup_bytes(world.coordinator.process.pid)
            found = timelines(world, range(WARM_UP_ROUNDS, WARM_UP_ROUNDS + self.num_rounds))
            checkpoints = checkpoint_seconds(world)
            snapshots = [one.round for one in found if (one.round + 1) % setting.snapshot_every_rounds == 0]
        self.say("references: memory copy, write and fsync")
        document = _document(setting, found, self._peaks, rollup, carried, checkpoints)
        document["rounds_with_snapshot"] = snapshots
        return with_references(document, self.base, setting)

    def _begin(self, world: World, memory: PeakAnonymous) -> None:
        world.start_run()
        self._peaks["creating"] = memory.restart()
        self.say(f"{WARM_UP_ROUNDS} rounds to warm up")
        world.allow(WARM_UP_ROUNDS)
        world.start_agents()
        world.wait_recorded(WARM_UP_ROUNDS - 1, ROUND_SECONDS)
        self._wait_at_gate(world, WARM_UP_ROUNDS)
        self._peaks["warm_up"] = memory.restart()

    def _timed(self, world: World, memory: PeakAnonymous) -> None:
        self.say(f"{self.num_rounds} timed rounds")
        for number in range(WARM_UP_ROUNDS, WARM_UP_ROUNDS + self.num_rounds):
            world.allow(number + 1)
            world.wait_recorded(number, ROUND_SECONDS)
        self._peaks["rounds"] = memory.restart()

    def _counted(self, world: World) -> Carried:
        """Bytes of the last rounds, both directions, all sites together."""
        self.say(f"{self.counted_rounds} rounds through a proxy that counts bytes")
        first = WARM_UP_ROUNDS + self.num_rounds
        self._wait_at_gate(world, first)
        world.stop_agents()
        with CountedLink(world.address, self.children.environment) as link:
            for site in world.setting.sites:
                world.dial(site, link.address)
            world.start_agents()
            self._wait_quiet(link)
            before = link.carried()
            world.allow(first + self.counted_rounds)
            world.wait_applied(first + self.counted_rounds - 1, ROUND_SECONDS * self.counted_rounds)
            time.sleep(_SETTLE_SECONDS)
            carried = link.carried() - before
            world.stop_agents()
        return carried

    @staticmethod
    def _wait_at_gate(world: World, number: int) -> None:
        """Every site waits for the inner steps of a round: nothing of the one before is left."""
        sites = world.setting.sites
        waiting = world.base / "gate" / str(number)
        wait_until(
            lambda: waiting.is_dir() and len(list(waiting.glob("*.asks"))) == len(sites),
            ROUND_SECONDS,
            f"every site at the beginning of round {number}",
            world.check,
        )

    @staticmethod
    def _wait_quiet(link: CountedLink) -> None:
        """The agents have connected and told each other all that they had not: what follows is the rounds' own."""
        deadline, before = time.monotonic() + ROUND_SECONDS, Carried(up=0, down=0)
        while time.monotonic() < deadline:
            time.sleep(2 * _SETTLE_SECONDS)
            now = link.carried()
            if now.up and now == before:
                return
            before = now


def checkpoint_seconds(world: World) -> Samples:
    """Of each site's one training checkpoint: its snapshot in memory, and writing it."""
    found = []
    for site in world.setting.sites:
        at = {mark["mark"]: mark["at"] for mark in world.site_marks(site).all()}
        snapshot = at.get("snapshot-end", 0.0) - at.get("snapshot-begin", 0.0)
        found.append(at["checkpoint-end"] - at["checkpoint-begin"] + snapshot)
    return Samples.of(found)


def with_references(document: Document, base: Path, setting: WorldSetting) -> Document:
    """Adds what the same machine does with as many bytes, and the ratios to it."""
    durable = durable_bytes(setting)
    copy, write = copy_model_seconds(setting.num_parameters), write_seconds(base, durable)
    document["references"] = {
        "copy_seconds": copy.document,
        "copy_bytes": FP32_BYTES * setting.num_parameters,
        "write_and_fsync_seconds": write.document,
        "write_and_fsync_bytes": durable,
        "raw_fp32_bytes_per_parameter": FP32_BYTES,
    }
    ratios = {
        "round_over_copy": document["median_round_seconds"] / copy.median,
        "round_over_write_and_fsync": document["median_round_seconds"] / write.median,
        "coordinator_critical_over_write_and_fsync": document["coordinator_critical_seconds"] / write.median,
        "coordinator_anonymous_over_model_bytes": document["coordinator_anonymous_bytes"]
        / (FP32_BYTES * setting.num_parameters),
    }
    for way in ("up", "down"):
        if f"bytes_per_parameter_{way}" in document:
            ratios[f"bytes_{way}_over_raw_fp32"] = document[f"bytes_per_parameter_{way}"] / FP32_BYTES
    document["ratios"] = ratios
    return document


def durable_bytes(setting: WorldSetting) -> int:
    """What one round makes durable of payloads and blobs: each payload at its site and at the coordinator, the commit
    blob at the coordinator and at each site; of all fragments' rounds the largest."""
    sizes = [table.num_elements for table in build_fragments(setting.parameters, setting.num_fragments)]
    payload, blob = (max(payload_bytes(get_codec(name), n) for n in sizes) for name in (setting.codec, setting.down))
    return setting.num_sites * 2 * payload + (setting.num_sites + 1) * blob


def _document(
    setting: WorldSetting,
    found: Sequence[Timeline],
    peaks: dict[str, int],
    rollup: int,
    carried: Carried | None,
    checkpoints: Samples,
) -> Document:
    seconds = Samples.of([one.seconds for one in found])
    critical = Samples.of([one.critical_seconds for one in found])
    recorded = Samples.of([one.recorded_seconds for one in found])
    phases = {phase: Samples.of([one.phase_seconds()[phase] for one in found]) for phase in PHASES}
    document: Document = {
        "benchmark": "round",
        "setting": settings_document(setting),
        "machine": machine(),
        "num_chunks": ChunkGrid(setting.num_parameters).num_chunks,
        "num_samples": len(found),
        "median_round_seconds": seconds.median,
        "coordinator_critical_seconds": critical.median,
        "mean_round_seconds": statistics.fmean(one.seconds for one in found),
        "recorded_seconds": recorded.median,
        "phase_seconds": {phase: samples.median for phase, samples in phases.items()},
        "coordinator_anonymous_bytes": max(peaks.values()),
        "coordinator_anonymous_bytes_by_part": peaks,
        "coordinator_anonymous_bytes_at_end": rollup,
        "training_checkpoint_seconds": checkpoints.median,
        "spread": spreads(
            {"round_seconds": seconds, "coordinator_critical_seconds": critical, "recorded_seconds": recorded} | phases
        ),
    }
    if carried is not None:
        rounds = setting.num_rounds - WARM_UP_ROUNDS - len(found)
        each = setting.num_sites * setting.num_parameters * rounds
        document |= {"bytes_per_parameter_up": carried.up / each, "bytes_per_parameter_down": carried.down / each}
        document["num_counted_rounds"] = rounds
    return document
