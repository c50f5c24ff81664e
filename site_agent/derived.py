# SPDX-License-Identifier: Apache-2.0
"""What follows from ledger and journal alone for one site: its runs, evaluations that are due, blobs it needs. Pure."""

from collections.abc import Iterator, Mapping
from math import ceil
from types import MappingProxyType
from typing import Final

from federation import leaves as lv
from federation.ids import is_digest, is_slug
from federation.messages import SnapshotWanted
from federation.rounds import Federation, Round, RoundState, Run, RunState
from site_agent import catch_up
from site_agent.agent_state import AgentState, Allocation, EvaluationKey
from site_agent.launcher.slurm.waiting import Hindrance, hindrance_of
from site_agent.observations import AgentSettings, AllocationSeen, Execution, JobPhase, Observations

MAX_DUE_EVALUATIONS: Final = 8
"""Scheduled evaluations that a site catches up on; older ones are skipped after a long absence."""

_FIRST_ANSWER: Final = (RunState.DRAFT, RunState.APPROVED, RunState.RUNNING, RunState.PAUSED)
_US: Final = 1_000_000
NOWHERE: Final[Mapping[tuple[str, int], int]] = MappingProxyType({})


def runs_of(federation: Federation, site: str) -> tuple[Run, ...]:
    """Runs that name this site as a member, ascending by id."""
    return tuple(run for _, run in sorted(federation.runs.items()) if run.is_member(site))


def asks_for_answer(run: Run) -> bool:
    """Whether an answer to the manifest can still matter."""
    return run.state in _FIRST_ANSWER


def accepted(run: Run, state: AgentState) -> bool:
    """Whether this site's own word stands for exactly this manifest."""
    answer = state.answers.get(run.id)
    return answer is not None and answer.accepted and answer.manifest_digest == run.manifest_digest


def versions_after(run: Run, num_commits: int) -> tuple[int, ...]:
    """Version of each fragment once that many commits, of those in force, were made."""
    last_leaf = run.commit_leaves[num_commits - 1] if num_commits else -1
    return tuple(max(v.number for v in chain if v.leaf_index <= last_leaf) for chain in run.versions)


def due_evaluations(run: Run, site: str, state: AgentState, seen: Observations) -> tuple[EvaluationKey, ...]:
    """Evaluations that this site owes and has not signed, oldest first; the operators' requests come first.

    The schedule's own are due at version 0, every `evaluate_every` commits, and at the end of a completed run. A
    request for versions that a rollback has made void cannot be served any more; models older than the snapshot that
    this site began from are left to the others.
    """
    kept = _points(run, run.plan.evaluate_every)[-MAX_DUE_EVALUATIONS:]
    scheduled = tuple((run.id, 0, n, versions_after(run, n)) for n in kept)
    recorded = {(e.run, e.request, e.num_commits, e.versions) for e in run.evaluations if e.site == site}
    owed = (k for k in (*_requested(run), *scheduled) if k not in recorded and k not in state.evaluations)
    starts = catch_up.starts_of(run, state, seen)
    return tuple(key for key in owed if catch_up.can_build(run, key[3], starts, seen))


def due_tasks(run: Run, settings: AgentSettings, state: AgentState, seen: Observations) -> tuple[EvaluationKey, ...]:
    """Models whose benchmark tasks are to be scored: the newest request's, and the newest of the site's own choice.

    One that was missed is left out: tasks may take long, and are never caught up on.
    """
    if settings.tasks_every < 0:
        return ()
    newest = _points(run, settings.tasks_every)[-1]
    wanted = (*_requested(run)[-1:], (run.id, 0, newest, versions_after(run, newest)))
    owed = (k for k in wanted if k not in state.tasks and not _has_tasks(run, settings.site, k))
    starts = catch_up.starts_of(run, state, seen)
    return tuple(key for key in owed if catch_up.can_build(run, key[3], starts, seen))


def may_sign_tasks(run: Run, settings: AgentSettings, state: AgentState, key: EvaluationKey) -> bool:
    """Whether a job was rightly asked for these scores, even if a newer model's are due by now."""
    if settings.tasks_every < 0 or key in state.tasks or _has_tasks(run, settings.site, key):
        return False
    _, request, num_commits, versions = key
    if request:
        return key in _requested(run)
    return num_commits in _points(run, settings.tasks_every) and versions == versions_after(run, num_commits)


def _has_tasks(run: Run, site: str, key: EvaluationKey) -> bool:
    mine = (e for e in run.task_evaluations if e.site == site)
    return any((e.run, e.request, e.num_commits, e.versions) == key for e in mine)


def _points(run: Run, every: int) -> list[int]:
    """Numbers of commits after which a schedule wants an evaluation, ascending; the last of a completed run's too."""
    newest = run.num_commits()
    points = {0, *(range(every, newest + 1, every) if every else ())}
    if run.state is RunState.COMPLETED:
        points.add(newest)
    return sorted(points)


def _requested(run: Run) -> tuple[EvaluationKey, ...]:
    """Operators' requests for models that are still in force."""
    in_force = [{v.number for v in chain} for chain in run.versions]
    asked = [
        r
        for r in run.requests
        if len(r.versions) == len(in_force) and all(v in n for v, n in zip(r.versions, in_force, strict=True))
    ]
    return tuple((run.id, r.request, _commits_of(run, r.versions), r.versions) for r in asked)


def _commits_of(run: Run, versions: tuple[int, ...]) -> int:
    """Commits in force in the model of these versions: all up to the newest that it contains."""
    wanted = set(enumerate(versions))
    found = (
        v.leaf_index for p, chain in enumerate(run.versions) for v in chain if v.number and (p, v.number) in wanted
    )
    newest = max(found, default=-1)
    return sum(1 for leaf in run.commit_leaves if leaf <= newest)


def evaluation_wanted(run: Run, settings: AgentSettings, state: AgentState, seen: Observations) -> bool:
    """Whether a job is needed for nothing but an evaluation: at the end, or because an operator asked in a pause."""
    due = (*due_evaluations(run, settings.site, state, seen), *due_tasks(run, settings, state, seen))
    if run.state is RunState.COMPLETED:
        return bool(due)
    return run.state is RunState.PAUSED and any(request for _, request, _, _ in due)


def num_commits_at(run: Run, leaf_index: int) -> int:
    """n, if the commit in force with this leaf is the n-th; 0 for version 0, whose leaf index is -1."""
    return run.commit_leaves.index(leaf_index) + 1 if leaf_index >= 0 else 0


def base_commits(run: Run, found: Round) -> int:
    """n, if this round's base was made by the n-th commit in force."""
    chain = run.versions[found.fragment]
    return num_commits_at(run, next(v.leaf_index for v in chain if v.number == found.base_version))


def base_in_force(run: Run, found: Round) -> bool:
    """Whether the round's base is a version in force with the digest that the round states."""
    if not 0 <= found.fragment < len(run.versions):
        return False
    chain = run.versions[found.fragment]
    return any(v.number == found.base_version and v.theta_digest == found.base_digest for v in chain)


def my_open_rounds(run: Run, site: str) -> Iterator[tuple[Round, lv.Invitation]]:
    """Rounds that wait for this site's update, ascending."""
    for number in run.open_rounds:
        found = run.rounds[number]
        invitation = found.invitation(site)
        if found.state is RoundState.OPEN and invitation is not None and site not in found.verdicts:
            yield found, invitation


def merged_before(run: Run, site: str, round_number: int) -> range:
    """Rounds whose merge lies at or before the begin of this site's window `round_number`: its order needs their end.

    Merge of round j comes tau steps after boundary j, so at (j + 1) w + tau <= k w with windows of w = H/P steps.
    """
    schedule = run.schedule(site)
    return range(max(0, round_number - ceil(schedule.tau / schedule.window_steps)))


def outcomes_known(run: Run, site: str, round_number: int, state: AgentState, seen: Observations) -> bool:
    """Whether a job that enters this window would read the right outcomes.

    Every round merged before it begins and ended by now must be told of; none that was reverted may still be told of as
    committed; no snapshot may be newer than what the window begins from.
    """
    merged, starts = merged_before(run, site, round_number), catch_up.starts_of(run, state, seen)
    if catch_up.begins_too_late(starts, merged):
        return False
    for number, found in run.rounds.items():
        written = seen.outcomes.get((run.id, number))
        ended = number not in run.open_rounds
        if ended and number in merged and not catch_up.is_told(found, starts[found.fragment], written):
            return False
        if found.reverted and written is not None and written.kind == "committed":
            return False
    return True


def begins_too_late(run: Run, site: str, found: Round, state: AgentState, seen: Observations) -> bool:
    """Whether the snapshot that this site waited for is too new for a round that no job was ordered to train."""
    starts, merged = catch_up.starts_of(run, state, seen), merged_before(run, site, found.number)
    return (run.id, found.number) not in state.issued and catch_up.begins_too_late(starts, merged)


def allocation_number(allocation: str) -> int:
    """The number in an allocation's id ("a7"), 0 if it is none."""
    digits = allocation.removeprefix("a")
    return int(digits) if allocation.startswith("a") and digits.isascii() and digits.isdigit() else 0


def failures_in_a_row(run: str, state: AgentState, retry_at_us: int = 0) -> int:
    """Failed jobs since the last one that delivered an update or ended well, or since the operator said `retry`."""
    count = 0
    for allocation in reversed(state.allocations.get(run, ())):
        if allocation.end is None:
            continue
        if not allocation.end.failed or allocation.delivered or allocation.end.at_us <= retry_at_us:
            break
        count += 1
    return count


def last_ended(run: str, state: AgentState) -> Allocation | None:
    """The newest allocation that has ended."""
    return next((a for a in reversed(state.allocations.get(run, ())) if not a.live), None)


def job_of(run: str, state: AgentState, seen: Observations) -> AllocationSeen | None:
    """What was seen of the live allocation; what was seen of another one says nothing about it."""
    live, job = state.live_allocation(run), seen.allocations.get(run)
    return job if live is not None and job is not None and job.number == live.number else None


def hindrance(job: AllocationSeen | None) -> Hindrance | None:
    """Why the job that waits will not start by itself, None if it may; one that has reported since has started."""
    waits = job is not None and job.execution is Execution.QUEUED and job.phase is JobPhase.NONE
    return hindrance_of(job.remark) if job is not None and waits else None


def silent(settings: AgentSettings, seen: Observations, now_us: int) -> bool:
    """Whether no new work starts: the coordinator has been quiet for long, or its ledger cannot be followed."""
    return bool(seen.fault) or now_us - seen.heard_at_us > settings.max_silence_seconds * _US


def needed_blobs(
    federation: Federation,
    state: AgentState,
    site: str,
    thetas: Mapping[str, str],
    begun: Mapping[tuple[str, int], int] = NOWHERE,
) -> tuple[str, ...]:
    """Digests this site needs: manifests to answer; of accepted runs theta_0 and the blobs of versions in force.

    Args:
        federation: the ledger, folded.
        state: the journal, folded.
        site: this site.
        thetas: blob digest of theta_0 per run whose manifest is known.
        begun: per (run, fragment) the version up to which no blob is needed.
    """
    wanted: dict[str, None] = {}
    for run in runs_of(federation, site):
        if not is_slug(run.id) or not is_digest(run.manifest_digest):
            continue
        if asks_for_answer(run) or accepted(run, state):
            wanted[run.manifest_digest] = None
        if not accepted(run, state) or run.state is RunState.ABORTED:
            continue
        if thetas.get(run.id):
            wanted[thetas[run.id]] = None
        needed = (v for p, chain in enumerate(run.versions) for v in chain if v.number > begun.get((run.id, p), 0))
        links = sorted((v.leaf_index, v.blob_digest) for v in needed)
        wanted.update((digest, None) for _, digest in links if is_digest(digest))
    return tuple(wanted)


def snapshots_wanted(run: Run, site: str, state: AgentState, seen: Observations) -> Iterator[SnapshotWanted]:
    """Per fragment with too many commits missing: the newest version that its next window may begin from.

    Later versions come as blobs. A fragment of which the coordinator has none to give is built from its chain.
    """
    if not accepted(run, state) or run.state is RunState.ABORTED or catch_up.refuses_snapshots(run.id, state):
        return
    merged = merged_before(run, site, _next_window(run, site, state))
    for fragment, start in enumerate(catch_up.starts_of(run, state, seen)):
        held = seen.snapshots.get((run.id, fragment))
        ahead = [v for v in run.versions[fragment] if v.number > start.version]
        missing = sum(1 for v in ahead if v.blob_digest not in seen.blobs)
        usable = [v.number for v in ahead if v.number - 1 in merged]
        if missing > catch_up.MAX_MISSING_COMMITS and usable and (held is None or held.usable):
            yield SnapshotWanted(run=run.id, fragment=fragment, version=usable[-1])


def _next_window(run: Run, site: str, state: AgentState) -> int:
    """The lowest round that this site may still enter."""
    keys = ((f.number, (run.id, f.number)) for f, _ in my_open_rounds(run, site))
    return next((number for number, key in keys if key not in state.refused), run.next_round)
