# SPDX-License-Identifier: Apache-2.0
"""A site that lacks too many commits asks for a snapshot, uses it once it is here, and never waits for what is past."""

import pytest
from agent_situations import MANIFEST, RUN, SITE, THETA, Situation, digest_of

from federation import leaves as lv
from federation.durable.simulated import SimulatedFileSystem
from federation.errors import ProtocolError
from federation.leaves import Reason
from federation.messages import Snapshot, SnapshotWanted
from site_agent import instructions as do
from site_agent import layout, snapshots
from site_agent.catch_up import MAX_MISSING_COMMITS
from site_agent.entries import AllocationEnded, AllocationSubmitted, Posted, RoundRefused
from site_agent.observations import OutcomeSeen, SnapshotSeen

WHOLE = digest_of("snapshot")


def late(num_rounds: int, **plan: object) -> Situation:
    """A ready job, and rounds that were committed without this site."""
    s = Situation(witness_lag=99, num_rounds=99, **plan).started()
    s.settle()
    s.journal(AllocationSubmitted(run=RUN, number=1, handle="h1", at_us=s.now_us), Posted(key=f"answer/{RUN}/1"))
    s.job(evaluations=((0, 0, (0,) * s.plan.num_fragments),))
    for number in range(num_rounds):
        s.opened(number, sites=("beta",)).committed(number)
    return s


def held(s: Situation, version: int, *, fragment: int = 0, usable: bool = True, digest: str = WHOLE) -> Situation:
    """The snapshot of a version is durable here."""
    seen = SnapshotSeen(version=version, blob_digest=digest, usable=usable)
    return s.see(snapshots={**s.seen.snapshots, (RUN, fragment): seen})


def wanted(s: Situation) -> list[tuple[int, int]]:
    return [(w.fragment, w.version) for w in s.report().status.snapshots_wanted]


def blobs_wanted(s: Situation) -> set[int]:
    """Rounds whose commit blobs are asked for."""
    names = {digest_of("blob", number): number for number in range(40)}
    return {names[digest] for digest in s.report().status.blobs_wanted}


def outcomes(s: Situation) -> list[do.WriteOutcome]:
    return [i for i in s.pending() if isinstance(i, do.WriteOutcome)]


def told(s: Situation) -> Situation:
    """All outcomes that can be written are written."""
    for o in outcomes(s):
        seen = OutcomeSeen(
            kind=o.kind, theta_digest=o.theta_digest, has_blob=bool(o.blob_digest), snapshot=o.snapshot_digest
        )
        s.see(outcomes={**s.seen.outcomes, (RUN, o.round): seen})
    return s


# --- asking -----------------------------------------------------------------------------------------------------------


def test_a_short_chain_is_fetched_commit_by_commit() -> None:
    s = late(MAX_MISSING_COMMITS)
    assert wanted(s) == []
    assert blobs_wanted(s) == set(range(MAX_MISSING_COMMITS))


def test_of_a_long_chain_the_head_is_wanted_whole() -> None:
    s = late(12)
    assert s.report().status.snapshots_wanted == (SnapshotWanted(run=RUN, fragment=0, version=12),)
    assert blobs_wanted(s) == set()
    s.opened(12, sites=("beta",)).committed(12)
    assert wanted(s) == [(0, 13)]


def test_commits_that_are_here_do_not_count() -> None:
    s = late(12).blobs(0, 1, 2, 3)
    assert wanted(s) == []
    assert blobs_wanted(s) == set(range(4, 12))


def test_what_merges_after_the_window_begins_comes_as_a_blob() -> None:
    s = late(24, num_fragments=2, tau=2)  # round 23 merges at the end of window 24
    assert wanted(s) == [(0, 23), (1, 22)]
    assert blobs_wanted(s) == {23}


def test_an_invitation_says_which_window_comes_next() -> None:
    s = late(22, num_fragments=2, tau=2).opened(22).opened(23, sites=("beta",)).committed(23)
    assert wanted(s) == [(0, 21), (1, 20)]
    s.journal(RoundRefused(run=RUN, round=22, reason=Reason.LATE, sentence=""))
    assert wanted(s) == [(0, 21), (1, 22)]


def test_nobody_asks_for_a_run_that_was_not_accepted_or_is_over() -> None:
    s = late(12)
    assert wanted(s.leaf(lv.RunAbortedV1(run=RUN, operator="o", command="a"))) == []
    s = Situation().started()
    for number in range(12):
        s.opened(number, sites=("beta",)).committed(number)
    assert wanted(s) == []


# --- using it ---------------------------------------------------------------------------------------------------------


def test_the_outcomes_before_a_snapshot_need_no_blobs() -> None:
    s = held(late(12), 11)
    assert wanted(s) == []
    assert blobs_wanted(s) == {11}
    found = outcomes(s)
    assert [(o.round, o.blob_digest, o.snapshot_digest) for o in found[:10]] == [(n, "", "") for n in range(10)]
    assert (found[10].round, found[10].blob_digest, found[10].snapshot_digest) == (10, "", WHOLE)
    assert len(found) == 11
    (last,) = outcomes(told(s).blobs(11))
    assert (last.round, last.blob_digest, last.snapshot_digest) == (11, digest_of("blob", 11), "")
    assert outcomes(told(s)) == []


def test_the_witness_rule_holds_for_snapshots_too() -> None:
    s = held(late(12), 12)
    s.see(witnessed={})
    assert [o.round for o in outcomes(s)] == list(range(11))


def test_a_round_is_entered_from_the_snapshot() -> None:
    s = held(late(12), 12).opened(12)
    assert s.settle() == []  # its outcomes are not written yet
    told(s).settle()
    (order,) = [i for i in s.pending() if isinstance(i, do.IssueRound)]
    assert (order.round, order.base_version) == (12, 12)


def test_a_round_that_began_before_the_snapshot_is_declined() -> None:
    s = late(22, num_fragments=2, tau=2).opened(22).opened(23, sites=("beta",)).committed(23)
    held(held(s, 21), 24, fragment=1, digest=digest_of("other"))
    (refused,) = s.settle()
    assert isinstance(refused, RoundRefused)
    assert (refused.round, refused.reason) == (22, Reason.LATE)


def test_a_rollback_makes_a_snapshot_void() -> None:
    s = told(held(late(12), 12))
    s.leaf(lv.RunRevertedV1(run=RUN, to_round=3, operator="o", command="r"))
    assert blobs_wanted(s) == {0, 1, 2, 3}
    told(s).blobs(0, 1, 2, 3)
    committed = [(o.round, o.blob_digest) for o in outcomes(s) if o.kind == "committed"]
    assert committed == [(n, digest_of("blob", n)) for n in range(4)]


def test_models_older_than_the_snapshot_are_left_to_others() -> None:
    s = told(held(late(12, evaluate_every=3), 12))
    orders = [i for i in s.pending() if isinstance(i, do.IssueEvaluation)]
    assert [o.versions for o in orders] == [(12,)]
    (chain,) = orders[0].chains
    assert [(link.version, link.blob_digest, link.snapshot_digest) for link in chain] == [(12, "", WHOLE)]
    s.leaf(lv.RunCompletedV1(run=RUN))
    done = ((0, 0, (0,)), (0, 12, (12,)))
    s.job(evaluations=done)
    scored = [lv.LanguageScore(language="de", bits_per_byte=1.0, num_bytes=1)]
    for _, commits, versions in done:
        recorded = lv.EvaluationRecordedV1(
            run=RUN,
            site=SITE,
            request=0,
            num_commits=commits,
            versions=versions,
            scores=tuple(scored),
            evidence_digest=MANIFEST,
        )
        s.leaf(recorded)
    assert "AllocationStopped" in [type(e).__name__ for e in s.settle()]


# --- what cannot be used ----------------------------------------------------------------------------------------------


def test_after_a_refusal_the_chain_is_fetched_and_told_anew() -> None:
    s = told(held(late(12), 12))
    refused = AllocationEnded(run=RUN, number=1, failed=True, reason="snapshot-refused", sentence="", at_us=s.now_us)
    s.journal(refused).no_job()
    assert wanted(s) == []
    assert blobs_wanted(s) == set(range(12))
    assert outcomes(s) == []
    s.blobs(*range(11)).opened(12)
    assert [o.round for o in outcomes(s)] == list(range(11))
    told(s).later(11).settle()
    s.job(2)
    assert [e for e in s.settle() if type(e).__name__ == "RoundIssued"] == []  # round 11 still tells of the snapshot
    told(s.blobs(11))
    s.leaf(lv.VerdictV1(run=RUN, round=12, site=SITE, outcome=lv.Outcome.MISSED, reason=Reason.LATE, sentence=""))
    assert all(o.has_blob and not o.snapshot for o in s.seen.outcomes.values())


@pytest.mark.parametrize("digest", [WHOLE, ""], ids=["wrong length", "none to be had"])
def test_an_unusable_snapshot_sends_the_site_to_the_chain(digest: str) -> None:
    s = held(late(12), 12, usable=False, digest=digest)
    assert wanted(s) == []
    assert blobs_wanted(s) == set(range(12))
    assert outcomes(s) == []
    assert THETA in s.seen.blobs


# --- notes ------------------------------------------------------------------------------------------------------------


def pointer(version: int, **changes: object) -> Snapshot:
    fields = {"run": RUN, "fragment": 0, "version": version, "blob_digest": digest_of(version), **changes}
    return Snapshot(**fields)  # type: ignore[arg-type]


def test_a_pointer_is_kept_durably_and_an_older_one_does_not_replace_it() -> None:
    s, fs = late(12), SimulatedFileSystem()
    fs.mkdir(layout.run_paths(RUN).snapshots)
    snapshots.note(fs, s.federation, pointer(10))
    snapshots.note(fs, s.federation, pointer(12))
    snapshots.note(fs, s.federation, pointer(11))
    fs = fs.crash()
    assert [(p, n.version) for p, n in snapshots.noted(fs, RUN)] == [(0, 12)]
    s.leaf(lv.RunRevertedV1(run=RUN, to_round=10, operator="o", command="r"))
    snapshots.note(fs, s.federation, pointer(11))
    assert [(p, n.version) for p, n in snapshots.noted(fs, RUN)] == [(0, 11)]


@pytest.mark.parametrize("changes", [{"run": "run-2"}, {"fragment": 1}])
def test_a_pointer_to_nothing_is_refused(changes: dict[str, object]) -> None:
    fs = SimulatedFileSystem()
    with pytest.raises(ProtocolError, match="no such thing"):
        snapshots.note(fs, late(1).federation, pointer(1, **changes))
    assert list(snapshots.noted(fs, RUN)) == []


def test_a_damaged_note_is_none() -> None:
    fs = SimulatedFileSystem()
    fs.write(layout.run_paths(RUN).snapshot(0), b"{")
    assert list(snapshots.noted(fs, RUN)) == []
