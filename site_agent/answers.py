# SPDX-License-Identifier: Apache-2.0
"""What the site's operator says about runs: a small file each, written by commands, read by the agent in every pass."""

from dataclasses import replace

from federation.durable.api import FileSystem
from federation.errors import UsageError
from federation.ids import check_slug
from federation.messages import AllocationState
from federation.rounds import RunState
from site_agent import layout
from site_agent.failures import Retry, failure_of, retry_of
from site_agent.json_records import read_record, write_record
from site_agent.observations import HumanAnswer
from site_agent.views import RunView, SiteView, read_view


def accept(fs: FileSystem, run: str, manifest_digest: str = "") -> RunView:
    """Accepts the manifest that the agent has seen for a run, and no other one.

    Args:
        fs: of the agent's directory.
        run: id of the run.
        manifest_digest: what the operator looked at, or its beginning; "" takes what the agent shows.

    Raises:
        UsageError: the agent knows no such run, its manifest is another one or not here, or the policy declines it.
    """
    shown, _ = _shown(fs, run)
    if not shown.policy:
        raise UsageError(f"run {run}: expected its manifest at this site, found none yet", advice="Try again later.")
    if manifest_digest and not shown.manifest_digest.startswith(manifest_digest):
        raise UsageError(f"run {run}: expected manifest {manifest_digest}, found {shown.manifest_digest}")
    if shown.policy == "decline":
        raise UsageError(
            f"run {run}: the site's policy declines this manifest: {shown.sentence}",
            advice="Change policy.toml; a serving agent notices. A command cannot overrule the policy.",
        )
    _write(fs, replace(answer_of(fs, run), accepted=True, manifest_digest=shown.manifest_digest))
    return shown


def refuse(fs: FileSystem, run: str) -> None:
    """Refuses every manifest of a run id, known or not; wins over policy and coordinator until `accept`."""
    _write(fs, replace(answer_of(fs, run), accepted=False, manifest_digest=""))


def retry(fs: FileSystem, run: str, now_us: int) -> str:
    """Forgets failed jobs so far, so that back-off and `max_failures` hold up no further one.

    Returns:
        What else the next job waits for, in words; "" if nothing that the agent has seen.

    Raises:
        UsageError: no such run, or its newest job ended as every further one would.
    """
    shown, view = _shown(fs, run)
    newest = shown.allocation
    if newest.state == AllocationState.ENDED and retry_of(newest.reason) is Retry.NEVER:
        failure = failure_of(newest.reason)
        raise UsageError(
            f"run {run}: expected a failure that another try can help, found {newest.reason}: {failure.sentence}; "
            "no further job of this run starts here",
            advice=failure.advice,
        )
    _write(fs, replace(answer_of(fs, run), retry_at_us=now_us))
    return _in_the_way(shown, silent=view.silent)


def _in_the_way(shown: RunView, *, silent: bool) -> str:
    """Why the next job does not start at once, by what the agent saw in its last pass."""
    newest = shown.allocation
    if newest.allocation and newest.state != AllocationState.ENDED:
        return f"job {newest.allocation} is {newest.state}; the next one follows when it has ended"
    if shown.state not in (RunState.APPROVED, RunState.RUNNING):
        only = ", and only an evaluation that is due needs a job"
        return f"the run is {shown.state}{only if shown.state in (RunState.COMPLETED, RunState.PAUSED) else ''}"
    if shown.answer != "accepted":
        return "this site has not accepted the run"
    if shown.no_start:
        return shown.no_start
    return "the coordinator is silent" if silent else ""


def declare_ended(fs: FileSystem, run: str, number: int) -> None:
    """The operator vouches that an allocation of unknown fate runs no more. Raises UsageError: it is not the newest."""
    _require_newest(fs, run, number)
    said = answer_of(fs, run)
    _write(fs, replace(said, ended=tuple(sorted({*said.ended, number}))))


def declare_handle(fs: FileSystem, run: str, number: int, handle: str) -> None:
    """The operator found the job of an allocation of unknown fate. Raises UsageError: it is not the newest."""
    _require_newest(fs, run, number)
    said = answer_of(fs, run)
    _write(fs, replace(said, handles=tuple(sorted({**dict(said.handles), number: handle}.items()))))


def _require_newest(fs: FileSystem, run: str, number: int) -> None:
    newest = _shown(fs, run)[0].allocation.allocation
    if newest != f"a{number}":
        raise UsageError(f"run {run}: expected its newest allocation, {newest or 'none'}, found a{number}")


def _shown(fs: FileSystem, run: str) -> tuple[RunView, SiteView]:
    check_slug(run, "run")
    view = read_view(fs)
    found = next((shown for shown in view.runs if shown.run == run), None) if view else None
    if view is None or found is None:
        known = ", ".join(shown.run for shown in view.runs) if view and view.runs else "none"
        raise UsageError(f"run {run}: expected one that names this site ({known}), found no such run")
    return found, view


def answer_of(fs: FileSystem, run: str) -> HumanAnswer:
    """What the site's operator has said about a run so far."""
    check_slug(run, "run")
    return read_record(fs, layout.answer_path(run), HumanAnswer) or HumanAnswer(run=run)


def _write(fs: FileSystem, answer: HumanAnswer) -> None:
    write_record(fs, layout.answer_path(answer.run), answer)
