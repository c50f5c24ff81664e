# SPDX-License-Identifier: Apache-2.0
"""`site-agent policy check` and `site-agent budget` beside an agent that has seen a run, and before there is one."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from one_site import CONSORTIUM, RUN, SITE, START, TRAINER, OneSite, small_manifest

from federation import wire
from federation.durable.api import FileSystem
from federation.durable.real import RealFileSystem
from federation.errors import FederationError
from federation.leaves import Reason
from federation.messages import ManifestAnswer
from federation.roster import peek_roster, root_fingerprint
from federation.testing.rosters import MemoryConsortium
from site_agent import answers, layout
from site_agent.budget import JobSize
from site_agent.cli.budget import budget
from site_agent.cli.policy import policy
from site_agent.cli.status import status
from site_agent.entries import AllocationAccounted
from site_agent.launcher.api import JobPresence, Launcher
from site_agent.manifests import ManifestJudge
from site_agent.policy import PerDay, Policy
from site_agent.policy_file import OperatorsSection
from site_agent.policy_hours import HoursSection
from site_agent.policy_watch import PolicyWatch
from site_agent.site_config import SITE_FILE, load_site_config
from site_agent.site_text import site_config_text
from site_agent.views import read_view

POLICY = f"""\
runs = ["{RUN}"]
[operators]
creators = ["olga", "zoe"]
[trainers]
reference = "{TRAINER}"
[per_day]
gpu_hours = 96
bytes = 1000000
[per_run]
gpu_hours = 200
[hours]
windows = ["20:00-06:00"]
time_zone = "Europe/Helsinki"
"""


class SilentLauncher(Launcher):
    """Takes every job, which then does nothing."""

    def submit(self, allocation_dir: Path, name: str, fencing: int, begin_after_seconds: int = 0) -> str:
        return f"job-{fencing}"

    is_cancelled = False

    def query(self, handle: str) -> JobPresence:
        return JobPresence.ENDED if self.is_cancelled else JobPresence.RUNNING

    def cancel(self, handle: str, *, force: bool = False) -> None:
        self.is_cancelled = True

    def find(self, allocation_dir: Path, name: str) -> str | None:
        return None


def call(command: click.Command, *arguments: object) -> str:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, FederationError | SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.exception
    return result.output


def pin(fs: FileSystem, consortium: MemoryConsortium) -> None:
    """Installs the consortium's roster, as `roster install` does."""
    document = consortium.document(consortium.roster(now_us=int(START * 1e6)))
    fs.write(layout.roster_path(1), document)
    fs.write(layout.ROOT_FILE, root_fingerprint(peek_roster(document)).encode())


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site's directory whose files the operator has written, one minute after its agent began."""
    (tmp_path / SITE / "data").mkdir(parents=True)
    path = tmp_path / SITE
    text = site_config_text(site=SITE, profile="leonardo", data_dir="data", languages=["it"])
    text = text.replace("num_gpus = 0", "num_gpus = 4").replace("seconds_limit = 0", "seconds_limit = 7200")
    (path / SITE_FILE).write_text(text)
    (path / "policy.toml").write_text(POLICY)
    monkeypatch.setattr("time.time_ns", lambda: int((START + 60) * 1e9))
    monkeypatch.setattr("one_site.ManifestJudge", partial(ManifestJudge, job=JobSize(num_gpus=4, seconds_limit=7200)))
    monkeypatch.setattr("site_agent.site_policy.trainer_digests", lambda trainers: {"reference": TRAINER})
    return path


@pytest.fixture
def world(directory: Path) -> OneSite:
    """Its agent has accepted a run and started a job of it."""
    coordinator_fs = RealFileSystem(directory.parent / "coordinator")
    found = OneSite(coordinator_fs, RealFileSystem(directory), directory, SilentLauncher())
    pin(found.fs, found.consortium)
    found.coordinator.create(small_manifest())
    found.coordinator.start()
    found.until(lambda: found.agent.state.live_allocation(RUN))
    return found


def test_the_check_says_what_the_policy_comes_to(world: OneSite, directory: Path) -> None:
    text = call(policy, "check", directory)
    assert "  accepts runs run-1\n  declines every other run\n" in text
    assert "  only runs created by olga, zoe\n" in text
    assert "  hours 20:00-06:00 (Europe/Helsinki), now wed 00:14: open until wed 06:00; " in text
    assert "  within 24 hours: 96 GPU-hours (768 core-hours of the centre), 1000000 bytes\n" in text
    assert "  WARNING: operators.creators: expected an operator of roster version 1, found zoe\n" in text
    assert f"run {RUN}: accept: policy.toml lists run {RUN}; the policy lets a job start now" in text


@pytest.mark.parametrize(
    ("say", "line"),
    [
        (answers.accept, "accept: the site's operator accepted this manifest; the policy lets a job start now"),
        (answers.refuse, "decline (policy): the site's operator refused it"),
    ],
)
def test_the_check_knows_what_the_operator_has_said(
    world: OneSite, directory: Path, say: Callable[[FileSystem, str], object], line: str
) -> None:
    (directory / "policy.toml").write_text(POLICY.replace(f'runs = ["{RUN}"]\n', 'unlisted = "ask"\n'))
    assert f"run {RUN}: ask: " in call(policy, "check", directory)
    say(world.fs, RUN)
    assert f"run {RUN}: {line}" in call(policy, "check", directory)


def test_the_check_follows_the_file_and_not_the_agent(world: OneSite, directory: Path) -> None:
    changed = POLICY.replace("20:00-06:00", "08:00-09:00").replace('"olga", ', "")
    (directory / "policy.toml").write_text(changed)
    (found,) = json.loads(call(policy, "check", directory, "--json"))["runs"]
    assert (found["answer"], found["reason"]) == ("decline", "policy")
    assert found["sentence"] == "expected a run created by zoe, found one by olga"
    assert found["start"].startswith("expected a time within 08:00-09:00 (Europe/Helsinki), found wed 00:14")


def test_commands_change_nothing_beside_a_running_agent(world: OneSite, directory: Path) -> None:
    def files() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}

    before = files()
    call(policy, "check", directory)
    call(budget, directory)
    assert files() == before


def facts(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call(budget, directory, "--json"))
    return found


def test_the_budget_counts_in_gpu_hours_and_in_the_centres_unit(world: OneSite, directory: Path) -> None:
    found = facts(directory)
    (run,) = found["runs"]
    assert (run["committed"], run["committed_native"]) == (8.0, 64.0)
    assert (found["last_24_hours"], found["last_24_hours_native"]) == (8.0, 64.0)
    assert found["unit"]["name"] == "core-hours"


def test_metrics_and_accounts_find_their_way_into_the_table(world: OneSite, directory: Path) -> None:
    at_us = int((START + 30) * 1e6)
    world.agent.journal.append([AllocationAccounted(run=RUN, number=1, elapsed_seconds=3600, num_gpus=4, at_us=at_us)])
    step = {"round": 0, "step": 1, "seconds": 900, "fencing": 1}
    path = directory / layout.run_paths(RUN).metrics
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(step) + "\nnot json\n[1]\n" + json.dumps(step)[:-4])
    (run,) = facts(directory)["runs"]
    assert (run["spent"], run["committed"], run["open"]) == (4.0, 8.0, 1.0)
    text = call(budget, directory)
    (row,) = (line for line in text.splitlines() if line.startswith(f"{RUN} "))
    assert row.split()[1:4] == ["4.00", "/", "32.00"]
    assert "at most 200 GPU-hours in all" in text


def test_the_status_says_why_jobs_end_and_why_none_starts(world: OneSite, directory: Path) -> None:
    """12 hours later the site's hours are over; this policy drains."""
    assert "no job starts" not in call(status, directory)
    judge = world.agent.observer._judge
    hours = HoursSection(windows=("20:00-06:00",), time_zone="Europe/Helsinki", drain=True)
    policies = {
        True: judge.policy.model_copy(update={"hours": hours}),
        False: judge.policy.model_copy(update={"hours": hours.model_copy(update={"drain": False})}),
    }
    world.now += 12 * 3600
    for drain, words in (
        (False, "no job starts now: expected a time within"),
        (True, "jobs are told to end: the site"),
    ):
        world.agent.observer._judge = replace(judge, policy=policies[drain])
        world.step()
        assert words in call(status, directory)
    live = world.agent.state.live_allocation(RUN)
    assert live is not None
    assert live.stop is not None
    assert live.stop.reason == "hours"


@pytest.mark.parametrize(("approver", "expected"), [("olga", True), ("zoe", False)])
def test_the_answer_follows_the_ledgers_approvals(directory: Path, approver: str, expected: bool) -> None:
    """While the run is a draft nothing is said; its approval makes the agent judge the manifest anew."""
    mine = Policy(unlisted="accept", trainers={"reference": TRAINER}, operators=OperatorsSection(approvers=(approver,)))
    coordinator_fs = RealFileSystem(directory.parent / "coordinator")
    found = OneSite(coordinator_fs, RealFileSystem(directory), directory, SilentLauncher(), policy=mine)
    found.coordinator.create(small_manifest())
    found.until(lambda: (view := read_view(found.fs)) and view.runs and view.runs[0].policy == "ask")
    assert RUN not in found.agent.state.answers
    found.coordinator.start()
    found.until(lambda: RUN in found.agent.state.answers)
    answer = found.agent.state.answers[RUN]
    assert answer.accepted is expected
    assert expected or answer.sentence == "expected the approval of zoe, found that of olga"


def test_a_changed_policy_is_in_force_at_the_next_pass_and_a_wrong_one_never(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = load_site_config(directory)
    watch = PolicyWatch(directory, config, CONSORTIUM)
    assert watch.changed() is None
    (directory / "policy.toml").write_text(POLICY + "x = 1\n")
    assert watch.changed() is None
    assert "the policy of before stays in force: policy.toml: hours.x: " in caplog.text
    (directory / "policy.toml").write_text('unlisted = "accept"\n')
    judge = watch.changed()
    assert judge is not None
    assert judge.policy.unlisted == "accept"
    assert watch.changed() is None


def test_an_agent_that_serves_follows_its_policy(world: OneSite) -> None:
    """A run that is refused from now on: its job is told to end, and the coordinator hears why."""
    judge = world.agent.observer._judge
    refusing = replace(judge, policy=judge.policy.model_copy(update={"refused_runs": (RUN,)}))
    judges = iter((refusing,))
    world.agent._new_judge = lambda: next(judges, None)
    answers = world.until(lambda: [a for a in world.coordinator.of(ManifestAnswer) if not a.accepted])
    assert answers[0].reason is Reason.POLICY
    live = world.agent.state.live_allocation(RUN)
    assert live is not None
    assert live.stop is not None
    assert live.stop.reason == "refused"


def test_a_job_of_a_run_that_is_declined_now_is_still_watched_and_cancelled(world: OneSite) -> None:
    """It takes no notice of the order to end, so after the grace time it is cancelled, and its end is seen."""
    judge = world.agent.observer._judge
    judges = iter((replace(judge, trainers={"reference": "ef" * 32}),))
    world.agent._new_judge = lambda: next(judges, None)
    world.until(lambda: world.agent.state.allocations[RUN][-1].stop)
    world.now += 2 * world.agent.settings.stop_grace_seconds
    world.until(lambda: world.agent.state.live_allocation(RUN) is None)
    assert world.agent.state.allocations[RUN][-1].end is not None


def test_room_for_updates_is_needed_before_the_first_one(world: OneSite) -> None:
    """16 parameters as fp32 are 64 bytes, one round at a time."""
    judge, state = world.agent.observer._judge, world.agent.state
    run = world.agent.federation.runs[RUN]
    seen = judge.judge(run, wire.manifest_to_bytes(small_manifest()))
    assert seen.bytes_in_flight == 64
    for allowed, may in ((64, True), (63, False)):
        policy = Policy(per_day=PerDay(bytes=allowed, gpu_hours=1e6))
        today = replace(judge, policy=policy).today(seen, state, int(world.now * 1e6))
        assert (not today.shortage, not today.stop) == (may, may)


def test_before_there_is_a_run(directory: Path) -> None:
    pin(RealFileSystem(directory), MemoryConsortium(name=CONSORTIUM, sites=(SITE,)))
    assert call(policy, "check", directory).endswith("No run names this site yet.\n")
    assert call(budget, directory).endswith("No job of any run was started here yet.\n")
