# SPDX-License-Identifier: Apache-2.0
"""What `site-agent status` says, line by line. The words of batch system and coordinator cannot break a terminal."""

import time
from collections.abc import Iterator

from federation.durations import count, in_words
from federation.messages import AllocationState
from federation.terminal_text import printable
from site_agent.cli.status_facts import DayBudget, JobProgress, Status
from site_agent.credentials_watch import Standing
from site_agent.failures import NO_FAILURE, Retry, failure_of
from site_agent.preflight_report import PreflightReport, preflight_line
from site_agent.views import AllocationView, RunView

MAX_LINE_CHARS = 600
_WHO = {Retry.BACKOFF: "tried again by itself", Retry.WAIT_FOR_HUMAN: "WAITS FOR A HUMAN", Retry.NEVER: "given up"}


def status_lines(found: Status) -> list[str]:
    """Everything, the site first."""
    view = found.view
    heard = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(view.heard_at_us / 1e6)) if view.heard_at_us else "never"
    lines = [f"site {view.site}: {count(view.ledger_size, 'leaf', 'leaves')}, coordinator last heard {heard}"]
    lines.append(f"  {_agent_line(found)}")
    if view.fault:
        lines.append(f"  LEDGER CANNOT BE FOLLOWED: {view.fault}")
    if view.silent and not view.fault:
        lines.append("  the coordinator is silent: nothing new starts")
    if view.blobs_wanted:
        lines.append(f"  waits for {count(view.blobs_wanted, 'blob')}")
    if view.waits_for_witnesses:
        lines.append("  waits for other sites' cosignatures")
    lines.append(f"  {_budget_line(found.budget)}")
    for item in view.runs:
        lines += (f"  {line}" for line in _run_lines(item, found))
    lines += (f"  {line}" for line in (*found.lines_of_courier, *found.lines_of_credentials))
    return [clean(line) for line in lines]


def clean(line: str) -> str:
    """One line for a terminal, its indentation kept."""
    return printable(line[:MAX_LINE_CHARS]) + ("…" if len(line) > MAX_LINE_CHARS else "")


def attention(found: Status) -> list[str]:
    """What waits for the site's operator, the most urgent first; empty if all goes by itself."""
    return [clean(sentence) for sentence in _attention(found)]


def _attention(found: Status) -> Iterator[str]:
    view = found.view
    if view.fault:
        yield f"the ledger cannot be followed: {view.fault}"
    if found.agent.died:
        yield f"no agent runs, and the last one did not end cleanly: {found.agent.sentence}"
    if view.silent and not view.fault:
        yield "the coordinator is silent: nothing new starts; see the courier"
    for item in view.runs:
        yield from _attention_of(item)
    for countdown in found.credentials:
        if countdown.standing is not Standing.FINE:
            yield countdown.line
    if found.budget.problem:
        yield f"budget: {found.budget.problem}"


def _attention_of(item: RunView) -> Iterator[str]:
    job, run = item.allocation, item.run
    if item.waits_for_operator:
        yield f"run {run} waits for `run accept` or `run refuse`: {item.sentence}"
    if job.doubt:
        yield f"run {run}, job {job.allocation}: {job.doubt}; see `site-agent attempt resolve`"
    if job.hindrance is not None and job.hindrance.needs_human:
        yield f"run {run}, job {job.allocation}: {job.hindrance.code}: {job.hindrance.sentence}. {job.hindrance.advice}"
    if _has_failed(job) and failure_of(job.reason).retry is not Retry.BACKOFF:
        yield f"run {run}, job {job.allocation}: {job.reason}: {job.sentence}. {failure_of(job.reason).advice}"


def _agent_line(found: Status) -> str:
    if found.agent.runs:
        return f"agent runs: {found.agent.sentence}"
    if found.agent.runs is None:
        return f"agent: it cannot be told yet whether it runs: {found.agent.sentence}"
    return f"NO AGENT RUNS NOW: {found.agent.sentence}"


def _budget_line(budget: DayBudget) -> str:
    if budget.problem:
        return f"budget cannot be told: {budget.problem}"
    hours = f" of {budget.max_gpu_hours:g}" if budget.max_gpu_hours is not None else ""
    sent = f" of {budget.max_bytes:,}" if budget.max_bytes is not None else ""
    return f"within 24 hours: {budget.gpu_hours:.2f}{hours} GPU-hours, {budget.num_bytes:,}{sent} bytes sent"


def _run_lines(item: RunView, found: Status) -> Iterator[str]:
    yield from run_line(item).split("\n")
    if item.run in found.preflight:
        yield _preflight(item, found.preflight[item.run])
    if item.run in found.progress:
        yield f"  {_progress_line(item, found.progress[item.run], found.at)}"
    yield from (f"  {verdict.line()}" for verdict in item.verdicts)
    yield from (f"  {sentence}" for sentence in item.tasks)


def _preflight(item: RunView, report: PreflightReport) -> str:
    runs = "ran" if item.allocation.state == AllocationState.ENDED else "runs"
    return f"  job {item.allocation.allocation} {runs} on {preflight_line(report)}"


def _progress_line(item: RunView, found: JobProgress, now: float) -> str:
    steps = f"{found.step}/{found.num_steps}" if found.num_steps is not None else str(found.step)
    parts = [f"window {found.round}: {found.phase}, step {steps}"]
    parts += [f"loss {found.loss:.3f}"] if found.loss is not None else []
    parts += [f"{found.seconds_per_step:.3g} s/step"] if found.seconds_per_step else []
    parts += [f"{in_words(found.seconds_left)} of wall time left"] if found.seconds_left >= 0 else []
    parts += [f"said {in_words(now - found.updated_at)} ago"] if found.updated_at else []
    return f"job {item.allocation.allocation} {', '.join(parts)}"


def run_line(item: RunView) -> str:
    """One run: answer and newest job, below it what hinders it; our own line ends only."""
    answer = "waits for your answer" if item.waits_for_operator else item.answer or "not answered"
    line = f"{item.run}  {item.state}  {item.num_commits}/{item.num_rounds} rounds  {answer}: {item.sentence}"
    return "\n".join(clean(part) for part in (line + _job_words(item.allocation), *_below(item)))


def _job_words(job: AllocationView) -> str:
    if not job.allocation:
        return ""
    words = f"  job {job.allocation} {job.state}"
    words += f" ({job.remark})" if job.remark else ""
    words += f", {job.reason}: {job.sentence}" if _has_failed(job) else ""
    return words + (f", {job.failures} failed in a row" if job.failures else "")


def _below(item: RunView) -> Iterator[str]:
    job = item.allocation
    if job.allocation and _has_failed(job):
        yield f"  {_advice(job.reason)}"
    if item.draining:
        yield f"  jobs are told to end: {item.draining}"
    elif item.no_start:
        yield f"  no job starts now: {item.no_start}"
    if job.hindrance is not None:
        head = "WAITS FOR A HUMAN" if job.hindrance.needs_human else "may wait for long"
        yield f"  {head}: {job.hindrance.code}: {job.hindrance.sentence}. {job.hindrance.advice}"
    if job.doubt:
        number = job.allocation.removeprefix("a")
        yield f"  WAITS FOR A HUMAN: {job.doubt}; see `site-agent attempt resolve SITE_DIR {item.run} {number}`"


def _has_failed(job: AllocationView) -> bool:
    return bool(job.sentence and (job.failures or job.reason not in NO_FAILURE))


def _advice(reason: str) -> str:
    """What can be done about a failed job, and who does it."""
    failure = failure_of(reason)
    return f"{_WHO[failure.retry]}: {failure.advice}"
