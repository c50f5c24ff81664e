# SPDX-License-Identifier: Apache-2.0
"""`federation verify` finds every lie of a coordinator that holds all keys, its witnesses' too, and signs anew."""

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from audit_bench import Bench, audit, bench_of, changed, expect, index_of
from lies import (
    Lie,
    abandoned_anyway,
    approved_twice,
    asked,
    drained_before,
    edit,
    empty_seal,
    evaluation_of_nobody,
    false_contribution,
    fewer_steps,
    halved,
    insert_after,
    invitations,
    invited_for,
    invited_later,
    invited_too_late,
    manifest_lie,
    many,
    missed_too_early,
    next_opening,
    off_by_one_bit,
    ordered,
    other_blob,
    other_plan,
    other_score,
    other_task_score,
    other_theta,
    paused,
    readmitted,
    repeated,
    revocation_of,
    revoked_before,
    sealed,
    sealed_anyway,
    signed_by_nobody,
    strange_fragment,
    strangers,
    swapped,
    tasks_of_nobody,
    without_rollback,
    without_seal,
    without_verdict,
)

from federation import leaves as lv
from federation import notes
from federation.leaves import Outcome, Reason
from federation.verify import Check, Verdict
from federation.verify.present import lines


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """P = 1."""
    return bench_of(tmp_path_factory.mktemp("one"), 1)


@pytest.fixture(scope="module")
def streaming(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """P = 2, with pauses by the decider."""
    return bench_of(tmp_path_factory.mktemp("two"), 2)


@pytest.fixture
def copy(bench: Bench, tmp_path: Path) -> Path:
    """A copy to be tampered with."""
    return bench.copy(tmp_path / "copy")


ADMITTED = {"outcome": Outcome.ADMITTED}
MALFORMED = {"outcome": Outcome.REJECTED, "reason": Reason.MALFORMED_PAYLOAD}
MISSED = {"outcome": Outcome.MISSED}

LIES: dict[str, tuple[Lie, Check, str]] = {
    "another weight": (sealed(halved), Check.ENDS, "weight of"),
    "a dropped update": (sealed(lambda updates: updates[1:]), Check.ENDS, "sealed sites"),
    "a payload counted twice": (sealed(swapped), Check.ENDS, "payload of"),
    "another quorum": (edit(lv.RoundSealedV1, sentence="3 of 3"), Check.ENDS, "sentence of the seal"),
    "another theta": (edit(lv.RoundCommittedV1, theta_digest="ab" * 32), Check.COMMITS, "theta_digest"),
    "another theta, reverted": (edit(lv.RoundCommittedV1, 1, theta_digest="ab" * 32), Check.COMMITS, "theta_digest"),
    "another blob": (other_blob, Check.COMMITS, "blob_digest"),
    "another blob size": (edit(lv.RoundCommittedV1, blob_bytes=1), Check.COMMITS, "blob_bytes"),
    "another numerics version": (edit(lv.RoundCommittedV1, numerics_version=2), Check.COMMITS, "numerics_version"),
    "another norm of g": (off_by_one_bit("aggregate_norm", lv.RoundCommittedV1), Check.COMMITS, "aggregate_norm"),
    "another norm of a site": (false_contribution("norm"), Check.COMMITS, "norm of the contribution"),
    "another cosine": (false_contribution("cosine"), Check.COMMITS, "cosine of the contribution"),
    "another momentum": (edit(lv.StateRecordedV1, momentum_digest="ab" * 32), Check.COMMITS, "momentum of"),
    "another residual": (edit(lv.StateRecordedV1, residual_digest="ab" * 32), Check.COMMITS, "residual of"),
    "another admitted norm": (off_by_one_bit("norm", lv.VerdictV1), Check.VERDICTS, "norm of the update"),
    "more tokens": (edit(lv.VerdictV1, 0, ADMITTED, weight_tokens=15), Check.UPDATES, "weight_tokens"),
    "an update of nobody": (signed_by_nobody, Check.UPDATES, "one that the site signed"),
    "a refused one admitted": (
        edit(lv.VerdictV1, 0, MALFORMED, outcome=Outcome.ADMITTED, reason=Reason.NONE),
        Check.VERDICTS,
        "rejected (malformed-payload)",
    ),
    "an admitted one refused": (
        edit(lv.VerdictV1, 0, ADMITTED, outcome=Outcome.REJECTED, reason=Reason.NORM_TOO_LARGE),
        Check.VERDICTS,
        "expected admitted (none)",
    ),
    "another reason": (edit(lv.VerdictV1, 0, MALFORMED, reason=Reason.NON_FINITE), Check.VERDICTS, "non-finite"),
    "invented equivocation": (
        insert_after(lv.VerdictV1, repeated, **ADMITTED),
        Check.VERDICTS,
        "it has one for this update",
    ),
    "missed too early": (missed_too_early, Check.VERDICTS, "more than 60 s"),
    "missed without a bound": (
        edit(lv.VerdictV1, 0, {"outcome": Outcome.MISSED}, reason=Reason.LATE),
        Check.VERDICTS,
        "missed by",
    ),
    "missed after a verdict": (
        insert_after(
            lv.VerdictV1,
            lambda leaf: lv.VerdictV1(
                run="run-1",
                round=leaf.body.round,
                site=leaf.body.site,
                outcome=Outcome.DECLINED,
                reason=Reason.LOSS_SPIKE,
                sentence="",
            ),
            **ADMITTED,
        ),
        Check.VERDICTS,
        "a site that an open round waits for",
    ),
    "a verdict on a stranger": (edit(lv.VerdictV1, site="site-z"), Check.VERDICTS, "one on a member"),
    "another learning rate": (edit(lv.RoundOpenedV1, -1, lr_position=0), Check.OPENINGS, "lr_position"),
    "another base": (edit(lv.RoundOpenedV1, -1, base_digest="ab" * 32), Check.OPENINGS, "base_digest"),
    "another window": (fewer_steps, Check.OPENINGS, "steps of"),
    "another quorum at the opening": (edit(lv.RoundOpenedV1, sentence="all"), Check.OPENINGS, "sentence"),
    "nobody invited": (edit(lv.RoundOpenedV1, -1, invitations=()), Check.OPENINGS, "quorum of the invited"),
    "a drained site invited": (drained_before, Check.OPENINGS, "drained"),
    "a revoked site invited": (revoked_before(lv.RoundOpenedV1, -1), Check.OPENINGS, "revoked"),
    "a revoked site admitted": (
        revoked_before(lv.VerdictV1, -1, **ADMITTED),
        Check.VERDICTS,
        "one that fits a site that is revoked",
    ),
    "a revoked site rejected for another reason": (
        revoked_before(lv.VerdictV1, **MALFORMED),
        Check.VERDICTS,
        "one that fits a site that is revoked",
    ),
    "a revoked site declared missing": (
        revoked_before(lv.VerdictV1, **MISSED),
        Check.VERDICTS,
        "one that fits a site that is revoked",
    ),
    "a verdict for a revocation that never was": (
        edit(lv.VerdictV1, 0, MISSED, outcome=Outcome.REJECTED, reason=Reason.REVOKED),
        Check.VERDICTS,
        "one that fits a site that is not revoked",
    ),
    "an answer of a revoked site": (revoked_before(lv.SiteAnsweredV1), Check.RUNS, "a site that is not revoked"),
    "an evaluation of a revoked site": (
        revoked_before(lv.EvaluationRecordedV1, -1),
        Check.EVALUATIONS,
        "a site that is not revoked",
    ),
    "revoked by another key": (
        insert_after(lv.RunStartedV1, lambda leaf: revocation_of("site-c", "ab" * 32)),
        Check.ROSTERS,
        "revocation of site-c: key",
    ),
    "a stranger revoked": (
        insert_after(lv.RunStartedV1, lambda leaf: revocation_of("site-z", "ab" * 32)),
        Check.ROSTERS,
        "a site of the roster in force",
    ),
    "readmitted without a new key": (readmitted(1, "ab" * 32), Check.ROSTERS, "readmission of site-a: key"),
    "readmitted by no roster": (readmitted(2, "ab" * 32), Check.ROSTERS, "roster version of the readmission"),
    "readmitted with the revoked key": (
        readmitted(1, revocation_of("site-a").key_digest),
        Check.LEAVES,
        "a leaf that fits those before it",
    ),
    "an order to end a round that goes on": (
        insert_after(lv.RoundOpenedV1, ordered),
        Check.ENDS,
        "its end to follow",
    ),
    "an invite for 31 days": (insert_after(lv.RunStartedV1, invited_for(31)), Check.COMMANDS, "validity of the invite"),
    "an invite that had expired": (insert_after(lv.RunStartedV1, invited_for(-1)), Check.COMMANDS, "validity of"),
    "a false later invitation": (invited_later, Check.OPENINGS, "steps of"),
    "a commit without a seal": (without_seal, Check.LEAVES, "a leaf that fits those before it"),
    "abandoned by nobody": (
        edit(lv.RoundAbandonedV1, reason=Reason.OPERATOR, sentence="abandoned by eve"),
        Check.COMMANDS,
        "abandonment",
    ),
    "abandoned for another reason": (edit(lv.RoundAbandonedV1, reason=Reason.DISK_FULL), Check.ENDS, "reason of"),
    "abandoned with a quorum": (
        edit(lv.RoundAbandonedV1, -1, reason=Reason.NO_QUORUM),
        Check.ENDS,
        "sentence of the abandonment",
    ),
    "paused for no reason": (
        insert_after(lv.RunStartedV1, paused(Reason.ABANDONED_TOO_OFTEN)),
        Check.ENDS,
        "0 rounds abandoned in a row",
    ),
    "paused too early": (insert_after(lv.RunStartedV1, paused(Reason.COULD_NOT_OPEN)), Check.ENDS, "without a round"),
    "completed early": (
        insert_after(lv.StateRecordedV1, lambda leaf: lv.RunCompletedV1(run="run-1")),
        Check.ENDS,
        "completion",
    ),
    "rolled back to nowhere": (edit(lv.RunRevertedV1, to_round=99), Check.ENDS, "round that is rolled back to"),
    "another plan": (other_plan, Check.RUNS, "evaluate_every"),
    "an answer to another manifest": (edit(lv.SiteAnsweredV1, manifest_digest="ab" * 32), Check.RUNS, "answered"),
    "an unknown operator": (edit(lv.RunStartedV1, operator="eve"), Check.COMMANDS, "operator"),
    "a command twice": (edit(lv.RunStartedV1, command="run-approve-1"), Check.COMMANDS, "each once"),
    "other sites": (edit(lv.RosterInstalledV1, sites=("site-a", "site-b")), Check.ROSTERS, "sites of roster"),
    "another score": (other_score, Check.EVALUATIONS, "scores of"),
    "a model that never was": (edit(lv.EvaluationRecordedV1, num_commits=3), Check.EVALUATIONS, "current once"),
}
LIES |= {
    "sealed without a quorum": (sealed_anyway, Check.ENDS, "quorum of the seal"),
    "sealed before a verdict": (without_verdict(lv.RoundSealedV1, -1), Check.ENDS, "expected every verdict"),
    "sealed before the grace": (
        without_verdict(lv.RoundSealedV1, -1, grace_seconds=10_000),
        Check.ENDS,
        "10000 s after the quorum",
    ),
    "abandoned before a verdict": (
        without_verdict(lv.RoundAbandonedV1, 1),
        Check.ENDS,
        "abandonment: expected every verdict",
    ),
    "abandoned despite a quorum": (abandoned_anyway, Check.ENDS, "an open round without a quorum"),
    "another signed update sealed": (
        sealed(lambda found: (replace(found[0], update_digest="ab" * 32), *found[1:])),
        Check.ENDS,
        "update of",
    ),
    "too many rounds at once": (insert_after(lv.RoundOpenedV1, next_opening), Check.OPENINGS, "1 rounds at most"),
    "two rounds of a fragment": (
        insert_after(lv.RoundOpenedV1, next_opening),
        Check.OPENINGS,
        "no other open round of fragment 0",
    ),
    "too many rounds": (insert_after(lv.RoundCommittedV1, next_opening, -1), Check.OPENINGS, "4 rounds in all"),
    "invited twice": (invitations(lambda found: (found[0], *found)), Check.OPENINGS, "invited sites"),
    "another allocation": (
        invitations(lambda found: (replace(found[0], allocation="all"), *found[1:])),
        Check.OPENINGS,
        "allocation of",
    ),
    "invited too late": (invited_too_late, Check.OPENINGS, "at most 150 s after the opening"),
    "members of no roster": (strangers, Check.RUNS, "members"),
    "a manifest against the rules": (
        manifest_lie(lambda m: replace(m, plan=replace(m.plan, witness_quorum=1))),
        Check.RUNS,
        "one that obeys every rule",
    ),
    "a manifest of another run": (manifest_lie(lambda m: replace(m, run="run-2")), Check.RUNS, "run of the manifest"),
    "a manifest of another consortium": (
        manifest_lie(lambda m: replace(m, consortium="other")),
        Check.RUNS,
        "consortium of the manifest",
    ),
    "another theta_0": (other_theta, Check.COMMITS, "theta_0"),
    "an answer of a stranger": (edit(lv.SiteAnsweredV1, site="site-z"), Check.RUNS, "one of a member"),
    "too many answers": (many(lv.SiteAnsweredV1, 16, lambda leaf: leaf.body), Check.RUNS, "at most 16"),
    "one operator's two approvals": (approved_twice, Check.COMMANDS, "each operator's once"),
    "a request out of order": (insert_after(lv.RunStartedV1, asked(2, (0,))), Check.EVALUATIONS, "number of the"),
    "a request for other versions": (insert_after(lv.RunStartedV1, asked(1, (9,))), Check.EVALUATIONS, "to evaluate"),
    "an answer to no request": (edit(lv.EvaluationRecordedV1, request=5), Check.EVALUATIONS, "those of request 5"),
    "an evaluation of a stranger": (edit(lv.EvaluationRecordedV1, site="site-z"), Check.EVALUATIONS, "of a member"),
    "an evaluation of nobody": (evaluation_of_nobody, Check.EVALUATIONS, "one that the site signed"),
    "another task score": (other_task_score, Check.EVALUATIONS, "scores of the task evaluation"),
    "a task score of nobody": (tasks_of_nobody, Check.EVALUATIONS, "one that the site signed"),
    "tasks of a stranger": (edit(lv.TasksEvaluatedV1, site="site-z"), Check.EVALUATIONS, "of a member"),
    "tasks without a score": (edit(lv.TasksEvaluatedV1, scores=()), Check.EVALUATIONS, "scores that a leaf may hold"),
    "tasks of a model that never was": (edit(lv.TasksEvaluatedV1, num_commits=3), Check.EVALUATIONS, "current once"),
    "tasks twice": (insert_after(lv.TasksEvaluatedV1, lambda leaf: leaf.body), Check.EVALUATIONS, "one of each model"),
    "an evaluation twice": (
        insert_after(lv.EvaluationRecordedV1, lambda leaf: leaf.body),
        Check.EVALUATIONS,
        "one of each model",
    ),
    "too many verdicts": (many(lv.VerdictV1, 4, repeated, **ADMITTED), Check.VERDICTS, "at most 4 in a round"),
    "missed with figures": (edit(lv.VerdictV1, 0, MISSED, new_tokens=5), Check.VERDICTS, "no figures of an update"),
    "fewer contributions": (edit(lv.RoundCommittedV1, contributions=()), Check.COMMITS, "contributions"),
    "no rollback": (without_rollback, Check.ENDS, "the rollback to follow"),
    "a strange fragment": (strange_fragment, Check.LEAVES, "a leaf that fits those before it"),
    "a digest that is none": (edit(lv.RoundCommittedV1, blob_digest=""), Check.BLOBS, "64 hexadecimal"),
    "a command without an id": (edit(lv.RunStartedV1, command=""), Check.COMMANDS, "command id"),
    "an empty seal": (empty_seal, Check.COMMITS, "a commit that can be computed"),
    "no tokens": (edit(lv.VerdictV1, 1, ADMITTED, weight_tokens=0), Check.LEAVES, "at least 1 token"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_signed_lie_is_found(bench: Bench, copy: Path, name: str) -> None:
    lie, check, what = LIES[name]
    leaves, index = lie(bench.leaves(copy), copy)
    bench.rewrite(copy, lambda _: leaves)
    expect(audit(bench, copy, anchored=False), check, what, None if check is Check.LEAVES else index)


@pytest.mark.parametrize("name", ["another weight", "another theta", "another cosine", "another momentum"])
def test_a_signed_lie_is_found_in_a_streaming_run(streaming: Bench, tmp_path: Path, name: str) -> None:
    copy = streaming.copy(tmp_path / "copy")
    lie, check, what = LIES[name]
    leaves, index = lie(streaming.leaves(copy), copy)
    streaming.rewrite(copy, lambda _: leaves)
    expect(audit(streaming, copy, anchored=False), check, what, index)


def test_a_leaf_of_another_release_leaves_the_audit_incomplete(bench: Bench, copy: Path) -> None:
    ledger = bench.ledger(copy)
    ledger._grow([b"from the future"], ledger._signed)
    ledger.close()
    report = audit(bench, copy)
    assert report.verdict is Verdict.INCOMPLETE, "\n".join(lines(report))
    assert [gap.place.leaf for gap in report.findings.gaps] == [ledger.size - 1]


def test_a_later_invitation_into_an_older_round_is_found(streaming: Bench, tmp_path: Path) -> None:
    copy = streaming.copy(tmp_path / "copy")
    leaves = streaming.leaves(copy)
    first = index_of(leaves, lv.RoundOpenedV1)
    assert isinstance(leaves[first + 1].body, lv.RoundOpenedV1), "two rounds open at once"
    *rest, last = leaves[first].body.invitations
    leaves = changed(leaves, first, invitations=tuple(rest))
    body = lv.SiteInvitedV1(run="run-1", round=leaves[first].body.round, invitation=last)
    leaves = [*leaves[: first + 2], replace(leaves[first], body=body), *leaves[first + 2 :]]
    streaming.rewrite(copy, lambda _: leaves)
    expect(audit(streaming, copy, anchored=False), Check.OPENINGS, "round that is joined", first + 2)


def test_a_note_of_another_ledger_among_the_cosigned_is_found(bench: Bench, copy: Path) -> None:
    origin = notes.default_origin(bench.keys.name)
    checkpoint = notes.peek_checkpoint((copy / "ledger/checkpoint").read_bytes())
    false = notes.sign_checkpoint(checkpoint, origin, bench.keys.key("nobody"))
    record = struct.pack(">II", len(false), zlib.crc32(false)) + false
    with (copy / "ledger/cosigned.seg").open("ab") as file:
        file.write(struct.pack(">II", len(record), zlib.crc32(record)) + record)
    expect(audit(bench, copy), Check.COSIGNATURES, "one signed by the ledger's key")
