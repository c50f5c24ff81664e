# SPDX-License-Identifier: Apache-2.0
"""What a site's operator reads about the site's own rounds: every end that a round can have."""

from typing import Any

import pytest
from agent_situations import RUN, SITE, Situation, digest_of

from federation import leaves as lv
from federation.leaves import Outcome, Reason
from federation.rounds import RoundState
from site_agent.verdict_view import NEWEST_ROUNDS, VerdictView, verdicts_of
from site_agent.views import view_of


def verdict(situation: Situation, number: int, outcome: Outcome, reason: Reason = Reason.NONE, **more: Any) -> None:
    values = {"sentence": "", **more}
    situation.leaf(lv.VerdictV1(run=RUN, round=number, site=SITE, outcome=outcome, reason=reason, **values))


def seen(situation: Situation) -> tuple[VerdictView, ...]:
    view = view_of(situation.settings, situation.state, situation.federation, situation.seen, situation.now_us)
    return view.runs[0].verdicts


def opened(number: int = 0) -> Situation:
    situation = Situation().started()
    situation.opened(number)
    return situation


def test_a_round_without_a_verdict_waits_for_one() -> None:
    (found,) = seen(opened())
    assert (found.round, found.state, found.verdict, found.reason) == (0, "open", "no verdict yet", "")
    assert found.line() == "round 0: no verdict yet; the round is open"


@pytest.mark.parametrize(
    ("outcome", "reason", "words"),
    [
        (Outcome.REJECTED, Reason.NORM_TOO_LARGE, "rejected (norm-too-large): norm 9 above 8"),
        (Outcome.MISSED, Reason.UPLOAD_TOO_LONG, "missed (upload-too-long): norm 9 above 8"),
        (Outcome.DECLINED, Reason.BUDGET, "declined (budget): norm 9 above 8"),
    ],
)
def test_what_was_not_admitted_says_why(outcome: Outcome, reason: Reason, words: str) -> None:
    situation = opened()
    verdict(situation, 0, outcome, reason, sentence="norm 9 above 8")
    (found,) = seen(situation)
    assert (found.verdict, found.reason, found.counted) == (outcome.value, reason.value, False)
    assert found.line() == f"round 0: {words}; the round is open"
    situation.abandoned(0)
    assert seen(situation)[0].line() == f"round 0: {words}; the round is abandoned"


def test_an_update_that_was_admitted_counts_once_the_round_is_committed() -> None:
    situation, mine = opened(), digest_of("payload", 0)
    verdict(situation, 0, Outcome.ADMITTED, payload_digest=mine)
    situation.committed(0, listed=mine)
    (found,) = seen(situation)
    assert (found.verdict, found.state, found.payload_digest, found.counted) == ("admitted", "committed", mine, True)
    assert found.line() == "round 0: admitted; it is part of the model"
    situation.leaf(lv.RunRevertedV1(run=RUN, to_round=-1, operator="olga", command="c9"))
    (found,) = seen(situation)
    assert not found.counted
    assert found.line() == "round 0: admitted; the round is reverted, this update counts for nothing"


def test_an_update_that_was_admitted_to_a_round_without_quorum_counts_for_nothing() -> None:
    situation = opened()
    verdict(situation, 0, Outcome.ADMITTED, payload_digest=digest_of("payload"))
    assert seen(situation)[0].line() == "round 0: admitted; the round is open"
    situation.abandoned(0)
    assert seen(situation)[0].line() == "round 0: admitted; the round is abandoned, this update counts for nothing"


def test_a_round_that_ended_without_a_word_about_this_site() -> None:
    situation = opened().abandoned(0)
    assert seen(situation)[0].line() == "round 0: no verdict; the round is abandoned"


def test_only_the_newest_rounds_that_invited_this_site_are_shown() -> None:
    situation = Situation().started()
    for number in range(NEWEST_ROUNDS + 3):
        situation.opened(number, sites=("beta",) if number == NEWEST_ROUNDS + 1 else (SITE, "beta"))
        situation.abandoned(number)
    run = situation.federation.runs[RUN]
    assert all(found.state is RoundState.ABANDONED for found in run.rounds.values())
    assert [found.round for found in verdicts_of(run, SITE)] == [7, 5, 4, 3, 2]
    assert verdicts_of(run, "gamma") == ()


def test_a_coordinators_words_cannot_steer_the_terminal() -> None:
    situation = opened()
    verdict(situation, 0, Outcome.REJECTED, Reason.NON_FINITE, sentence="\x1b[2Jgone\n" + "x" * 2000)
    (found,) = seen(situation)
    assert found.line().isprintable()
    assert len(found.line()) < 400
