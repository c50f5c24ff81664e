# SPDX-License-Identifier: Apache-2.0
"""What this site decides next: a pure function of journal, ledger, observations and time; its result is journaled.

`decide` returns entries that are made durable before anything else happens; `site_agent.pending` then says what is to
be done about them. A refusal by the site's operator wins over everything that ledger, manifest or policy say.
"""

from collections.abc import Iterator

from federation.ids import is_digest, is_slug
from federation.leaves import Reason
from federation.rounds import Federation
from site_agent import derived
from site_agent.agent_state import AgentState
from site_agent.allocation_decisions import adopt_allocation, end_allocation, intend_allocation, stop_allocation
from site_agent.entries import AllocationAccounted, AllocationIntended, Cosigned, Entry, ManifestAnswered
from site_agent.observations import AgentSettings, Answer, Observations
from site_agent.round_decisions import issue_rounds, refuse_rounds, sign_evaluations, sign_tasks, sign_updates
from site_agent.run_situation import RunSituation


def decide(
    settings: AgentSettings, state: AgentState, federation: Federation, seen: Observations, now_us: int
) -> list[Entry]:
    """Entries to journal now; [] when nothing is to be decided. `now_us` is this site's clock, in microseconds.

    One decision may enable another (an answer enables a start): callers repeat until the list is empty.
    """
    entries: list[Entry] = [*_cosign(state, seen), *_account(seen, now_us)]
    for run in derived.runs_of(federation, settings.site):
        situation = RunSituation(settings, state, federation, seen, now_us, run)
        steps = (
            answer,
            adopt_allocation,
            end_allocation,
            sign_updates,
            sign_evaluations,
            sign_tasks,
            refuse_rounds,
            stop_allocation,
            intend_allocation,
            issue_rounds,
        )
        # the first step that decides something ends the run's pass: the next ones must see what it decided
        entries += next((found for step in steps if (found := list(step(situation)))), [])
        if any(isinstance(entry, AllocationIntended) for entry in entries):
            break  # the policy's budgets must see this job before they are asked for another run's
    return entries


def _cosign(state: AgentState, seen: Observations) -> Iterator[Entry]:
    """A checkpoint larger than all cosigned before, whose consistency the ledger copy has verified."""
    last = state.cosigned.size if state.cosigned else 0
    if seen.checkpoint_size > last and not seen.fault:
        yield Cosigned(size=seen.checkpoint_size, root=seen.checkpoint_root)


def _account(seen: Observations, now_us: int) -> Iterator[Entry]:
    """What the batch system charged for jobs that have ended, once it says so."""
    for (run, number), (seconds, num_gpus) in seen.accounts.items():
        yield AllocationAccounted(run=run, number=number, elapsed_seconds=seconds, num_gpus=num_gpus, at_us=now_us)


def answer(situation: RunSituation) -> Iterator[Entry]:
    """The site's answer, where it differs from the one given before."""
    wanted = _wanted_answer(situation)
    if wanted is None or not derived.asks_for_answer(situation.run):
        return
    before = situation.state.answers.get(situation.run.id)
    if before is None or (before.accepted, before.reason, before.manifest_digest) != (
        wanted.accepted,
        wanted.reason,
        wanted.manifest_digest,
    ):
        yield wanted


def _wanted_answer(situation: RunSituation) -> ManifestAnswered | None:
    """In this order, the first that applies is the answer; None waits.

    1 the site's operator refuses, 2 the run cannot be named safely, 3 its manifest is unusable or the policy says
    no, 4 the site's operator accepts this very manifest, 5 the policy says yes.
    """
    digest, manifest = situation.run.manifest_digest, situation.manifest
    if situation.refused:
        return _answered(situation, False, Reason.POLICY, "the site's operator refused this run", by_human=True)
    if not is_slug(situation.run.id) or not is_digest(digest):
        return _answered(situation, False, Reason.MANIFEST_INVALID, "run id or manifest digest is malformed")
    if manifest is None:
        return None
    if manifest.answer is Answer.DECLINE:
        return _answered(situation, False, manifest.reason, manifest.sentence)
    if situation.human is not None and situation.human.accepted and situation.human.manifest_digest == digest:
        return _answered(situation, True, Reason.NONE, "the site's operator accepted this manifest", by_human=True)
    if manifest.answer is Answer.ACCEPT:
        return _answered(situation, True, Reason.NONE, manifest.sentence)
    return None


def _answered(
    situation: RunSituation, accepted: bool, reason: Reason, sentence: str, *, by_human: bool = False
) -> ManifestAnswered:
    return ManifestAnswered(
        run=situation.run.id,
        manifest_digest=situation.run.manifest_digest,
        accepted=accepted,
        reason=reason,
        sentence=sentence,
        by_human=by_human,
    )
