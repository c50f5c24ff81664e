# SPDX-License-Identifier: Apache-2.0
"""What a job found out about the machine before it trained: records that agent and job share, without torch."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from federation.durable.api import FileSystem
from federation.errors import FederationError
from site_agent.json_records import read_record

PREFLIGHT_FILE: Final = "preflight.json"
"""In the allocation's directory."""

_MAX_LINE: Final = 600


class DeviceKind(StrEnum):
    """What trains."""

    CPU = "cpu"
    CUDA = "cuda"
    ROCM = "rocm"


@dataclass(frozen=True, kw_only=True)
class RankReport:
    """What one rank runs on.

    Attributes:
        device_name: of the accelerator, or the processor's architecture.
        memory_bytes: of the accelerator, or the machine's.
        driver: version of the accelerator's driver, "" if it has none or does not tell.
        runtime: version of CUDA or HIP that torch was built for, "" on a processor.
        golden: whether the golden vectors came out; `problem` says what did not.
        architecture: of the processor, "" in reports of earlier releases.
    """

    rank: int
    host: str
    device: DeviceKind
    device_name: str
    memory_bytes: int
    driver: str
    runtime: str
    torch: str
    golden: bool
    problem: str = ""
    architecture: str = ""


@dataclass(frozen=True, kw_only=True)
class PreflightReport:
    """What a job runs on.

    Attributes:
        hosts: names of the machines, each once, in the order of ranks.
        check_ok: every rank multiplied two matrices on its device and added the result up over all ranks, and all
            found the same sum, which is right.
        check_seconds: how long that took, the first use of device and network included.
        network: the network's environment variables in force on rank 0.
    """

    world_size: int
    hosts: tuple[str, ...]
    ranks: tuple[RankReport, ...]
    check_ok: bool
    check_seconds: float
    check_found: str
    network: dict[str, str]

    @property
    def ok(self) -> bool:
        """Whether a job can train here."""
        return self.check_ok and all(rank.golden for rank in self.ranks)

    def sentence(self) -> str:
        """One line for people."""
        first = self.ranks[0]
        gib = first.memory_bytes / 2**30
        state = "in order" if self.ok else "NOT in order"
        return (
            f"{self.world_size} rank(s) on {', '.join(self.hosts)}: {first.device} {first.device_name}, {gib:.0f} GiB, "
            f"driver {first.driver or 'unknown'}, runtime {first.runtime or 'none'}, torch {first.torch}; matrix and "
            f"sum over ranks {self.check_found} in {self.check_seconds:.2f} s; {state}"
        )

    def trouble(self) -> str:
        """What is wrong, "in order" if nothing is."""
        wrong = [f"rank {rank.rank} on {rank.host}: {rank.problem}" for rank in self.ranks if not rank.golden]
        wrong += [] if self.check_ok else [f"matrix and sum over ranks {self.check_found}"]
        return f"NOT IN ORDER: {'; '.join(wrong)}" if wrong else "in order"


def read_preflight(fs: FileSystem, directory: str) -> PreflightReport | None:
    """The report in an allocation's directory; None if no job has left one, or one that cannot be read."""
    try:
        report = read_record(fs, f"{directory}/{PREFLIGHT_FILE}", PreflightReport)
    except FederationError:  # another release's, or damaged: it decides nothing
        return None
    return report if report is not None and report.ranks else None


def preflight_line(report: PreflightReport) -> str:
    """What an operator is shown: device, ranks, hosts, and "in order" or what is wrong. One printable line."""
    first = report.ranks[0]
    where = f"{report.world_size} rank(s) on {', '.join(report.hosts[:4])}"
    more = f" and {len(report.hosts) - 4} more" if len(report.hosts) > 4 else ""
    runtime = f", runtime {first.runtime}" if first.runtime else ""
    found = f"{where}{more}: {first.device} {first.device_name}{runtime}, torch {first.torch}; {report.trouble()}"
    return "".join(c if c.isprintable() else " " for c in found)[:_MAX_LINE]
