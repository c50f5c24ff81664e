# SPDX-License-Identifier: Apache-2.0
"""What `site-agent doctor` says of this machine's arithmetic; the other checks are in the integration tests."""

from pathlib import Path

import pytest

from federation.durable.real import RealFileSystem
from site_agent import doctor
from site_agent.doctor_case import Case, Finding, Verdict
from site_agent.doctor_case import finding as find


def finding(directory: Path, name: str) -> Finding:
    case = Case(directory=directory, fs=RealFileSystem(directory), config=None, now=0.0, probed=None)
    return find(name, doctor._NUMERICS[name], case)


def test_the_compiler_is_named(tmp_path: Path) -> None:
    found = finding(tmp_path, "compiler")
    assert found.verdict is Verdict.OK
    assert found.found.startswith("numba ")


def test_a_missing_compiler_is_a_warning_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    found = finding(tmp_path, "compiler")
    assert found.verdict is Verdict.WARNING
    assert found.found == "none: numpy computes the same bits, several times more slowly"
    assert "numba" in found.advice


@pytest.mark.parametrize("check", ["compiler", "golden vectors"])
def test_arithmetic_that_takes_too_long_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    monkeypatch.setattr(doctor, "NUMERICS_SECONDS", 0.01)
    found = finding(tmp_path, check)
    assert (found.verdict, found.found) == (Verdict.FAILED, "no result within 0 s")
    assert "overloaded" in found.advice


@pytest.mark.parametrize("check", ["compiler", "golden vectors"])
def test_arithmetic_that_cannot_be_loaded_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('no numpy here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = finding(tmp_path, check)
    assert found.verdict is Verdict.FAILED
    assert found.found.endswith("no numpy here")
