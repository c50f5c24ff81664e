# SPDX-License-Identifier: Apache-2.0
"""A policy in words: what it lets happen now, and what it says to each run that the site knows. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from federation.roster import Role, Roster
from site_agent.budget_units import NativeUnit
from site_agent.policy import Policy
from site_agent.policy_hours import is_open, local_words, next_change


@dataclass(frozen=True, kw_only=True)
class RunWords:
    """What the policy says to one run.

    Attributes:
        answer: "accept", "ask", "decline", "" while the manifest is not here; `sentence` says why.
        start: why no job of it may start now, "" if one may. stop: why a running one has to end, "" if it may go on.
        data_sets: that jobs train on.
    """

    run: str
    answer: str
    reason: str
    sentence: str
    start: str
    stop: str
    data_sets: tuple[str, ...]


def policy_words(policy: Policy, unit: NativeUnit, now: datetime) -> list[str]:
    """What the policy lets happen at `now`, a line for each subject."""
    return [*_who(policy), *_what(policy), *_when(policy, now), *_how_much(policy, unit)]


def unknown_operators(policy: Policy, roster: Roster) -> list[str]:
    """A sentence for each operator in the policy whom the roster does not know as one: such a run never comes."""
    known = {entry.operator for entry in roster.operators if Role.OPERATOR in entry.roles}
    lists = (("creators", policy.operators.creators), ("approvers", policy.operators.approvers))
    return [
        f"operators.{key}: expected an operator of roster version {roster.version}, found {name}"
        for key, names in lists
        for name in names
        if name not in known
    ]


def run_line(words: RunWords) -> str:
    """One run in one line."""
    if not words.answer:
        return f"run {words.run}: {words.sentence}"
    line = f"run {words.run}: {words.answer}" + (f" ({words.reason})" if words.answer == "decline" else "")
    line += f": {words.sentence}"
    if words.data_sets:
        line += f"; trains on {', '.join(words.data_sets)}"
    if words.answer == "decline":
        return line
    if words.stop:
        line += f"; a running job is told to end: {words.stop}"
    return line + (f"; no job starts now: {words.start}" if words.start else "; the policy lets a job start now")


def _who(policy: Policy) -> Iterator[str]:
    for verb, runs, manifests in (
        ("accepts", policy.runs, policy.manifests),
        ("refuses", policy.refused_runs, policy.refused_manifests),
    ):
        if runs or manifests:
            listed = [f"runs {', '.join(runs)}"] if runs else []
            listed += [f"{len(manifests)} manifests by digest"] if manifests else []
            yield f"{verb} {' and '.join(listed)}"
    other = {"decline": "declines", "ask": "asks a person about", "accept": "accepts"}[policy.unlisted]
    yield f"{other} every other run"
    if policy.operators.creators:
        yield f"only runs created by {', '.join(policy.operators.creators)}"
    if policy.operators.approvers:
        yield f"only runs approved by {', '.join(policy.operators.approvers)} (one of them is enough)"


def _what(policy: Policy) -> Iterator[str]:
    yield f"trainers: {', '.join(sorted(policy.trainers)) or 'none, so every run is declined'}"
    if policy.data_sets:
        yield f"data sets: {', '.join(policy.data_sets)}"


def _when(policy: Policy, now: datetime) -> Iterator[str]:
    hours = policy.hours
    if hours.windows:
        change = next_change(hours, now)
        until = f" until {local_words(hours, change)}" if change else ""
        state = "open" if is_open(hours, now) else "closed"
        after = "running jobs are told to end then" if hours.drain else "running jobs go on after them"
        yield (
            f"hours {', '.join(hours.windows)} ({hours.time_zone}), now {local_words(hours, now)}: "
            f"{state}{until}; {after}"
        )
    else:
        yield "hours: at any time"
    coming = sorted((m for m in policy.maintenance if now < m.ends_at), key=lambda m: m.begins_at.astimezone(UTC))
    yield from (f"{m.words()}{', going on now' if m.begins_at <= now else ''}" for m in coming)


def _how_much(policy: Policy, unit: NativeUnit) -> Iterator[str]:
    yield f"within 24 hours: {unit.words(policy.per_day.gpu_hours)}, {policy.per_day.bytes} bytes"
    per_run = policy.per_run
    if per_run.gpu_hours is not None:
        yield f"for each run: {unit.words(per_run.gpu_hours)}"
    if per_run.native_units is not None:
        yield f"for each run: {per_run.native_units:g} {unit.name} of the centre"
