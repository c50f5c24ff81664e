# SPDX-License-Identifier: Apache-2.0
"""What a job runs on, found out before it trains: written to its log and, for the agent, to `preflight.json`.

Its records are in `site_agent.preflight_report`, which loads no torch.
"""

import logging
import os
import platform
import socket
import time
from pathlib import Path
from typing import Final

import torch
import torch.distributed as dist

from federation.durable.api import FileSystem
from federation.errors import FederationError, TrainingError
from federation.golden import check_golden_vectors
from site_agent.inner_loop.team import Team
from site_agent.json_records import decode, encode, write_record
from site_agent.preflight_report import PREFLIGHT_FILE, DeviceKind, PreflightReport, RankReport

NETWORK_VARIABLES: Final = (
    "GLOO_SOCKET_IFNAME",
    "NCCL_SOCKET_IFNAME",
    "NCCL_IB_HCA",
    "NCCL_NET",
    "NCCL_NET_GDR_LEVEL",
    "NCCL_CROSS_NIC",
    "FI_PROVIDER",
    "FI_CXI_ATS",
    "UCX_NET_DEVICES",
    "MASTER_ADDR",
    "MASTER_PORT",
)
"""Environment variables that decide which network the ranks use."""

__all__ = [
    "PREFLIGHT_FILE",
    "DeviceKind",
    "PreflightFailedError",
    "PreflightReport",
    "RankReport",
    "device_of_rank",
    "preflight",
    "rank_report",
    "write_preflight",
]

_SIZE: Final = 128

_log = logging.getLogger(__name__)


class PreflightFailedError(TrainingError):
    """A rank does not compute what it should; nothing was trained."""


def preflight(device: str = "cpu", team: Team | None = None, *, golden_problem: str | None = None) -> PreflightReport:
    """Looks at every rank; collective where there are several. The report is the same on all of them.

    Args:
        device: of the work order: "cpu", or a torch device; of several accelerators each rank takes its own.
        golden_problem: what the golden vectors showed, "" if they came out; None runs them.
    """
    problem = _golden_problem() if golden_problem is None else golden_problem
    mine = rank_report(device, team.rank if team else 0, problem)
    began = time.monotonic()
    found = _check(device_of_rank(device), team)
    seconds = time.monotonic() - began
    reports = [encode(mine)] if team is None else team.gathered(encode(mine))
    results = [found] if team is None else [data.decode() for data in team.gathered(found.encode())]
    ranks = tuple(decode(RankReport, data) for data in reports)
    right = [result == results[0] == "right" for result in results]
    report = PreflightReport(
        world_size=len(ranks),
        hosts=tuple(dict.fromkeys(rank.host for rank in ranks)),
        ranks=ranks,
        check_ok=all(right),
        check_seconds=round(seconds, 3),
        check_found=next((result for result in results if result != "right"), "right"),
        network={name: os.environ[name] for name in NETWORK_VARIABLES if name in os.environ},
    )
    if team is None or team.leads:
        (_log.info if report.ok else _log.error)("preflight: %s", report.sentence())
    return report


def write_preflight(fs: FileSystem, report: PreflightReport) -> None:
    """Puts it beside the job's other files.

    Raises:
        PreflightFailedError: a rank does not compute what it should; the file is written all the same.
    """
    write_record(fs, PREFLIGHT_FILE, report)
    if not report.check_ok:
        raise PreflightFailedError(
            f"preflight: expected every rank to find the same right sum, found: {report.check_found}",
            advice="Look at the driver, and at the network's variables in preflight.json.",
        )


def rank_report(device: str, rank: int, problem: str) -> RankReport:
    """What this process runs on; `problem` is what the golden vectors showed."""
    where = device_of_rank(device)
    common = {"rank": rank, "host": socket.gethostname(), "torch": torch.__version__}
    if where.type != "cuda":
        return RankReport(
            **common,  # type: ignore[arg-type]
            device=DeviceKind.CPU,
            device_name=platform.machine(),
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            driver="",
            runtime="",
            golden=not problem,
            problem=problem,
            architecture=platform.machine(),
        )
    found = torch.cuda.get_device_properties(where)
    return RankReport(
        **common,  # type: ignore[arg-type]
        device=DeviceKind.ROCM if torch.version.hip else DeviceKind.CUDA,
        device_name=found.name,
        memory_bytes=found.total_memory,
        driver=_driver(),
        runtime=str(torch.version.hip or torch.version.cuda or ""),
        golden=not problem,
        problem=problem,
        architecture=platform.machine(),
    )


def device_of_rank(device: str) -> torch.device:
    """The device that this process trains on: of several accelerators of a machine the one of its local rank."""
    where = torch.device(device)
    if where.type == "cuda" and where.index is None and torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return where


def _golden_problem() -> str:
    try:
        check_golden_vectors()
    except FederationError as error:
        return str(error)
    return ""


def _check(where: torch.device, team: Team | None) -> str:
    """Says "right", or what is wrong. Whole numbers far below 2^24: exact in fp32 on any device, in any order."""
    try:
        rows = torch.arange(_SIZE, dtype=torch.float32, device=where).remainder(7).reshape(_SIZE, 1)
        total = (rows @ rows.T).sum()
        if team is not None:
            # A program's own default group may know nothing but its accelerators.
            dist.all_reduce(total, group=team.group if where.type == "cpu" else None)
        expected = float(rows.cpu().sum()) ** 2 * (team.size if team else 1)
        return "right" if float(total) == expected else f"{float(total)} in place of {expected}"
    except RuntimeError as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"


def _driver() -> str:
    """The kernel driver's version, where it is told."""
    for path in ("/sys/module/nvidia/version", "/sys/module/amdgpu/version"):
        try:
            return Path(path).read_text().strip()
        except OSError:
            continue
    return ""
