# SPDX-License-Identifier: Apache-2.0
"""A site whose jobs run the toy trainer on several ranks, in a run whose history the oracle knows."""

from dataclasses import replace
from pathlib import Path

import torch
from job_bench.bench import work_order
from job_bench.case import Case, toy_manifest
from job_bench.toy import WIDE, toy_parameters
from safetensors.torch import save

from federation.durable.real import RealFileSystem
from federation.reference import RoundPlan
from federation.wire import manifest_to_bytes
from rank_bench.start import start_ranks, wait_all, words_of
from site_agent.jobs import AllocationPaths, JobEnded, WorkOrder, read_record, write_record

A = AllocationPaths()


class ToySite(Case):
    """Site a's jobs as processes; orders and outcomes are written before a job starts."""

    def __init__(self, root: Path, plans: dict[int, RoundPlan] | None = None) -> None:
        (root / "blobs").mkdir(parents=True)
        super().__init__(root / "blobs", toy_manifest(shapes=WIDE), plans, WIDE)
        self.root, self.run = root, RealFileSystem(root / "run")
        (root / "manifest.bin").write_bytes(manifest_to_bytes(self.manifest))
        values = toy_parameters(self.manifest, self.theta0)
        tensors = {name: torch.from_numpy(value.copy()) for name, value in values.items()}
        (root / "theta0.safetensors").write_bytes(save(tensors))

    def allocate(self, name: str) -> None:
        """The allocation in which the next orders are written, and the next job works."""
        self.name, self.allocation = name, RealFileSystem(self.root / name)
        paths = {"manifest_path": "manifest.bin", "theta0_path": "theta0.safetensors", "run_dir": "run"}
        order = work_order(allocation=name, **{key: str(self.root / path) for key, path in paths.items()})
        timing = replace(order, max_idle_seconds=0.3, first_poll_seconds=0.01, poll_seconds=0.05, run=self.manifest.run)
        write_record(self.allocation, A.order, timing)
        assert read_record(self.allocation, A.order, WorkOrder) == timing

    def run_ranks(self, size: int, special: dict[int, dict[str, str]] | None = None) -> list[int]:
        """A job on so many ranks; their exit statuses.

        Args:
            special: variables of single ranks.
        """
        variables = {rank: {"FEDERATION_EXECUTION": self.name} for rank in range(size)}
        for rank, own in (special or {}).items():
            variables[rank] |= own
        command = ["rank_bench.toy_job", str(self.root / self.name)]
        return wait_all(start_ranks(size, command, self.logs, variables))

    @property
    def logs(self) -> Path:
        """What the ranks of the newest job said."""
        return self.root / f"logs-{self.name}"

    def said(self) -> str:
        """The same, for messages."""
        return words_of(self.logs)

    def ended(self) -> JobEnded:
        """The job's last word."""
        found = read_record(self.allocation, A.ended, JobEnded)
        assert found is not None, self.said()
        return found

    def payload(self, number: int) -> bytes:
        """What the newest job sent in a round."""
        assert self.allocation.exists(A.update(number)), self.said()
        return self.allocation.read(A.payload(number))
