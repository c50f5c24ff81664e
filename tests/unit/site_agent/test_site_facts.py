# SPDX-License-Identifier: Apache-2.0
"""What a site tells about itself: from its files and its journal, as far as it is known, and nothing a job made up."""

import json
import platform
from dataclasses import replace
from typing import Any

import pytest
from agent_situations import RUN, SECOND, SITE, Situation
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from federation import egress
from federation.certificates import make_issuer, pem
from federation.durable.simulated import SimulatedFileSystem
from federation.messages import AllocationReport, AllocationState, LanguageTokens, SiteFacts, SiteStatus, StartChange
from federation.rpc.credentials import CERTIFICATE
from site_agent import job_files, layout
from site_agent.budget import JobSize
from site_agent.budget_units import NativeUnit
from site_agent.courier.choice import CourierKind, write_choice
from site_agent.entries import AllocationEnded, AllocationIntended, AllocationSubmitted
from site_agent.jobs import JobReport, JobState, write_record
from site_agent.manifests import ManifestJudge
from site_agent.policy import PerDay, PerRun, Policy
from site_agent.preflight_report import PREFLIGHT_FILE, DeviceKind, PreflightReport, RankReport
from site_agent.site_facts import LOOK_US, FactsDesk, FixedFacts

CORE_HOURS = NativeUnit(name="core-hours", per_gpu_hour=8.0, source="a test")
FIXED = FixedFacts(profile="leonardo", launcher="slurm", num_gpus=4, architecture="x86_64")


class Desk:
    """A site of one run, its files and its desk."""

    def __init__(self, *, unit: NativeUnit = CORE_HOURS, policy: Policy | None = None) -> None:
        self.fs, self.world = SimulatedFileSystem(), Situation(num_rounds=10).started()
        room = PerDay(gpu_hours=1000.0, bytes=10**9)
        self.judge = ManifestJudge(
            policy=policy or Policy(per_day=room, per_run=PerRun(gpu_hours=100.0, native_units=800.0)),
            site=SITE,
            consortium="test",
            trainers={},
            job=JobSize(num_gpus=4, seconds_limit=3600),
            unit=unit,
        )
        self.desk = FactsDesk(self.fs, FIXED, lambda: self.judge)

    def submitted(self, number: int = 1, **changes: Any) -> "Desk":
        at = self.world.now_us
        asked = AllocationIntended(run=RUN, number=number, fencing=number, at_us=at, num_gpus=4, seconds_limit=3600)
        self.world.journal(
            replace(asked, **changes), AllocationSubmitted(run=RUN, number=number, handle=str(number), at_us=at)
        )
        return self

    def ended(self, number: int = 1) -> "Desk":
        at = self.world.now_us
        end = AllocationEnded(run=RUN, number=number, failed=False, reason="stopped", sentence="", at_us=at)
        self.world.journal(end).no_job()
        return self

    def reported(self, number: int = 1, *, waited: float = 0.0, fencing: int = 0, **tokens: int) -> "Desk":
        """The job's report, ready so many seconds after now."""
        report = JobReport(
            fencing=fencing or number,
            state=JobState.READY,
            ready_at=self.world.now_us / SECOND + waited,
            language_tokens=tokens,
        )
        write_record(self.fs, layout.allocation_paths(RUN, number).report, report)
        live = self.world.state.live_allocation(RUN)
        if live is not None and live.number == number:
            self.world.see(allocations={RUN: job_files.allocation_seen(self.fs, live, job_files.BatchSeen(), {})})
        return self

    def preflight(self, number: int = 1, *, world_size: int = 8, **rank: Any) -> "Desk":
        values = {"rank": 0, "host": "n1", "memory_bytes": 1, "driver": "", "runtime": "", "golden": True}
        default = {
            "device": DeviceKind.CUDA,
            "device_name": "NVIDIA A100-SXM-64GB",
            "torch": "2.13.0+cu128",
            "architecture": "aarch64",
        }
        report = PreflightReport(
            world_size=world_size,
            hosts=("n1",),
            ranks=(RankReport(**{**values, **default, **rank}),),
            check_ok=True,
            check_seconds=0.1,
            check_found="right",
            network={},
        )
        write_record(self.fs, f"{layout.allocation_dir(RUN, number)}/{PREFLIGHT_FILE}", report)
        return self

    def facts(self, state: AllocationState | None = None) -> SiteFacts:
        job = AllocationReport(run=RUN, allocation="a1", state=state or AllocationState.READY, seconds_left=-1)
        report = SiteStatus(ledger_size=0, allocations=(job,) if state else ())
        world = self.world
        found = self.desk.facts(report, world.state, world.federation, world.seen, world.now_us)
        assert list(egress.problems(found)) == []
        return found

    def later(self, seconds: float) -> "Desk":
        self.world.later(seconds)
        return self


def test_before_any_job_only_what_the_site_was_told_is_known() -> None:
    found = Desk().facts()
    assert found == SiteFacts(
        profile="leonardo",
        launcher="slurm",
        courier="spool",
        python=platform.python_version(),
        num_accelerators=4,
        architecture="x86_64",
        may_start=True,
    )


def test_the_newest_job_that_looked_says_what_it_runs_on() -> None:
    desk = Desk().submitted(1).preflight(1, torch="2.6.0").ended(1).later(1).submitted(2)
    assert desk.facts().torch == "2.6.0"
    found = desk.preflight(2).later(LOOK_US / SECOND).facts()
    assert (found.torch, found.accelerator, found.num_accelerators) == ("2.13.0+cu128", "NVIDIA A100-SXM-64GB", 8)
    assert found.architecture == "aarch64"


def test_a_processor_is_no_accelerator() -> None:
    found = Desk().submitted().preflight(device=DeviceKind.CPU, device_name="x86_64", architecture="").facts()
    assert (found.accelerator, found.num_accelerators, found.architecture) == ("", 0, "x86_64")


@pytest.mark.parametrize(("kind", "name"), [(DeviceKind.CUDA, "NVIDIA GPU"), (DeviceKind.ROCM, "AMD GPU")])
def test_what_a_job_makes_up_does_not_go_out(kind: DeviceKind, name: str) -> None:
    secret = "kanarie in the mine"
    desk = (
        Desk()
        .submitted()
        .preflight(device=kind, device_name=secret, torch=f"2.6.0+{secret}", architecture=secret, world_size=10**30)
    )
    found = desk.facts()
    assert (found.accelerator, found.torch, found.architecture) == (name, "2.6.0", "x86_64")
    assert found.num_accelerators == 65_536
    assert secret not in str(found)


def test_damaged_files_are_as_good_as_none() -> None:
    desk = Desk().submitted()
    desk.fs.write(f"{layout.allocation_dir(RUN, 1)}/{PREFLIGHT_FILE}", b"{")
    desk.fs.write(layout.COURIER, b"{")
    desk.fs.write(layout.run_paths(RUN).metrics, b"{\n[]\n")
    desk.fs.write("tls/certificate.pem", b"no certificate")
    desk.ended()
    desk.fs.write(layout.allocation_paths(RUN, 1).report, b"{")
    found = desk.facts()
    assert (found.torch, found.courier, found.queue_wait_seconds, found.language_tokens) == ("", "", -1, ())
    assert found.certificate_not_after_us == 0


def test_the_courier_in_use_is_told() -> None:
    desk = Desk()
    write_choice(desk.fs, CourierKind.GRPC)
    assert desk.facts().courier == "grpc"


# --- waits ------------------------------------------------------------------------------------------------------------


def test_a_wait_counts_from_when_the_job_could_begin() -> None:
    desk = Desk().submitted().later(50)
    assert (desk.facts(AllocationState.QUEUED).waiting_seconds, desk.facts().queue_wait_seconds) == (50, -1)
    desk.reported(waited=10)
    found = desk.facts(AllocationState.READY)
    assert (found.waiting_seconds, found.queue_wait_seconds) == (-1, 60)


def test_a_job_that_was_told_to_wait_waits_from_then_on() -> None:
    desk = Desk().submitted(begin_after_seconds=600).later(50)
    assert desk.facts(AllocationState.QUEUED).waiting_seconds == 0
    assert desk.later(600).facts(AllocationState.QUEUED).waiting_seconds == 50


def test_a_job_that_has_ended_still_tells_its_wait_and_a_requeued_one_none() -> None:
    desk = Desk().submitted(1).reported(1, waited=30).later(100).ended(1).later(1).submitted(2)
    assert desk.facts().queue_wait_seconds == 30
    desk.reported(2, waited=500, fencing=3)
    assert desk.facts().queue_wait_seconds == 30
    desk.reported(2, waited=5)
    assert desk.facts().queue_wait_seconds == 5


# --- budgets ----------------------------------------------------------------------------------------------------------


def trained(*steps: tuple[int, int, float]) -> bytes:
    lines = ({"round": r, "step": s, "seconds": seconds, "fencing": 1} for r, s, seconds in steps)
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def test_budgets_are_those_of_the_command() -> None:
    desk = Desk().submitted()
    desk.world.opened(0).committed(0, listed="ab" * 32)
    metrics = trained((0, 1, 900.0), (0, 1, 450.0), (1, 1, 450.0))
    desk.fs.write(layout.run_paths(RUN).metrics, metrics)
    (found,) = desk.later(3600).ended().facts().budgets
    assert (found.run, found.gpu_hours_limit, found.gpu_hours_counted) == (RUN, 100.0, 4.0)
    parts = (found.gpu_hours_effective, found.gpu_hours_discarded, found.gpu_hours_open, found.gpu_hours_idle)
    assert parts == (0.5, 1.0, 0.5, 2.0)
    assert (found.native_unit, found.native_spent, found.native_limit) == ("core-hours", 32.0, 800.0)
    assert found.forecast_gpu_hours == pytest.approx(9 * 3.5)


def test_what_is_not_measured_or_not_priced_is_not_zero() -> None:
    unknown = NativeUnit(name="core-hours", per_gpu_hour=None, source="nobody")
    (found,) = Desk(unit=unknown).submitted().facts().budgets
    assert (found.forecast_gpu_hours, found.native_unit, found.native_limit) == (-1.0, "", 0.0)


def test_a_unit_that_the_operator_made_up_stays_here() -> None:
    (found,) = Desk(unit=replace(CORE_HOURS, name="project kanarie 7")).submitted().facts().budgets
    assert (found.native_unit, found.native_limit) == ("units", 800.0)


def test_a_site_without_limits_says_so() -> None:
    policy = Policy(per_day=PerDay(gpu_hours=9.0, bytes=1))
    (found,) = Desk(policy=policy).submitted().facts().budgets
    assert (found.gpu_hours_limit, found.native_limit) == (0.0, 0.0)


# --- windows ----------------------------------------------------------------------------------------------------------


def test_the_outlook_is_asked_again_when_it_is_over() -> None:
    desk = Desk(policy=Policy(per_day=PerDay(gpu_hours=5.0, bytes=10**9))).submitted().later(3600).ended()
    found = desk.facts()
    assert (found.may_start, found.next_change) == (False, StartChange.BUDGET)
    left = found.next_change_seconds
    assert 85_000 < left < 86_400, "a quarter of its hour has to stay within the day at most"
    assert desk.later(left - 2).facts().may_start is False
    assert desk.later(3).facts().may_start is True


# --- languages --------------------------------------------------------------------------------------------------------


def test_tokens_are_those_of_the_newest_job_that_knows() -> None:
    desk = Desk().submitted(1)
    assert desk.facts().language_tokens == ()
    desk.reported(1, de=10, el=0)
    assert desk.facts().language_tokens == (
        LanguageTokens(run=RUN, language="de", tokens=10),
        LanguageTokens(run=RUN, language="el", tokens=0),
    )
    desk.later(1).ended(1).later(1).submitted(2)
    assert [entry.tokens for entry in desk.facts().language_tokens] == [10, 0]
    desk.reported(2, de=30, el=5)
    assert [entry.tokens for entry in desk.facts().language_tokens] == [30, 5]


def test_what_is_no_code_or_no_count_is_left_out() -> None:
    desk = Desk().submitted().reported(**{"de": 1, "kanarie": 2, "fr": -1, "it": 2**60, "est_Latn": 3, "../x": 4})
    assert {entry.language: entry.tokens for entry in desk.facts().language_tokens} == {"de": 1, "est_Latn": 3}


def test_between_two_looks_the_disk_is_left_alone_and_the_journal_is_not() -> None:
    desk = Desk().submitted().preflight()
    first = desk.facts(AllocationState.QUEUED)
    write_choice(desk.fs, CourierKind.GRPC)
    second = desk.later(5).facts(AllocationState.QUEUED)
    assert second == replace(first, waiting_seconds=5)
    assert desk.later(20).facts().courier == "grpc"


def test_the_channel_s_certificate_is_told() -> None:
    desk, began = Desk(), 1_800_000_000
    issuer = make_issuer("test", generate_private_key(SECP256R1()), began, days=30)
    desk.fs.write(CERTIFICATE, pem(issuer))
    assert desk.facts().certificate_not_after_us == int(issuer.not_valid_after_utc.timestamp()) * SECOND
