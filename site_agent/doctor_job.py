# SPDX-License-Identifier: Apache-2.0
"""The test job of `doctor --job`: started through the site's launcher, waited for with a deadline, cancelled after it.

It runs with the interpreter, modules, container and resources of any job of this site, on one node unless asked
otherwise, and is short. No policy and no budget is asked: a person started it.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from federation.durable.real import RealFileSystem
from federation.durations import in_words
from federation.errors import FederationError, ObjectNotFoundError, TransportError
from site_agent.doctor_case import Finding, Verdict
from site_agent.doctor_findings import findings_of
from site_agent.doctor_report import JOB_MODULE, ORDER_FILE, REPORT_FILE, DoctorOrder, DoctorReport
from site_agent.failures import code_of_error, failure_of
from site_agent.json_records import read_record, write_record
from site_agent.launcher.api import JobPresence, Launcher
from site_agent.launcher.local import LOG_FILE, LocalLauncher
from site_agent.launcher.registry import open_slurm
from site_agent.launcher.slurm.launcher import SlurmLauncher
from site_agent.launcher.slurm.waiting import hindrance_of
from site_agent.site_config import SiteConfig

JOB_SECONDS: Final = 300
"""Wall time of a test job: the first import of torch on a busy parallel file system takes minutes."""

_SIGNAL_SECONDS: Final = 10
_MAX_POLL_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.5
_AFTER_END_SECONDS: Final = 10.0
"""For so long a job's file may be invisible here after its end: network file systems remember that it was not there."""

_DIRECTORY: Final = "spool/doctor"
_CHECK: Final = "test job"
_MAX_WORDS: Final = 300
_MODULE_MISSING: Final = "module-missing"


class Fate(StrEnum):
    """How the wait for a test job ended."""

    REPORTED = "reported"
    ENDED = "ended"
    """Without a whole report."""
    HINDERED = "hindered"
    """It waits for what does not go away."""
    LATE = "late"


@dataclass(frozen=True, kw_only=True)
class Wait:
    """What came of it. `remark`: the batch system's word on a job that waits; `seconds`: since it was submitted."""

    fate: Fate
    seconds: float
    presence: JobPresence
    report: DoctorReport | None = None
    remark: str = ""


class Trial:
    """One test job.

    Args:
        fs: of the site's directory.
        all_nodes: as many nodes as any job of the site, not one.
        monotonic, sleep: of the waiting.
    """

    def __init__(
        self,
        fs: RealFileSystem,
        config: SiteConfig,
        *,
        all_nodes: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        nonce = secrets.token_hex(8)
        self.name, self._relative = f"federation-doctor-{nonce}", f"{_DIRECTORY}/{nonce}"
        self._fs, self._monotonic, self._sleep = fs, monotonic, sleep
        self.order = DoctorOrder(
            nonce=nonce, device=config.job.device, data_paths=_data_paths(config, fs.root), ordered_at=time.time()
        )
        self.launcher = _launcher(fs, config, self.name, all_nodes=all_nodes)
        self.handle, self._began = "", 0.0

    @property
    def directory(self) -> Path:
        """Where order, report and log lie."""
        return self._fs.root / self._relative

    def start(self) -> None:
        """Writes the order and submits. Raises LaunchFailedError, or TransportError where there may be a job."""
        write_record(self._fs, f"{self._relative}/{ORDER_FILE}", self.order)
        self._began = self._monotonic()
        self.handle = self.launcher.submit(self.directory, self.name, 1)

    def wait(self, seconds: float) -> Wait:
        """Until there is a whole report, it is certain that none will come, or the time is over."""
        ended_at = None
        while True:
            now, report, presence = self._monotonic(), self.report(), self.launcher.query(self.handle)
            remark = self.launcher.remark(self.handle) if presence is not JobPresence.ENDED else ""
            if presence is JobPresence.ENDED:
                ended_at = now if ended_at is None else ended_at
            if fate := self._fate(report, presence, remark, ended_at, seconds):
                taken = now - self._began
                return Wait(fate=fate, seconds=taken, presence=presence, report=report, remark=remark)
            self._sleep(_LOOK_SECONDS)

    def _fate(
        self,
        report: DoctorReport | None,
        presence: JobPresence,
        remark: str,
        ended_at: float | None,
        seconds: float,
    ) -> Fate | None:
        now = self._monotonic()
        if report is not None and report.is_whole:
            return Fate.REPORTED
        if ended_at is not None and now - ended_at >= _AFTER_END_SECONDS:
            return Fate.ENDED
        hindrance = hindrance_of(remark) if presence is JobPresence.QUEUED else None
        if hindrance is not None and hindrance.needs_human:
            return Fate.HINDERED
        return Fate.LATE if now - self._began >= seconds else None

    def report(self) -> DoctorReport | None:
        """What the job has written so far."""
        return read_record(self._fs, f"{self._relative}/{REPORT_FILE}", DoctorReport)

    def last_words(self) -> str:
        """The last line of the job's log that says anything."""
        try:
            data = self._fs.read(f"{self._relative}/{LOG_FILE}")
        except ObjectNotFoundError:
            return ""
        lines = [line.strip() for line in data[-65_536:].decode(errors="replace").splitlines() if line.strip()]
        return "".join(c if c.isprintable() else " " for c in lines[-1])[:_MAX_WORDS] if lines else ""

    def end(self) -> None:
        """Takes the job away if it is still there; a job that has reported gets a moment to end itself."""
        if not self.handle:
            return
        deadline = self._monotonic() + _AFTER_END_SECONDS
        report = self.report()
        while report is not None and report.is_whole and self._monotonic() < deadline:
            if self.launcher.query(self.handle) is JobPresence.ENDED:
                return
            self._sleep(_LOOK_SECONDS)
        self.launcher.cancel(self.handle, force=True)

    def tidy(self) -> None:
        """Removes its files."""
        self._fs.remove_tree(self._relative)


def examine_job(directory: Path, config: SiteConfig, wait_seconds: float, *, all_nodes: bool = False) -> list[Finding]:
    """Submits a test job, waits for it, and says what it found; never raises for what a site can have wrong."""
    trial = Trial(RealFileSystem(directory), config, all_nodes=all_nodes)
    try:
        trial.start()
    except TransportError as error:
        advice = f"There may be a job all the same: `squeue --me --name={trial.name}`, and `scancel` it."
        return [_failed(str(error), advice)]
    except FederationError as error:
        return [_failed(str(error), error.advice)]
    try:
        found = _findings(trial, trial.wait(wait_seconds))
    except FederationError as error:
        found = [_failed(str(error), error.advice)]
    finally:
        left = _end(trial)
    return [*found, *left]


def _end(trial: Trial) -> list[Finding]:
    try:
        trial.end()
        report = trial.report()
        if report is not None and report.is_whole:
            trial.tidy()
    except FederationError as error:
        advice = f"Look with `squeue --me`, and `scancel` what is called {trial.name}."
        return [Finding(check=f"{_CHECK}'s end", verdict=Verdict.WARNING, found=str(error), advice=advice)]
    return []


def _findings(trial: Trial, wait: Wait) -> list[Finding]:
    match wait.fate:
        case Fate.REPORTED if wait.report is not None:
            words = f"{trial.handle} ran on {wait.report.host}, reported {in_words(wait.seconds)} after its submission"
            first = Finding(check=_CHECK, verdict=Verdict.OK, found=words)
            return [first, *findings_of(wait.report, trial.order, time.time())]
        case Fate.HINDERED:
            return [_hindered(wait)]
        case Fate.LATE:
            return [_late(wait)]
    return [_ended(trial, wait)]


def _hindered(wait: Wait) -> Finding:
    hindrance = hindrance_of(wait.remark)
    assert hindrance is not None
    return _failed(f"{hindrance.code} ({wait.remark}): {hindrance.sentence}; it was cancelled", hindrance.advice)


def _late(wait: Wait) -> Finding:
    state = f"{wait.presence.value}{f' ({wait.remark})' if wait.remark else ''}"
    words = f"no whole report within {in_words(wait.seconds)}, the job is {state}; it is cancelled"
    advice = "A queue can be longer than that: see `squeue --start`, or raise --wait-seconds."
    return Finding(check=_CHECK, verdict=Verdict.WARNING, found=words, advice=advice)


def _ended(trial: Trial, wait: Wait) -> Finding:
    """The job is over and left nothing, or not all: its log knows why."""
    said = trial.last_words()
    # The batch script's own word, or the system's.
    code = _MODULE_MISSING if said.startswith(f"{_MODULE_MISSING}:") else code_of_error("failed", "", said)
    where = f"see {trial.directory / LOG_FILE}"
    known = failure_of(code)
    what = "broke off" if wait.report is not None else "left no report"
    words = f"the job {what}: {f'{code}: {known.sentence}; ' if code != 'failed' else ''}{said or 'its log is empty'}"
    if wait.report is None and not said:
        advice = f"Is {trial.directory} the same directory on compute nodes? Is slurm.python there? Else {where}."
        return _failed(words, advice)
    advice = known.advice.removesuffix(" Then `site-agent run retry`.")
    return _failed(words, f"{advice if code != 'failed' else ''} {where[0].upper()}{where[1:]}.".strip())


def _failed(found: str, advice: str) -> Finding:
    return Finding(check=_CHECK, verdict=Verdict.FAILED, found=found, advice=advice)


def _launcher(fs: RealFileSystem, config: SiteConfig, name: str, *, all_nodes: bool) -> Launcher:
    """The site's own, but for a short job of its own, without a control job, that nothing queues again."""
    isolate = config.job.isolate_network
    if config.launcher == "local":
        return LocalLauncher(module=JOB_MODULE, isolate_network=isolate)
    changes = {
        "nodes": config.slurm.nodes if all_nodes else 1,
        "requeue": False,
        "control_job": False,
        "signal_seconds": _SIGNAL_SECONDS,
        "poll_seconds": min(config.slurm.poll_seconds, _MAX_POLL_SECONDS),
    }
    job = config.job.model_copy(update={"seconds_limit": min(config.job.seconds_limit, JOB_SECONDS)})
    own = config.model_copy(update={"slurm": config.slurm.model_copy(update=changes), "job": job})
    return SlurmLauncher(open_slurm(own, fs, name), JOB_MODULE, isolate_network=isolate)


def _data_paths(config: SiteConfig, site_dir: Path) -> tuple[str, ...]:
    sets = tuple(str(found.path) for found in config.data.data_sets(site_dir))
    return (str(config.data_path(site_dir)), *sets) if config.data_dir else sets
