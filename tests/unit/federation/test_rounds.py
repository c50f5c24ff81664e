# SPDX-License-Identifier: Apache-2.0
"""The fold: what each leaf does to the state, and that leaves which no coordinator writes stop it."""

import pytest

from federation import leaves as lv
from federation.errors import InvalidTransition
from federation.rounds import Federation, RoundState, RunState, apply, fold
from federation.state_digest import state_digest
from federation.testing.history import history

LEAVES = history()


def test_folding_piecewise_or_at_once_gives_one_state() -> None:
    whole = fold(LEAVES)
    for cut in range(len(LEAVES)):
        assert state_digest(fold(LEAVES[cut:], fold(LEAVES[:cut]))) == state_digest(whole)


def test_state_digest_tells_states_apart() -> None:
    digests = {state_digest(fold(LEAVES[:cut])) for cut in range(len(LEAVES) + 1)}
    assert len(digests) == len(LEAVES) + 1


def test_size_counts_leaves_and_commands_are_found_by_their_leaf() -> None:
    state = fold(LEAVES)
    assert state.size == len(LEAVES)
    created = next(i for i, leaf in enumerate(LEAVES) if isinstance(leaf.body, lv.RunCreatedV1))
    assert state.commands["olga/create"] == created


def test_rollback_makes_the_older_version_current_and_voids_what_followed() -> None:
    run = fold(LEAVES).runs["demo"]
    assert [v.number for v in run.versions[0]] == [0, 1, 4]
    assert run.void == {1, 2}
    assert run.rounds[1].reverted
    assert run.rounds[1].state is RoundState.COMMITTED
    assert run.rounds[2].state is RoundState.ABANDONED
    assert run.num_commits() == 2
    assert run.state is RunState.COMPLETED


def test_a_second_verdict_never_replaces_the_first() -> None:
    run = fold(LEAVES).runs["demo"]
    assert run.rounds[0].verdicts["alpha"].outcome is lv.Outcome.ADMITTED
    assert run.rounds[0].num_verdict_leaves["alpha"] == 2


@pytest.mark.parametrize(
    "body",
    [
        lv.RunStartedV1(run="nobody", operator="olga", command="x"),
        lv.RunStartedV1(run="demo", operator="olga", command="x"),
        lv.RunCompletedV1(run="demo"),
        lv.RoundSealedV1(run="demo", round=0, updates=(), sentence=""),
        lv.RoundAbandonedV1(run="demo", round=99, reason=lv.Reason.OPERATOR, sentence=""),
        lv.RunRevertedV1(run="demo", to_round=0, operator="olga", command="x"),
        lv.RosterInstalledV1(version=7, digest="0" * 64, sites=()),
    ],
)
def test_a_leaf_that_does_not_fit_stops_the_fold(body: lv.Body) -> None:
    with pytest.raises(InvalidTransition):
        apply(fold(LEAVES), lv.Leaf(at_us=1, body=body))


def test_a_round_commits_at_most_once() -> None:
    state = Federation()
    commit = next(leaf for leaf in LEAVES if isinstance(leaf.body, lv.RoundCommittedV1))
    for leaf in LEAVES[: LEAVES.index(commit) + 1]:
        state = apply(state, leaf)
    with pytest.raises(InvalidTransition):
        apply(state, commit)
