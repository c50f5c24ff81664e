# SPDX-License-Identifier: Apache-2.0
"""Each condition begins where it should, and does not where it should not."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli_words import split
from decider_world import BOUNDS, SITES, World
from notice_world import committed_rounds, found, leaf, loss_report, report, snapshot

from coordinator import notices
from coordinator.cli.main import cli as coordinator_cli
from coordinator.inputs import DeclineReceived
from coordinator.notices.conditions import MAX_NOTICES, conditions, judge
from coordinator.notices.notice import Kind, Notice, Severity, key_of
from coordinator.notices.participation import _ADVICE, _KINDS
from coordinator.notices.run_conditions import expected_round_seconds, round_pace
from coordinator.notices.site_facts import budgets
from coordinator.notices.snapshot import CoordinatorSeen, LossHistory
from coordinator.notices.thresholds import DEFAULTS
from federation import leaves as lv
from federation.directory_lock import STALE_SECONDS
from federation.leaves import Outcome, Reason
from federation.messages import CommandKind, RoundDeclined, SiteStatus

SOURCES = Path(notices.__path__[0])
DAY = 86_400.0
CALM = {"num_rounds": 40}


def one(world: World, kind: Kind, **changes: Any) -> Notice:
    (notice,) = found(world, kind, **changes)
    return notice


def test_a_run_that_goes_well_is_not_worth_a_word() -> None:
    world = World(**CALM)
    committed_rounds(world, 4, 20.0)
    assert conditions(snapshot(world), world.now) == ()


# -- rounds ------------------------------------------------------------------------------------------------------------


def test_a_round_stalls_after_its_bounds_where_there_is_no_pace_yet() -> None:
    world = World(**CALM)
    world.ready()
    world.tick()
    assert expected_round_seconds(world.run, DEFAULTS) == 130.0  # answer, training, upload
    world.now += 130.0
    assert not found(world, Kind.ROUND_STALLED)
    world.now += 1.0
    notice = one(world, Kind.ROUND_STALLED)
    assert notice.severity is Severity.WARNING
    assert "round 0" in notice.what
    assert "alpha (no word), beta (no word), gamma (no word)" in notice.why
    assert notice.since == pytest.approx(1130.0)
    world.now = 1000.0 + BOUNDS.max_round_seconds + DEFAULTS.round_overdue_seconds + 1
    assert one(world, Kind.ROUND_STALLED).severity is Severity.CRITICAL


def test_a_round_stalls_by_the_runs_own_pace() -> None:
    long = replace(BOUNDS, training_seconds=50_000, max_round_seconds=90_000)
    world = World(**CALM, bounds=long)
    committed_rounds(world, 5, 1000.0)
    assert round_pace(world.run, DEFAULTS) == [1000.0] * 5
    assert expected_round_seconds(world.run, DEFAULTS) == 3000.0
    world.now += 3001.0
    assert "expected 50 minutes" in one(world, Kind.ROUND_STALLED).why
    few = World(**CALM, bounds=long)
    committed_rounds(few, 2, 400.0)
    assert expected_round_seconds(few.run, DEFAULTS) == 50_030.0
    quick = World(**CALM, bounds=long)
    committed_rounds(quick, 5, 2.0)
    assert expected_round_seconds(quick.run, DEFAULTS) == DEFAULTS.round_floor_seconds


def test_a_sealed_round_that_is_not_committed_says_so() -> None:
    world = World(**CALM)
    world.ready()
    world.tick()
    for site in SITES:
        world.update(site)
    world.tick()
    world.now += 131.0
    assert "the commit is not done" in one(world, Kind.ROUND_STALLED).why


def test_no_round_opens_is_told_after_a_share_of_the_bound() -> None:
    world = World(**CALM)
    report(world, "alpha")
    world.now += 250.0
    assert not found(world, Kind.NO_ROUND_OPENS)
    world.now += 1.0
    notice = one(world, Kind.NO_ROUND_OPENS)
    assert notice.severity is Severity.WARNING
    assert "missing: beta, gamma" in notice.why
    world.now += 550.0
    assert one(world, Kind.NO_ROUND_OPENS).severity is Severity.CRITICAL
    world.ready()
    assert not found(world, Kind.NO_ROUND_OPENS)


def test_hours_in_a_queue_are_normal() -> None:
    world = World(**CALM, bounds=replace(BOUNDS, max_open_wait_seconds=7 * 86_400))
    world.now += DEFAULTS.no_open_seconds
    assert not found(world, Kind.NO_ROUND_OPENS)
    world.now += 1.0
    assert found(world, Kind.NO_ROUND_OPENS)


def test_a_paused_run_names_its_reason() -> None:
    world = World(**CALM)
    world.now += BOUNDS.max_open_wait_seconds + 1
    world.tick()
    notice = one(world, Kind.RUN_PAUSED)
    assert notice.severity is Severity.CRITICAL
    assert "could-not-open" in notice.what
    assert "no round could open" in notice.why
    world.command(CommandKind.RUN_RESUME)
    assert not found(world, Kind.RUN_PAUSED)
    world.command(CommandKind.RUN_PAUSE)
    assert one(world, Kind.RUN_PAUSED).severity is Severity.WARNING


def test_the_end_of_a_run_is_news_for_a_day() -> None:
    for kind, words in ((Kind.RUN_COMPLETED, "completed"), (Kind.RUN_ABORTED, "aborted")):
        world = World(num_rounds=1)
        if kind is Kind.RUN_ABORTED:
            world.command(CommandKind.RUN_ABORT)
        else:
            committed_rounds(world, 1, 10.0)
        assert words in one(world, kind).what
        assert one(world, kind).is_news
        world.now += DEFAULTS.event_seconds + 1
        assert not found(world, kind)


# -- sites that a run needs --------------------------------------------------------------------------------------------


def test_the_quorum_is_at_risk_once_it_is_just_held() -> None:
    world = World(**CALM)
    world.ready()
    world.tick()
    assert not found(world, Kind.QUORUM_AT_RISK)
    world.command(CommandKind.SITE_DRAIN, subject="gamma")
    notice = one(world, Kind.QUORUM_AT_RISK)
    assert notice.severity is Severity.WARNING
    assert "lost gamma" in notice.why
    world.now += DEFAULTS.silent_seconds + 1
    world.report("alpha")
    assert one(world, Kind.QUORUM_AT_RISK).severity is Severity.CRITICAL


def test_a_quorum_of_everybody_is_at_no_risk_while_nobody_is_lost() -> None:
    world = World(**CALM, quorum_sites=3)
    world.ready()
    assert not found(world, Kind.QUORUM_AT_RISK)


def test_one_site_lost_of_many_is_no_risk() -> None:
    world = opened(quorum_sites=1, quorum_token_percent=10)
    world.now += DEFAULTS.silent_seconds + 1
    world.ready("alpha", "beta")
    assert [n.subject_site for n in found(world, Kind.SITE_SILENT)] == ["gamma"]
    assert not found(world, Kind.QUORUM_AT_RISK)


def test_a_missing_cosignature_is_told_near_the_bound_with_names() -> None:
    world = World(**CALM)
    committed_rounds(world, 2, 20.0)
    first, second = world.run.commit_leaves
    behind = {"alpha": 10**6, "beta": second, "gamma": second}
    assert not found(world, Kind.COSIGNATURE_MISSING, witnessed=behind)  # just committed
    world.now += DEFAULTS.cosignature_seconds + 1
    notice = one(world, Kind.COSIGNATURE_MISSING, witnessed=behind)
    assert notice.severity is Severity.WARNING
    assert "none from beta, gamma" in notice.why
    blocked = one(world, Kind.COSIGNATURE_MISSING, witnessed={"alpha": 10**6, "beta": first})
    assert blocked.severity is Severity.CRITICAL
    assert not found(world, Kind.COSIGNATURE_MISSING)
    nobody = one(world, Kind.COSIGNATURE_MISSING, witnessed={})
    assert "none from alpha, beta, gamma" in nobody.why


def test_a_slow_courier_lengthens_what_is_waited_for() -> None:
    world = World(**CALM)
    committed_rounds(world, 1, 20.0)
    report(world, "gamma", measured_round_trip_seconds=7200)
    world.now += DEFAULTS.cosignature_seconds + 1
    assert not found(world, Kind.COSIGNATURE_MISSING, witnessed={})
    world.now += 7200
    assert found(world, Kind.COSIGNATURE_MISSING, witnessed={})


# -- updates, losses, scores -------------------------------------------------------------------------------------------


def opened(**changes: Any) -> World:
    world = World(**(CALM | changes))
    world.ready()
    world.tick()
    return world


def test_a_rejected_update_is_told_with_its_reason() -> None:
    world = opened()
    world.update("alpha", reason=Reason.NON_FINITE, sentence="NaN in chunk 3")
    notice = one(world, Kind.UPDATE_REJECTED)
    assert notice.severity is Severity.WARNING
    assert "alpha: update rejected in round 0 (non-finite)" in notice.what
    assert notice.why == "NaN in chunk 3"
    assert "coordinator site drain alpha" in notice.advice
    assert not found(world, Kind.EQUIVOCATION)


def test_a_declined_round_is_told() -> None:
    world = opened()
    decline = RoundDeclined(run="demo", round=0, reason=Reason.BUDGET, sentence="")
    world.put(DeclineReceived(site="beta", decline=decline))
    notice = one(world, Kind.UPDATE_DECLINED)
    assert "(budget)" in notice.what
    assert "policy.toml" in notice.advice


def test_a_missed_round_is_only_good_to_know() -> None:
    world = opened()
    world.tick(BOUNDS.answer_seconds + 1)
    assert {n.severity for n in found(world, Kind.UPDATE_MISSED)} == {Severity.INFO}
    assert len(found(world, Kind.UPDATE_MISSED)) == 3


def test_two_updates_for_one_round_are_told_at_once() -> None:
    world = opened()
    world.update("alpha")
    world.update("alpha")
    assert not found(world, Kind.EQUIVOCATION)  # the same one again
    world.update("alpha", payload="another")
    notice = one(world, Kind.EQUIVOCATION)
    assert notice.severity is Severity.CRITICAL
    assert "alpha signed two different updates for round 0" in notice.what


def test_a_late_update_after_a_missed_round_is_no_equivocation() -> None:
    world = opened()
    world.tick(BOUNDS.answer_seconds + 1)
    world.update("alpha")
    assert world.run.rounds[0].num_verdict_leaves["alpha"] == 2
    assert not found(world, Kind.EQUIVOCATION)


def test_an_old_rejection_is_no_news() -> None:
    world = opened()
    world.update("alpha", reason=Reason.NON_FINITE, sentence="NaN")
    for site in ("beta", "gamma"):
        world.update(site)
    world.tick()
    world.commit(0)
    for number in range(1, 1 + DEFAULTS.recent_rounds):
        assert found(world, Kind.UPDATE_REJECTED), number
        world.ready()
        world.tick()
        for site in SITES:
            world.update(site, number, payload=f"{site}{number}")
        world.tick()
        world.commit(number)
    assert not found(world, Kind.UPDATE_REJECTED)


def test_a_declined_manifest_is_told() -> None:
    world = World(**CALM)
    answer = lv.SiteAnsweredV1(run="demo", site="beta", manifest_digest="m" * 64, accepted=False, reason=Reason.POLICY)
    leaf(world, answer)
    assert "beta declined the manifest (policy)" in one(world, Kind.MANIFEST_DECLINED).what


def losses_of(world: World, losses: list[float], history: LossHistory | None = None) -> LossHistory:
    history = history or LossHistory()
    for step, loss in enumerate(losses, start=1):
        report(world, "alpha", participations=(loss_report(0, step, loss),))
        history = history.seen(snapshot(world), DEFAULTS.loss_history)
    return history


@pytest.mark.parametrize(
    ("losses", "spikes"),
    [
        ([4.0] * 8 + [5.21], True),
        ([4.0] * 8 + [5.19], False),
        ([4.0] * 7 + [60.0], False),  # too few to tell
        ([4.0] * 8 + [float("nan")], True),
        ([4.0] * 8 + [float("inf")], True),
        ([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], False),
        ([4.0] * 8 + [60.0, 4.0], False),
    ],
)
def test_a_loss_spike_is_measured_against_the_sites_own_losses(losses: list[float], spikes: bool) -> None:
    world = opened()
    history = losses_of(world, losses)
    spiked = found(world, Kind.LOSS_SPIKE, losses=history.values)
    assert bool(spiked) is spikes
    assert all(n.subject_site == "alpha" for n in spiked)


def test_the_history_of_losses_is_bounded_counts_each_once_and_forgets_ended_runs() -> None:
    world = opened()
    history = losses_of(world, [float(i + 1) for i in range(200)])
    assert len(history.values["demo", "alpha"]) == DEFAULTS.loss_history
    assert history.seen(snapshot(world), DEFAULTS.loss_history) == history
    stranger = replace(loss_report(0, 1, 1.0), run="another")
    report(world, "beta", participations=(stranger, loss_report(0, 1, 0.0)))
    assert history.seen(snapshot(world), 64).values["demo", "beta"] == ()
    world.command(CommandKind.RUN_ABORT)
    assert history.seen(snapshot(world), 64) == LossHistory()


def test_with_too_few_losses_a_spike_is_neither_there_nor_over() -> None:
    world = opened()
    key = key_of(Kind.LOSS_SPIKE, "demo", "alpha")
    few, enough = losses_of(world, [4.0] * 8), losses_of(world, [4.0] * 9)
    assert not judge(snapshot(world, losses=few.values), world.now).judged(key)
    assert judge(snapshot(world, losses=enough.values), world.now).judged(key)


def evaluated(world: World, site: str, commits: int, *scores: tuple[str, float, int]) -> None:
    entries = tuple(lv.LanguageScore(language=code, bits_per_byte=bits, num_bytes=size) for code, bits, size in scores)
    body = lv.EvaluationRecordedV1(
        run="demo", site=site, request=0, num_commits=commits, versions=(commits,), scores=entries, evidence_digest="e"
    )
    leaf(world, body)


def test_a_language_that_gets_worse_is_told_in_one_line_for_all_of_a_site() -> None:
    world = opened()
    evaluated(world, "alpha", 0, ("de", 1.0, 100), ("fi", 2.0, 100), ("mt", 3.0, 100))
    assert not found(world, Kind.LANGUAGE_REGRESSION)
    evaluated(world, "alpha", 1, ("de", 1.1, 100), ("fi", 2.03, 100), ("mt", 3.3, 100))
    notice = one(world, Kind.LANGUAGE_REGRESSION)
    assert "2 of 3 languages got worse at alpha" in notice.what
    assert "de 1.000 to 1.100 (+10.0%)" in notice.why
    evaluated(world, "alpha", 2, ("de", 1.0, 100), ("fi", 2.0, 100), ("mt", 3.0, 100))
    assert not found(world, Kind.LANGUAGE_REGRESSION)


@pytest.mark.parametrize(
    "second",
    [
        ("alpha", 1, ("de", 1.1, 99)),  # other bytes
        ("beta", 1, ("de", 1.1, 100)),  # another site
        ("alpha", 1, ("fi", 9.0, 100)),  # another language
        ("alpha", 0, ("de", 1.1, 100)),  # no later model
        ("alpha", 1, ("de", 1.02, 100)),  # as much as is allowed
    ],
)
def test_what_cannot_be_compared_is_no_regression(second: tuple[str, int, tuple[str, float, int]]) -> None:
    world = opened()
    evaluated(world, "alpha", 0, ("de", 1.0, 100))
    evaluated(world, *second)
    assert not found(world, Kind.LANGUAGE_REGRESSION)


def test_a_model_that_was_rolled_back_is_nothing_to_compare_with() -> None:
    world = opened()
    evaluated(world, "alpha", 0, ("de", 1.0, 100))
    evaluated(world, "alpha", 1, ("de", 2.0, 100))
    assert found(world, Kind.LANGUAGE_REGRESSION)
    run = replace(world.run, void=frozenset({0}))
    world.state = replace(world.state, runs={"demo": run})
    assert not found(world, Kind.LANGUAGE_REGRESSION), "the rollback undid what was worse"


def test_the_bound_of_a_regression_can_be_chosen() -> None:
    world = opened()
    evaluated(world, "alpha", 0, ("de", 1.0, 100))
    evaluated(world, "alpha", 1, ("de", 1.03, 100))
    assert found(world, Kind.LANGUAGE_REGRESSION)
    assert not found(world, Kind.LANGUAGE_REGRESSION, replace(DEFAULTS, language_regression_percent=5.0))


# -- sites -------------------------------------------------------------------------------------------------------------


def test_a_silent_site_is_told_after_its_couriers_time() -> None:
    world = opened()
    world.now += DEFAULTS.silent_seconds + 1
    report(world, "alpha")
    report(world, "beta", declared_round_trip_seconds=3600)
    assert [n.subject_site for n in found(world, Kind.SITE_SILENT)] == ["gamma"]
    world.now += DEFAULTS.silent_seconds + 1
    assert [n.subject_site for n in found(world, Kind.SITE_SILENT)] == ["alpha", "gamma"]
    world.now += 7200
    assert len(found(world, Kind.SITE_SILENT)) == 3


def test_a_site_that_was_never_heard_of_is_told_too() -> None:
    world = World(**CALM)
    world.now += DEFAULTS.silent_seconds + 1
    assert [n.what for n in found(world, Kind.SITE_SILENT)] == [f"site {s}: never heard of" for s in SITES]


def test_a_coordinator_that_has_just_come_back_gives_sites_their_time() -> None:
    world = opened()
    world.now += DAY
    back = CoordinatorSeen(quiet_seconds=1.0, since=world.now - 10)
    assert not found(world, Kind.SITE_SILENT, coordinator=back)
    assert found(world, Kind.SITE_SILENT, coordinator=replace(back, since=world.now - DEFAULTS.silent_seconds - 1))


def test_who_takes_part_in_no_run_may_be_silent() -> None:
    world = opened()
    world.command(CommandKind.RUN_ABORT)
    world.now += DAY / 2
    assert not found(world, Kind.SITE_SILENT)


def test_a_drained_and_a_revoked_site_are_told_and_not_missed() -> None:
    world = opened()
    world.command(CommandKind.SITE_DRAIN, subject="alpha")
    world.command(CommandKind.SITE_REVOKE, subject="beta")
    world.now += DEFAULTS.silent_seconds + 1
    assert one(world, Kind.SITE_DRAINED).subject_site == "alpha"
    assert one(world, Kind.SITE_REVOKED).subject_site == "beta"
    assert [n.subject_site for n in found(world, Kind.SITE_SILENT)] == ["gamma"]
    world.command(CommandKind.SITE_RESUME, subject="alpha")
    assert not found(world, Kind.SITE_DRAINED)


def facts_of(world: World, site: str, **facts: Any) -> None:
    """A report with facts, whatever this release's report has of them."""
    report(world, site)
    seen = world.seen.sites[site]
    status = SimpleNamespace(**{name: getattr(seen.status, name) for name in seen.status.__dataclass_fields__})
    status.facts = SimpleNamespace(**({"certificate_not_after_us": 0, "budgets": ()} | facts))
    world.seen = replace(world.seen, sites={**world.seen.sites, site: replace(seen, status=status)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("days", "severity"), [(7.1, None), (6.9, Severity.WARNING), (0.9, Severity.CRITICAL), (-1.0, Severity.CRITICAL)]
)
def test_certificates_are_told_of_before_they_expire(days: float, severity: Severity | None) -> None:
    world = opened()
    world.now += 30 * DAY
    at = int((world.now + days * DAY) * 1e6)
    facts_of(world, "alpha", certificate_not_after_us=at)
    expected = [] if severity is None else [severity]
    assert [n.severity for n in found(world, Kind.SITE_CERTIFICATE)] == expected
    issuer = found(world, Kind.COORDINATOR_CERTIFICATE, coordinator_certificate_not_after_us=at)
    assert [n.severity for n in issuer] == expected


@pytest.mark.parametrize(("days", "severity"), [(30.1, None), (29.9, "warning"), (6.9, "critical"), (-1.0, "critical")])
def test_the_roster_is_told_of_while_its_signers_can_still_be_assembled(days: float, severity: str | None) -> None:
    world = opened()
    world.now += 30 * DAY
    told = found(world, Kind.ROSTER_EXPIRY, roster_expires_at_us=int((world.now + days * DAY) * 1e6))
    assert [n.severity.value for n in told] == ([severity] if severity else [])
    assert not found(world, Kind.ROSTER_EXPIRY)


def budget(**changes: Any) -> SimpleNamespace:
    values = {
        "run": "demo",
        "gpu_hours_effective": 0.0,
        "gpu_hours_discarded": 0.0,
        "gpu_hours_open": 0.0,
        "gpu_hours_idle": 0.0,
        "gpu_hours_limit": 0.0,
        "native_unit": "core-hours",
        "native_spent": 0.0,
        "native_limit": 0.0,
        "forecast_gpu_hours": 0.0,
    }
    return SimpleNamespace(**(values | changes))


@pytest.mark.parametrize(
    ("entry", "severity"),
    [
        (budget(gpu_hours_effective=79.0, gpu_hours_limit=100.0), None),
        (
            budget(
                gpu_hours_effective=70,
                gpu_hours_discarded=5.0,
                gpu_hours_open=3.0,
                gpu_hours_idle=2.0,
                gpu_hours_limit=100.0,
            ),
            "warning",
        ),
        (budget(gpu_hours_effective=100.0, gpu_hours_limit=100.0), "critical"),
        (budget(gpu_hours_effective=100.0), None),  # no limit
        (budget(native_spent=85.0, native_limit=100.0, gpu_hours_limit=1000.0), "warning"),
        (budget(native_unit="", native_spent=85.0, native_limit=100.0), None),
        (budget(run="another", gpu_hours_effective=100.0, gpu_hours_limit=100.0), None),
        (budget(gpu_hours_effective=float("nan"), gpu_hours_limit=float("inf"), native_spent="x"), None),
    ],
)
def test_budgets_are_told_of_at_80_and_at_100_percent(entry: SimpleNamespace, severity: str | None) -> None:
    world = opened()
    facts_of(world, "alpha", budgets=(entry,))
    assert [n.severity.value for n in found(world, Kind.BUDGET)] == ([severity] if severity else [])


def test_a_report_without_facts_says_nothing_of_them() -> None:
    assert list(budgets(SiteStatus(ledger_size=0))) == []


# -- the service -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "away"),
    [
        (None, False),
        (CoordinatorSeen(quiet_seconds=DEFAULTS.away_seconds), False),
        (CoordinatorSeen(quiet_seconds=DEFAULTS.away_seconds + 1), True),
        (CoordinatorSeen(quiet_seconds=0.0, stopped=True), True),
    ],
)
def test_a_coordinator_without_a_sign_of_life_is_away(seen: CoordinatorSeen | None, away: bool) -> None:
    assert bool(found(opened(), Kind.COORDINATOR_AWAY, coordinator=seen)) is away


def test_while_the_coordinator_is_away_nothing_else_is_judged() -> None:
    world = opened()
    world.now += 2 * DAY
    away = snapshot(world, coordinator=CoordinatorSeen(quiet_seconds=2 * DAY), roster_expires_at_us=1)
    findings = judge(away, world.now)
    assert {n.kind for n in findings.notices} == {Kind.COORDINATOR_AWAY, Kind.ROSTER_EXPIRY}
    assert not findings.judged(key_of(Kind.SITE_SILENT, site="alpha"))
    assert findings.judged(key_of(Kind.COORDINATOR_AWAY))


def test_a_broken_ledger_is_told_and_stops_the_judging() -> None:
    world = opened()
    world.now += 2 * DAY
    findings = judge(snapshot(world, ledger_fault="leaf 7: expected CRC 1, found 2"), world.now)
    (notice,) = findings.notices
    assert notice.kind == Kind.LEDGER_BROKEN
    assert "leaf 7" in notice.why
    assert not findings.judged(key_of(Kind.ROUND_STALLED, "demo"))


def test_away_means_what_the_directorys_lock_means() -> None:
    assert DEFAULTS.away_seconds == STALE_SECONDS


# -- strangers' texts --------------------------------------------------------------------------------------------------


def test_ten_megabytes_of_text_and_html_stay_one_short_line() -> None:
    world = opened()
    world.update("alpha", reason=Reason.MALFORMED_PAYLOAD, sentence="<script>\n\x1b[2J\u202e" + "x" * 10_000_000)
    notice = one(world, Kind.UPDATE_REJECTED)
    assert len(notice.why) <= 220
    assert notice.why.isprintable()
    bad = World(**CALM)
    bad.seen = bad.seen.seen("<b>" + "y" * 100_000, SiteStatus(ledger_size=0), bad.now)
    assert all(len(n.key) <= 200 for n in conditions(snapshot(bad), bad.now))


def test_the_number_of_notices_is_bounded_and_the_worst_come_first() -> None:
    world = opened()
    many = tuple(f"s{i}" for i in range(MAX_NOTICES + 10))
    state = replace(world.state, sites=many, drained=frozenset(many))
    first = conditions(snapshot(world, state=state, ledger_fault="broken"), world.now)[0]
    assert first.kind == Kind.LEDGER_BROKEN
    assert len(conditions(snapshot(world, state=state), world.now)) == MAX_NOTICES


# -- advice ------------------------------------------------------------------------------------------------------------


def advices() -> list[str]:
    """Every advice that the sources can give, names filled in."""
    names = ("conditions", "run_conditions", "site_conditions", "participation")
    source = "".join((SOURCES / f"{name}.py").read_text() for name in names)
    return [*re.findall(r'advice=f?"([^"]+)"', source), *_ADVICE.values(), "coordinator round abandon x --round 1 ends"]


def test_commands_that_advices_name_exist() -> None:
    named = [words for advice in advices() for words in re.findall(r"coordinator ((?:[a-z]+ )+)", advice)]
    assert len(named) >= 7
    for words in named:
        split(coordinator_cli, words.split())


def test_outcomes_of_which_nothing_is_told_are_the_good_ones() -> None:
    assert set(Outcome) - set(_KINDS) == {Outcome.ADMITTED, Outcome.EQUIVOCATION}
