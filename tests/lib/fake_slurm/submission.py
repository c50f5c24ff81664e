# SPDX-License-Identifier: Apache-2.0
"""The fake sbatch."""

import re
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

from fake_slurm import life
from fake_slurm.outcome import BadOptionError, Outcome, options_of
from fake_slurm.store import Cluster, Job, Store

_SHORT: Final = "A:b:c:C:d:D:e:G:hHi:J:k:L:m:M:n:N:o:p:q:Qst:vVw:Wx:"
_NAMES: Final = {
    "A": "account=",
    "b": "begin=",
    "c": "cpus-per-task=",
    "C": "constraint=",
    "d": "dependency=",
    "D": "chdir=",
    "e": "error=",
    "G": "gpus=",
    "H": "hold",
    "i": "input=",
    "J": "job-name=",
    "M": "clusters=",
    "n": "ntasks=",
    "N": "nodes=",
    "o": "output=",
    "p": "partition=",
    "q": "qos=",
    "Q": "quiet",
    "t": "time=",
    "V": "version",
    "w": "nodelist=",
    "W": "wait",
    "x": "exclude=",
} | {
    name: name
    for name in (
        *("comment=", "cpus-per-gpu=", "deadline=", "exclusive", "export=", "gpus-per-node=", "gpus-per-task="),
        *("gres=", "kill-on-invalid-dep=", "mail-type=", "mail-user=", "mem=", "mem-per-cpu=", "mem-per-gpu=", "nice="),
        *(
            "no-requeue",
            "ntasks-per-node=",
            "open-mode=",
            "parsable",
            "requeue",
            "reservation=",
            "signal=",
            "switches=",
        ),
        *(
            "test-only",
            "wckey=",
            "wrap=",
            "extra-node-info=",
            "hint=",
            "distribution=",
            "threads-per-core=",
            "network=",
        ),
    )
}
_FAILED: Final = "sbatch: error: Batch job submission failed: "
_NODES: Final = 1
_GPUS: Final = 4


def sbatch(store: Store, cluster: Cluster, arguments: list[str]) -> Outcome:
    """Submits a script."""
    if {"--version", "-V"} & set(arguments):
        return Outcome(output=f"slurm-wlm {cluster.version}\n")
    job, refused = parse(store, cluster, arguments)
    if "--test-only" in arguments:
        return _rehearsal(cluster, job, refused)
    if job is None:
        return refused or Outcome(status=1)
    life.submit(cluster, job)
    text = (store.directory / job.command).read_text()
    job.command = f"scripts/{job.id}"
    (store.directory / job.command).write_text(text)
    parsable = "--parsable" in arguments or "parsable" in job.options
    return Outcome(output=f"{job.id}\n" if parsable else f"Submitted batch job {job.id}\n")


def _rehearsal(cluster: Cluster, job: Job | None, refused: Outcome | None) -> Outcome:
    if job is None:
        refused = refused or Outcome(status=1)
        return Outcome(status=refused.status, error=refused.error.replace(_FAILED, "allocation failure: "))
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(cluster.now))
    where = f"using 1 processors on nodes n1 in partition {job.partition}"
    return Outcome(error=f"sbatch: Job {cluster.next_id} to start at {at} {where}\n")


def keep_later(cluster: Cluster, job: Job, *, ticks: int, seconds: float) -> None:
    """Lets a submission arrive when its sbatch may have been dead for long."""
    entry = {"job": asdict(job), "tick": cluster.ticks + ticks, "time": cluster.now + seconds if seconds else 0.0}
    cluster.late.append(entry)


def parse(store: Store, cluster: Cluster, arguments: list[str]) -> tuple[Job | None, Outcome | None]:
    """The job that a call describes, or why it is refused, in the words and with the status of the real sbatch."""
    try:
        given, positional = options_of("sbatch", arguments, _SHORT, _NAMES)
        text, name = _script(given, positional)
        written, _ = options_of("sbatch", _directives(text), _SHORT, _NAMES)
    except BadOptionError as error:
        return None, Outcome(status=255, error=f'{error}Try "sbatch --help" for more information\n')
    except OSError:
        return None, Outcome(status=1, error=f"sbatch: error: Unable to open file {positional[0]}\n")
    options = written | given
    if problem := _problem(cluster, options):
        return None, Outcome(status=1, error=f"{_FAILED}{problem}\n")
    job = _job(cluster, options, name, positional[1:])
    (store.directory / "scripts").mkdir(exist_ok=True)
    job.command = f"scripts/new-{time.monotonic_ns()}"
    (store.directory / job.command).write_text(text)
    return job, None


def _script(given: dict[str, str], positional: list[str]) -> tuple[str, str]:
    if "wrap" in given:
        return f"#!/bin/sh\n{given['wrap']}\n", "wrap"
    if positional:
        return Path(positional[0]).read_text(), Path(positional[0]).name
    return sys.stdin.read(), "sbatch"


def _directives(text: str) -> list[str]:
    """Options of the #SBATCH lines, which end at the first command."""
    words: list[str] = []
    for line in text.splitlines():
        if line.startswith("#SBATCH"):
            words += shlex.split(line.removeprefix("#SBATCH"), comments=True)
        elif line.strip() and not line.startswith("#"):
            break
    return words


def _problem(cluster: Cluster, options: dict[str, str]) -> str:
    partition = options.get("partition", next(iter(cluster.partitions)))
    if partition not in cluster.partitions:
        return "Invalid partition name specified"
    if options.get("account", cluster.accounts[0]) not in cluster.accounts:
        return "Invalid account or account/partition combination specified"
    if options.get("qos", "normal") not in cluster.qos:
        return "Invalid qos specification"
    if "reservation" in options:
        return "Requested reservation is invalid"
    if _seconds(options.get("time", "1")) > cluster.partitions[partition]:
        return "Requested time limit is invalid (missing or exceeds some limit)"
    if int(options.get("nodes", "1").split("-")[0]) > _NODES:
        return "Node count specification invalid"
    return "Requested node configuration is not available" if _gpus(options) > _GPUS else ""


def _job(cluster: Cluster, options: dict[str, str], name: str, arguments: list[str]) -> Job:
    directory = options.get("chdir", str(Path.cwd()))
    dependency = options.get("dependency", "")
    return Job(
        id=0,
        name=options.get("job-name", name),
        account=options.get("account", cluster.accounts[0]),
        partition=options.get("partition", next(iter(cluster.partitions))),
        qos=options.get("qos", "normal"),
        comment=options.get("comment", ""),
        work_dir=directory,
        output=str(Path(directory) / options.get("output", "slurm-%j.out")),
        arguments=arguments,
        options=options,
        num_nodes=int(options.get("nodes", "1").split("-")[0]),
        num_gpus=_gpus(options),
        limit_seconds=_seconds(options.get("time", "10")),
        begin=_begin(cluster, options.get("begin", "")),
        is_held="hold" in options,
        is_singleton="singleton" in dependency.split(","),
    )


def _gpus(options: dict[str, str]) -> int:
    if "gpus-per-node" in options:
        return int(options["gpus-per-node"].split(":")[-1])
    if "gpus" in options:
        return int(options["gpus"].split(":")[-1])
    found = re.search(r"gpu(?::[a-z]\w*)?:(\d+)", options.get("gres", ""))
    return int(found[1]) if found else 0


def _seconds(text: str) -> int:
    """A wall time: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S (sbatch(1))."""
    days, _, rest = text.rpartition("-")
    numbers = [int(number) for number in rest.split(":")]
    if days:
        hours, minutes, seconds = [*numbers, 0, 0][:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:
        hours, (minutes, seconds) = 0, [*numbers, 0][:2]
    return int(days or 0) * 86_400 + hours * 3600 + minutes * 60 + seconds


def _begin(cluster: Cluster, text: str) -> float:
    found = re.fullmatch(r"now\+(\d+)(second|minute|hour|day)?s?", text)
    if found:
        return cluster.now + int(found[1]) * {"minute": 60, "hour": 3600, "day": 86_400}.get(found[2], 1)
    return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S")) if text else 0.0
