# SPDX-License-Identifier: Apache-2.0
"""The site's policy: deny by default, checks in a fixed order, every answer with its reason and a sentence."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from federation.errors import ConfigError
from federation.leaves import Reason
from federation.manifest import FragmentTable, Manifest, TableEntry
from federation.run_config import build_manifest, parse_run_config
from site_agent.observations import Answer
from site_agent.policy import (
    POLICY_FILE,
    Origin,
    PerDay,
    PerRun,
    Policy,
    PolicyAnswer,
    StartFigures,
    decide_manifest,
    load_policy,
    may_start,
    must_stop,
    policy_text,
)
from site_agent.policy_file import OperatorsSection
from site_agent.policy_hours import HoursSection, MaintenanceSection

RUN = """\
[run]
id = "tiny"
consortium = "test"
num_rounds = 10
[model]
hidden_size = 16
intermediate_size = 32
num_layers = 2
num_heads = 2
[trainer]
batch_size = 2
sequence_length = 8
[[sites]]
id = "lumi"
[[sites]]
id = "leonardo"
"""

TABLE = FragmentTable(num_elements=3, entries=(TableEntry(name="w", shape=(3,), offset=0),))
MANIFEST = build_manifest(parse_run_config(RUN), "0" * 64, (TABLE,), (), ("1" * 64,))
DIGEST = "d" * 64
SOURCE = "5" * 64
ASK = Policy(unlisted="ask", trainers={"reference": SOURCE})


def decide(
    policy: Policy = ASK,
    manifest: Manifest = MANIFEST,
    *,
    site: str = "lumi",
    consortium: str = "test",
    trainers: dict[str, str] | None = None,
) -> PolicyAnswer:
    installed = {"reference": SOURCE} if trainers is None else trainers
    return decide_manifest(policy, manifest, DIGEST, site=site, consortium=consortium, trainers=installed)


def test_an_empty_policy_declines_everything() -> None:
    answer = decide(Policy())
    assert (answer.answer, answer.reason) == (Answer.DECLINE, Reason.UNKNOWN_TRAINER)
    allowed = decide(Policy(trainers={"reference": SOURCE}))
    assert (allowed.answer, allowed.reason) == (Answer.DECLINE, Reason.POLICY)
    assert may_start(Policy(), StartFigures(job_bytes=1), NOW).answer is Answer.DECLINE
    assert may_start(Policy(), StartFigures(job_gpu_hours=0.1), NOW).answer is Answer.DECLINE


@pytest.mark.parametrize(
    ("unlisted", "expected"), [("ask", Answer.ASK), ("accept", Answer.ACCEPT), ("decline", Answer.DECLINE)]
)
def test_what_is_not_listed(unlisted: str, expected: Answer) -> None:
    answer = decide(ASK.model_copy(update={"unlisted": unlisted}))
    assert answer.answer is expected
    assert answer.sentence.startswith("policy.toml does not list manifest dddddddddddd")


def test_a_listed_manifest_is_accepted() -> None:
    answer = decide(ASK.model_copy(update={"manifests": (DIGEST,), "unlisted": "decline"}))
    assert (answer.answer, answer.reason) == (Answer.ACCEPT, Reason.NONE)


def test_a_refused_manifest_stays_refused_even_if_listed() -> None:
    policy = ASK.model_copy(update={"manifests": (DIGEST,), "refused_manifests": (DIGEST,), "unlisted": "accept"})
    assert decide(policy).answer is Answer.DECLINE


ACCEPT_ALL = ASK.model_copy(update={"manifests": (DIGEST,), "unlisted": "accept"})


def test_no_list_lets_a_broken_manifest_through() -> None:
    hostile = replace(MANIFEST, plan=replace(MANIFEST.plan, num_inner_steps=10**9, num_rounds=0))
    answer = decide(ACCEPT_ALL, hostile)
    assert (answer.answer, answer.reason) == (Answer.DECLINE, Reason.MANIFEST_INVALID)
    assert answer.sentence == "manifest: run.num_rounds: expected 1 to 1000000, found 0 (and 1 more)"


def test_a_manifest_of_another_consortium_or_without_us() -> None:
    assert decide(ACCEPT_ALL, consortium="other").sentence == "expected a run of consortium other, found test"
    answer = decide(ACCEPT_ALL, site="mn5")
    assert answer.sentence == "expected mn5 among the run's sites, found leonardo, lumi"
    assert (answer.answer, answer.reason) == (Answer.DECLINE, Reason.POLICY)


@pytest.mark.parametrize(
    ("allowed", "installed", "sentence"),
    [
        ({"reference": SOURCE}, {}, "expected a trainer of site.toml (none), found reference"),
        ({"reference": SOURCE}, {"megatron": SOURCE}, "expected a trainer of site.toml (megatron), found reference"),
        ({}, {"reference": SOURCE}, "expected trainer reference in policy.toml, found no digest for it"),
        (
            {"reference": SOURCE},
            {"reference": "6" * 64},
            "expected trainer reference with digest 555555555555, found 666666666666 installed",
        ),
    ],
)
def test_trainers_run_only_as_allowed(allowed: dict[str, str], installed: dict[str, str], sentence: str) -> None:
    answer = decide(ACCEPT_ALL.model_copy(update={"trainers": allowed}), trainers=installed)
    assert (answer.answer, answer.reason, answer.sentence) == (Answer.DECLINE, Reason.UNKNOWN_TRAINER, sentence)


LATER = replace(MANIFEST, trainer=replace(MANIFEST.trainer, data_sets=("hplt", "wikipedia")))
WITH_DATA = ACCEPT_ALL.model_copy(update={"data_sets": ("hplt", "wikipedia", "elsewhere")})


def decide_data(policy: Policy, manifest: Manifest, *here: str) -> PolicyAnswer:
    return decide_manifest(
        policy, manifest, DIGEST, site="lumi", consortium="test", trainers={"reference": SOURCE}, data_sets=here
    )


def test_a_run_trains_on_the_data_sets_that_it_names() -> None:
    answer = decide_data(WITH_DATA, LATER, "hplt", "secret", "wikipedia")
    assert (answer.answer, answer.data_sets) == (Answer.ACCEPT, ("hplt", "wikipedia"))


def test_a_run_that_names_none_gets_what_the_policy_allows_and_the_site_has() -> None:
    assert decide_data(WITH_DATA, MANIFEST, "hplt", "secret").data_sets == ("hplt",)
    assert decide_data(ACCEPT_ALL, MANIFEST).answer is Answer.ACCEPT  # a site without names: data_dir is all it has


@pytest.mark.parametrize(
    ("allowed", "manifest", "here", "sentence"),
    [
        (("hplt",), LATER, ("hplt", "wikipedia"), "expected a data set of policy.toml (hplt), found wikipedia"),
        (("hplt", "wikipedia"), LATER, ("hplt",), "expected a data set of site.toml (hplt), found wikipedia"),
        ((), LATER, (), "expected a data set of site.toml (none), found hplt"),
        ((), MANIFEST, ("hplt",), "expected one of site.toml's data sets (hplt) in policy.toml, found none of them"),
    ],
)
def test_data_sets_are_used_only_as_allowed(
    allowed: tuple[str, ...], manifest: Manifest, here: tuple[str, ...], sentence: str
) -> None:
    answer = decide_data(ACCEPT_ALL.model_copy(update={"data_sets": allowed}), manifest, *here)
    assert (answer.answer, answer.reason, answer.sentence) == (Answer.DECLINE, Reason.POLICY, sentence)


def test_runs_are_listed_and_refused_by_id() -> None:
    listed = ASK.model_copy(update={"runs": ("tiny",), "unlisted": "decline"})
    assert decide(listed).answer is Answer.ACCEPT
    assert decide(listed, replace(MANIFEST, run="tiny-2")).answer is Answer.DECLINE
    refused = ACCEPT_ALL.model_copy(update={"refused_runs": ("tiny",)})
    assert decide(refused).sentence == "policy.toml refuses run tiny"


def decide_origin(origin: Origin, *, creators: tuple[str, ...] = (), approvers: tuple[str, ...] = ()) -> PolicyAnswer:
    operators = OperatorsSection(creators=creators, approvers=approvers)
    return decide_manifest(
        ACCEPT_ALL.model_copy(update={"operators": operators}),
        MANIFEST,
        DIGEST,
        site="lumi",
        consortium="test",
        trainers={"reference": SOURCE},
        origin=origin,
    )


def test_only_runs_of_listed_operators() -> None:
    assert decide_origin(Origin(created_by="olga"), creators=("olga",)).answer is Answer.ACCEPT
    answer = decide_origin(Origin(created_by="eve"), creators=("olga", "piet"))
    assert answer.sentence == "expected a run created by olga, piet, found one by eve"
    assert decide_origin(Origin(), creators=("olga",)).sentence.endswith("found one by nobody known")


def test_an_approval_is_waited_for_while_the_run_is_a_draft() -> None:
    draft = Origin(created_by="eve", approved_by=("eve",), is_draft=True)
    waiting = decide_origin(draft, approvers=("olga",))
    assert (waiting.answer, waiting.reason) == (Answer.ASK, Reason.POLICY)
    assert waiting.sentence == "expected the approval of olga, found that of eve; the run is still a draft"
    assert decide_origin(replace(draft, is_draft=False), approvers=("olga",)).answer is Answer.DECLINE
    assert decide_origin(replace(draft, approved_by=("eve", "olga")), approvers=("olga",)).answer is Answer.ACCEPT


# --- starting and stopping --------------------------------------------------------------------------------------------

NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
BUDGET = Policy(per_day=PerDay(gpu_hours=8.0, bytes=1000))


@pytest.mark.parametrize(
    ("hours", "size", "expected"),
    [
        ((0, 0), (0, 0), Answer.ACCEPT),
        ((4, 4), (500, 500), Answer.ACCEPT),
        ((4, 4.5), (0, 0), Answer.DECLINE),
        ((0, 0), (1000, 1), Answer.DECLINE),
        ((float("nan"), 0), (0, 0), Answer.DECLINE),
    ],
)
def test_a_days_budget(hours: tuple[float, float], size: tuple[int, int], expected: Answer) -> None:
    figures = StartFigures(day_gpu_hours=hours[0], job_gpu_hours=hours[1], day_bytes=size[0], job_bytes=size[1])
    answer = may_start(BUDGET, figures, NOW)
    assert answer.answer is expected
    assert answer.reason is (Reason.NONE if expected is Answer.ACCEPT else Reason.BUDGET)


def test_the_budgets_sentence_has_the_arithmetic() -> None:
    answer = may_start(BUDGET, StartFigures(day_gpu_hours=6, job_gpu_hours=4), NOW)
    assert answer.sentence == "expected at most 8 GPU-hours within 24 hours, found 6 spent and 4 wanted"


def test_a_run_has_its_own_budget_in_gpu_hours_and_in_the_centres_unit() -> None:
    figures = StartFigures(run_gpu_hours=10, job_gpu_hours=4, unit="core-hours", units_per_gpu_hour=8.0)
    roomy = PerDay(gpu_hours=1000.0)
    by_hours = Policy(per_day=roomy, per_run=PerRun(gpu_hours=13.0))
    assert may_start(by_hours, figures, NOW).sentence == (
        "expected at most 13 GPU-hours for this run, found 10 spent and 4 wanted"
    )
    by_units = Policy(per_day=roomy, per_run=PerRun(native_units=111.0))
    assert may_start(by_units, figures, NOW).sentence == (
        "expected at most 111 core-hours for this run, found 80 spent and 32 wanted"
    )
    assert may_start(Policy(per_day=roomy, per_run=PerRun(native_units=112.0)), figures, NOW).answer is Answer.ACCEPT
    unpriced = may_start(by_units, replace(figures, units_per_gpu_hour=None), NOW)
    assert (unpriced.answer, unpriced.reason) == (Answer.DECLINE, Reason.BUDGET)


NIGHTS = HoursSection(windows=("mon-fri 20:00-06:00",), time_zone="Europe/Helsinki")
COOLING = MaintenanceSection(begins_at=NOW + timedelta(hours=4), ends_at=NOW + timedelta(hours=8), note="cooling")


def test_no_job_starts_outside_the_sites_hours() -> None:
    policy = BUDGET.model_copy(update={"hours": NIGHTS})
    answer = may_start(policy, StartFigures(), NOW)
    assert (answer.answer, answer.reason) == (Answer.DECLINE, Reason.POLICY)
    assert answer.sentence == "expected a time within mon-fri 20:00-06:00 (Europe/Helsinki), found mon 14:00"
    assert may_start(policy, StartFigures(), NOW + timedelta(hours=6)).answer is Answer.ACCEPT


def test_no_job_reaches_into_maintenance() -> None:
    policy = BUDGET.model_copy(update={"maintenance": (COOLING,)})
    assert may_start(policy, StartFigures(wall_seconds=4 * 3600), NOW).answer is Answer.ACCEPT
    answer = may_start(policy, StartFigures(wall_seconds=4 * 3600 + 1), NOW)
    assert (answer.answer, answer.reason) == (Answer.DECLINE, Reason.POLICY)
    assert answer.sentence == (
        "expected a job's whole wall time before or after maintenance, "
        "found maintenance from 2027-03-01 16:00 to 2027-03-01 20:00 UTC (cooling)"
    )
    assert may_start(policy, StartFigures(), NOW).answer is Answer.DECLINE  # no wall time: as long as a day
    assert may_start(policy, StartFigures(), NOW + timedelta(hours=8)).answer is Answer.ACCEPT


def test_running_jobs_are_stopped_before_maintenance() -> None:
    policy = BUDGET.model_copy(update={"maintenance": (COOLING,)})
    before = NOW + timedelta(hours=4, seconds=-600)
    assert must_stop(policy, StartFigures(), before, 600) is None
    stop = must_stop(policy, StartFigures(), before + timedelta(seconds=1), 600)
    assert stop is not None
    assert (stop.word, stop.sentence) == ("maintenance", COOLING.words())
    assert must_stop(policy, StartFigures(), NOW + timedelta(hours=8), 600) is None


def test_running_jobs_end_with_the_hours_only_if_these_drain() -> None:
    assert must_stop(Policy(per_day=PerDay(bytes=1), hours=NIGHTS), StartFigures(), NOW, 600) is None
    draining = Policy(hours=NIGHTS.model_copy(update={"drain": True}))
    stop = must_stop(draining, StartFigures(), NOW, 600)
    assert stop is not None
    assert stop.word == "hours"
    assert must_stop(draining, StartFigures(), NOW + timedelta(hours=6), 600) is None


@pytest.mark.parametrize(
    ("figures", "stops"),
    [
        (StartFigures(day_gpu_hours=100.0, job_gpu_hours=50.0), False),
        (StartFigures(day_gpu_hours=100.0 + 1e-9, job_gpu_hours=50.0), False),
        (StartFigures(day_gpu_hours=100.1), True),
        (StartFigures(run_gpu_hours=300.0), False),
        (StartFigures(run_gpu_hours=300.1), True),
    ],
)
def test_a_running_job_is_stopped_where_live_jobs_may_use_more_than_a_limit(figures: StartFigures, stops: bool) -> None:
    policy = Policy(per_day=PerDay(gpu_hours=100.0, bytes=1), per_run=PerRun(gpu_hours=300.0))
    stop = must_stop(policy, figures, NOW, 600)
    assert (stop is not None and stop.word == "budget") is stops


def test_a_running_job_is_stopped_before_the_days_bytes_are_passed() -> None:
    assert must_stop(BUDGET, StartFigures(day_bytes=500, job_bytes=500), NOW, 600) is None
    stop = must_stop(BUDGET, StartFigures(day_bytes=501, job_bytes=500), NOW, 600)
    assert stop is not None
    assert stop.word == "budget"


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_new_file_is_read_back(tmp_path: Path) -> None:
    (tmp_path / POLICY_FILE).write_text(policy_text("ask", {"reference": SOURCE}))
    policy = load_policy(tmp_path)
    assert policy.unlisted == "ask"
    assert policy.trainers == {"reference": SOURCE}
    assert policy.per_day.gpu_hours == 24.0
    assert decide(policy).answer is Answer.ASK


def test_a_missing_policy_is_no_permission(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy\.toml: expected a TOML file, found nothing"):
        load_policy(tmp_path)


def test_an_unknown_word_for_a_new_policy() -> None:
    with pytest.raises(ConfigError, match='policy: expected decline, ask or accept, found "yes"'):
        policy_text("yes", {})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('unlisted = "yes"', "policy.toml: unlisted: expected 'decline', 'ask' or 'accept', found \"yes\" (line 1)"),
        ('manifests = ["x"]', "policy.toml: manifests[1]: expected a SHA-256 digest in 64 lower-case hexadecimal"),
        ("[per_day]\ngpu_hours = -1", "policy.toml: per_day.gpu_hours: expected at least 0.0, found -1"),
        ("[per_day]\ngpu_hour = 1", "did you mean gpu_hours?"),
        ('[trainers]\nreference = "y"', "policy.toml: trainers.reference: expected a SHA-256 digest in 64"),
        ("allow_all = true", "policy.toml: allow_all: expected one of the keys runs, "),
        ("[hours]\nwindows = ['20-6']", "policy.toml: hours.windows[1]: expected times such as"),
        ("[hours]\nwindows = ['foo 20:00-06:00']", "with days from mon, tue, wed, thu, fri, sat, sun"),
        ("[hours]\nwindows = ['24:00-06:00']", "with an end that differs from the begin"),
        ("[hours]\ntime_zone = 'Europe/Atlantis'", "expected a time zone that this machine knows"),
        ("[hours]\ntime_zone = '../../etc/passwd'", "expected a time zone that this machine knows"),
        (
            "[[maintenance]]\nbegins_at = 2027-03-01T06:00:00",
            "maintenance[1].begins_at: expected a time with its offset",
        ),
        (
            "[[maintenance]]\nbegins_at = 2027-03-01T06:00:00Z\nends_at = 2027-03-01T07:00:00+02:00",
            "maintenance[1].ends_at: expected a time after begins_at, 2027-03-01T06:00:00+00:00, "
            "found 2027-03-01T07:00:00+02:00 (line 3)",
        ),
    ],
)
def test_a_policy_with_a_mistake_is_no_policy(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / POLICY_FILE).write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_policy(tmp_path)
    assert sentence in str(caught.value)


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / POLICY_FILE).write_text(
        'unlisted = "yes"\nruns = ["Upper"]\n[hours]\nwindows = ["x"]\n[per_run]\ngpu_hours = -1\n'
        "[[maintenance]]\nbegins_at = 2027-03-01T06:00:00Z\nends_at = 2027-03-01T06:00:00Z\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_policy(tmp_path)
    keys = [line.split(": ")[1] for line in str(caught.value).splitlines()]
    assert keys == ["runs[1]", "unlisted", "per_run.gpu_hours", "hours.windows[1]", "maintenance[1].ends_at"]
    assert "site-agent policy check" in caught.value.diagnostics()
