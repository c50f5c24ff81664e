# SPDX-License-Identifier: Apache-2.0
"""A simulated federation of three sites in which two are enough, and what its coordinator's ledger says."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from simulator.settings import Setting, roster_document
from simulator.world import World

from coordinator.home import COORDINATOR_KEY, LEDGER_KEY, ROOT_FILE, roster_path
from federation import signing
from federation.durable.real import RealFileSystem
from federation.durable.simulated import SimulatedFileSystem
from federation.leaves import Bounds, VerdictV1
from federation.roster import peek_roster, root_fingerprint
from federation.rounds import Run

B = TypeVar("B")

BOUNDS = Bounds(
    answer_seconds=300,
    training_seconds=300,
    upload_seconds=300,
    max_round_seconds=900,
    open_grace_seconds=120,
    max_open_wait_seconds=2000,
    seal_grace_seconds=0,
    witness_seconds=1000,
    max_abandoned=3,
)


@dataclass(kw_only=True)
class MajorityWorld(World):
    """Like `World`, with bounds of the test's choice."""

    seed: int = 5
    setting: Setting = field(default_factory=lambda: Setting(patient=False, codec="fp32", num_rounds=1))
    bounds: Bounds = BOUNDS

    def _create(self) -> None:
        plan = replace(self.manifest.plan, bounds=self.bounds)
        self.manifest = replace(self.manifest, plan=plan)
        for machine in self.machines:
            machine.launcher.manifest = self.manifest
        super()._create()

    @property
    def run_now(self) -> Run:
        """The run, which must exist."""
        run = self.state_of_run()
        assert run is not None
        return run

    def bodies(self, kind: type[B]) -> list[B]:
        """Leaves of one kind, in order."""
        assert self.coordinator is not None
        return [leaf.body for leaf in self.coordinator.ledger.leaves() if isinstance(leaf.body, kind)]

    def verdicts(self, site: str) -> list[VerdictV1]:
        """Verdict leaves on a site, in order."""
        return [body for body in self.bodies(VerdictV1) if body.site == site]


def files_of(fs: SimulatedFileSystem, below: str = "") -> list[str]:
    """Every file on a simulated disk, temporaries excepted."""
    found: list[str] = []
    for name in fs.list(below):
        path = f"{below}/{name}" if below else name
        below_it = files_of(fs, path)
        found += below_it or ([path] if _is_file(fs, path) else [])
    return found


def _is_file(fs: SimulatedFileSystem, path: str) -> bool:
    try:
        fs.size(path)
    except Exception:
        return False
    return True


def coordinator_directory(world: World, directory: Path) -> Path:
    """What `coordinator serve` would have left, had this federation run on a real disk; state is still to be made."""
    fs = RealFileSystem(directory)
    contents: dict[str, Any] = {path: world.fs.read(path) for path in files_of(world.fs)}
    document = roster_document(world.setting.num_sites)
    contents[roster_path(1)] = document
    contents[ROOT_FILE] = root_fingerprint(peek_roster(document)).encode()
    for path, data in contents.items():
        fs.write(path, data)
    signing.save_private_key(fs, COORDINATOR_KEY, world.keys.key("coordinator"))
    signing.save_private_key(fs, LEDGER_KEY, world.keys.key("ledger"))
    return directory
