# SPDX-License-Identifier: Apache-2.0
"""What is to be done about what was decided: level-triggered instructions, a pure function of what is on disk.

Nothing here decides: an instruction whose effect is visible is not given again, so a replay gives none, and one that
was interrupted is given again. Order matters within a run: outcomes before the orders that build on them.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from federation.leaves import RoundCommittedV1
from federation.rounds import Federation, Round, RoundState, Run
from federation.witnesses import may_use, witnessed_by
from site_agent import catch_up, derived
from site_agent.agent_state import AgentState, Allocation, EvaluationKey
from site_agent.catch_up import Start
from site_agent.instructions import (
    CancelAllocation,
    ChainLink,
    DropPayload,
    Instruction,
    IssueEvaluation,
    IssueRound,
    OrderStop,
    PostAnswer,
    PostCosignature,
    PostDecline,
    PostEvaluation,
    PostTasks,
    PostUpdate,
    ReportStatus,
    Submission,
    SubmitAllocation,
    WriteOutcome,
)
from site_agent.observations import AgentSettings, AllocationSeen, Execution, Observations
from site_agent.round_decisions import job_is_ready
from site_agent.start_delay import begin_after_seconds
from site_agent.status import status_of

_US: Final = 1_000_000


def pending(
    settings: AgentSettings, state: AgentState, federation: Federation, seen: Observations, now_us: int
) -> list[Instruction]:
    """Instructions to carry out now, in order. The last one is always the status report."""
    runs = derived.runs_of(federation, settings.site)
    # Outcomes first: a job may be waiting for one.
    found: list[Instruction] = [o for run in runs for o in _outcomes(run, settings.site, state, seen)]
    found += _cosignature(state, seen)
    for run in runs:
        live = state.live_allocation(run.id)
        job = derived.job_of(run.id, state, seen)
        found += _posts(run, settings.site, state)
        if live is not None:
            found += _submission(settings, run, live, job, seen, now_us)
            found += _stop(settings, live, job, now_us)
            found += _rounds(run, settings.site, state, live, job)
            found += _evaluations(run, settings.site, state, live, job, seen)
            found += _tasks(run, settings, state, live, job, seen)
        found += _drops(run, state, seen)
    found.append(ReportStatus(status=status_of(settings, state, federation, seen)))
    return found


def _cosignature(state: AgentState, seen: Observations) -> Iterator[Instruction]:
    cosigned = state.cosigned
    if cosigned is None or cosigned.size != seen.checkpoint_size or seen.fault:
        return
    if (key := f"cosignature/{cosigned.size}") not in state.posted:
        yield PostCosignature(key=key, cosigned=cosigned)


# --- messages ---------------------------------------------------------------------------------------------------------


def _posts(run: Run, site: str, state: AgentState) -> Iterator[Instruction]:
    yield from _answer(run, site, state)
    for found, _ in derived.my_open_rounds(run, site):
        signed = state.signed.get((run.id, found.number, found.fragment, found.base_digest))
        refusal = state.refused.get((run.id, found.number))
        if signed is not None:
            key = f"update/{run.id}/{found.number}/{signed.payload_digest}"
            if key not in state.posted:
                yield PostUpdate(key=key, update=signed)
        elif refusal is not None and (key := f"declined/{run.id}/{found.number}") not in state.posted:
            yield PostDecline(key=key, refusal=refusal)
    for (name, request, commits, versions), evaluation in state.evaluations.items():
        key = f"evaluation/{name}/{request}/{commits}/{','.join(map(str, versions))}"
        if name == run.id and key not in state.posted:
            yield PostEvaluation(key=key, evaluation=evaluation)
    for (name, request, commits, versions), tasks in state.tasks.items():
        key = f"tasks/{name}/{request}/{commits}/{','.join(map(str, versions))}"
        if name == run.id and tasks.evaluation.scores and key not in state.posted:
            yield PostTasks(key=key, evaluation=tasks.evaluation)


def _answer(run: Run, site: str, state: AgentState) -> Iterator[Instruction]:
    """The answer, unless the ledger has it already or the mailbox does."""
    answer, recorded = state.answers.get(run.id), run.answers.get(site)
    if answer is None or not derived.asks_for_answer(run):
        return
    known = recorded is not None and recorded.accepted == answer.accepted and recorded.reason == answer.reason
    key = f"answer/{run.id}/{state.num_answers.get(run.id, 0)}"
    if key not in state.posted and not known:
        yield PostAnswer(key=key, answer=answer)


# --- outcomes ---------------------------------------------------------------------------------------------------------


def _outcomes(run: Run, site: str, state: AgentState, seen: Observations) -> Iterator[Instruction]:
    """Ends of rounds that the jobs were not told of, or were told otherwise before a rollback.

    Of each fragment they are written in ascending order, since the committed ones are its chain: a commit that may not
    be used yet (blob missing, witness rule) holds up the later ones of its fragment. What lies before a snapshot is
    told without its blob: that these rounds are over, and whether our payload was listed.
    """
    if not derived.accepted(run, state):
        return
    held_up: set[int] = set()
    starts = catch_up.starts_of(run, state, seen)
    for number, found in sorted(run.rounds.items()):
        if found.state not in (RoundState.COMMITTED, RoundState.ABANDONED) or found.fragment in held_up:
            continue
        start = starts[found.fragment]
        if catch_up.is_told(found, start, seen.outcomes.get((run.id, number))):
            continue
        outcome = _outcome(run, site, found, start)
        if outcome.kind == "committed" and number + 1 >= start.version and not _usable(run, found, start, seen):
            held_up.add(found.fragment)
        else:
            yield outcome


def _outcome(run: Run, site: str, found: Round, start: Start) -> WriteOutcome:
    commit, kind = found.commit, catch_up.outcome_kind(found)
    if commit is None or found.reverted:
        return WriteOutcome(run=run.id, round=found.number, fragment=found.fragment, kind=kind)
    listed = next((u.payload_digest for u in found.sealed if u.site == site), "")
    return WriteOutcome(
        run=run.id,
        round=found.number,
        fragment=found.fragment,
        kind=kind,
        version=commit.version,
        theta_digest=commit.theta_digest,
        blob_digest=commit.blob_digest if commit.version > start.version else "",
        listed_payload_digest=listed,
        snapshot_digest=start.blob_digest if commit.version == start.version else "",
    )


def _usable(run: Run, found: Round, start: Start, seen: Observations) -> bool:
    """Whether a job may use the base that this round's commit made: it is here, as blob or as the start's snapshot, and
    the witness rule holds.
    """
    commit = found.commit
    if commit is None or (commit.version != start.version and commit.blob_digest not in seen.blobs):
        return False
    return may_use(run, derived.num_commits_at(run, _leaf_of(run, commit)), seen.witnessed)


def _leaf_of(run: Run, commit: RoundCommittedV1) -> int:
    return next(v.leaf_index for v in run.versions[commit.fragment] if v.number == commit.version)


# --- the live allocation ----------------------------------------------------------------------------------------------


def _submission(
    settings: AgentSettings, run: Run, live: Allocation, job: AllocationSeen | None, seen: Observations, now_us: int
) -> Iterator[Instruction]:
    """Submits what was intended. What a crash interrupted is looked for first, and gets time to come through."""
    manifest = seen.manifests.get(run.id)
    if live.handle or manifest is None or job is None:
        return
    fresh = now_us - live.intended_at_us <= settings.adopt_grace_seconds * _US
    if job.attempted and fresh:
        otherwise = Submission.WAIT
    else:
        otherwise = Submission.START if live.stop is None else Submission.GIVE_UP
    yield SubmitAllocation(
        run=run.id,
        number=live.number,
        fencing=live.fencing,
        theta_blob=manifest.theta_blob,
        manifest_digest=run.manifest_digest,
        otherwise=otherwise,
        data_sets=manifest.data_sets,
        begin_after_seconds=begin_after_seconds(live, now_us),
    )


def _stop(settings: AgentSettings, live: Allocation, job: AllocationSeen | None, now_us: int) -> Iterator[Instruction]:
    """The order to end, then, if the job does not, the launcher's cancel."""
    if live.stop is None or job is None:
        return
    if not job.stopping:
        yield OrderStop(run=live.run, allocation=live.number, reason=live.stop.reason)
    graces = (now_us - live.stop.at_us) / (settings.stop_grace_seconds * _US)
    if graces > 1 and live.handle and job.execution is not Execution.ENDED:
        yield CancelAllocation(run=live.run, allocation=live.number, handle=live.handle, force=graces > 2)


def _rounds(
    run: Run, site: str, state: AgentState, live: Allocation, job: AllocationSeen | None
) -> Iterator[Instruction]:
    """Work orders of rounds that were issued to this allocation and do not lie there."""
    if job is None or live.stop is not None:
        return
    for found, invitation in derived.my_open_rounds(run, site):
        if state.issued.get((run.id, found.number)) != live.number or found.number in job.orders:
            continue
        yield IssueRound(
            run=run.id,
            allocation=live.number,
            round=found.number,
            fragment=found.fragment,
            base_version=found.base_version,
            base_digest=found.base_digest,
            lr_position=found.lr_position,
            num_steps=invitation.num_steps,
            generation=run.reverted_at + 1,
        )


def _evaluations(
    run: Run, site: str, state: AgentState, live: Allocation, job: AllocationSeen | None, seen: Observations
) -> Iterator[Instruction]:
    """Evaluation orders that are due, whose blobs are here and whose newest commit the witness rule lets a job use."""
    if job is None or not job_is_ready(job) or live.stop is not None or not derived.accepted(run, state):
        return
    next_id = len(job.evaluations) + 1
    for key in derived.due_evaluations(run, site, state, seen):
        order = _evaluation(run, state, live, seen, key, next_id) if key[1:] not in job.evaluations else None
        if order is not None:
            yield order
            next_id += 1


def _tasks(
    run: Run,
    settings: AgentSettings,
    state: AgentState,
    live: Allocation,
    job: AllocationSeen | None,
    seen: Observations,
) -> Iterator[Instruction]:
    """One order to score tasks at a time: the next one comes when the job has answered the last."""
    if job is None or not job_is_ready(job) or live.stop is not None or not derived.accepted(run, state):
        return
    if job.task_orders > job.task_results:
        return
    for key in derived.due_tasks(run, settings, state, seen):
        order = _evaluation(run, state, live, seen, key, job.task_orders + 1)
        if order is not None:
            yield replace(order, of_tasks=True)
            return


def _evaluation(
    run: Run, state: AgentState, live: Allocation, seen: Observations, key: EvaluationKey, number: int
) -> IssueEvaluation | None:
    """The order to evaluate a model, None while its blobs are not here or its newest commit lacks witnesses."""
    _, request, num_commits, versions = key
    starts = catch_up.starts_of(run, state, seen)
    chains = tuple(_chain(run, p, version, starts[p]) for p, version in enumerate(versions))
    is_here = all(link.snapshot_digest or link.blob_digest in seen.blobs for chain in chains for link in chain)
    if not is_here or not may_use(run, num_commits, seen.witnessed):
        return None
    return IssueEvaluation(
        run=run.id,
        allocation=live.number,
        id=number,
        request=request,
        num_commits=num_commits,
        versions=versions,
        chains=chains,
    )


def _chain(run: Run, fragment: int, version: int, start: Start) -> tuple[ChainLink, ...]:
    """The commits from theta_0 on, or from the snapshot on where the version is not older than that."""
    begin = start.version if version >= start.version else 0
    return tuple(
        ChainLink(version=v.number, blob_digest=v.blob_digest, theta_digest=v.theta_digest)
        if v.number != begin
        else ChainLink(version=begin, blob_digest="", theta_digest=v.theta_digest, snapshot_digest=start.blob_digest)
        for v in run.versions[fragment]
        if 0 < v.number <= version and v.number >= begin
    )


# --- space ------------------------------------------------------------------------------------------------------------


def _drops(run: Run, state: AgentState, seen: Observations) -> Iterator[Instruction]:
    """Payloads of rounds that ended without a commit, or whose commit a quorum of witnesses has seen.

    Until then they are kept: the coordinator's disk may be lost, and the update is this site's to offer again.
    """
    for (name, number, _, _), update in state.signed.items():
        if name != run.id or (name, number) in state.dropped:
            continue
        found = run.rounds.get(number)
        if found is None or found.state not in (RoundState.COMMITTED, RoundState.ABANDONED):
            continue
        if found.commit is None or found.reverted or _witnessed(run, found.commit, seen):
            yield DropPayload(
                run=name,
                round=number,
                allocation=derived.allocation_number(update.allocation),
                payload_digest=update.payload_digest,
            )


def _witnessed(run: Run, commit: RoundCommittedV1, seen: Observations) -> bool:
    return len(witnessed_by(run, _leaf_of(run, commit), seen.witnessed)) >= run.plan.witness_quorum
