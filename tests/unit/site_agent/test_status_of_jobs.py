# SPDX-License-Identifier: Apache-2.0
"""What `site-agent status` says of the newest job: what it runs on, and what it waits for."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from federation.durable.real import RealFileSystem
from site_agent import layout
from site_agent.cli.main import cli
from site_agent.json_records import write_record
from site_agent.launcher.slurm.waiting import hindrance_of
from site_agent.preflight_report import PREFLIGHT_FILE, DeviceKind, PreflightReport, RankReport
from site_agent.setup import NewSite, init_site
from site_agent.verdict_view import VerdictView
from site_agent.views import AllocationView, RunView, SiteView, read_view

RUN = "run-1"
RANKS = tuple(
    RankReport(
        rank=rank,
        host=f"nid{rank}",
        device=DeviceKind.CUDA,
        device_name="A100",
        memory_bytes=2**36,
        driver="550",
        runtime="12.4",
        torch="2.6",
        golden=True,
    )
    for rank in range(2)
)
REPORT = PreflightReport(
    world_size=2,
    hosts=("nid0", "nid1"),
    ranks=RANKS,
    check_ok=True,
    check_seconds=0.1,
    check_found="right",
    network={},
)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    data = str(tmp_path / "data")
    init_site(
        tmp_path / "alpha", NewSite(site="alpha", profile="localhost", data_dir=data, languages=("en",), policy="ask")
    )
    return tmp_path / "alpha"


def show(site: Path, verdicts: tuple[VerdictView, ...] = (), **allocation: object) -> None:
    view = RunView(
        run=RUN,
        state="running",
        manifest_digest="aa" * 32,
        policy="accept",
        answer="accepted",
        sentence="",
        waits_for_operator=False,
        num_commits=1,
        num_rounds=3,
        open_rounds=(),
        allocation=AllocationView(**{"allocation": "a3", "state": "queued", **allocation}),  # type: ignore[arg-type]
        verdicts=verdicts,
    )
    shown = SiteView(
        site="alpha",
        ledger_size=3,
        heard_at_us=10**15,
        silent=False,
        fault="",
        blobs_wanted=0,
        waits_for_witnesses=False,
        runs=(view,),
    )
    write_record(RealFileSystem(site), layout.VIEW, shown)


def leave(site: Path, report: PreflightReport) -> None:
    write_record(RealFileSystem(site), f"{layout.allocation_dir(RUN, 3)}/{PREFLIGHT_FILE}", report)


def status(site: Path, *more: str) -> str:
    result = CliRunner().invoke(cli, ["status", str(site), *more])
    assert result.exit_code == 0, result.output
    return result.output


def test_what_the_newest_job_runs_on(site: Path) -> None:
    show(site, state="ready")
    leave(site, REPORT)
    assert "job a3 runs on 2 rank(s) on nid0, nid1: cuda A100, runtime 12.4, torch 2.6; in order" in status(site)
    found = json.loads(status(site, "--json"))["preflight"][RUN]
    assert (found["ok"], found["world_size"], found["ranks"][1]["host"]) == (True, 2, "nid1")


def test_what_became_of_the_sites_own_rounds(site: Path) -> None:
    late = VerdictView(round=7, state="committed", verdict="missed", reason="upload-too-long", sentence="allowed 60 s")
    show(site, (late, VerdictView(round=6, state="committed", verdict="admitted", counted=True)))
    lines = [line.strip() for line in status(site).splitlines()]
    assert "round 7: missed (upload-too-long): allowed 60 s; the round is committed" in lines
    assert "round 6: admitted; it is part of the model" in lines
    (run,) = json.loads(status(site, "--json"))["runs"]
    assert [(v["round"], v["verdict"], v["reason"]) for v in run["verdicts"]] == [
        (7, "missed", "upload-too-long"),
        (6, "admitted", ""),
    ]


def test_a_view_of_an_earlier_release_has_no_verdicts(site: Path) -> None:
    show(site)
    fs = RealFileSystem(site)
    old = json.loads(fs.read(layout.VIEW))
    del old["runs"][0]["verdicts"]
    fs.write(layout.VIEW, json.dumps(old).encode())
    assert "round " not in status(site).replace("round trip", "")


def test_a_machine_that_is_not_in_order(site: Path) -> None:
    show(site, state="ended")
    leave(site, replace(REPORT, ranks=(RANKS[0], replace(RANKS[1], golden=False, problem="int4 differs"))))
    assert "NOT IN ORDER: rank 1 on nid1: int4 differs" in status(site)
    assert json.loads(status(site, "--json"))["preflight"][RUN]["ok"] is False


@pytest.mark.parametrize("data", [b"", b"{}", b"nonsense"])
def test_a_report_that_cannot_be_read_is_none(site: Path, data: bytes) -> None:
    show(site)
    RealFileSystem(site).write(f"{layout.allocation_dir(RUN, 3)}/{PREFLIGHT_FILE}", data)
    assert "runs on" not in status(site)
    assert json.loads(status(site, "--json"))["preflight"] == {}


@pytest.mark.parametrize(
    ("remark", "head"),
    [
        ("AssocGrpGRESMinutes", "WAITS FOR A HUMAN: account-exhausted"),
        ("PartitionDown", "may wait for long: partition-down"),
    ],
)
def test_a_job_that_waits_for_what_does_not_go_away(site: Path, remark: str, head: str) -> None:
    show(site, remark=remark, hindrance=hindrance_of(remark))
    assert head in status(site)
    view = read_view(RealFileSystem(site))
    assert view is not None
    assert view.runs[0].allocation.hindrance == hindrance_of(remark)
    found = json.loads(status(site, "--json"))["runs"][0]["allocation"]["hindrance"]
    assert (found["code"] in head, found["needs_human"]) == (True, "HUMAN" in head)


def test_a_job_in_line_waits_for_nobody(site: Path) -> None:
    show(site, remark="Priority")
    assert "account-exhausted" not in status(site)
    assert "(Priority)" in status(site)


@pytest.mark.parametrize(
    ("reason", "failures", "words"),
    [
        ("no-space", 2, "no-space: what it said, 2 failed in a row\n    WAITS FOR A HUMAN: "),
        ("wrong-precision", 0, "wrong-precision: what it said\n    WAITS FOR A HUMAN: "),
        ("non-finite", 1, "non-finite: what it said, 1 failed in a row\n    tried again by itself: "),
    ],
)
def test_why_the_newest_job_failed(site: Path, reason: str, failures: int, words: str) -> None:
    """Also where an update of that job was sent before, so that no failure counts."""
    show(site, state="ended", reason=reason, sentence="what it said", failures=failures)
    assert words in status(site)


def test_a_job_that_simply_ended_has_no_reason(site: Path) -> None:
    show(site, state="ended", reason="wall-time", sentence="what it said")
    assert "what it said" not in status(site)
