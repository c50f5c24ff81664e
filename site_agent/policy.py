# SPDX-License-Identifier: Apache-2.0
"""What the site's policy says. Deny by default; it wins against any coordinator, and against its own operator's yes.

The decisions are pure functions of policy, manifest, figures and time. What a person answered to `ask` is not known
here: it can turn an `ask` into a yes, never a `decline`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from federation.errors import ConfigError
from federation.ids import short
from federation.leaves import Reason
from federation.manifest import Manifest
from federation.run_config import check_manifest
from site_agent.observations import Answer
from site_agent.policy_file import POLICY_FILE, PerDay, PerRun, Policy, Unlisted, load_policy, policy_text
from site_agent.policy_hours import is_open, latest_start_seconds, local_words, reached

__all__ = [
    "NO_ORIGIN",
    "POLICY_FILE",
    "Origin",
    "PerDay",
    "PerRun",
    "Policy",
    "PolicyAnswer",
    "StartFigures",
    "Stop",
    "decide_manifest",
    "load_policy",
    "may_start",
    "must_stop",
    "policy_text",
]

_ROUNDING_HOURS: Final = 1e-6
"""Far below a GPU-second: sums in another order are no reason to end a job."""

_NO_LIMIT_SECONDS: Final = 86_400.0
"""A job without a wall time counts as one of a day, here as in the budget."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Whose run it is, by the ledger. `is_draft`: further approvals may come."""

    created_by: str = ""
    approved_by: tuple[str, ...] = ()
    is_draft: bool = False


NO_ORIGIN: Final = Origin()


@dataclass(frozen=True, kw_only=True)
class PolicyAnswer:
    """A policy's answer: what, why as a code, and why as a sentence with expected and found.

    `data_sets`: those that jobs of the run are given, where the site names its data sets.
    """

    answer: Answer
    reason: Reason
    sentence: str
    data_sets: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StartFigures:
    """What the limits are compared with.

    Attributes:
        day_gpu_hours, day_bytes: of all jobs within the last 24 hours, those that live in full.
        run_gpu_hours: of this run's jobs in all, those that live in full.
        job_gpu_hours, job_bytes: that one more job can use, and have on its way at once.
        wall_seconds: longest life of the job, 0 for no limit.
        unit, units_per_gpu_hour: the centre's own unit, and how many of it a GPU-hour costs, None if unknown.
    """

    day_gpu_hours: float = 0.0
    day_bytes: int = 0
    run_gpu_hours: float = 0.0
    job_gpu_hours: float = 0.0
    job_bytes: int = 0
    wall_seconds: float = 0.0
    unit: str = "native units"
    units_per_gpu_hour: float | None = None


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Why a running job is told to end: one word for the job's log, and a sentence."""

    word: str
    sentence: str


def decide_manifest(
    policy: Policy,
    manifest: Manifest,
    manifest_digest: str,
    *,
    site: str,
    consortium: str,
    trainers: Mapping[str, str],
    data_sets: Sequence[str] = (),
    origin: Origin = NO_ORIGIN,
) -> PolicyAnswer:
    """The site's answer to a manifest, by these checks in this order; the first that fails declines.

    1. The manifest obeys the protocol's rules and limits.
    2. It belongs to this consortium and names this site.
    3. site.toml knows its trainer.
    4. That trainer's source is one that the policy allows.
    5. There are data sets to train on: of those that it names, the site has all and the policy allows all.
    6. The policy does not refuse it, by run or by digest.
    7. The policy takes runs of those who created and approved it; while a run is a draft, approvals are waited for.
    8. The policy lists it, by run or by digest, or says what becomes of others.

    Args:
        policy: the site's.
        manifest: as received; may be hostile.
        manifest_digest: of its exact bytes.
        site, consortium: this site's, from its own files.
        trainers: digest of each trainer's source as installed now (`site_config.trainer_digests`).
        data_sets: names of the data sets of site.toml, () where it names none.
        origin: whose run it is.
    """
    refusal = (
        _broken_rule(manifest)
        or _not_ours(manifest, site, consortium)
        or _trainer_refusal(policy, manifest.trainer.name, trainers)
        or _data_refusal(policy, manifest.trainer.data_sets, data_sets)
        or _refused(policy, manifest.run, manifest_digest)
        or _origin_refusal(policy, origin)
    )
    if refusal is not None:
        return refusal
    wanted = manifest.trainer.data_sets or tuple(name for name in data_sets if name in policy.data_sets)
    if manifest_digest in policy.manifests:  # 8
        return _accept(f"policy.toml lists manifest {short(manifest_digest)}", wanted)
    if manifest.run in policy.runs:
        return _accept(f"policy.toml lists run {manifest.run}", wanted)
    return _unlisted(policy.unlisted, manifest_digest, wanted)


def may_start(policy: Policy, figures: StartFigures, now: datetime) -> PolicyAnswer:
    """Whether one more job of a run may start, by these checks in this order.

    1. No maintenance begins before the job's wall time is over.
    2. A window of the site's hours is open.
    3. The day's GPU-hours and bytes, and the run's GPU-hours and native units, have room for it.

    Args:
        policy: the site's.
        figures: see there.
        now: with its time zone.
    """
    met = reached(policy.maintenance, now, figures.wall_seconds or _NO_LIMIT_SECONDS)
    if met is not None:
        sentence = f"expected a job's whole wall time before or after maintenance, found {met.words()}"
        return _decline(Reason.POLICY, sentence)
    if not is_open(policy.hours, now):
        windows = ", ".join(policy.hours.windows)
        found = local_words(policy.hours, now)
        return _decline(Reason.POLICY, f"expected a time within {windows} ({policy.hours.time_zone}), found {found}")
    shortage = _over_day(policy.per_day, figures) or _over_run(policy.per_run, figures)
    return _decline(Reason.BUDGET, shortage) if shortage else _accept("within hours and budgets")


def may_start_within(policy: Policy, figures: StartFigures, now: datetime, limit_seconds: float) -> float:
    """How much later than now, at most `limit_seconds`, checks 1 and 2 of `may_start` still let a job begin."""
    wall_seconds = figures.wall_seconds or _NO_LIMIT_SECONDS
    return latest_start_seconds(policy.hours, policy.maintenance, now, wall_seconds, limit_seconds)


def must_stop(policy: Policy, figures: StartFigures, now: datetime, drain_seconds: float) -> Stop | None:
    """Why this run's live job has to end now, None if it may go on.

    1. Maintenance begins within `drain_seconds`, which is what a job needs to end.
    2. The site's hours are over, and they drain.
    3. The day's bytes have no room for what it may have on its way at once.
    4. What was used and what live jobs can still use is over a limit: a requeue gave a job its wall time once more, the
       accounts say more than was thought, or the limit was lowered.
    """
    met = reached(policy.maintenance, now, drain_seconds)
    if met is not None:
        return Stop(word="maintenance", sentence=met.words())
    if policy.hours.drain and not is_open(policy.hours, now):
        windows = f"{', '.join(policy.hours.windows)} ({policy.hours.time_zone})"
        return Stop(word="hours", sentence=f"the site's hours are over: {windows}")
    shortage = _over("bytes", policy.per_day.bytes, figures.day_bytes, figures.job_bytes, "within 24 hours")
    nothing_more = replace(
        figures,
        day_gpu_hours=figures.day_gpu_hours - _ROUNDING_HOURS,
        run_gpu_hours=figures.run_gpu_hours - _ROUNDING_HOURS,
        job_gpu_hours=0.0,
        job_bytes=0,
    )
    shortage = shortage or _over_day(policy.per_day, nothing_more) or _over_run(policy.per_run, nothing_more)
    return Stop(word="budget", sentence=shortage) if shortage else None


# --- manifests --------------------------------------------------------------------------------------------------------


def _broken_rule(manifest: Manifest) -> PolicyAnswer | None:
    """Check 1. The first broken rule is enough for an answer; the sentence says how many there are."""
    try:
        check_manifest(manifest)
    except ConfigError as error:
        first, *others = str(error).splitlines()
        more = f" (and {len(others)} more)" if others else ""
        return _decline(Reason.MANIFEST_INVALID, first + more)
    return None


def _not_ours(manifest: Manifest, site: str, consortium: str) -> PolicyAnswer | None:
    """Check 2."""
    if manifest.consortium != consortium:
        return _decline(Reason.POLICY, f"expected a run of consortium {consortium}, found {manifest.consortium}")
    if all(member.site != site for member in manifest.plan.members):
        members = _listed([member.site for member in manifest.plan.members])
        return _decline(Reason.POLICY, f"expected {site} among the run's sites, found {members}")
    return None


def _trainer_refusal(policy: Policy, name: str, installed: Mapping[str, str]) -> PolicyAnswer | None:
    """Checks 3 and 4."""
    if name not in installed:
        return _decline(Reason.UNKNOWN_TRAINER, f"expected a trainer of site.toml ({_listed(installed)}), found {name}")
    allowed = policy.trainers.get(name)
    if allowed is None:
        return _decline(Reason.UNKNOWN_TRAINER, f"expected trainer {name} in policy.toml, found no digest for it")
    if allowed != installed[name]:
        sentence = f"expected trainer {name} with digest {short(allowed)}, found {short(installed[name])} installed"
        return _decline(Reason.UNKNOWN_TRAINER, sentence)
    return None


def _data_refusal(policy: Policy, wanted: Sequence[str], here: Sequence[str]) -> PolicyAnswer | None:
    """Check 5. A site that names no data sets gives its jobs `data_dir`, but to no run that asks for more than that."""
    allowed = [name for name in here if name in policy.data_sets]
    for name in wanted:
        if name not in here:
            return _decline(Reason.POLICY, f"expected a data set of site.toml ({_listed(here)}), found {name}")
        if name not in allowed:
            return _decline(Reason.POLICY, f"expected a data set of policy.toml ({_listed(allowed)}), found {name}")
    if here and not allowed:
        sentence = f"expected one of site.toml's data sets ({_listed(here)}) in policy.toml, found none of them"
        return _decline(Reason.POLICY, sentence)
    return None


def _refused(policy: Policy, run: str, manifest_digest: str) -> PolicyAnswer | None:
    """Check 6."""
    if manifest_digest in policy.refused_manifests:
        return _decline(Reason.POLICY, f"policy.toml refuses manifest {short(manifest_digest)}")
    return _decline(Reason.POLICY, f"policy.toml refuses run {run}") if run in policy.refused_runs else None


def _origin_refusal(policy: Policy, origin: Origin) -> PolicyAnswer | None:
    """Check 7."""
    creators, approvers = policy.operators.creators, policy.operators.approvers
    if creators and origin.created_by not in creators:
        found = origin.created_by or "nobody known"
        return _decline(Reason.POLICY, f"expected a run created by {_listed(creators)}, found one by {found}")
    if not approvers or set(approvers) & set(origin.approved_by):
        return None
    sentence = f"expected the approval of {_listed(approvers)}, found that of {_listed(origin.approved_by)}"
    if origin.is_draft:
        return PolicyAnswer(answer=Answer.ASK, reason=Reason.POLICY, sentence=f"{sentence}; the run is still a draft")
    return _decline(Reason.POLICY, sentence)


def _unlisted(unlisted: Unlisted, manifest_digest: str, data_sets: tuple[str, ...]) -> PolicyAnswer:
    """Check 8 for a manifest that is not listed."""
    found = f"policy.toml does not list manifest {short(manifest_digest)}"
    if unlisted == "accept":
        return _accept(f"{found} and accepts such", data_sets)
    if unlisted == "ask":
        sentence = f"{found} and leaves it to a person"
        return PolicyAnswer(answer=Answer.ASK, reason=Reason.POLICY, sentence=sentence, data_sets=data_sets)
    return _decline(Reason.POLICY, f"{found} and declines such")


# --- budgets ----------------------------------------------------------------------------------------------------------


def _over_day(limit: PerDay, figures: StartFigures) -> str:
    day = "within 24 hours"
    return _over("GPU-hours", limit.gpu_hours, figures.day_gpu_hours, figures.job_gpu_hours, day) or _over(
        "bytes", limit.bytes, figures.day_bytes, figures.job_bytes, day
    )


def _over_run(limit: PerRun, figures: StartFigures) -> str:
    spent, wanted, rate = figures.run_gpu_hours, figures.job_gpu_hours, figures.units_per_gpu_hour
    if limit.gpu_hours is not None and (over := _over("GPU-hours", limit.gpu_hours, spent, wanted, "for this run")):
        return over
    if limit.native_units is None:
        return ""
    if rate is None:
        return "per_run.native_units: expected units_per_gpu_hour in site.toml or the centre's profile, found none"
    return _over(figures.unit, limit.native_units, rate * spent, rate * wanted, "for this run")


def _over(what: str, allowed: float, spent: float, wanted: float, span: str) -> str:
    """By how much a limit would be passed, "" if it would not. NaN is over every limit."""
    if spent + wanted <= allowed:
        return ""
    # few digits: the sentence is shown while it holds, and not every second another one
    return f"expected at most {allowed:g} {what} {span}, found {spent:.4g} spent and {wanted:.4g} wanted"


def _accept(sentence: str, data_sets: tuple[str, ...] = ()) -> PolicyAnswer:
    return PolicyAnswer(answer=Answer.ACCEPT, reason=Reason.NONE, sentence=sentence, data_sets=data_sets)


def _decline(reason: Reason, sentence: str) -> PolicyAnswer:
    return PolicyAnswer(answer=Answer.DECLINE, reason=reason, sentence=sentence)


def _listed(names: Sequence[str] | Mapping[str, str]) -> str:
    """The first eight, ascending; names from a manifest were checked before."""
    first = sorted(names)[:8]
    return (", ".join(first) + (", …" if len(names) > len(first) else "")) or "none"
