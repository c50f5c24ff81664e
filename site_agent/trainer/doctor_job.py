# SPDX-License-Identifier: Apache-2.0
"""The test job of `site-agent doctor --job`: `python -m site_agent.trainer.doctor_job DIRECTORY`, also under torchrun.

It trains nothing. It looks at what a job of this site would run on, with the same interpreter, modules and container,
and leaves a report beside its order. Exit status: 0 once the report is whole, 1 if it cannot be written.
"""

import os
import platform
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, FederationError
from site_agent.doctor_report import ORDER_FILE, REPORT_FILE, DoctorOrder, DoctorReport
from site_agent.inner_loop.last_word import job_main
from site_agent.json_records import read_record, write_record


def run(directory: Path) -> None:
    """Looks at everything; rank 0 writes the report, first without what could break the process.

    Raises:
        ConfigError: there is no order.
        StorageError: the report cannot be written.
    """
    fs = RealFileSystem(directory)
    order = read_record(fs, ORDER_FILE, DoctorOrder)
    if order is None:
        raise ConfigError(f"expected an order ({ORDER_FILE}), found none")
    leads = os.environ.get("RANK", "0") == "0"
    report = DoctorReport(
        nonce=order.nonce,
        host=socket.gethostname(),
        at=time.time(),
        python=platform.python_version(),
        unreadable=tuple(path for path in order.data_paths if not os.access(path, os.R_OK)),
    )
    if leads:
        write_record(fs, REPORT_FILE, report)
    report = replace(_with_preflight(_with_numerics(report), order.device), is_whole=True)
    if leads:
        write_record(fs, REPORT_FILE, report)


def _with_numerics(report: DoctorReport) -> DoctorReport:
    try:
        from federation.golden import check_golden_vectors
        from federation.kernels.dispatch import compiler

        report = replace(report, compiler=compiler())
        check_golden_vectors()
    except (FederationError, ImportError) as error:
        return replace(report, golden_problem=f"{type(error).__name__}: {error}")
    return report


def _with_preflight(report: DoctorReport, device: str) -> DoctorReport:
    try:
        import torch

        from site_agent.inner_loop.preflight import preflight
        from site_agent.inner_loop.rank_allocations import backend_of
        from site_agent.inner_loop.team import gather_teams, world_size_here

        team = gather_teams(backend_of(device)).training if world_size_here() > 1 else None
        found = preflight(device, team, golden_problem=report.golden_problem)
        return replace(report, preflight=found, num_accelerators=torch.cuda.device_count())
    # torch raises what it likes where a driver or a library is not what it wants.
    except Exception as error:
        return replace(report, problem=f"{type(error).__name__}: {error}"[:1000])


def main(arguments: list[str]) -> int:
    """The process's exit status."""
    return job_main(run, arguments, "site_agent.trainer.doctor_job")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
