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

from federation.bench.figures import Document, machine
from federation.bench.processes import wait_until
from federation.demo.children import Children, command_line

GENERATED_MODULE: Final = "coordinator.bench.generated"
VIEWERS_MODULE: Final = "coordinator.bench.viewers"
START_SECONDS: Final = 600.0


@dataclass(frozen=True, kw_only=True)
class DashboardSetting:
    """What is looked at, by how many.

    Attributes:
        seconds: with viewers; a quarter of it without, before.
        every_seconds: between two decisions, each a batch of leaves.
    """

    num_rounds: int = 1000
    num_sites: int = 20
    num_languages: int = 36
    num_viewers: int = 200
    seconds: float = 120.0
    every_seconds: float = 1.0


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
            JobFailedError: a process failed.
            DeadlineExceededError: the dashboard did not begin to serve.
        """
        setting, directory = self.setting, self.base / "coordinator"
        self.say(f"a history of {setting.num_rounds} rounds, {setting.num_sites} sites")
        sizes = ("--rounds", setting.num_rounds, "--sites", setting.num_sites, "--languages", setting.num_languages)
        self.children.run_module(GENERATED_MODULE, directory, *map(str, sizes))
        serve = command_line("coordinator", "dashboard", "serve", directory, "--listen", "127.0.0.1:0")
        dashboard = self.children.start("dashboard", serve)
        address = directory / "dashboard" / "address"
        wait_until(address.exists, START_SECONDS, "the dashboard's address", self.children.check)
        self.say(f"{setting.num_viewers} viewers for {setting.seconds:g} s")
        options = {
            "--pid": dashboard.process.pid,
            "--viewers": setting.num_viewers,
            "--seconds": setting.seconds,
            "--every": setting.every_seconds,
        }
        words = (str(word) for option in options.items() for word in option)
        printed = self.children.run_module(VIEWERS_MODULE, directory, *words)
        self.children.stop(dashboard)
        found: Document = json.loads(printed.splitlines()[-1])
        return {
            "benchmark": "dashboard",
            "machine": machine(),
            "setting": asdict(setting),
            **found,
            "ratios": {"cores_over_nobody": _over(found)},
        }


def _over(found: Document) -> float | None:
    """The dashboard's cores with viewers over those without; None where the latter are too few to be measured."""
    before: float = found["nobody"]["dashboard_cores"]
    return found["viewers"]["dashboard_cores"] / before if before else None
