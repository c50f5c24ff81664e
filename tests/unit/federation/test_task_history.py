# SPDX-License-Identifier: Apache-2.0
"""A run's state keeps the newest task evaluations of each site, whatever the sites do."""

from dataclasses import replace

from federation import leaves as lv
from federation.ledger_state import Federation, Run, Version
from federation.rounds import apply
from federation.state_digest import state_digest
from federation.task_history import KEPT_PER_SITE, is_news, with_newest
from federation.testing.history import history
from federation.testing.manifests import plan_of

SCORE = lv.TaskScore(
    task="quiz", language="de", task_version="1", metric="acc", num_items=4, score=0.5, low=0.1, high=0.9
)


def run(*versions: int) -> Run:
    chain = tuple(Version(number=number, theta_digest="") for number in (0, *versions))
    plan = plan_of({"a": 4, "b": 4}, theta_digests=("0" * 64,))
    return Run(id="r", manifest_digest="", plan=plan, created_leaf=0, versions=(chain,))


def scored(num_commits: int, site: str = "a", request: int = 0) -> lv.TasksEvaluatedV1:
    return lv.TasksEvaluatedV1(
        run="r",
        site=site,
        request=request,
        num_commits=num_commits,
        versions=(num_commits,),
        scores=(SCORE,),
        evidence_digest="e" * 64,
    )


def put(state: Run, body: lv.TasksEvaluatedV1) -> Run:
    """As the decider does: only what is news becomes a leaf."""
    if not is_news(state, body.site, body.request, body.num_commits, body.versions):
        return state
    return with_newest(state, body)


def test_each_model_and_request_is_news_once() -> None:
    found = put(run(), scored(3))
    assert put(found, scored(3)) is found
    assert put(found, scored(3, request=1)) is not found
    assert put(found, scored(3, site="b")) is not found


def test_the_oldest_models_make_room_and_never_come_back() -> None:
    found = put(run(), scored(1, site="b"))
    for number in range(2 * KEPT_PER_SITE):
        found = put(found, scored(number))
    mine = [e.num_commits for e in found.task_evaluations if e.site == "a"]
    assert mine == list(range(KEPT_PER_SITE, 2 * KEPT_PER_SITE))
    assert [e.num_commits for e in found.task_evaluations if e.site == "b"] == [1]
    for number in range(KEPT_PER_SITE):
        assert put(found, scored(number)) is found


def test_in_whatever_order_a_site_sends_its_leaves_are_bounded() -> None:
    found, num_leaves = run(), 0
    for _ in range(5):
        for number in reversed(range(3 * KEPT_PER_SITE)):
            for request in (0, 1):
                after = put(found, scored(number, request=request))
                num_leaves += after is not found
                found = after
    assert num_leaves <= 6 * KEPT_PER_SITE
    assert len(found.task_evaluations) == KEPT_PER_SITE


def test_a_rollback_forgets_those_of_models_that_are_void() -> None:
    state = Federation()
    for leaf in history():
        if isinstance(leaf.body, lv.RunRevertedV1):
            before, rolled_back = state, leaf
        state = apply(state, leaf)
    at = lv.Leaf(at_us=before.size, body=replace(scored(0), run="demo"))
    newest = before.runs["demo"].heads()[0].number
    void = replace(at, body=replace(scored(newest), run="demo", versions=(newest,)))
    after = apply(apply(apply(before, at), void), rolled_back)
    assert [e.num_commits for e in after.runs["demo"].task_evaluations] == [0]


def test_a_ledger_without_tasks_keeps_its_state_digest_and_one_with_them_has_another() -> None:
    state = Federation()
    for leaf in history():
        state = apply(state, leaf)
    bare = replace(state, runs={"demo": replace(state.runs["demo"], task_evaluations=())})
    assert state_digest(bare) == state_digest(state)
    more = apply(state, lv.Leaf(at_us=1, body=replace(scored(0), run="demo")))
    assert more.size == state.size + 1
    assert state_digest(replace(more, size=state.size)) != state_digest(state)
