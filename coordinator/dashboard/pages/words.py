# SPDX-License-Identifier: Apache-2.0
"""Codes in words."""

from typing import Final

from federation.leaves import Outcome, Reason, VerdictV1
from federation.ledger_state import Round, RoundState, Run, RunState

_REASONS: Final = {
    Reason.WRONG_ROUND: "the update is of another round",
    Reason.WRONG_FRAGMENT: "the update is of another fragment",
    Reason.WRONG_MANIFEST: "the update follows another manifest",
    Reason.STALE_BASE: "the update starts from a model that is not this round's",
    Reason.NOT_INVITED: "the site was not invited to this round",
    Reason.WRONG_ALLOCATION: "the update comes from another allocation than the invited one",
    Reason.WRONG_CODEC: "the update is compressed in another way than agreed",
    Reason.WRONG_STEPS: "the number of inner steps is not the agreed one",
    Reason.WRONG_TOKENS: "the number of tokens cannot be right",
    Reason.WRONG_LENGTH: "the payload has another length than it must have",
    Reason.PAYLOAD_DIGEST: "the payload is not what was signed",
    Reason.MALFORMED_PAYLOAD: "the payload cannot be decoded",
    Reason.NON_FINITE: "the update holds values that are not finite",
    Reason.NORM_TOO_LARGE: "the update's norm is above the run's bound",
    Reason.SECOND_DIGEST: "the site signed a second, different update for one round",
    Reason.LATE: "the update came after the round was sealed",
    Reason.NO_ANSWER: "the site did not answer in time",
    Reason.TRAINING_TOO_LONG: "training took longer than the run allows",
    Reason.UPLOAD_TOO_LONG: "the upload took longer than the run allows",
    Reason.ROUND_TOO_LONG: "the round took longer than the run allows",
    Reason.JOB_FAILED: "the site's training job failed",
    Reason.LOSS_SPIKE: "the training loss rose above the run's bound",
    Reason.DIVERGED: "the site's model is not the committed one",
    Reason.REVOKED: "the site was revoked",
    Reason.POLICY: "the site's own policy refuses it",
    Reason.MANIFEST_INVALID: "the manifest is not valid",
    Reason.MODEL_DIFFERS: "the model at the site is not the agreed one",
    Reason.UNKNOWN_TRAINER: "the site knows no trainer of that name",
    Reason.BUDGET: "the site's budget does not allow it",
    Reason.NO_QUORUM: "too few sites delivered",
    Reason.OPERATOR: "an operator ordered it",
    Reason.REVERTED: "the round was rolled back",
    Reason.COULD_NOT_OPEN: "no round could open for too long",
    Reason.ABANDONED_TOO_OFTEN: "too many rounds in a row were abandoned",
    Reason.WITNESSES_SILENT: "too few sites cosigned the ledger in time",
    Reason.DISK_FULL: "the disk is full",
}


def reason_words(reason: Reason) -> str:
    """A reason code in words, "" for none."""
    return _REASONS.get(reason, "" if reason is Reason.NONE else reason.value.replace("-", " "))


def verdict_words(verdict: VerdictV1) -> str:
    """`rejected: the update's norm is above the run's bound (norm 7.1, at most 5)`."""
    if verdict.outcome is Outcome.ADMITTED:
        return "admitted"
    detail = f" ({verdict.sentence})" if verdict.sentence else ""
    why = reason_words(verdict.reason)
    return f"{verdict.outcome.value}: {why}{detail}" if why else f"{verdict.outcome.value}{detail}"


def state_words(run: Run, works: bool = True) -> str:
    """A run's state, with why where it is paused. `works`: whether the coordinator does, without which none goes on."""
    if not works and run.state is RunState.RUNNING:
        return f"{run.state.value}, but the coordinator does not work"
    if run.pause is not None and run.pause.reason is not Reason.NONE:
        return f"{run.state.value}: {reason_words(run.pause.reason)}"
    return run.state.value


def round_words(found: Round) -> str:
    """A round's state."""
    if found.reverted:
        return "reverted"
    if found.state is RoundState.OPEN and not found.waiting_for():
        return "open, all sites heard"
    return found.state.value
