# SPDX-License-Identifier: Apache-2.0
"""Lies of a dishonest coordinator: each gives false leaves, and the index of the one that must be named."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from audit_bench import blob_of, changed, index_of, is_verdict, put_blob
from safetensors.numpy import load, save
from simulator.settings import consortium

from federation import dsse, signing, wire
from federation import leaves as lv
from federation.leaves import Leaf, Outcome, Reason
from federation.manifest import Manifest
from federation.wire import manifest_from_bytes

Lie = Callable[[list[Leaf], Path], tuple[list[Leaf], int]]
"""Gives the false leaves, and the index of the one that must be named."""


def edit(kind: type, nth: int = 0, values: dict[str, object] | None = None, **new: object) -> Lie:
    """Other values in the n-th leaf of a kind (with these values)."""

    def lie(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
        index = index_of(leaves, kind, nth, **(values or {}))
        return changed(leaves, index, **new), index

    return lie


def insert_after(kind: type, make: Callable[[Leaf], lv.Body], nth: int = 0, **values: object) -> Lie:
    """One leaf more."""

    def lie(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
        index = index_of(leaves, kind, nth, **values)
        new = replace(leaves[index], body=make(leaves[index]))
        return [*leaves[: index + 1], new, *leaves[index + 1 :]], index + 1

    return lie


def sealed(change: Callable[[tuple[lv.SealedUpdate, ...]], tuple[lv.SealedUpdate, ...]]) -> Lie:
    """Another list in a seal."""

    def lie(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
        index = index_of(leaves, lv.RoundSealedV1, -1)
        return changed(leaves, index, updates=change(leaves[index].body.updates)), index

    return lie


def nudged(value: float) -> float:
    """The next fp64 number."""
    return float(np.nextafter(value, np.inf))


def off_by_one_bit(name: str, kind: type) -> Lie:
    """A figure that differs in its last place."""

    def lie(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
        values = {"outcome": Outcome.ADMITTED} if kind is lv.VerdictV1 else {}
        index = index_of(leaves, kind, **values)
        return changed(leaves, index, **{name: nudged(getattr(leaves[index].body, name))}), index

    return lie


def false_contribution(name: str) -> Lie:
    """A site's norm or cosine that differs in its last place."""

    def lie(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
        index = index_of(leaves, lv.RoundCommittedV1)
        first, *rest = leaves[index].body.contributions
        first = replace(first, **{name: nudged(getattr(first, name))})
        return changed(leaves, index, contributions=(first, *rest)), index

    return lie


def other_blob(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
    """A commit that names the blob of another one."""
    index, other = index_of(leaves, lv.RoundCommittedV1, 0), index_of(leaves, lv.RoundCommittedV1, 1)
    return changed(leaves, index, blob_digest=leaves[other].body.blob_digest), index


def signed_by_nobody(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
    """A verdict on an update that the coordinator made up, with a key of its own."""
    index = index_of(leaves, lv.VerdictV1, outcome=Outcome.ADMITTED)
    data = blob_of(copy, leaves[index].body.update_digest).read_bytes()
    payload = dsse.peek_payload(data, dsse.UPDATE_TYPE)
    forged = put_blob(copy, dsse.sign_envelope(dsse.UPDATE_TYPE, payload, signing.generate_key()))
    return changed(leaves, index, update_digest=forged), index


def missed_too_early(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
    """A site that was declared missing before its bound had passed."""
    index = index_of(leaves, lv.VerdictV1, outcome=Outcome.MISSED, reason=Reason.NO_ANSWER)
    opened = index_of(leaves, lv.RoundOpenedV1, round=leaves[index].body.round)
    early = replace(leaves[index], at_us=leaves[opened].at_us + 1_000_000)
    return [*leaves[:index], early, *leaves[index + 1 :]], index


def repeated(leaf: Leaf) -> lv.Body:
    """A verdict once more, as if the site had signed something else."""
    return replace(leaf.body, outcome=Outcome.EQUIVOCATION, reason=Reason.SECOND_DIGEST, norm=0.0)


def other_plan(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
    """A plan that is not the manifest's."""
    index = index_of(leaves, lv.RunCreatedV1)
    return changed(leaves, index, plan=replace(leaves[index].body.plan, evaluate_every=3)), index


def fewer_steps(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
    """An invitation to another window."""
    index = index_of(leaves, lv.RoundOpenedV1, -1)
    first, *rest = leaves[index].body.invitations
    return changed(leaves, index, invitations=(replace(first, num_steps=1), *rest)), index


def invited_later(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
    """A site that joins for another window than its own."""
    index = index_of(leaves, lv.RoundOpenedV1)
    *rest, last = leaves[index].body.invitations
    leaves = changed(leaves, index, invitations=tuple(rest))
    body = lv.SiteInvitedV1(run="run-1", round=leaves[index].body.round, invitation=replace(last, num_steps=1))
    return [*leaves[: index + 1], replace(leaves[index], body=body), *leaves[index + 1 :]], index + 1


def without_seal(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
    """A commit of a round that was never sealed."""
    index = index_of(leaves, lv.RoundSealedV1)
    return [*leaves[:index], *leaves[index + 1 :]], index


def other_score(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
    """A better score than the site signed."""
    index = index_of(leaves, lv.EvaluationRecordedV1)
    first, *rest = leaves[index].body.scores
    return changed(leaves, index, scores=(replace(first, bits_per_byte=1.0), *rest)), index


def drained_before(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
    """An invitation of a site that an operator had drained."""
    index = index_of(leaves, lv.RoundOpenedV1, -1)
    body = lv.SiteDrainedV1(site="site-a", operator="olga", command="drain-1")
    drain = replace(leaves[index], body=body)
    return [*leaves[:index], drain, *leaves[index:]], index + 1


def revocation_of(site: str, key: str = "") -> lv.SiteRevokedV1:
    """A revocation by an operator, of the key that the roster gives the site unless another one is given."""
    key = key or signing.key_id(consortium(3).public(f"site/{site}/update"))
    return lv.SiteRevokedV1(site=site, key_digest=key, operator="olga", command="revoke-1")


def revoked_before(kind: type, nth: int = 0, **values: object) -> Lie:
    """Something about a site that an operator had revoked: the first that is invited, or the one that it is about."""

    def lie(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
        index = index_of(leaves, kind, nth, **values)
        body = leaves[index].body
        site = getattr(body, "site", "") or body.invitations[0].site
        revoked = replace(leaves[index], body=revocation_of(site))
        return [*leaves[:index], revoked, *leaves[index:]], index + 1

    return lie


def readmitted(version: int, key: str) -> Lie:
    """A revoked site that comes back."""

    def lie(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
        last = leaves[-1]
        body = lv.SiteReadmittedV1(site="site-a", key_digest=key, roster_version=version)
        return [*leaves, replace(last, body=revocation_of("site-a")), replace(last, body=body)], len(leaves) + 1

    return lie


def ordered(leaf: Leaf) -> lv.Body:
    """An operator's order to end a round, which then goes on."""
    return lv.RoundAbandonOrderedV1(run="run-1", round=leaf.body.round, operator="olga", command="end-1")


def invited_for(days: int) -> Callable[[Leaf], lv.Body]:
    """An invite that is good for so many days."""
    return lambda leaf: lv.InviteIssuedV1(
        kind=lv.PartyKind.SITE,
        party="site-d",
        token_digest="ab" * 32,
        expires_at_us=leaf.at_us + days * 24 * 3600 * 1_000_000,
        operator="olga",
        command="invite-1",
    )


def paused(reason: Reason) -> Callable[[Leaf], lv.Body]:
    """A pause of which the decider says that it had this reason."""
    return lambda leaf: lv.RunPausedV1(run="run-1", operator="", command="", reason=reason, sentence="")


def halved(updates: tuple[lv.SealedUpdate, ...]) -> tuple[lv.SealedUpdate, ...]:
    """The first one counts half."""
    return (replace(updates[0], weight=updates[0].weight / 2), *updates[1:])


def swapped(updates: tuple[lv.SealedUpdate, ...]) -> tuple[lv.SealedUpdate, ...]:
    """The first one's payload counts twice."""
    return (updates[0], replace(updates[1], payload_digest=updates[0].payload_digest), *updates[2:])


def with_manifest(make: Callable[[Manifest], Manifest], leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
    """Another manifest, named by all leaves as if it had been so from the start."""
    index = index_of(leaves, lv.RunCreatedV1)
    old = leaves[index].body.manifest_digest
    manifest = make(manifest_from_bytes(blob_of(copy, old).read_bytes()))
    digest = put_blob(copy, wire.manifest_to_bytes(manifest))
    for number, leaf in enumerate(leaves):
        if getattr(leaf.body, "manifest_digest", "") == old:
            leaves = changed(leaves, number, manifest_digest=digest)
    return changed(leaves, index, plan=manifest.plan), index


def manifest_lie(make: Callable[[Manifest], Manifest]) -> Lie:
    """A manifest that should never have been accepted."""
    return lambda leaves, copy: with_manifest(make, leaves, copy)


def other_theta(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
    """theta_0 is another model than the manifest's digests say."""
    manifest = manifest_from_bytes(blob_of(copy, leaves[1].body.manifest_digest).read_bytes())
    tensors = {name: value + 1 for name, value in load(blob_of(copy, manifest.theta_blob).read_bytes()).items()}
    blob = put_blob(copy, save(tensors))
    return with_manifest(lambda m: replace(m, theta_blob=blob), leaves, copy)


def without_verdict(kind: type, nth: int, grace_seconds: int = 0) -> Lie:
    """A round that ended without waiting for the site that the leaf before was about."""

    def lie(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
        if grace_seconds:
            leaves, _ = with_manifest(lambda m: replace(m, plan=graceful(m.plan, grace_seconds)), leaves, copy)
        index = index_of(leaves, kind, nth)
        end = leaves[index].body
        last = max(n for n, leaf in enumerate(leaves[:index]) if is_verdict(leaf) and leaf.body.round == end.round)
        assert leaves[last].body.outcome is Outcome.MISSED
        return [*leaves[:last], *leaves[last + 1 :]], index - 1

    return lie


def graceful(plan: lv.Plan, seconds: int) -> lv.Plan:
    """The plan with a grace between quorum and seal."""
    return replace(plan, bounds=replace(plan.bounds, seal_grace_seconds=seconds))


def sealed_anyway(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
    """A round without a quorum that was sealed."""
    index = index_of(leaves, lv.RoundAbandonedV1, reason=Reason.NO_QUORUM)
    end = leaves[index].body
    only = next(leaf.body for leaf in leaves if is_verdict(leaf) and leaf.body.round == end.round and admits(leaf))
    update = lv.SealedUpdate(
        site=only.site, weight=1.0, update_digest=only.update_digest, payload_digest=only.payload_digest
    )
    body = lv.RoundSealedV1(run="run-1", round=end.round, updates=(update,), sentence=end.sentence)
    return [*leaves[:index], replace(leaves[index], body=body), *leaves[index + 1 :]], index


def admits(leaf: Leaf) -> bool:
    """Whether a verdict admits."""
    return leaf.body.outcome is Outcome.ADMITTED


def abandoned_anyway(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
    """A round with a quorum that was abandoned."""
    index = index_of(leaves, lv.RoundSealedV1)
    seal = leaves[index].body
    body = lv.RoundAbandonedV1(run="run-1", round=seal.round, reason=Reason.NO_QUORUM, sentence=seal.sentence)
    return [*leaves[:index], replace(leaves[index], body=body), *leaves[index + 1 :]], index


def invitations(change: Callable[[tuple[lv.Invitation, ...]], tuple[lv.Invitation, ...]]) -> Lie:
    """Other invitations in an opening."""

    def lie(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
        index = index_of(leaves, lv.RoundOpenedV1, -1)
        return changed(leaves, index, invitations=change(leaves[index].body.invitations)), index

    return lie


def invited_too_late(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
    """A site that joins when the round should long have ended."""
    leaves, index = invited_later(leaves, copy)
    late = replace(leaves[index], at_us=leaves[index].at_us + 151_000_000)
    return [*leaves[:index], late, *leaves[index + 1 :]], index


def next_opening(leaf: Leaf) -> lv.Body:
    """One more round, in the place of whatever comes next."""
    number = leaf.body.round + 1
    return lv.RoundOpenedV1(
        run="run-1",
        round=number,
        fragment=0,
        base_version=0,
        base_digest="ab" * 32,
        lr_position=0,
        invitations=(),
        sentence="",
    )


def evaluation_of_nobody(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
    """An evaluation that the coordinator made up."""
    index = index_of(leaves, lv.EvaluationRecordedV1)
    data = blob_of(copy, leaves[index].body.evidence_digest).read_bytes()
    payload = dsse.peek_payload(data, dsse.EVALUATION_TYPE)
    forged = put_blob(copy, dsse.sign_envelope(dsse.EVALUATION_TYPE, payload, signing.generate_key()))
    return changed(leaves, index, evidence_digest=forged), index


def other_task_score(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
    """A better score of a task than the site signed, with an interval that fits."""
    index = index_of(leaves, lv.TasksEvaluatedV1)
    first, *rest = leaves[index].body.scores
    return changed(leaves, index, scores=(replace(first, score=0.99, high=1.0), *rest)), index


def tasks_of_nobody(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
    """Scores of tasks that the coordinator made up."""
    index = index_of(leaves, lv.TasksEvaluatedV1)
    data = blob_of(copy, leaves[index].body.evidence_digest).read_bytes()
    payload = dsse.peek_payload(data, dsse.TASKS_TYPE)
    forged = put_blob(copy, dsse.sign_envelope(dsse.TASKS_TYPE, payload, signing.generate_key()))
    return changed(leaves, index, evidence_digest=forged), index


def many(kind: type, count: int, make: Callable[[Leaf], lv.Body], **values: object) -> Lie:
    """The same leaf again and again; the last one is too many."""

    def lie(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
        index = index_of(leaves, kind, **values)
        new = [replace(leaves[index], body=make(leaves[index]))] * count
        return [*leaves[: index + 1], *new, *leaves[index + 1 :]], index + count

    return lie


def asked(request: int, versions: tuple[int, ...]) -> Callable[[Leaf], lv.Body]:
    """An operator's request for an evaluation."""
    return lambda leaf: lv.EvaluationRequestedV1(
        run="run-1", request=request, versions=versions, operator="olga", command="evaluate-1"
    )


def reapproved(leaf: Leaf) -> lv.Body:
    """The same operator's second approval."""
    return replace(leaf.body, command="run-approve-2")


def approved_twice(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
    """One operator counts for two."""
    leaves, _ = with_manifest(lambda m: replace(m, plan=replace(m.plan, approvals_required=2)), leaves, copy)
    return insert_after(lv.RunApprovedV1, reapproved)(leaves, copy)


def without_rollback(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
    """Rounds abandoned for a rollback that never came."""
    index = index_of(leaves, lv.RunRevertedV1)
    return [*leaves[:index], *leaves[index + 1 :]], index - 1


def strange_fragment(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
    """A round of a fragment that there is not."""
    index = index_of(leaves, lv.RoundOpenedV1, 1)
    commit = index_of(leaves, lv.RoundCommittedV1)
    return changed(leaves, index, fragment=7), commit


def empty_seal(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
    """A commit of nothing."""
    leaves = changed(leaves, index_of(leaves, lv.RoundSealedV1), updates=())
    return leaves, index_of(leaves, lv.RoundCommittedV1)


def strangers(leaves: list[Leaf], copy: Path) -> tuple[list[Leaf], int]:
    """A run of sites that the roster does not name."""
    return changed(leaves, 0, sites=("site-a",)), index_of(leaves, lv.RunCreatedV1)
