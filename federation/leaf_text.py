# SPDX-License-Identifier: Apache-2.0
"""Leaves as one human sentence each, for logs, `run watch` and every view of the ledger."""

from functools import singledispatch
from typing import Final

from federation import leaves as lv
from federation.durations import count
from federation.ids import short

_MAX_SCORES_TOLD: Final = 6


@singledispatch
def sentence(body: object) -> str:
    """What a leaf says, in words."""
    return type(body).__name__


@sentence.register
def _(body: lv.RosterInstalledV1) -> str:
    return f"roster version {body.version} with {count(len(body.sites), 'site')} is in force"


@sentence.register
def _(body: lv.RunCreatedV1) -> str:
    sites = ", ".join(m.site for m in body.plan.members)
    return f"run {body.run}: created by {body.operator} for {count(body.plan.num_rounds, 'round')} at {sites}"


@sentence.register
def _(body: lv.RunApprovedV1) -> str:
    return f"run {body.run}: approved by {body.operator}"


@sentence.register
def _(body: lv.RunStartedV1) -> str:
    return f"run {body.run}: started by {body.operator}"


@sentence.register
def _(body: lv.RunPausedV1) -> str:
    return f"run {body.run}: PAUSED ({body.reason.value}): {body.sentence}"


@sentence.register
def _(body: lv.RunResumedV1) -> str:
    return f"run {body.run}: resumed by {body.operator}"


@sentence.register
def _(body: lv.RunAbortedV1) -> str:
    return f"run {body.run}: aborted by {body.operator}"


@sentence.register
def _(body: lv.RunCompletedV1) -> str:
    return f"run {body.run}: completed"


@sentence.register
def _(body: lv.RunRevertedV1) -> str:
    return f"run {body.run}: rolled back to round {body.to_round} by {body.operator}"


@sentence.register
def _(body: lv.SiteAnsweredV1) -> str:
    answer = "accepted" if body.accepted else f"declined ({body.reason.value})"
    return f"run {body.run}: {body.site} {answer} the manifest"


@sentence.register
def _(body: lv.SiteDrainedV1) -> str:
    return f"site {body.site}: drained by {body.operator}"


@sentence.register
def _(body: lv.SiteResumedV1) -> str:
    return f"site {body.site}: resumed by {body.operator}"


@sentence.register
def _(body: lv.InviteIssuedV1) -> str:
    return f"{body.kind.value} {body.party}: invited to enrol by {body.operator}"


@sentence.register
def _(body: lv.SiteRevokedV1) -> str:
    return f"site {body.site}: revoked by {body.operator}, key {short(body.key_digest)}"


@sentence.register
def _(body: lv.SiteReadmittedV1) -> str:
    return f"site {body.site}: readmitted by roster version {body.roster_version} with key {short(body.key_digest)}"


@sentence.register
def _(body: lv.RoundAbandonOrderedV1) -> str:
    return f"run {body.run} round {body.round}: {body.operator} orders its end"


@sentence.register
def _(body: lv.RoundOpenedV1) -> str:
    return f"run {body.run} round {body.round}: opened for fragment {body.fragment}: {body.sentence}"


@sentence.register
def _(body: lv.SiteInvitedV1) -> str:
    return f"run {body.run} round {body.round}: {body.invitation.site} joined late"


@sentence.register
def _(body: lv.VerdictV1) -> str:
    why = f" ({body.reason.value}): {body.sentence}" if body.reason is not lv.Reason.NONE else ""
    return f"run {body.run} round {body.round}: {body.site} {body.outcome.value}{why}"


@sentence.register
def _(body: lv.RoundSealedV1) -> str:
    return f"run {body.run} round {body.round}: sealed with {len(body.updates)} updates: {body.sentence}"


@sentence.register
def _(body: lv.RoundCommittedV1) -> str:
    theta = short(body.theta_digest)
    return f"run {body.run} round {body.round}: committed, theta {theta}, {body.blob_bytes} bytes"


@sentence.register
def _(body: lv.StateRecordedV1) -> str:
    return f"run {body.run} round {body.round}: momentum {short(body.momentum_digest)} recorded"


@sentence.register
def _(body: lv.RoundAbandonedV1) -> str:
    return f"run {body.run} round {body.round}: ABANDONED ({body.reason.value}): {body.sentence}"


@sentence.register
def _(body: lv.EvaluationRequestedV1) -> str:
    return f"run {body.run}: evaluation {body.request} requested by {body.operator}"


@sentence.register
def _(body: lv.EvaluationRecordedV1) -> str:
    scores = ", ".join(f"{s.language} {s.bits_per_byte:.3f}" for s in body.scores)
    model = f"the model of {count(body.num_commits, 'commit')}"
    return f"run {body.run}: {body.site} evaluated {model}, bits per byte: {scores}"


@sentence.register
def _(body: lv.TasksEvaluatedV1) -> str:
    shown = [f"{s.task} {s.language} {s.metric} {s.score:.3f}" for s in body.scores[:_MAX_SCORES_TOLD]]
    more = len(body.scores) - len(shown)
    scores = ", ".join(shown) + (f" and {more} more" if more else "")
    return (
        f"run {body.run}: {body.site} evaluated tasks with the model of {count(body.num_commits, 'commit')}: {scores}"
    )
