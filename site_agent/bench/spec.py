# SPDX-License-Identifier: Apache-2.0
"""What a benchmark tells a site's jobs, and how they wait for each other. It lies in the site's data directory."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from federation.durable.real import RealFileSystem
from federation.errors import ConfigError
from federation.trace import Trace
from site_agent.jobs import WorkOrder
from site_agent.json_records import read_record

SPEC_FILE = "bench.json"
LOOK_SECONDS = 0.002
"""Between two looks at the gate: the sites begin to encode within this time of each other."""

LEAVE_SECONDS = 0.05
"""Between two looks at whether the inner steps may begin: who waits shares the processors with what is measured."""


@dataclass(frozen=True, kw_only=True)
class BenchSpec:
    """The file.

    Attributes:
        events: absolute path of the file of this site's marks (`federation.trace`).
        gate: absolute path of the directory of `Gate`, "" for none.
        num_sites: that the gate waits for.
        index: of this site among them, from 0.
        noise_scale: standard deviation of what an inner step adds to every parameter.
        step_seconds: how long an inner step takes at least; the rest of it is slept, as where an accelerator works.
        pool: absolute path of encoded blocks for `site_agent.bench.replay`, "" for jobs that hold the model.
        block_bytes: of one block of the pool.
        tail: absolute path of the last block of a payload, which is not full.
        overlap: `site_agent.bench.overlap` is the job: every training checkpoint is written.
    """

    events: str
    gate: str
    num_sites: int
    index: int = 0
    noise_scale: float = 1e-3
    step_seconds: float = 0.0
    pool: str = ""
    block_bytes: int = 0
    tail: str = ""
    overlap: bool = False

    def trace(self) -> Trace:
        """Where marks go."""
        return Trace(Path(self.events))


def read_spec(order: WorkOrder) -> BenchSpec:
    """The specification that a work order leads to.

    Raises:
        ConfigError: there is none.
    """
    spec = read_record(RealFileSystem(Path(order.data_dir)), SPEC_FILE, BenchSpec)
    if spec is None:
        raise ConfigError(f"{order.data_dir}: expected {SPEC_FILE}, found none")
    return spec


class Gate:
    """Lets the sites take the inner steps of rounds that the benchmark has allowed, and then encode together.

    Files: `allowed` holds the number of the first round that may not begin; `<round>/<site>.asks` says that a site
    waits for leave, `<round>/<site>.stepped` that it waits for the other ones.
    """

    def __init__(self, directory: Path, site: str, num_sites: int) -> None:
        self._fs, self._site, self._num_sites = RealFileSystem(directory), site, num_sites

    def wait_for_leave(self, round_number: int, asked_to_end: Callable[[], object]) -> None:
        """Returns once the round is allowed, or when the job is asked to end."""
        self._fs.create(f"{round_number}/{self._site}.asks", b"")
        while round_number >= int(self._fs.read("allowed")) and not asked_to_end():
            time.sleep(LEAVE_SECONDS)

    def wait_for_others(self, round_number: int, asked_to_end: Callable[[], object]) -> None:
        """Returns once every site has taken its inner steps, or when the job is asked to end."""
        self._fs.create(f"{round_number}/{self._site}.stepped", b"")
        while self._num_stepped(round_number) < self._num_sites and not asked_to_end():
            time.sleep(LOOK_SECONDS)

    def _num_stepped(self, round_number: int) -> int:
        return sum(name.endswith(".stepped") for name in self._fs.list(str(round_number)))
