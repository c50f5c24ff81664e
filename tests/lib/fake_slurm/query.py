# SPDX-License-Identifier: Apache-2.0
"""The fake squeue, sacct and sinfo: only read."""

import os
import re
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from fake_slurm.outcome import BadOptionError, Outcome, options_of
from fake_slurm.store import CANCELLED, PENDING, SHORT, Cluster, Job, Store

_USER: Final = "root"
_NODE: Final = "n1"
_SQUEUE: Final = {"h": "noheader", "o": "format=", "j": "jobs=", "n": "name=", "t": "states=", "u": "user="} | {
    "A": "account=",
    "O": "Format=",
    "p": "partition=",
    "V": "version",
    "me": "me",
    "M": "clusters=",
}
_SACCT: Final = {"n": "noheader", "P": "parsable2", "p": "parsable", "X": "allocations", "o": "format="} | {
    "S": "starttime=",
    "E": "endtime=",
    "name": "name=",
    "j": "jobs=",
    "D": "duplicates",
    "s": "state=",
    "u": "user=",
    "A": "accounts=",
    "delimiter": "delimiter=",
    "V": "version",
    "M": "clusters=",
    "array": "array",
}
_SINFO: Final = {"h": "noheader", "o": "format=", "p": "partition=", "n": "nodes=", "N": "Node", "V": "version"}


def squeue(_store: Store, cluster: Cluster, arguments: list[str]) -> Outcome:
    """Lists jobs; without `--states` only those that are not over."""
    try:
        options, _ = options_of("squeue", arguments, "ho:j:n:t:u:A:O:p:VM:", _SQUEUE)
    except BadOptionError as error:
        return Outcome(status=1, error=f'{error}Try "squeue --help" for more information\n')
    if "version" in options:
        return Outcome(output=f"slurm-wlm {cluster.version}\n")
    known = [job for job in cluster.jobs if not job.is_purged]
    if "jobs" in options:
        numbers = options["jobs"].split(",")
        known = [job for job in known if str(job.id) in numbers]
        # The real one asks for a single job by its id, and fails; it filters a list, and doesn't.
        if len(numbers) == 1 and not known:
            return Outcome(status=1, error="slurm_load_jobs error: Invalid job id specified\n")
    form = options.get("format", "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R")
    wanted = [job for job in known if _queue_wants(options, job)]
    if "Format" in options:
        return Outcome(output="".join(f"{_expand_long(options['Format'], job)}\n" for job in wanted))
    lines = [_expand(form, _queue_fields(cluster, job)) for job in wanted]
    heading = [] if "noheader" in options else [_expand(form, _HEADINGS)]
    return Outcome(output="".join(f"{line}\n" for line in (*heading, *lines)))


def _expand_long(form: str, job: Job) -> str:
    """`--Format` of fields with a suffix each, such as `JobID:|,Name:`."""
    values = {
        "JobID": job.id,
        "State": job.state,
        "Reason": job.reason,
        "RestartCnt": job.restarts,
        "Name": job.name,
    } | {"StartTime": _stamp(job.started or job.begin, "N/A")}
    fields = (field.partition(":") for field in form.split(","))
    return "".join(f"{values[name]}{suffix}" for name, _, suffix in fields)


def sacct(_store: Store, cluster: Cluster, arguments: list[str]) -> Outcome:
    """Lists what the database knows of jobs; without `--jobs` only of today, as long as `--starttime` is not given."""
    try:
        options, _ = options_of("sacct", arguments, "nPpXo:S:E:j:Ds:u:A:VM:", _SACCT)
    except BadOptionError as error:
        return Outcome(status=1, error=str(error))
    if "version" in options:
        return Outcome(output=f"slurm-wlm {cluster.version}\n")
    columns = options.get("format", "JobID,JobName,Partition,Account,AllocCPUS,State,ExitCode").split(",")
    unknown = [column for column in columns if column.lower() not in _ACCOUNTED]
    if unknown:
        return Outcome(status=1, error=f'sacct: error: Invalid field requested: "{unknown[0]}"\n')
    jobs = [replace(job, name=_accounted_name(cluster, job)) for job in cluster.jobs]
    rows = [row for job in jobs for row in _executions(job, options) if _account_wants(cluster, options, row)]
    separator = options.get("delimiter", "|")
    lines = [separator.join(_ACCOUNTED[column.lower()](cluster, row) for column in columns) for row in rows]
    heading = [] if "noheader" in options else [separator.join(columns)]
    end = separator if "parsable" in options else ""
    return Outcome(output="".join(f"{line}{end}\n" for line in (*heading, *lines)))


def sinfo(_store: Store, cluster: Cluster, arguments: list[str]) -> Outcome:
    """Lists the partitions; the first is the default one."""
    try:
        options, _ = options_of("sinfo", arguments, "ho:p:n:NV", _SINFO)
    except BadOptionError as error:
        return Outcome(status=1, error=str(error))
    if "version" in options:
        return Outcome(output=f"slurm-wlm {cluster.version}\n")
    form = options.get("format", "%P %a %l %D %T %N")
    wanted = options["partition"].split(",") if "partition" in options else list(cluster.partitions)
    lines = []
    for number, (name, limit) in enumerate(cluster.partitions.items()):
        star = "" if number else "*"
        fields = {"P": name + star, "R": name, "a": "up", "l": _clock(limit), "D": "1", "T": "idle", "t": "idle"}
        if name in wanted:
            lines.append(_expand(form, fields | {"N": _NODE, "G": "gpu:4", "c": "4", "m": "1000"}))
    heading = [] if "noheader" in options else [form.replace("%", "")]
    return Outcome(output="".join(f"{line}\n" for line in (*heading, *lines)))


def _queue_wants(options: dict[str, str], job: Job) -> bool:
    states = {state.upper() for state in options["states"].split(",")} if "states" in options else set()
    if "ALL" not in states:
        wanted = {job.state, SHORT.get(job.state, "")} & states if states else not job.is_over
        if not wanted:
            return False
    if "user" in options and not {_USER, str(os.getuid())} & set(options["user"].split(",")):
        return False
    return all(
        option not in options or value in options[option].split(",")
        for option, value in (
            ("name", job.name),
            ("account", job.account),
            ("partition", job.partition),
        )
    )


def _executions(job: Job, options: dict[str, str]) -> Iterable[Job]:
    """What the database holds of a job: with `--duplicates` what was before a requeue too, the oldest first."""
    earlier = [replace(job, **{**execution, "name": job.name}) for execution in job.earlier]
    latest = [job] if job.is_accounted else []
    return [*earlier, *latest] if "duplicates" in options else (latest or earlier[-1:])


def _accounted_name(cluster: Cluster, job: Job) -> str:
    is_new = cluster.now < job.submitted + cluster.accounting_lag_seconds
    return "allocation" if is_new else job.name


def _account_wants(cluster: Cluster, options: dict[str, str], job: Job) -> bool:
    if "jobs" in options and str(job.id) not in options["jobs"].split(","):
        return False
    if "name" in options and job.name not in options["name"].split(","):
        return False
    if "state" in options and job.state not in options["state"].upper().split(","):
        return False
    begin = 0.0 if "jobs" in options else _midnight(cluster.now)
    if "starttime" in options:
        begin = _instant(cluster, options["starttime"])
    end = _instant(cluster, options["endtime"]) if "endtime" in options else cluster.now
    # Who asks by id gets every job; all others only those that were eligible in the time asked for.
    is_in_time = "jobs" in options or (job.eligible and job.eligible <= end)
    return bool(is_in_time) and (not job.ended or job.ended >= begin)


_HEADINGS: Final = {
    "i": "JOBID",
    "j": "NAME",
    "T": "STATE",
    "t": "ST",
    "r": "REASON",
    "P": "PARTITION",
    "u": "USER",
} | {
    "M": "TIME",
    "D": "NODES",
    "R": "NODELIST(REASON)",
}


def _queue_fields(cluster: Cluster, job: Job) -> dict[str, str]:
    started = job.started or 0.0
    elapsed = (job.ended or cluster.now) - started if started else 0.0
    return {
        "i": str(job.id),
        "A": str(job.id),
        "j": job.name,
        "T": job.state,
        "t": SHORT.get(job.state, job.state),
        "r": job.reason,
        "R": f"({job.reason})" if job.state == PENDING else _NODE,
        "a": job.account,
        "q": job.qos,
        "P": job.partition,
        "u": _USER,
        "D": str(job.num_nodes),
        "k": job.comment or "(null)",
        "Z": job.work_dir,
        "V": _stamp(job.submitted, "N/A"),
        "S": _stamp(job.started, "N/A"),
        "e": _stamp(started + job.limit_seconds if started else 0.0, "N/A"),
        "M": _clock(int(elapsed)),
        "l": _clock(job.limit_seconds),
        "L": _clock(int(job.limit_seconds - elapsed)),
    }


def _expand(form: str, fields: dict[str, str]) -> str:
    def replaced(found: "re.Match[str]") -> str:
        value, width = fields.get(found[3], ""), int(found[2] or 0)
        padded = value.rjust(width) if found[1] else value.ljust(width)
        return padded[:width] if width else value

    return re.sub(r"%(\.?)(\d*)([A-Za-z])", replaced, form)


def _tres(_cluster: Cluster, job: Job) -> str:
    if not job.started:
        return ""
    gpus = f",gres/gpu={job.num_gpus}" if job.num_gpus else ""
    return f"billing=1,cpu=1{gpus},node={job.num_nodes}"


def _elapsed(cluster: Cluster, job: Job) -> int:
    return int((job.ended or cluster.now) - job.started) if job.started else 0


def _state(_cluster: Cluster, job: Job) -> str:
    return "CANCELLED by 0" if job.state == CANCELLED else job.state


_ACCOUNTED: Final = {
    "jobid": lambda _, job: str(job.id),
    "jobidraw": lambda _, job: str(job.id),
    "jobname": lambda _, job: job.name,
    "state": _state,
    "exitcode": lambda _, job: job.exit_code,
    "derivedexitcode": lambda _, job: "0:0",
    "elapsed": lambda cluster, job: _clock(_elapsed(cluster, job), full=True),
    "elapsedraw": lambda cluster, job: str(_elapsed(cluster, job)),
    "alloctres": _tres,
    "allocnodes": lambda _, job: str(job.num_nodes if job.started else 0),
    "alloccpus": lambda _, job: "1" if job.started else "0",
    "nnodes": lambda _, job: str(job.num_nodes),
    "ncpus": lambda _, job: "1",
    "reason": lambda _, job: job.reason,
    "account": lambda _, job: job.account,
    "partition": lambda _, job: job.partition,
    "qos": lambda _, job: job.qos,
    "user": lambda _, job: _USER,
    "cluster": lambda cluster, _: cluster.cluster,
    "comment": lambda _, job: "",
    "workdir": lambda _, job: job.work_dir,
    "submit": lambda _, job: _stamp(job.submitted, "Unknown"),
    "eligible": lambda _, job: _stamp(job.eligible, "Unknown"),
    "start": lambda _, job: _stamp(job.started, "None" if job.ended else "Unknown"),
    "end": lambda _, job: _stamp(job.ended, "Unknown"),
    "timelimit": lambda _, job: _clock(job.limit_seconds, full=True),
    "timelimitraw": lambda _, job: str(job.limit_seconds // 60),
    "nodelist": lambda _, job: _NODE if job.started else "None assigned",
}


def _stamp(seconds: float, otherwise: str) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds)) if seconds else otherwise


def _clock(seconds: int, *, full: bool = False) -> str:
    hours, rest = divmod(max(seconds, 0), 3600)
    days, hours = divmod(hours, 24)
    if days or full:
        return f"{f'{days}-' if days else ''}{hours:02}:{rest // 60:02}:{rest % 60:02}"
    if hours:
        return f"{hours}:{rest // 60:02}:{rest % 60:02}"
    return f"{rest // 60}:{rest % 60:02}"


def _midnight(now: float) -> float:
    return time.mktime((*time.localtime(now)[:3], 0, 0, 0, 0, 0, -1))


def _instant(cluster: Cluster, text: str) -> float:
    """A time as sacct takes it: a date, date and time, or now-COUNT with a unit."""
    found = re.fullmatch(r"now([-+])(\d+)(second|minute|hour|day|week)?s?", text)
    if found:
        unit = {"minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}.get(found[3], 1)
        return cluster.now + int(f"{found[1]}{found[2]}") * unit
    if text in ("now", "today", "midnight"):
        return cluster.now if text == "now" else _midnight(cluster.now)
    form = "%Y-%m-%dT%H:%M:%S" if text.count(":") == 2 else "%Y-%m-%dT%H:%M" if "T" in text else "%Y-%m-%d"
    return time.mktime(time.strptime(text, form))
