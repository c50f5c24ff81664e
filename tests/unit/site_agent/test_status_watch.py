# SPDX-License-Identifier: Apache-2.0
"""`site-agent status`: is the agent alive, how far is its job, what waits for a person; once, or again and again."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from federation.directory_lock import DirectoryLock, this_process
from federation.durable.real import RealFileSystem
from federation.errors import StorageUnavailableError, UsageError
from site_agent import layout
from site_agent.cli.main import cli
from site_agent.cli.status import Watched, draw, watch_status
from site_agent.cli.status_facts import Status, StatusReader
from site_agent.cli.status_lines import attention, status_lines
from site_agent.jobs import JobPhase, JobReport, JobState, RoundOrder
from site_agent.json_records import write_record
from site_agent.launcher.slurm.waiting import hindrance_of
from site_agent.setup import NewSite, init_site
from site_agent.verdict_view import VerdictView
from site_agent.views import AllocationView, RunView, SiteView

NOW = 1_790_000_000.0
RUN = "run-1"
HOSTILE = "[red]evil[/red] \x1b[2J\x1b]0;owned\x07\n\u202e" + "A" * 100_000
ITEM = RunView(
    run=RUN,
    state="running",
    manifest_digest="aa" * 32,
    policy="accept",
    answer="accepted",
    sentence="by policy",
    waits_for_operator=False,
    num_commits=1,
    num_rounds=3,
    open_rounds=(1,),
    allocation=AllocationView(allocation="a3", state="ready"),
)
VIEW = SiteView(
    site="alpha",
    ledger_size=3,
    heard_at_us=int(NOW * 1e6),
    silent=False,
    fault="",
    blobs_wanted=0,
    waits_for_witnesses=False,
    runs=(ITEM,),
)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    new = NewSite(
        site="alpha", profile="localhost", data_dir=str(tmp_path / "data"), languages=("en",), policy="accept"
    )
    init_site(tmp_path / "alpha", new)
    show(tmp_path / "alpha", VIEW)
    return tmp_path / "alpha"


def show(site: Path, view: SiteView) -> None:
    write_record(RealFileSystem(site), layout.VIEW, view)


def with_job(**changes: Any) -> SiteView:
    return replace(VIEW, runs=(replace(ITEM, allocation=replace(ITEM.allocation, **changes)),))


def look(site: Path) -> Status:
    return StatusReader(site).look(NOW)


def waiting(site: Path) -> list[str]:
    """What waits for a person, beside the roster that none of these sites has."""
    return attention(look(site))[:-1]


def said(site: Path) -> str:
    return "\n".join(status_lines(look(site)))


# --- the agent --------------------------------------------------------------------------------------------------------


def test_an_agent_that_runs(site: Path) -> None:
    fs = RealFileSystem(site)
    lock = DirectoryLock(fs, this_process(), base=layout.LOCK)
    found = look(site)
    assert (found.agent.runs, found.agent.died) == (True, False)
    assert f"agent runs: process {this_process().pid} on " in said(site)
    lock.release()
    found = look(site)
    assert (found.agent.runs, found.agent.died) == (False, False)
    assert "NO AGENT RUNS NOW: the last one was process" in said(site)
    assert waiting(site) == []


def test_an_agent_that_died(site: Path) -> None:
    gone = replace(this_process(), start_ticks=1)
    DirectoryLock(RealFileSystem(site), gone, base=layout.LOCK)
    found = look(site)
    assert (found.agent.runs, found.agent.died) == (False, True)
    assert attention(found)[0].startswith(
        "no agent runs, and the last one did not end cleanly: the last one was process"
    )


def test_nobody_ever_served_it(site: Path) -> None:
    assert look(site).agent.sentence == "none ran yet"


# --- jobs and budget --------------------------------------------------------------------------------------------------


def report(site: Path, **changes: Any) -> None:
    values = {"step": 40, "loss": 2.3456, "seconds_left": 7200, "seconds_per_step": 1.25, "updated_at": NOW - 30}
    made = JobReport(fencing=1, state=JobState.READY, round=7, phase=JobPhase.TRAINING, **{**values, **changes})
    write_record(RealFileSystem(site), layout.allocation_paths(RUN, 3).report, made)


def test_how_far_the_job_is(site: Path) -> None:
    report(site)
    order = RoundOrder(round=7, fragment=0, base_version=0, base_digest="00" * 32, lr_position=0, num_steps=125)
    write_record(RealFileSystem(site), layout.allocation_paths(RUN, 3).round_order(7), order)
    assert "job a3 window 7: training, step 40/125, loss 2.346, 1.25 s/step, " in said(site)
    assert "2 hours of wall time left, said 30 seconds ago" in said(site)
    assert look(site).document()["progress"][RUN]["num_steps"] == 125


def test_a_report_that_cannot_be_read_or_is_over_is_none(site: Path) -> None:
    RealFileSystem(site).write(layout.allocation_paths(RUN, 3).report, b"nonsense")
    assert look(site).progress == {}
    report(site)
    show(site, with_job(state="ended"))
    assert look(site).progress == {}


def test_the_days_budget(site: Path) -> None:
    found = look(site).budget
    assert (found.gpu_hours, found.num_bytes, found.problem) == (0.0, 0, "")
    assert f"within 24 hours: 0.00 of {found.max_gpu_hours:g} GPU-hours, 0 of " in said(site)


def test_a_policy_that_is_broken_breaks_nothing_else(site: Path) -> None:
    (site / "policy.toml").write_text("nonsense = [")
    assert "budget cannot be told: " in said(site)
    assert any(text.startswith("budget: ") for text in attention(look(site)))


# --- what waits for a person ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (replace(VIEW, fault="a fork"), "the ledger cannot be followed: a fork"),
        (replace(VIEW, silent=True), "the coordinator is silent"),
        (replace(VIEW, runs=(replace(ITEM, waits_for_operator=True),)), f"run {RUN} waits for `run accept`"),
        (with_job(hindrance=hindrance_of("AssocGrpGRESMinutes")), f"run {RUN}, job a3: account-exhausted: "),
        (with_job(state="ended", reason="no-space", sentence="disk full", failures=2), "no-space: disk full. "),
        (with_job(doubt="it cannot be told whether its job still runs"), "see `site-agent attempt resolve`"),
    ],
)
def test_what_waits_for_a_person(site: Path, view: SiteView, words: str) -> None:
    show(site, view)
    assert any(words in text for text in attention(look(site)))


def test_what_goes_away_by_itself_waits_for_nobody(site: Path) -> None:
    show(site, with_job(hindrance=hindrance_of("PartitionDown")))
    assert waiting(site) == []
    show(site, with_job(state="ended", reason="non-finite", sentence="NaN", failures=1))
    assert waiting(site) == []


# --- the terminal -----------------------------------------------------------------------------------------------------


def test_hostile_words_reach_no_terminal(site: Path) -> None:
    verdict = VerdictView(round=1, state="open", verdict="rejected", reason="late", sentence=HOSTILE)
    job = AllocationView(
        allocation="a3", state="queued", remark=HOSTILE, sentence=HOSTILE, reason="no-space", failures=1
    )
    item = replace(ITEM, sentence=HOSTILE, no_start=HOSTILE, allocation=job, verdicts=(verdict,))
    show(site, replace(VIEW, fault=HOSTILE, runs=(item,)))
    found = look(site)
    for line in (*status_lines(found), *attention(found)):
        assert line.isprintable()
        assert len(line) < 700
    for width, height in ((80, 24), (80, None), (200, 60), (40, 10)):
        lines = [line.plain for line in draw(Watched(found), width, height)]
        assert all(cell_len(line) <= width and line.isprintable() for line in lines)
        assert height is None or len(lines) <= height
    plain = CliRunner().invoke(cli, ["status", str(site)])
    assert plain.exit_code == 0
    assert all(c.isprintable() or c == "\n" for c in plain.output)


def test_what_waits_comes_first_and_what_is_cut_is_told(site: Path) -> None:
    show(site, replace(VIEW, silent=True))
    lines = [line.plain for line in draw(Watched(look(site)), 80, 9)]
    assert lines[0] == "! the coordinator is silent: nothing new starts; see the courier"
    assert lines[3:5] == ["", "site alpha: 3 leaves, coordinator last heard 2026-09-21 14:13 UTC"]
    assert lines[-1].endswith("more lines: `site-agent status`")


# --- watching ---------------------------------------------------------------------------------------------------------


class Enough(Exception):
    """The test has seen what it wanted."""


def watched(site: Path, steps: list[Callable[[], None]], as_json: bool) -> None:
    """Watches the directory; between two looks it does the next step, after the last one it ends."""
    reader, left = StatusReader(site), list(steps)

    def rest() -> None:
        if not left:
            raise Enough
        left.pop(0)()

    with pytest.raises(Enough):
        watch_status(reader.look, rest, as_json)


def nothing() -> None:
    """No step."""


def test_documents_only_when_something_changed(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    later = replace(VIEW, heard_at_us=VIEW.heard_at_us + 60_000_000)
    steps = [nothing, lambda: show(site, later), lambda: show(site, replace(later, silent=True)), nothing]
    watched(site, steps, as_json=True)
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [document["silent"] for document in documents] == [False, True]
    new = [text for text in documents[1]["attention"] if text not in documents[0]["attention"]]
    assert new == ["the coordinator is silent: nothing new starts; see the courier"]


def test_without_a_terminal_new_lines_only(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watched(site, [nothing, lambda: show(site, with_job(state="draining"))], as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert "site alpha: 3 leaves, coordinator last heard 2026-09-21 14:13 UTC" in lines
    assert [line for line in lines if "job a3" in line] == [
        "  run-1  running  1/3 rounds  accepted: by policy  job a3 ready",
        "  run-1  running  1/3 rounds  accepted: by policy  job a3 draining",
    ]
    assert sum(line.startswith("site alpha") for line in lines) == 1


def test_a_file_that_cannot_be_read_now_ends_nothing(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = json.dumps(json.loads((site / layout.VIEW).read_text()))
    steps: list[Callable[[], None]] = [
        lambda: (site / layout.VIEW).write_text("half a fi") and None,
        nothing,
        lambda: (site / layout.VIEW).write_text(good) and None,
    ]
    watched(site, steps, as_json=True)
    found = capsys.readouterr()
    assert len(found.out.splitlines()) == 1
    first, second = found.err.splitlines()
    assert "expected JSON" in first
    assert second == "it can be read again"


def test_the_picture_says_that_it_is_old(site: Path) -> None:
    shown = Watched(look(site))

    def fails(now: float) -> Status:
        raise StorageUnavailableError("stale file handle")

    shown.look(fails)
    assert draw(shown, 80, 24)[0].plain == "CANNOT BE READ for 0 seconds: stale file handle"


def test_a_directory_without_an_agent_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    new = NewSite(site="beta", profile="localhost", data_dir=str(tmp_path / "data"), languages=("en",), policy="accept")
    init_site(tmp_path / "beta", new)
    result = CliRunner().invoke(cli, ["status", str(tmp_path / "beta"), "--watch", "--every", "0.1"])
    assert isinstance(result.exception, UsageError)
