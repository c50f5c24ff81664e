# SPDX-License-Identifier: Apache-2.0
"""What the report of a test job means."""

from dataclasses import replace
from typing import Any

import pytest

from site_agent.doctor_case import Verdict
from site_agent.doctor_findings import findings_of
from site_agent.doctor_report import DoctorOrder, DoctorReport
from site_agent.preflight_report import DeviceKind, PreflightReport, RankReport, preflight_line

RANK = RankReport(
    rank=0,
    host="nid1",
    device=DeviceKind.ROCM,
    device_name="MI250X",
    memory_bytes=2**36,
    driver="6.0",
    runtime="6.2",
    torch="2.6",
    golden=True,
)
PREFLIGHT = PreflightReport(
    world_size=1, hosts=("nid1",), ranks=(RANK,), check_ok=True, check_seconds=0.1, check_found="right", network={}
)
ORDER = DoctorOrder(nonce="n", device="cuda", data_paths=("/data",), ordered_at=1000.0)
REPORT = DoctorReport(
    nonce="n",
    host="nid1",
    at=1010.0,
    is_whole=True,
    python="3.11.9",
    compiler="numba 0.61",
    preflight=PREFLIGHT,
    num_accelerators=1,
)


def verdicts(order: DoctorOrder = ORDER, **changes: Any) -> dict[str, Verdict]:
    return {f.check: f.verdict for f in findings_of(replace(REPORT, **changes), order, 1020.0)}


def test_a_site_in_order() -> None:
    assert set(verdicts().values()) == {Verdict.OK}
    assert len(verdicts()) == 6


@pytest.mark.parametrize(
    ("changes", "check", "verdict"),
    [
        ({"nonce": "another"}, "spool there", Verdict.FAILED),
        ({"preflight": None, "problem": "ModuleNotFoundError: torch"}, "accelerator there", Verdict.FAILED),
        ({"preflight": replace(PREFLIGHT, check_ok=False)}, "accelerator there", Verdict.FAILED),
        ({"golden_problem": "int4 differs"}, "golden vectors there", Verdict.FAILED),
        (
            {"preflight": replace(PREFLIGHT, ranks=(replace(RANK, golden=False, problem="int4 differs"),))},
            "golden vectors there",
            Verdict.FAILED,
        ),
        ({"compiler": ""}, "compiler there", Verdict.WARNING),
        ({"unreadable": ("/data",)}, "data there", Verdict.FAILED),
        ({"at": 900.0}, "clock there", Verdict.WARNING),
        ({"at": 1100.0}, "clock there", Verdict.WARNING),
        ({"at": 950.0}, "clock there", Verdict.OK),
    ],
)  # fmt: skip
def test_each_thing_that_is_wrong(changes: dict[str, Any], check: str, verdict: Verdict) -> None:
    found = verdicts(**changes)
    assert found.pop(check) is verdict
    assert set(found.values()) == {Verdict.OK}
    said = {f.check: f.advice for f in findings_of(replace(REPORT, **changes), ORDER, 1020.0)}
    assert bool(said[check]) is (verdict is not Verdict.OK)


def test_an_accelerator_that_would_stay_idle() -> None:
    assert verdicts(replace(ORDER, device="cpu"))["accelerator there"] is Verdict.WARNING


def test_an_error_of_many_lines_is_one() -> None:
    changed = replace(REPORT, preflight=None, problem="RuntimeError: no driver\nat this\x1b[2J place")
    found = {f.check: f.found for f in findings_of(changed, ORDER, 1020.0)}
    assert found["accelerator there"] == "device cuda: RuntimeError: no driver at this [2J place"


def test_a_line_for_operators() -> None:
    assert preflight_line(PREFLIGHT) == "1 rank(s) on nid1: rocm MI250X, runtime 6.2, torch 2.6; in order"
    broken = replace(PREFLIGHT, check_ok=False, check_found="3\x1b[2J in place of 4")
    assert preflight_line(broken).endswith("NOT IN ORDER: matrix and sum over ranks 3 [2J in place of 4")
