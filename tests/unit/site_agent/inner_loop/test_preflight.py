# SPDX-License-Identifier: Apache-2.0
"""What a machine is and whether it computes is written down before anything is trained."""

import pytest

from federation.durable.simulated import SimulatedFileSystem
from site_agent.inner_loop import preflight as module
from site_agent.inner_loop.preflight import (
    PREFLIGHT_FILE,
    DeviceKind,
    PreflightFailedError,
    PreflightReport,
    preflight,
    write_preflight,
)
from site_agent.json_records import read_record


def test_a_machine_that_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "hsn0")
    report, fs = preflight("cpu", golden_problem=""), SimulatedFileSystem()
    assert report.ok
    assert report.ranks[0].device is DeviceKind.CPU
    assert report.ranks[0].memory_bytes > 2**28
    assert report.network["NCCL_SOCKET_IFNAME"] == "hsn0"
    assert "in order" in report.sentence()
    write_preflight(fs, report)
    assert read_record(fs, PREFLIGHT_FILE, PreflightReport) == report


def test_a_machine_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_check", lambda where, team: "3.0 in place of 4.0")
    report, fs = preflight("cpu", golden_problem=""), SimulatedFileSystem()
    assert not report.ok
    assert "NOT in order" in report.sentence()
    with pytest.raises(PreflightFailedError, match=r"3\.0 in place of 4\.0"):
        write_preflight(fs, report)
    assert fs.exists(PREFLIGHT_FILE)


def test_golden_vectors_count(monkeypatch: pytest.MonkeyPatch) -> None:
    report = preflight("cpu", golden_problem="int4 differs")
    assert not report.ok
    assert report.ranks[0].problem == "int4 differs"
