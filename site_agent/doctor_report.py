# SPDX-License-Identifier: Apache-2.0
"""What `doctor` orders of a test job, and what that leaves: records that both sides share, without torch."""

from dataclasses import dataclass
from typing import Final

from site_agent.preflight_report import PreflightReport

ORDER_FILE: Final = "doctor-order.json"
REPORT_FILE: Final = "doctor-report.json"
"""Both in the test job's directory; the report is replaced once, by the whole one."""

JOB_MODULE: Final = "site_agent.trainer.doctor_job"


@dataclass(frozen=True, kw_only=True)
class DoctorOrder:
    """What a test job is to look at.

    Attributes:
        nonce: given back in the report: whoever knows it has read this very file.
        device: of site.toml.
        data_paths: absolute; jobs need to read them.
        ordered_at: seconds since 1970, by the agent's clock.
    """

    nonce: str
    device: str
    data_paths: tuple[str, ...] = ()
    ordered_at: float = 0.0


@dataclass(frozen=True, kw_only=True)
class DoctorReport:
    """What a test job found.

    Attributes:
        at: seconds since 1970, by the compute node's clock.
        is_whole: nothing more follows; else what is missing broke the job.
        python: its release. compiler: of the arithmetic, "" if there is none.
        golden_problem: what the golden vectors showed, "" if they came out.
        preflight: None where it could not be made; `problem` says why.
        num_accelerators: that torch sees on the node of rank 0.
        unreadable: of the data paths.
    """

    nonce: str
    host: str
    at: float
    is_whole: bool = False
    python: str = ""
    compiler: str = ""
    golden_problem: str = ""
    preflight: PreflightReport | None = None
    problem: str = ""
    num_accelerators: int = 0
    unreadable: tuple[str, ...] = ()
