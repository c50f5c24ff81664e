# SPDX-License-Identifier: Apache-2.0
"""`federation bench overlap`: how much of the time accelerators train, behind slow links.

Each site has a shaped link of its own (`federation.bench.shaped_link`). Two probes measure what the classic round waits
for and how long one fragment is under way; from them follow H (so that the classic round waits as long as it trains)
and tau (so that a fragment is back in time). Then the same model is trained both ways, with the same H.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from federation.bench.counted_link import Carried, CountedLink
from federation.bench.figures import Document, Samples, machine, spreads
from federation.bench.overlap_marks import SiteTime, commit_seconds, site_time
from federation.bench.processes import wait_until
from federation.bench.setting import WorldSetting
from federation.bench.world import World, settings_document
from federation.codecs.payload import payload_bytes
from federation.codecs.registry import get_codec
from federation.demo.children import Children
from federation.durable.real import RealFileSystem
from federation.errors import ConfigError
from federation.fragments import build_fragments

STREAMING_ALPHA: Final = 0.5
PROBE_WINDOWS: Final = 4
HEADROOM: Final = 1.25
"""Of tau over the longest that a fragment was under way in the probe, where the schedule has room for it."""

TRAIN_SECONDS: Final = 600.0
"""Patience with one run, besides its inner steps."""

_TAIL_ROUNDS: Final = 2
"""Beyond the last measured window, in multiples of P: the run does not end while it is measured."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """What lies between each site and the coordinator."""

    bits_per_second: float = 100e6
    round_trip_seconds: float = 0.05

    @property
    def options(self) -> tuple[str, ...]:
        """Of `federation.bench.shaped_link`."""
        return ("--rate", str(self.bits_per_second), "--round-trip", str(self.round_trip_seconds))

    def seconds(self, up: int, down: int) -> float:
        """What so many bytes take on a link that carries nothing else: there, then back."""
        return 8 * (up + down) / self.bits_per_second + self.round_trip_seconds


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One run, after its first windows.

    Attributes:
        sites: of each site, where its time went.
        commits: of each site and round, seconds from its boundary to its commit.
        carried: bytes, all sites and measured windows together.
    """

    setting: WorldSetting
    sites: tuple[SiteTime, ...]
    commits: tuple[float, ...]
    carried: Carried

    @property
    def utilisation(self) -> Samples:
        """Of each site."""
        return Samples.of([site.utilisation for site in self.sites])

    @property
    def num_windows(self) -> int:
        """That were measured."""
        return self.sites[0].num_windows

    def bytes_per_parameter(self, num_bytes: int) -> float:
        """Of a site in H inner steps, in which each parameter travels once."""
        cycles = self.num_windows / self.setting.num_fragments
        return num_bytes / (len(self.sites) * self.setting.num_parameters * cycles)


@dataclass(kw_only=True)
class OverlapBench:
    """One measurement.

    Attributes:
        base: directory for everything.
        environment: of all processes.
        setting: sites, model, codec and `step_seconds`; the schedule is this benchmark's.
        num_fragments: P of the streaming run.
        schedule: H and tau; None for what the probes say.
        num_rounds: of the classic run; the streaming one takes P times as many windows, which are as many inner steps.
        say: told what is going on.
    """

    base: Path
    environment: Mapping[str, str]
    setting: WorldSetting
    num_fragments: int = 4
    schedule: tuple[int, int] | None = None
    num_rounds: int = 8
    link: Link = Link()
    say: Callable[[str], None] = lambda _: None

    def run(self) -> Document:
        """Both probes, both runs, and the document that docs/benchmarks.md describes."""
        probe: Document = {}
        num_steps, tau = self.schedule or self._probe(probe)
        classic = self._train("classic", _classic(self.setting, num_steps), self.num_rounds)
        p = self.num_fragments
        streaming = self._train("streaming", _streaming(self.setting, p, num_steps, tau), p * self.num_rounds)
        return {**_document(classic, streaming, self.link), "probe": probe}

    def _probe(self, found: Document) -> tuple[int, int]:
        """H and tau; what they rest on goes into `found`."""
        p = self.num_fragments
        classic = self._train("probe-classic", _classic(self.setting, 1), PROBE_WINDOWS)
        idle = Samples.of([site.idle_seconds_per_window for site in classic.sites])
        num_steps = inner_steps(idle.median, self.setting.step_seconds, p)
        self.say(f"the classic round waits for {idle.median:.2f} s: {num_steps} inner steps")
        streaming = self._train("probe-fragment", _streaming(self.setting, p, p, 0), 2 * PROBE_WINDOWS)
        commits = Samples.of(streaming.commits)
        tau = covering_steps(max(commits.values), self.setting.step_seconds, num_steps, p)
        self.say(f"a fragment is under way for up to {max(commits.values):.2f} s: tau {tau}")
        found |= {"classic_idle_seconds": idle.document, "fragment_commit_seconds": commits.document}
        return num_steps, tau

    def _train(self, name: str, setting: WorldSetting, num_windows: int) -> Trained:
        """Trains so many windows after the first P, or the first two, and then ends."""
        first = max(2, setting.num_fragments)
        total = first + num_windows + _TAIL_ROUNDS * setting.num_fragments
        setting = replace(setting, num_rounds=total)
        steps = setting.num_inner_steps // setting.num_fragments
        self.say(f"{name}: {num_windows} windows of {steps} inner steps, after {first} more")
        fs = RealFileSystem(self.base)
        fs.mkdir(name)
        try:
            with (
                Children(self.base / name / "logs", self.environment) as children,
                ExitStack() as links,
                World(self.base / name, children, setting) as world,
            ):
                return self._trained(world, links, first, first + num_windows)
        finally:
            fs.remove_tree(name)

    def _trained(self, world: World, links: ExitStack, first: int, after: int) -> Trained:
        world.set_up()
        world.start_run()
        dialled = []
        for site in world.setting.sites:
            dialled.append(links.enter_context(CountedLink(world.address, self.environment, *self.link.options)))
            world.dial(site, dialled[-1].address)
        world.start_agents()
        before = self._carried_at(world, dialled, first)
        carried = self._carried_at(world, dialled, after) - before
        marks = [(world.site_marks(site), world.agent_marks(site)) for site in world.setting.sites]
        # What is still under way at the end counts for nobody's commit.
        rounds = range(first, after - world.setting.num_fragments + 1)
        return Trained(
            setting=world.setting,
            sites=tuple(site_time(job, first, after) for job, _ in marks),
            commits=tuple(seconds for job, agent in marks for seconds in commit_seconds(job, agent, rounds)),
            carried=carried,
        )

    def _carried_at(self, world: World, links: Sequence[CountedLink], window: int) -> Carried:
        """What all links had carried when every site had begun with a window."""
        setting = world.setting
        jobs = [world.site_marks(site) for site in setting.sites]
        steps = setting.num_inner_steps // setting.num_fragments
        seconds = TRAIN_SECONDS + 4 * window * steps * setting.step_seconds
        begun = lambda: all(window in job.by_round("step-begin") for job in jobs)  # noqa: E731
        wait_until(_seldom(begun), seconds, f"window {window} at every site", world.check)
        found = [link.carried() for link in links]
        return Carried(up=sum(one.up for one in found), down=sum(one.down for one in found))


def inner_steps(idle_seconds: float, step_seconds: float, num_fragments: int) -> int:
    """H, a multiple of P, whose inner steps take as long as the classic round waits."""
    return max(1, round(idle_seconds / step_seconds / num_fragments)) * num_fragments


def covering_steps(seconds: float, step_seconds: float, num_inner_steps: int, num_fragments: int) -> int:
    """A tau whose inner steps take so long, with some headroom where H has room for it.

    Raises:
        ConfigError: it is longer than a schedule allows: a fragment takes nearly as long as the whole model.
    """
    tau, most = math.ceil(seconds / step_seconds), num_inner_steps - num_inner_steps // num_fragments
    if tau > most:
        raise ConfigError(
            f"a fragment is under way for {seconds:.2f} s: expected at most H - H/P = {most} inner steps of "
            f"{step_seconds:g} s, found {tau}",
            advice="This machine, not the link, decides: take a larger model, fewer sites, or nothing else beside it.",
        )
    return min(math.ceil(HEADROOM * seconds / step_seconds), most)


def _classic(setting: WorldSetting, num_inner_steps: int) -> WorldSetting:
    """DiLoCo: the whole model at once, and nobody trains meanwhile."""
    return replace(setting, num_fragments=1, num_inner_steps=num_inner_steps, tau=0, alpha=0.0)


def _streaming(setting: WorldSetting, num_fragments: int, num_inner_steps: int, tau: int) -> WorldSetting:
    found = replace(setting, num_fragments=num_fragments, num_inner_steps=num_inner_steps, tau=tau)
    return replace(found, alpha=STREAMING_ALPHA)


def _document(classic: Trained, streaming: Trained, link: Link) -> Document:
    setting = streaming.setting
    commits = Samples.of(streaming.commits)
    document: Document = {
        "benchmark": "overlap",
        "setting": settings_document(setting),
        "link": {"bits_per_second": link.bits_per_second, "round_trip_seconds": link.round_trip_seconds},
        "machine": machine(),
        "num_windows": streaming.num_windows,
        "num_classic_rounds": classic.num_windows,
        "classic_utilisation": classic.utilisation.median,
        "streaming_utilisation": streaming.utilisation.median,
        "ratios": {
            "streaming_over_classic_utilisation": streaming.utilisation.median / classic.utilisation.median,
            "fragment_commit_over_link": commits.median / _link_seconds(streaming.setting, link),
        },
        "tau_seconds": setting.tau * setting.step_seconds,
        "fragment_commit_seconds": commits.median,
        "link_seconds": _link_seconds(setting, link),
        "phase_shares": _medians([site.shares for site in streaming.sites]),
        "classic_phase_shares": _medians([site.shares for site in classic.sites]),
        "queued_share": statistics.median(site.queued_seconds / site.wall_seconds for site in streaming.sites),
        "writing_seconds": Samples.of([s for site in streaming.sites for s in site.writing_seconds]).median,
        "bytes_per_parameter_up": streaming.bytes_per_parameter(streaming.carried.up),
        "bytes_per_parameter_down": streaming.bytes_per_parameter(streaming.carried.down),
    }
    document["spread"] = spreads(
        {
            "classic_utilisation": classic.utilisation,
            "streaming_utilisation": streaming.utilisation,
            "fragment_commit_seconds": commits,
        }
    )
    return document


def _link_seconds(setting: WorldSetting, link: Link) -> float:
    """The bare link's time for the largest fragment's payload, and then its commit."""
    largest = max(table.num_elements for table in build_fragments(setting.parameters, setting.num_fragments))
    up, down = (payload_bytes(get_codec(name), largest) for name in (setting.codec, setting.down))
    return link.seconds(up, down)


def _medians(shares: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {phase: statistics.median(share[phase] for share in shares) for phase in shares[0]}


def _seldom(condition: Callable[[], bool]) -> Callable[[], bool]:
    """Looked at a few times a second: this process shares its cores with what it measures."""

    def looked() -> bool:
        time.sleep(0.1)
        return condition()

    return looked
