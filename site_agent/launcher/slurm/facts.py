# SPDX-License-Identifier: Apache-2.0
"""What `doctor` asks a batch system about itself: partitions, nodes, associations. Only reads."""

import os
import pwd
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from federation.errors import LaunchFailedError, PeerUnavailableError
from site_agent.launcher.slurm.commands import Completed, Runner, run_command
from site_agent.launcher.slurm.refusals import refusal_of

NEEDED: Final = ("sbatch", "squeue", "scancel", "sinfo", "srun")
"""Commands without which nothing goes; sacct is asked for where the site has accounting."""

_PARTITION_FORMAT: Final = "%P|%a|%l|%D|%c|%m|%G"
_ASSOCIATION_FORMAT: Final = "Account,Partition,QOS"
_MAX_WORDS: Final = 300


@dataclass(frozen=True, kw_only=True)
class NodeGroup:
    """Nodes of a partition that are alike, as one line of sinfo.

    Attributes:
        is_default: the partition is the one for jobs that name none.
        state: of the partition: "up", "down", "drain" or "inact".
        max_seconds: longest wall time, 0 for no limit.
        num_cpus, memory_mb, num_gpus: of one node.
    """

    partition: str
    is_default: bool
    state: str
    max_seconds: int
    num_nodes: int
    num_cpus: int
    memory_mb: int
    num_gpus: int


@dataclass(frozen=True, kw_only=True)
class Association:
    """What a user may charge: `partition` "" for any, `qos` () where none is listed."""

    account: str
    partition: str
    qos: tuple[str, ...]


class SlurmFacts:
    """sinfo, sacctmgr, a rehearsal of sbatch and the search for commands; arguments as of `SlurmCommands`."""

    def __init__(self, bin_dir: str = "", timeout_seconds: float = 60.0, run: Runner = run_command) -> None:
        self._bin_dir, self._timeout_seconds, self._run_command = bin_dir, timeout_seconds, run

    def missing(self, names: Iterable[str] = NEEDED) -> list[str]:
        """Those of the commands that cannot be found."""
        return [name for name in names if shutil.which(name, path=self._bin_dir or None) is None]

    def nodes(self, partition: str = "") -> list[NodeGroup]:
        """Nodes of a partition, or of all; [] if there is no such partition.

        Raises:
            PeerUnavailableError, DeadlineExceededError: no answer.
        """
        chosen = [f"--partition={partition}"] if partition else []
        done = self._ask("sinfo", "--noheader", f"--format={_PARTITION_FORMAT}", *chosen)
        return [group for line in done.out.splitlines() if (group := node_group(line)) is not None]

    def associations(self) -> list[Association] | None:
        """Those of this user, None where sacctmgr is not to be had.

        Raises:
            PeerUnavailableError, DeadlineExceededError: no answer.
        """
        if self.missing(("sacctmgr",)):
            return None
        user = pwd.getpwuid(os.getuid()).pw_name
        shape = ("--noheader", "--parsable2", "show", "assoc")
        done = self._ask("sacctmgr", *shape, f"user={user}", f"format={_ASSOCIATION_FORMAT}")
        return [found for line in done.out.splitlines() if (found := association(line)) is not None]

    def rehearse(self, script: Path) -> str:
        """What sbatch says of a script that it only looks at: nothing is submitted.

        Raises:
            LaunchFailedError: it would be refused; its `code` says why.
            PeerUnavailableError, DeadlineExceededError: no answer, or one that is not understood.
        """
        done = self._run("sbatch", "--test-only", str(script))
        refusal = refusal_of(done.err) if done.status else None
        if refusal is not None:
            words = f"sbatch --test-only: {refusal.sentence}: {_words(done)}"
            raise LaunchFailedError(words, code=refusal.code, advice=refusal.advice)
        return _words(_answered("sbatch --test-only", done))

    def _ask(self, name: str, *arguments: str) -> Completed:
        return _answered(name, self._run(name, *arguments))

    def _run(self, name: str, *arguments: str) -> Completed:
        path = str(Path(self._bin_dir) / name) if self._bin_dir else name
        return self._run_command([path, *arguments], self._timeout_seconds)


def _answered(name: str, done: Completed) -> Completed:
    if done.status:
        raise PeerUnavailableError(f"{name}: expected an answer, found status {done.status}: {_words(done)}")
    return done


def _words(done: Completed) -> str:
    return " ".join((done.err.strip() or done.out.strip() or "nothing was said").split())[:_MAX_WORDS]


def node_group(line: str) -> NodeGroup | None:
    """A line of sinfo, None if it is something else."""
    fields = line.strip().split("|", 6)
    if len(fields) != 7:
        return None
    name, state, limit, nodes, cpus, memory, gres = fields
    return NodeGroup(
        partition=name.rstrip("*"),
        is_default=name.endswith("*"),
        state=state,
        max_seconds=seconds_of(limit),
        num_nodes=_number(nodes),
        num_cpus=_number(cpus),
        memory_mb=_number(memory),
        num_gpus=gpus_of(gres),
    )


def association(line: str) -> Association | None:
    """A line of sacctmgr, None if it is something else."""
    fields = line.strip().split("|")
    if len(fields) != 3 or not fields[0]:
        return None
    return Association(account=fields[0], partition=fields[1], qos=tuple(filter(None, fields[2].split(","))))


def seconds_of(limit: str) -> int:
    """A wall time as sinfo prints it, [D-]H:M:S or M:S; 0 for "infinite" and what cannot be read."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit.strip())
    if found is None:
        return 0
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return days * 86_400 + hours * 3600 + minutes * 60 + seconds


def gpus_of(gres: str) -> int:
    """GPUs of a node: of "gpu:a100:4(S:0-1),nvme:1" 4; 0 for "(null)"."""
    plain = re.sub(r"\([^)]*\)", "", gres)
    counts = (re.fullmatch(r"gpu(?::[^:,]+)*:(\d+)", part) for part in plain.split(","))
    return sum(int(found[1]) for found in counts if found)


def megabytes_of(size: str) -> int:
    """A size as sbatch takes it ("480G", "2000" in megabytes), in megabytes; 0 for all that a node has."""
    found = re.fullmatch(r"(\d+)([KMGT]?)", size)
    if found is None:
        return 0
    count = int(found[1])
    return {"K": count // 1024, "G": count * 1024, "T": count * 1024**2}.get(found[2], count)


def _number(text: str) -> int:
    """The beginning of "48+", which sinfo prints where nodes differ."""
    found = re.match(r"\d+", text)
    return int(found[0]) if found else 0
