# SPDX-License-Identifier: Apache-2.0
"""What the dashboard of a long history costs, and how soon it tells its viewers what has happened.

The history is generated (`coordinator.bench.generated`), the dashboard is the process that people start, its viewers
come over TLS with a session each (`coordinator.bench.viewers`). Every part is a process of its own.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from federation.bench.dashboard_rounds import VIEWERS_MODULE, LookedAtRounds, serve_dashboard
from federation.bench.figures import Document, machine
from federation.demo.children import Children

GENERATED_MODULE: Final = "coordinator.bench.generated"
PAINTING_MODULE: Final = "coordinator.bench.painting"


@dataclass(frozen=True, kw_only=True)
class DashboardSetting:
    """What is looked at, by how many.

    Attributes:
        seconds: with viewers; before, a quarter of it without, but five minutes at most.
        every_seconds: between two decisions, each a batch of leaves.
        num_paints: of each page, in a real browser; 0 leaves that part out.
        num_live_rounds: of a real federation, half of them looked at; 0 leaves that part out.
    """

    num_rounds: int = 1000
    num_sites: int = 20
    num_languages: int = 36
    num_viewers: int = 200
    seconds: float = 120.0
    every_seconds: float = 1.0
    num_paints: int = 5
    num_live_rounds: int = 48


@dataclass(kw_only=True)
class DashboardBench:
    """One measurement. `base`: directory for everything. `say`: told what is going on."""

    base: Path
    children: Children
    setting: DashboardSetting
    say: Callable[[str], None] = lambda _: None

    def run(self) -> Document:
        """Measures, and returns the document that docs/benchmarks.md describes.

        Raises:
            ConfigError: first paint is wanted and there is no browser for it.
            JobFailedError: a process failed.
            DeadlineExceededError: the dashboard did not begin to serve, or a round did not end.
        """
        found = self._generated()
        rounds = self._rounds() if self.setting.num_live_rounds else None
        return {
            "benchmark": "dashboard",
            "machine": machine(),
            "setting": asdict(self.setting),
            **found,
            "rounds": rounds,
            "ratios": {
                "cores_over_nobody": _over(found),
                "round_over_nobody": rounds["viewers_over_nobody"] if rounds else None,
            },
        }

    def _generated(self) -> Document:
        """With the long history: first paint, pages, cost, delay."""
        setting, directory = self.setting, self.base / "coordinator"
        if setting.num_paints:  # minutes later would be too late to find out
            self.children.run_module(PAINTING_MODULE, directory, "--samples", "0")
        self.say(f"a history of {setting.num_rounds} rounds, {setting.num_sites} sites")
        sizes = ("--rounds", setting.num_rounds, "--sites", setting.num_sites, "--languages", setting.num_languages)
        self.children.run_module(GENERATED_MODULE, directory, *map(str, sizes))
        dashboard = serve_dashboard(self.children, directory)
        self.say(f"{setting.num_viewers} viewers for {setting.seconds:g} s")
        options = {
            "--pid": dashboard.process.pid,
            "--viewers": setting.num_viewers,
            "--seconds": setting.seconds,
            "--every": setting.every_seconds,
        }
        words = (str(word) for option in options.items() for word in option)
        found: Document = json.loads(self._last_line(VIEWERS_MODULE, directory, *words))
        found["paint"] = None
        if setting.num_paints:
            self.say("first paint in a browser")
            printed = self._last_line(PAINTING_MODULE, directory, "--samples", str(setting.num_paints))
            found["paint"] = json.loads(printed)
        self.children.stop(dashboard)
        return found

    def _last_line(self, module: str, *arguments: str | Path) -> str:
        return self.children.run_module(module, *arguments).splitlines()[-1]

    def _rounds(self) -> Document:
        """Without the long history: whether rounds of a real federation take longer."""
        return LookedAtRounds(
            base=self.base / "rounds",
            children=self.children,
            num_viewers=self.setting.num_viewers,
            num_rounds=self.setting.num_live_rounds,
            say=self.say,
        ).run()


def _over(found: Document) -> float | None:
    """The dashboard's cores with viewers over those without; None where the latter are too few to be measured."""
    before: float = found["nobody"]["dashboard_cores"]
    return found["viewers"]["dashboard_cores"] / before if before else None
