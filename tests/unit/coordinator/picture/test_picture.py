# SPDX-License-Identifier: Apache-2.0
"""A run on a terminal of any size: nothing is wider, nothing that matters is cut, nothing hostile gets through."""

from typing import Any

import pytest
from rich.cells import cell_len
from run_documents import (
    LANGUAGES,
    NOW,
    hostile_document,
    large_document,
    opened,
    run_document,
    scored,
    site,
    verdict,
)

from coordinator.cli.picture.whole import Contact, picture

SIZES = [(80, 24), (80, None), (200, 60), (200, None), (60, 16), (40, 10), (132, 43)]


def shown(document: dict[str, Any], width: int = 80, height: int | None = None, **contact: Any) -> list[str]:
    return [line.plain for line in picture(document, NOW, width, height, Contact(**contact))]


def text(document: dict[str, Any], width: int = 80, height: int | None = None) -> str:
    """As one line, however it was wrapped."""
    return " ".join(" ".join(shown(document, width, height)).split())


# --- any size, any content --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("make", [run_document, large_document, hostile_document])
def test_no_line_is_wider_and_no_character_moves_the_cursor(make: Any, width: int, height: int | None) -> None:
    lines = shown(make(), width, height)
    assert all(cell_len(line) <= width for line in lines)
    assert all(line.isprintable() for line in lines)
    assert height is None or len(lines) <= height


def test_text_without_end_takes_a_bounded_number_of_lines() -> None:
    assert len(shown(hostile_document())) < 300


@pytest.mark.parametrize("name", list(run_document()))
def test_an_older_coordinator_does_not_send_every_field(name: str) -> None:
    needed = {"run", "state", "commits", "rounds", "sites", "reason", "answers", "missed", "sites_now", "round_log"}
    document = run_document()
    del document[name]
    if name not in needed | {"evaluations", "ledger"}:
        assert shown(document, height=24)


def test_an_older_coordinator_knows_little_of_rounds_and_sites() -> None:
    document = run_document()
    for found in document["round_log"]:
        for name in ("phases", "verdicts_at_us", "sealed_at_us", "ended_at_us", "sentence"):
            del found[name]
    for found in document["sites_now"].values():
        for name in ("num_steps", "seconds_left", "start_in_seconds", "allocation_log"):
            del found[name]
    lines = shown(document)
    assert "alpha  training   19     3  2.500  1.25    4s     0" in [line.rstrip() for line in lines]


# --- the beginning ----------------------------------------------------------------------------------------------------


def test_how_far_and_how_long_still() -> None:
    first, bar, forecast = shown(run_document())[:3]
    assert first == "demo  RUNNING  18/100 rounds committed  for 2 hours"
    assert bar == "[#####-------------------------] 18 %  last commit 100s ago, one every 100s"
    assert forecast == "ends in about 2 hours, 2026-09-21 16:28 UTC, by the last 18 commits"


def test_a_commit_that_is_late_makes_no_forecast() -> None:
    lines = [line.plain for line in picture(run_document(), NOW + 900, 80)]
    assert lines[2] == "no commit for 17 minutes, where one took 100s over the last 18: no forecast"


def test_why_it_is_paused_comes_once() -> None:
    reason = "3 rounds in a row abandoned; in round 18: beta (missed: no-answer)"
    document = run_document(
        state="paused", reason=reason, problems=[f"run demo is paused: {reason}", "site x is revoked"]
    )
    found = text(document)
    assert found.count("in a row abandoned") == 1
    assert f"! {reason} ! site x is revoked" in found


def test_before_the_start_it_says_who_has_not_answered() -> None:
    document = run_document(state="draft", commits=0, round_log=[], evaluations=[], commits_at_us=[], forecast=None)
    del document["answers"]["beta"]
    assert "approved by olga; no answer yet from beta" in shown(document)
    assert "no round yet" in shown(document)


def test_jobs_that_wait_for_cosignatures_are_something_to_see_to() -> None:
    document = run_document()
    document["witnesses"] = {"quorum": 2, "leaf": 70, "cosigned_by": ["alpha"], "missing": ["beta", "gamma"]}
    assert "! jobs wait for cosignatures: 2 must cosign leaf 70, 1 did; missing: beta, gamma" in text(document)


def test_a_coordinator_that_is_away() -> None:
    found = " ".join(shown(run_document(), trouble="nothing listens there", lost_for=130.0, seen_at=NOW - 130))
    assert found.startswith("NO CONTACT for 2 minutes: nothing listens there. What follows is of 2026-09-21 14:11 UTC.")


def test_a_clock_that_is_behind_makes_no_negative_ages() -> None:
    assert any("  4s " in line or " 0s " in line for line in (p.plain for p in picture(run_document(), NOW - 3600, 80)))
    assert not any("-" in line.split("[")[0] for line in shown(run_document())[3:6])


# --- sites ------------------------------------------------------------------------------------------------------------


def test_a_site_in_one_line_with_its_lane() -> None:
    head, alpha = shown(run_document())[3:5]
    assert head == "site   doing     rnd   step   loss  s/st  seen  miss  r17     r18      r19"
    assert alpha == "alpha  training   19  3/125  2.500  1.25    4s     0  .tttttttttTTT+tttttTT+tttt"


def test_ids_of_40_characters_are_whole() -> None:
    document = large_document()
    for height in (None, 60):
        found = " ".join(shown(document, 80, height))
        assert all(name in found for name in document["sites"])


def test_at_24_lines_the_sites_that_need_somebody_stay() -> None:
    document = large_document()
    lines = shown(document, 80, 24)
    silent, jobless = document["sites"][7], document["sites"][9]
    assert any(line.startswith(silent) and line.endswith("3d") for line in lines)
    assert any(line.startswith(f"{jobless} no job") and line.endswith("never") for line in lines)
    assert "… and 11 more sites: 11 training" in lines
    assert lines[-1] == "ledger: 90 leaves, root 0000000000000000, 80 cosigned by 11 of 20"


def test_what_keeps_a_site_out_is_said_rather_than_its_phase() -> None:
    names = ["alpha", "beta", "gamma", "delta", "eps", "zeta"]
    document = run_document(names)
    document["sites_now"]["alpha"]["state"] = "drained"
    document["answers"]["beta"] = {"accepted": False, "reason": "budget"}
    del document["answers"]["gamma"]
    document["sites_now"]["delta"] = site(allocation="queued", round=None)
    document["sites_now"]["eps"] = site(allocation="none", round=None)
    document["sites_now"]["zeta"]["waits_for_witnesses"] = True
    lines = {line.split()[0]: line for line in shown(document) if line and line.split()[0] in names}
    expected = {"alpha": "drained", "beta": "declined", "gamma": "no answer", "delta": "queued", "eps": "no job"}
    assert all(word in lines[name] for name, word in {**expected, "zeta": "cosigning"}.items())


def test_why_rounds_were_missed() -> None:
    document = run_document(missed={"beta": {"not invited": 2, "missed: no-answer": 1}})
    assert "missed: beta: not invited x2, missed: no-answer x1" in shown(document)
    assert any(line.startswith("beta") and "  3  " in line for line in shown(document))


# --- rounds -----------------------------------------------------------------------------------------------------------


def test_rounds_newest_first_with_verdicts_in_words() -> None:
    late = verdict("missed", "upload-too-long", "beta: upload allowed 60 s, waited 61.2 s")
    names = ["alpha", "beta"]
    rounds = [
        opened(17, names, "abandoned", sentence="no quorum: 1 of 2 sites"),
        opened(18, names, verdicts={"alpha": verdict(), "beta": late}),
        opened(19, names, "open", verdicts={"alpha": verdict()}),
    ]
    lines = shown(run_document(names, round_log=rounds))
    start = next(i for i, line in enumerate(lines) if line.startswith("round"))
    assert [" ".join(line.split()) for line in lines[start : start + 7]] == [
        "round state admitted fragment took up down",
        "19 open 1/2 3 100s so far 345.7 MB 12.3 MB",
        "waits for 1: beta",
        "18 committed 1/2 2 3m 345.7 MB 12.3 MB",
        "beta missed (upload-too-long): upload allowed 60 s, waited 61.2 s",
        "17 abandoned 2/2 1 3m 345.7 MB 12.3 MB",
        "abandoned: no quorum: 1 of 2 sites",
    ]


# --- scores -----------------------------------------------------------------------------------------------------------


def test_scores_in_short() -> None:
    document = run_document(["alpha"], evaluations=[scored("alpha", 0, 4.0), scored("alpha", 18, 2.0)])
    lines = shown(document)
    assert "bits per byte 4.350 → 2.350 (-46.0 %), mean of 36 languages, commit 0 → 18" in lines
    assert any(line.startswith("worst: fx 4.70→2.70, fw 4.68→2.68, ") for line in lines)
    assert all(any(f" {language}" in line for line in lines) for language in LANGUAGES)


def test_a_language_that_became_worse_is_named() -> None:
    first, now = scored("alpha", 0, 4.0, ["de", "fi"]), scored("alpha", 18, 3.0, ["de", "fi"])
    now["bits_per_byte"]["fi"] = 4.5
    assert "WORSE than at first: fi 4.02→4.50" in shown(run_document(["alpha"], evaluations=[first, now]))


def test_a_language_without_a_score_is_not_zero() -> None:
    first, now = scored("alpha", 0, 4.0, ["de"]), scored("alpha", 18, 3.0, ["de", "fi"])
    lines = shown(run_document(["alpha"], evaluations=[first, now]))
    assert "worst: fi n/a→3.02, de 4.00→3.00" in lines
    assert "at commit 0    4.00" in lines


def test_sites_with_more_held_out_text_count_more() -> None:
    much, little = scored("alpha", 0, 4.0, ["de"]), scored("beta", 0, 2.0, ["de"])
    much["num_bytes"]["de"] = 3000
    lines = shown(run_document(["alpha", "beta"], evaluations=[much, little]))
    assert "at commit 0    3.50" in lines


# --- ledger -----------------------------------------------------------------------------------------------------------


def test_who_cosigned_how_much() -> None:
    document = run_document()
    document["ledger"]["witnessed"] = {"alpha": 90, "beta": 88}
    lines = shown(document)
    assert "cosigned: 88 leaves by 2 of 3 sites; behind the newest: gamma all, beta 2" in lines
    assert lines[-1] == "ledger: 90 leaves, root 0000000000000000"
