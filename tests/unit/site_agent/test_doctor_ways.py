# SPDX-License-Identifier: Apache-2.0
"""What `doctor` makes of ways out, quotas and credentials."""

from pathlib import Path

import pytest

from federation.durable.real import RealFileSystem
from federation.errors import DiskFullError
from site_agent.courier.round_trip import RoundTrip
from site_agent.credentials_watch import Credential, countdown
from site_agent.doctor_case import Case, Verdict
from site_agent.doctor_ways import (
    PROBE,
    enough_inodes,
    fit_of_courier,
    fit_of_round_trip,
    way_out,
    worst_credential,
    writing,
)


@pytest.mark.parametrize(
    ("egress", "uses_grpc", "answered", "in_job", "verdict"),
    [
        ("A", True, False, True, Verdict.OK),
        ("B", True, False, False, Verdict.OK),
        ("B", True, False, True, Verdict.WARNING),
        ("B", True, True, True, Verdict.OK),
        ("C", True, False, False, Verdict.WARNING),
        ("C", True, True, False, Verdict.OK),
        ("C", False, False, False, Verdict.OK),
        ("A", False, False, False, Verdict.OK),
    ],
)
def test_the_courier_and_what_the_centre_lets_out(
    egress: str, uses_grpc: bool, answered: bool, in_job: bool, verdict: Verdict
) -> None:
    found = fit_of_courier(egress, uses_grpc=uses_grpc, answered=answered, in_job=in_job)
    assert found[0] is verdict
    assert bool(found[2]) is (verdict is Verdict.WARNING)


def test_a_centre_that_lets_nothing_out_needs_the_spool() -> None:
    assert "courier set SITE_DIR spool" in fit_of_courier("C", uses_grpc=True, answered=False, in_job=False)[2]


def test_a_proxy_is_named_without_its_password() -> None:
    found = way_out("http://me:secret@proxy.example.org:3128", "", {}, uses_grpc=True, answered=True)
    assert found == (Verdict.OK, "goes through proxy.example.org", "")


@pytest.mark.parametrize(
    ("environment", "answered", "verdict"),
    [
        ({}, False, Verdict.OK),
        ({"https_proxy": "http://p:1"}, False, Verdict.WARNING),
        ({"https_proxy": "x"}, True, Verdict.OK),
    ],
)
def test_a_proxy_that_was_forgotten(environment: dict[str, str], answered: bool, verdict: Verdict) -> None:
    assert way_out("", "", environment, uses_grpc=True, answered=answered)[0] is verdict


def test_two_ways_out_are_one_too_many() -> None:
    assert way_out("http://p:1", "127.0.0.1:8443", {}, uses_grpc=True, answered=False)[0] is Verdict.FAILED


@pytest.mark.parametrize(
    ("measured", "declared", "uses_grpc", "verdict"),
    [
        (0.0, 0.0, True, Verdict.OK),
        (0.0, 0.0, False, Verdict.WARNING),
        (5.0, 0.0, False, Verdict.WARNING),
        (5.0, 60.0, False, Verdict.OK),
        (90.0, 60.0, True, Verdict.WARNING),
    ],
)
def test_round_trips(measured: float, declared: float, uses_grpc: bool, verdict: Verdict) -> None:
    found = RoundTrip(num_samples=int(measured > 0), median_seconds=measured, max_seconds=measured)
    assert fit_of_round_trip(found, declared, uses_grpc=uses_grpc)[0] is verdict


@pytest.mark.parametrize(
    ("total", "free", "verdict"),
    [(0, 0, Verdict.OK), (10**6, 10**5, Verdict.OK), (10**6, 100, Verdict.FAILED)],
)
def test_inodes(total: int, free: int, verdict: Verdict) -> None:
    assert enough_inodes(total, free)[0] is verdict


def case_of(directory: Path) -> Case:
    return Case(directory=directory, fs=RealFileSystem(directory), config=None, now=0.0, probed=None)


def test_writing_leaves_nothing(tmp_path: Path) -> None:
    assert writing(case_of(tmp_path))[0] is Verdict.OK
    assert not (tmp_path / PROBE).exists()


def test_a_quota_that_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: RealFileSystem, path: str, data: bytes) -> None:
        raise DiskFullError(f"{path}: Disk quota exceeded")

    monkeypatch.setattr(RealFileSystem, "write", full)
    verdict, words, advice = writing(case_of(tmp_path))
    assert (verdict, "quota exceeded" in words) == (Verdict.FAILED, True)
    assert "inodes" in advice


@pytest.mark.parametrize(("days_left", "verdict"), [(30.0, Verdict.OK), (0.5, Verdict.WARNING), (-1.0, Verdict.FAILED)])
def test_the_most_urgent_credential_decides(days_left: float, verdict: Verdict) -> None:
    fine = Credential(name="far", expires_at=1e9, warn_seconds=1, what_to_do="wait")
    near = Credential(name="ssh", expires_at=days_left * 86_400, warn_seconds=86_400, what_to_do="Log in.")
    found = worst_credential([countdown(fine, 0.0), countdown(near, 0.0)])
    assert found[0] is verdict
    assert found[2] == ("" if verdict is Verdict.OK else "Log in.")


def test_no_credentials_are_fine() -> None:
    assert worst_credential([])[0] is Verdict.OK
