# SPDX-License-Identifier: Apache-2.0
"""What the follower knows equals what anybody finds who counts the ledger's leaves, at any time; it never raises."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from dashboard_bench import NOW, NOW_US
from read_only import ReadOnly

from coordinator import observation_store
from coordinator.bench.generated import Generated, extend, generate
from coordinator.bench.setting import LANGUAGES, RUN
from coordinator.dashboard import follower as module
from coordinator.dashboard.follower import Follower
from coordinator.home import LEDGER
from federation import leaves as lv
from federation import notes
from federation.durable.real import RealFileSystem
from federation.ledger.frames import encode_record, scan_records
from federation.messages import Telemetry
from federation.rounds import fold
from federation.state_digest import state_digest
from federation.wire import leaf_from_bytes, leaf_to_bytes


@pytest.fixture
def growing(tmp_path: Path) -> Iterator[Generated]:
    found = generate(tmp_path / "c", num_rounds=4, num_sites=3, languages=LANGUAGES[:2], now_us=NOW_US, seed=3)
    yield found
    found.close()


def following(found: Generated) -> Follower:
    reads: Any = ReadOnly(RealFileSystem(found.directory))
    follower = Follower(reads, clock=lambda: NOW)
    follower.refresh()
    return follower


def leaves_of(found: Generated) -> list[lv.Leaf]:
    return [leaf_from_bytes(found.ledger.leaf_bytes(index)) for index in range(found.ledger.size)]


def check(follower: Follower, leaves: list[lv.Leaf]) -> None:
    """Everything that is kept, counted anew and naively."""
    view = follower.view
    assert view.faults == ()
    assert state_digest(view.state) == state_digest(fold(leaves))
    assert [at for at, _ in view.sentences] == [leaf.at_us for leaf in leaves]
    assert all(text for _, text in view.sentences)
    first = {key: leaf.body for key, leaf in standing(leaves).items()}
    assert {(n, site): at for n, t in view.times.rounds[RUN].items() for site, at in t.verdict_us.items()} == {
        key: leaf.at_us for key, leaf in standing(leaves).items()
    }
    tokens, admitted, missed, sent = Counter[str](), Counter[str](), Counter[str](), 0
    for (_, site), verdict in first.items():
        if verdict.outcome is lv.Outcome.ADMITTED:
            admitted[site] += 1
            tokens[site] += verdict.new_tokens
            sent += verdict.payload_bytes
        else:
            missed[site] += 1
    tally = view.history.tallies.of(RUN)
    for site in view.state.sites:
        found = tally.site(site)
        assert (found.admitted, found.not_admitted, found.tokens) == (admitted[site], missed[site], tokens[site])
    assert (tally.payload_bytes, tally.not_admitted) == (sent, missed.total())
    commits = [leaf for leaf in leaves if isinstance(leaf.body, lv.RoundCommittedV1)]
    assert tally.blob_bytes == sum(leaf.body.blob_bytes for leaf in commits)
    ended = {number: t.ended_us for number, t in view.times.rounds[RUN].items() if t.commit_leaf >= 0}
    assert ended == {leaf.body.round: leaf.at_us for leaf in commits}
    check_scores(follower, leaves)


def standing(leaves: list[lv.Leaf]) -> dict[tuple[int, str], lv.Leaf]:
    """Of each site invited to a round the first verdict while the round was open."""
    found: dict[tuple[int, str], lv.Leaf] = {}
    invited: set[tuple[int, str]] = set()
    for leaf in leaves:
        match leaf.body:
            case lv.RoundOpenedV1() as body:
                invited |= {(body.round, invitation.site) for invitation in body.invitations}
            case lv.SiteInvitedV1() as body:
                invited.add((body.round, body.invitation.site))
            case lv.VerdictV1() as body if (body.round, body.site) in invited:
                found.setdefault((body.round, body.site), leaf)
            case lv.RoundSealedV1() | lv.RoundAbandonedV1() as body:
                invited = {(number, site) for number, site in invited if number != body.round}
    return found


def check_scores(follower: Follower, leaves: list[lv.Leaf]) -> None:
    said: dict[tuple[int, str], dict[str, float]] = defaultdict(dict)
    in_force = [{version.number for version in chain} for chain in follower.view.state.runs[RUN].versions]
    for leaf in leaves:
        if isinstance(leaf.body, lv.EvaluationRecordedV1):
            if not all(v in chain for v, chain in zip(leaf.body.versions, in_force, strict=True)):
                continue  # of a model that was rolled back
            for score in leaf.body.scores:
                said[leaf.body.num_commits, score.language][leaf.body.site] = score.bits_per_byte
    scores = follower.view.history.scores.of(follower.view.state.runs[RUN])
    for (commits, language), by_site in said.items():
        found = scores.of(commits, language)
        assert found is not None
        values = list(by_site.values())
        assert found.mean == pytest.approx(sum(values) / len(values))
        assert (found.low, found.high, found.num_sites) == (min(values), max(values), len(values))


def test_it_knows_what_the_ledger_says_and_goes_on_with_it(growing: Generated) -> None:
    follower = following(growing)
    check(follower, leaves_of(growing))
    assert not follower.refresh()
    clock = count(NOW_US, 60_000_000)
    for _ in extend(growing, num_rounds=3, now_us=lambda: next(clock)):
        number = follower.view.number
        assert follower.refresh()
        assert follower.view.number == number + 1
    check(follower, leaves_of(growing))
    assert state_digest(following(growing).view.state) == state_digest(follower.view.state)


def test_the_step_metrics_of_a_run_are_summed(growing: Generated) -> None:
    follower = following(growing)
    fs, losses = RealFileSystem(growing.directory), follower.view.losses
    for site in growing.setting.sites:
        lines = [json.loads(line) for line in fs.read(f"telemetry/{site}.jsonl").decode().splitlines()]
        for number, steps in losses.of(RUN, site).items():
            mine = [line for line in lines if line["round"] == number]
            assert steps.num_steps == len(mine) > 0
            assert steps.mean_loss == pytest.approx(sum(line["loss"] for line in mine) / len(mine))
            assert steps.tokens == sum(line["tokens"] for line in mine)
    growing.telemetry.add("alps", Telemetry(run="unknown", allocation="a", lines=('{"round": 1, "loss": 2.0}',)), NOW)
    assert not follower.refresh()
    assert list(losses.runs) == [RUN]


def test_a_phase_heard_while_the_leaves_are_read_is_kept(growing: Generated, monkeypatch: pytest.MonkeyPatch) -> None:
    follower = following(growing)
    see_leaves = follower._see_leaves

    def slowly() -> bool:
        changed = see_leaves()
        list(extend(growing, num_rounds=2, now_us=lambda: NOW_US))
        return changed

    monkeypatch.setattr(follower, "_see_leaves", slowly)
    follower.refresh()
    monkeypatch.undo()
    follower.refresh()
    assert follower.view.times.rounds == following(growing).view.times.rounds


def test_a_repaired_ledger_is_shown_from_its_beginning(growing: Generated) -> None:
    segment = growing.directory / LEDGER / "segments" / "000000.seg"
    good = segment.read_bytes()
    records = list(scan_records(good).records)
    records[0], records[1] = records[1], records[0]
    segment.write_bytes(b"".join(map(encode_record, records)))
    follower = following(growing)
    assert [fault for fault in follower.view.faults if "root of their checkpoint" in fault]
    segment.write_bytes(good)
    assert follower.refresh()
    follower.refresh()
    check(follower, leaves_of(growing))
    assert any(t.training_at for t in follower.view.times.rounds[RUN].values())


def test_a_cosignature_is_news(growing: Generated) -> None:
    follower = following(growing)
    *_, silent = growing.setting.sites
    name, key = notes.witness_name("eu", silent), growing.consortium.key(f"site/{silent}/witness")
    growing.ledger.cosign(notes.cosign(growing.ledger.checkpoint(), name, key, int(NOW)))
    assert follower.refresh()
    assert follower.view.observations.witnessed[silent] == growing.ledger.size


def test_a_leaf_that_does_not_fit_is_said_and_the_state_stands_still(growing: Generated) -> None:
    follower = following(growing)
    before = state_digest(follower.view.state)
    growing.ledger.append([lv.Leaf(at_us=NOW_US, body=lv.RunCompletedV1(run="unheard-of"))])
    growing.ledger.append([lv.Leaf(at_us=NOW_US, body=lv.SiteDrainedV1(site="alps", operator="alice", command="c"))])
    assert follower.refresh()
    (fault,) = follower.view.faults
    assert "does not fit what came before" in fault
    assert state_digest(follower.view.state) == before
    assert len(follower.view.sentences) == growing.ledger.size
    assert not follower.refresh()


UNFIT = (
    lv.RoundSealedV1(run=RUN, round=10**6, updates=(), sentence="x"),
    lv.SiteInvitedV1(run="none", round=0, invitation=lv.Invitation(site="alps", allocation="a", num_steps=1)),
    lv.RunRevertedV1(run=RUN, to_round=10**6, operator="alice", command="c"),
    lv.StateRecordedV1(run=RUN, round=10**6, fragment=99, momentum_digest="", residual_digest=""),
    lv.RunApprovedV1(run="none", operator="alice", command="c"),
    lv.SiteAnsweredV1(run="none", site="x", manifest_digest="", accepted=True, reason=lv.Reason.NONE),
    lv.VerdictV1(run="none", round=1, site="alps", outcome=lv.Outcome.ADMITTED, reason=lv.Reason.NONE, sentence=""),
)


@pytest.mark.parametrize("body", UNFIT, ids=lambda body: type(body).__name__)
def test_no_leaf_that_does_not_fit_is_an_exception(made: Generated, body: lv.Body) -> None:
    follower = following(made)
    state = follower._fold(follower.view.state, 999, lv_bytes(body))
    assert state is follower.view.state
    assert len(follower.view.faults) == 1


def test_a_verdict_of_a_round_that_never_was_is_no_round(made: Generated) -> None:
    follower = following(made)
    body = lv.VerdictV1(
        run=RUN, round=10**6, site="alps", outcome=lv.Outcome.REJECTED, reason=lv.Reason.WRONG_ROUND, sentence=""
    )
    follower._fold(follower.view.state, 999, lv_bytes(body))
    assert follower.view.faults == ()
    assert 10**6 not in follower.view.times.rounds[RUN]


def lv_bytes(body: lv.Body) -> bytes:
    return leaf_to_bytes(lv.Leaf(at_us=NOW_US, body=body))


@pytest.mark.parametrize("data", [b"", b"\xff" * 40, b"\x08\x01", b"\x0a" * 3])
def test_a_leaf_of_another_release_is_said(made: Generated, data: bytes) -> None:
    follower = following(made)
    before = follower.view.state
    assert follower._fold(before, 999, data) is before
    assert "leaf 999 cannot be read" in follower.view.faults[0]


def test_reports_come_go_and_may_be_torn(growing: Generated) -> None:
    follower, fs = following(growing), RealFileSystem(growing.directory)
    seen = follower.view.observations.sites["alps"]
    observation_store.save(fs, "alps", replace(seen, received_at=NOW + 5))
    assert follower.refresh()
    assert follower.view.observations.sites["alps"].received_at == NOW + 5
    for junk in (b"", b'{"received_at": 17', b"[" * 10_000, b"\xff"):
        fs.place(f"{observation_store.STATUS}/alps.json", junk)
        follower.refresh()
        assert follower.view.observations.sites["alps"].received_at == NOW + 5
    observation_store.forget(fs, "alps")
    assert follower.refresh()
    assert "alps" not in follower.view.observations.sites


def test_bad_input_of_every_kind_is_no_exception(hostile: Generated) -> None:
    follower = following(hostile)
    assert follower.view.faults == ()
    assert set(follower.view.observations.sites) <= {*hostile.setting.sites, "large"}
    assert not follower.refresh()


def test_sentences_are_bounded(made: Generated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SENTENCES", 10)
    follower = following(made)
    assert len(follower.view.sentences) == 10
    assert follower.view.first_sentence == made.ledger.size - 10
