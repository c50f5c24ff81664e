# SPDX-License-Identifier: Apache-2.0
"""Every page renders whatever there is: nothing yet, no rounds, hostile texts; and none of it is ever markup."""

from dataclasses import replace
from itertools import takewhile

import pytest
from dashboard_bench import NOW, PAGES, Bench, foreign

from coordinator.bench.generated import Generated
from coordinator.bench.setting import RUN
from coordinator.dashboard.history import History
from coordinator.dashboard.liveness import Liveness, LivenessWatch
from coordinator.dashboard.losses import Losses, RoundSteps
from coordinator.dashboard.pages.run_charts import utilisation
from coordinator.dashboard.pages.timeline import UNREPORTED, timeline
from coordinator.dashboard.scores import ScoreBook
from coordinator.dashboard.tables import Table
from federation import leaves as lv
from federation.durable.simulated import SimulatedFileSystem
from federation.languages import ORDER, SETS, find
from federation.ledger_state import Federation, RunState, Version
from federation.roster_document import Role
from federation.rounds import apply
from federation.wire import leaf_from_bytes


def shown(bench: Bench, leaves: list[lv.Leaf]) -> Bench:
    """The same dashboard over another history."""
    state, history = Federation(), History()
    for index, leaf in enumerate(leaves):
        state = apply(state, leaf)
        history.leaf(index, leaf, state)
    view = bench.follower.view
    bench.follower.view = replace(view, state=state, history=history, number=view.number + 1)
    return bench


def leaves_of(found: Generated) -> list[lv.Leaf]:
    return [leaf_from_bytes(found.ledger.leaf_bytes(index)) for index in range(found.ledger.size)]


def bench_evaluations(found: Generated) -> list[lv.EvaluationRecordedV1]:
    return [leaf.body for leaf in leaves_of(found) if isinstance(leaf.body, lv.EvaluationRecordedV1)]


# --- hostile texts ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def besieged(hostile: Generated) -> Bench:
    bench = Bench(hostile, public=("state", "site-names", "scores", "ledger"))
    bench.enter(Role.AUDITOR)
    return bench


@pytest.mark.parametrize("number", [0, 1, 7, 15])
@pytest.mark.parametrize(
    "path", [*PAGES, "/audit", "/public", "/ledger?q=%3Cscript%3E%22%27onload%3D", f"/run/{RUN}/rounds?page=0"]
)
def test_no_text_of_anybody_is_markup(besieged: Bench, path: str, number: int) -> None:
    path = path.replace("/round/1", f"/round/{number}").replace("/ledger/3", f"/ledger/{number * 5}")
    answer = besieged.get(path)
    assert answer.status_code == 200
    assert list(foreign(answer.text)) == []
    assert len(answer.content) < 2_000_000


def test_hostile_texts_are_there_at_all_and_markup_would_be_noticed(besieged: Bench) -> None:
    pages = "".join(besieged.get(path).text for path in (f"/run/{RUN}/missing", "/ledger", f"/run/{RUN}", "/sites"))
    assert "&lt;script&gt;" in pages
    for text in ("<script>1</script>", "<p onclick=x>", "<a href='javascript:x'>", "<img src='//x'>", "<svg onload=x>"):
        assert list(foreign(text)), text


@pytest.mark.parametrize("path", [f"/run/{RUN}/nowhere<script>", "/run/<script>", "/site/%3Cscript%3E", "/ledger/<b>"])
def test_an_address_is_not_markup_either(besieged: Bench, path: str) -> None:
    answer = besieged.get(path)
    assert answer.status_code == 404
    assert list(foreign(answer.text)) == []


# --- nothing yet ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/sites", "/languages", "/ledger", "/audit"])
def test_an_empty_ledger_has_pages(auditor: Bench, path: str) -> None:
    answer = shown(auditor, []).get(path)
    assert answer.status_code == 200
    assert "Nothing" in answer.text or "No " in answer.text or "n/a" in answer.text


@pytest.mark.parametrize("path", ["/", f"/run/{RUN}", f"/run/{RUN}/rounds", f"/run/{RUN}/missing", "/languages"])
def test_a_run_without_rounds_has_pages(auditor: Bench, made: Generated, path: str) -> None:
    leaves = list(takewhile(lambda leaf: not isinstance(leaf.body, lv.RoundOpenedV1), leaves_of(made)))
    bench = shown(auditor, leaves)
    assert bench.follower.view.state.runs[RUN].rounds == {}
    assert bench.get(path).status_code == 200
    assert bench.get(f"/run/{RUN}/round/0").status_code == 404


def test_a_clock_behind_the_coordinators_makes_no_fault(auditor: Bench) -> None:
    auditor.clock.now = NOW - 100 * 86_400
    page = auditor.gallery.page(f"/run/{RUN}", True, auditor.clock.now, whole=True)
    table = page.table("timeline")
    assert table is not None
    assert all(row["seconds"] >= 0 for row in table.rows)


def test_a_stray_verdict_does_not_change_what_share_of_time_was_training(made: Generated, bench: Bench) -> None:
    view = bench.follower.view
    before = utilisation(view.state.runs[RUN], view, NOW)
    stray = lv.VerdictV1(
        run=RUN, round=10**6, site="alps", outcome=lv.Outcome.REJECTED, reason=lv.Reason.WRONG_ROUND, sentence=""
    )
    after = shown(bench, [*leaves_of(made), lv.Leaf(at_us=2 * 10**15, body=stray)]).follower.view
    assert before
    assert utilisation(after.state.runs[RUN], after, NOW) == before


def test_share_of_time_is_of_the_time_whose_steps_are_kept(made: Generated, bench: Bench) -> None:
    view = bench.follower.view
    run, losses = view.state.runs[RUN], Losses()
    number = max(n for n, found in run.rounds.items() if found.commit)
    opened = view.times.of(RUN, number).opened_us / 1e6
    losses.runs[RUN] = {"alps": {number: RoundSteps(num_steps=1, loss_sum=1.0, seconds=(NOW - opened) / 2)}}
    assert utilisation(run, replace(view, losses=losses), NOW) == pytest.approx(0.5)


# --- what was rolled back, who was removed ----------------------------------------------------------------------------


def evaluation(commits: int, version: int, score: float, language: str = "deu") -> lv.EvaluationRecordedV1:
    found = (lv.LanguageScore(language=language, bits_per_byte=score, num_bytes=1),)
    return lv.EvaluationRecordedV1(
        run=RUN,
        site="alps",
        request=0,
        num_commits=commits,
        versions=(version,),
        scores=found,
        evidence_digest="",
    )


def test_scores_of_a_model_that_was_rolled_back_are_not_those_of_its_successor(made: Generated, bench: Bench) -> None:
    run = bench.follower.view.state.runs[RUN]
    chain = tuple(Version(number=n, theta_digest="") for n in (0, 1, 2, 5))
    run = replace(run, versions=(chain,), commit_leaves=(1, 2, 3), void=frozenset({2, 3}))
    book = ScoreBook()
    for found in (evaluation(2, 2, 1.0), evaluation(3, 5, 2.0), evaluation(3, 3, 9.0, "fra"), evaluation(3, 4, 9.0)):
        book.add(found)
    scores = book.of(run)
    assert scores.commits == [2, 3]
    assert scores.languages == {"deu"}
    assert scores.of(3, "deu").mean == 2.0  # type: ignore[union-attr]


def test_figures_are_of_a_model_that_is_scored_as_a_whole(bench: Bench) -> None:
    """Sites score the newest model one after the other; a mean over the first language alone would be a jump."""
    run = bench.follower.view.state.runs[RUN]
    book = ScoreBook()
    for found in (evaluation(1, 0, 1.0), evaluation(1, 0, 3.0, "fra"), evaluation(2, 1, 0.9)):
        book.add(found)
    run = replace(run, versions=((Version(number=0, theta_digest=""), Version(number=1, theta_digest="")),))
    assert book.of(run).commits == [1, 2]
    assert book.of(run).settled == [1]
    book.add(replace(evaluation(2, 1, 2.9, "fra"), site="alps"))
    assert book.of(run).settled == [1, 2]
    book.add(replace(evaluation(3, 2, 0.8), site="alps"))
    assert book.of(run).settled == [1, 2]


def test_a_half_scored_model_is_named_and_not_counted(auditor: Bench, made: Generated) -> None:
    newest = max(e.num_commits for e in bench_evaluations(made))
    assert "Being scored" not in shown(auditor, leaves_of(made)).get("/languages").text
    leaves, is_first = [], True
    for leaf in leaves_of(made):
        if isinstance(body := leaf.body, lv.EvaluationRecordedV1) and body.num_commits == newest:
            if is_first:
                leaves.append(replace(leaf, body=replace(body, scores=body.scores[:1])))
            is_first = False
        else:
            leaves.append(leaf)
    page = shown(auditor, leaves).get("/languages").text
    assert "Being scored" in page
    assert f"commit {newest}" in page


def test_a_site_whose_phases_nobody_heard_was_not_queued_all_the_time(auditor: Bench) -> None:
    view = auditor.follower.view
    run = view.state.runs[RUN]
    number = max(n for n, found in run.rounds.items() if found.commit)
    heard = timeline(run, view.times, NOW, first=number, num_rounds=1)
    assert UNREPORTED not in {bar.phase for bar in heard.bars}
    times = view.times.rounds[RUN][number]
    silent = replace(view.times, rounds={RUN: {number: replace(times, training_at={}, uploading_at={})}})
    bars = timeline(run, silent, NOW, first=number, num_rounds=1).bars
    delivered = {site for site, verdict in run.rounds[number].verdicts.items() if verdict.update_digest}
    assert delivered
    assert {bar.lane for bar in bars if bar.phase == UNREPORTED} == delivered


def test_a_member_that_the_roster_dropped_keeps_its_page(auditor: Bench) -> None:
    view = auditor.follower.view
    state = replace(view.state, sites=tuple(site for site in view.state.sites if site != "alps"))
    auditor.follower.view = replace(view, state=state, number=view.number + 1)
    page = auditor.get("/site/alps")
    assert page.status_code == 200
    assert "removed" in page.text
    assert "removed" in auditor.get("/sites").text
    assert auditor.get("/site/nobody").status_code == 404


def test_the_public_page_shows_scores_of_the_run_that_trains(viewer: Bench) -> None:
    view = viewer.follower.view
    done = replace(view.state.runs[RUN], id="zz-old", state=RunState.COMPLETED)
    state = replace(view.state, runs={**view.state.runs, "zz-old": done})
    viewer.follower.view = replace(view, state=state, number=view.number + 1)
    assert f"Bits per byte, run {RUN}" in viewer.get("/public").text
    assert viewer.gallery.asked({}, False, NOW).usual_run() == RUN


def test_the_csv_of_a_chart_names_its_lines(viewer: Bench) -> None:
    head = viewer.get(f"/run/{RUN}?table=loss&format=csv").text.splitlines()[0]
    assert head == "round,alps,arrhenius,capella"


def test_a_directory_that_cannot_be_read_is_said_until_it_can(auditor: Bench) -> None:
    auditor.follower.fault("reading the directory", "reading the directory failed: no permission; it is old")
    auditor.gallery.forget()
    assert "no permission" in auditor.get("/").text
    auditor.follower.fault("reading the directory", "")
    auditor.gallery.forget()
    assert "no permission" not in auditor.get("/").text


def test_no_run_goes_on_without_its_coordinator(auditor: Bench) -> None:
    view, now = auditor.follower.view, auditor.clock.now
    running = replace(view.state.runs[RUN], state=RunState.RUNNING)
    state = replace(view.state, runs={RUN: running})
    auditor.follower.view = replace(view, state=state, number=view.number + 1)
    table = auditor.gallery.page("/", True, now, whole=True).table("runs")
    assert table is not None
    assert (table.rows[0]["state"], table.rows[0]["end"] is None) == ("running", False)
    auditor.gallery.liveness = Liveness(works=False, since=now, sentence="the coordinator was stopped")
    table = auditor.gallery.page("/", True, now, whole=True).table("runs")
    assert table is not None
    assert table.rows[0]["end"] is None
    assert "does not work" in table.rows[0]["state"]


def test_a_coordinator_that_went_away_is_said_on_every_page(auditor: Bench) -> None:
    auditor.gallery.liveness = Liveness(works=False, since=NOW, sentence="the coordinator was stopped")
    for path in (*PAGES, "/audit"):
        assert "The coordinator was stopped: this is what was known last." in auditor.get(path).text


def test_a_directory_that_was_never_served_has_no_coordinator_at_work() -> None:
    fs = SimulatedFileSystem()
    assert LivenessWatch(fs).look().sentence == "the coordinator was never served"
    fs.place("lock/1", b"torn")
    assert not LivenessWatch(fs).look().works


# --- languages --------------------------------------------------------------------------------------------------------


def scored(bench: Bench, made: Generated, *models: dict[str, float]) -> Bench:
    """The run's evaluations replaced: of each model one, by one site."""
    kept = [leaf for leaf in leaves_of(made) if not isinstance(leaf.body, lv.EvaluationRecordedV1)]
    bench = shown(bench, kept)
    for commits, scores in enumerate(models):
        found = tuple(lv.LanguageScore(language=c, bits_per_byte=s, num_bytes=1) for c, s in scores.items())
        bench.follower.view.history.scores.add(
            lv.EvaluationRecordedV1(
                run=RUN, site="alps", request=0, num_commits=commits, versions=(), evidence_digest="", scores=found
            )
        )
    return bench


def languages(bench: Bench) -> Table:
    table = bench.gallery.page("/languages", False, bench.clock.now).table("languages")
    assert table is not None
    return table


def figure(bench: Bench, title: str) -> object:
    page = bench.gallery.page("/languages", False, bench.clock.now)
    (section,) = [s for s in page.sections if hasattr(s, "items")][:1]
    return {item.title: item.value for item in section.items}[title]


def test_languages_stand_in_one_order_whatever_was_scored(bench: Bench, made: Generated) -> None:
    table = languages(scored(bench, made, {"swe": 2.0, "bg": 1.0}))
    assert [row["code"] for row in table.rows] == [language.code for language in ORDER]
    by_code = {row["code"]: row for row in table.rows}
    assert (by_code["bul_Cyrl"]["now"], by_code["swe_Latn"]["now"]) == (1.0, 2.0)
    assert by_code["mlt_Latn"]["now"] is None
    assert by_code["mlt_Latn"]["verdict"] is None


def test_two_codes_of_one_language_stay_two_rows(bench: Bench, made: Generated) -> None:
    table = languages(scored(bench, made, {"ekk": 2.0, "est": 3.0, "lvs_Latn": 1.0}))
    rows = [row for row in table.rows if row["language"].startswith(("Estonian", "Latvian"))]
    assert sorted(row["now"] for row in rows) == [1.0, 2.0, 3.0]
    assert len({row["code"] for row in rows}) == 3


def test_a_language_that_nobody_knows_is_last_and_said(bench: Bench, made: Generated) -> None:
    bench = scored(bench, made, {"zxx": 2.0, "<b>": 9.0, "deu": 1.0})
    table = languages(bench)
    assert {row["code"] for row in table.rows[-2:]} == {"zxx", "<b>"}
    assert {row["language"] for row in table.rows[-2:]} == {"unknown"}
    bench.enter()
    text = bench.get("/languages").text
    assert "languages that nobody here knows" in text
    assert list(foreign(text)) == []
    assert figure(bench, "Worst language") == "<b> (unknown code): 9.000"


@pytest.mark.parametrize("name", sorted(SETS))
def test_a_mean_is_over_a_whole_set_or_is_none(bench: Bench, made: Generated, name: str) -> None:
    codes = {language.code: 1.0 + place for place, language in enumerate(SETS[name])}
    whole = figure(scored(bench, made, codes), f"Mean over {name}")
    assert whole == pytest.approx(sum(codes.values()) / len(codes))
    codes.popitem()
    assert figure(scored(bench, made, codes), f"Mean over {name}") is None


def test_before_and_after_are_the_two_newest_models(bench: Bench, made: Generated) -> None:
    table = languages(scored(bench, made, {"deu": 4.0, "fra": 1.0}, {"deu": 3.0, "fra": 1.0}, {"deu": 2.0}))
    rows = {row["code"]: row for row in table.rows}
    german, french = rows["deu_Latn"], rows["fra_Latn"]
    assert (german["first"], german["before"], german["now"], german["verdict"]) == (4.0, 3.0, 2.0, "better")
    assert (french["now"], french["change"], french["verdict"], french["commits"]) == (1.0, 0.0, "the same", 1)


def test_models_scored_in_other_languages_have_no_common_chart(bench: Bench, made: Generated) -> None:
    bench = scored(bench, made, {"deu": 4.0}, {"fra": 1.0}, {"fra": 1.0})
    bench.enter()
    assert bench.get(f"/run/{RUN}").status_code == 200
    assert bench.get(f"/run/{RUN}?chart=bits").json()["series"] == []


def test_a_score_that_is_no_number_says_nothing(bench: Bench, made: Generated) -> None:
    table = languages(scored(bench, made, {"deu": float("nan"), "fra": float("inf"), "ita": 0.0}))
    rows = {row["code"]: row["now"] for row in table.rows}
    assert (rows["deu_Latn"], rows["fra_Latn"], rows["ita_Latn"]) == (None, None, 0.0)
    assert find("deu") is not None
