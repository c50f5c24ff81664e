# SPDX-License-Identifier: Apache-2.0
"""Decisions about what sites send: answers to manifests, updates, declines, evaluations. No I/O.

Every function returns [] for a repetition and for a revoked site, and at most a bounded number of leaves per site, run
and round.
"""

import re
from math import isfinite
from typing import Final

from coordinator.inputs import AnswerReceived, DeclineReceived, EvaluationReceived, UpdateExamined
from federation import leaves as lv
from federation.leaves import LanguageScore, Outcome, Reason
from federation.limits import DEFAULT_LIMITS
from federation.messages import Evaluation, TaskEvaluation
from federation.rounds import Federation, Round, RoundState, Run
from federation.task_scores import LANGUAGE_PATTERN

MAX_ANSWERS_PER_SITE = 16
"""How often a site may change its mind about one manifest before its answers stop causing leaves."""

MAX_SCORES: Final = 1000
"""Languages in one evaluation; as many as site.toml may name."""

_LANGUAGE: Final = re.compile(LANGUAGE_PATTERN)


def decide_answer(state: Federation, event: AnswerReceived) -> list[lv.Body]:
    """A member's answer to the manifest that the ledger names; repetitions cause nothing."""
    answer = event.answer
    run = state.runs.get(answer.run)
    if run is None or not run.is_member(event.site) or answer.manifest_digest != run.manifest_digest:
        return []
    if event.site in state.revoked:
        return []
    before = run.answers.get(event.site)
    if before is not None and before.accepted == answer.accepted and before.reason == answer.reason:
        return []
    if run.num_answers.get(event.site, 0) >= MAX_ANSWERS_PER_SITE:
        return []
    return [
        lv.SiteAnsweredV1(
            run=answer.run,
            site=event.site,
            manifest_digest=answer.manifest_digest,
            accepted=answer.accepted,
            reason=answer.reason,
        )
    ]


def decide_decline(state: Federation, event: DeclineReceived) -> list[lv.Body]:
    """An invited site without a verdict in an open round says that nothing will come."""
    decline = event.decline
    run = state.runs.get(decline.run)
    found = run.rounds.get(decline.round) if run else None
    if found is None or found.state is not RoundState.OPEN or event.site not in found.waiting_for():
        return []
    sentence = f"{event.site} declined: {decline.reason.value}"
    return [
        lv.VerdictV1(
            run=decline.run,
            round=decline.round,
            site=event.site,
            outcome=Outcome.DECLINED,
            reason=decline.reason,
            sentence=sentence,
        )
    ]


def decide_update(state: Federation, event: UpdateExamined) -> list[lv.Body]:
    """One verdict per update: admitted, rejected with the failed check, late, or equivocation."""
    update = event.update
    run = state.runs.get(update.run)
    if run is None or not run.is_member(update.site) or update.site in state.revoked:
        return []
    found = run.rounds.get(update.round)
    if event.update_digest in (run.stray_updates if found is None else found.updates_seen):
        return []  # offered again after a crash: it has its leaf
    if _num_leaves(run, found, update.site) >= DEFAULT_LIMITS.max_verdicts_per_site_and_round:
        return []
    outcome, reason, sentence = _judge(found, event)
    if outcome is None:
        return []
    return [
        lv.VerdictV1(
            run=update.run,
            round=update.round,
            site=update.site,
            outcome=outcome,
            reason=reason,
            sentence=sentence,
            update_digest=event.update_digest,
            payload_digest=update.payload_digest,
            payload_bytes=update.payload_bytes,
            weight_tokens=update.weight_tokens,
            new_tokens=update.new_tokens,
            num_steps=update.num_steps,
            norm=event.norm,
        )
    ]


def _num_leaves(run: Run, found: Round | None, site: str) -> int:
    return run.num_stray_verdicts.get(site, 0) if found is None else found.num_verdict_leaves.get(site, 0)


def _judge(found: Round | None, event: UpdateExamined) -> tuple[Outcome | None, Reason, str]:
    update = event.update
    standing = found.verdicts.get(update.site) if found else None
    if standing is not None and standing.payload_digest == update.payload_digest:
        if event.reason is Reason.SECOND_DIGEST:  # the same payload with another claim beside it
            return Outcome.EQUIVOCATION, Reason.SECOND_DIGEST, event.sentence
        return None, Reason.NONE, ""  # same digest, same answer
    if standing is not None and standing.payload_digest:
        sentence = f"expected {standing.payload_digest[:12]} as signed before, found {update.payload_digest[:12]}"
        return Outcome.EQUIVOCATION, Reason.SECOND_DIGEST, sentence
    if event.reason is not Reason.NONE:
        return Outcome.REJECTED, event.reason, event.sentence
    if found is None or found.state is not RoundState.OPEN or standing is not None:
        state = found.state.value if found else "unknown"
        return Outcome.REJECTED, Reason.LATE, f"round {update.round} is {state}, discarded and accounted for"
    return Outcome.ADMITTED, Reason.NONE, event.sentence


def decide_evaluation(state: Federation, event: EvaluationReceived) -> list[lv.Body]:
    """One leaf per (site, request, number of commits), if the versions are those that the ledger had then.

    So a site can cause as many leaves as there are models and requests; those of a model that a rollback has made void
    are not recorded.
    """
    found = event.evaluation
    run = state.runs.get(found.run)
    if run is None or not run.is_member(found.site) or found.site in state.revoked:
        return []
    key = (found.site, found.request, found.num_commits, found.versions)
    if any(key == (e.site, e.request, e.num_commits, e.versions) for e in run.evaluations):
        return []
    if not is_of_a_model(run, found) or not _are_scores(found.scores):
        return []
    return [
        lv.EvaluationRecordedV1(
            run=found.run,
            site=found.site,
            request=found.request,
            num_commits=found.num_commits,
            versions=found.versions,
            scores=found.scores,
            evidence_digest=event.evidence_digest,
        )
    ]


def is_of_a_model(run: Run, evaluation: Evaluation | TaskEvaluation) -> bool:
    """Whether these are the versions in force after so many commits and, of a request, those that it asked for."""
    number, request = evaluation.num_commits, evaluation.request
    if number > run.num_commits() or evaluation.versions != _versions_after(run, number):
        return False
    return not request or any(r.request == request and r.versions == evaluation.versions for r in run.requests)


def _versions_after(run: Run, num_commits: int) -> tuple[int, ...]:
    last_leaf = run.commit_leaves[num_commits - 1] if num_commits else -1
    return tuple(max(v.number for v in chain if v.leaf_index <= last_leaf) for chain in run.versions)


def _are_scores(scores: tuple[LanguageScore, ...]) -> bool:
    """Codes and numbers only, each language once: a leaf is no place for a site's texts."""
    languages = [score.language for score in scores]
    numbers = all(isfinite(score.bits_per_byte) and score.bits_per_byte >= 0 for score in scores)
    codes = all(_LANGUAGE.fullmatch(language) for language in languages)
    return numbers and codes and len(languages) == len(set(languages)) <= MAX_SCORES
