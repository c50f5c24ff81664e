# SPDX-License-Identifier: Apache-2.0
"""`[slurm]` of site.toml: what the site's batch system is told about one job. All of it is the operator's."""

import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from federation.config import Section

OWN_OPTIONS: Final = frozenset(
    {
        "account", "begin", "chdir", "cpus-per-task", "dependency", "error", "exclude", "exclusive", "export",
        "gpus", "gpus-per-node", "gres", "hold", "job-name", "mem", "nodes", "no-requeue", "ntasks",
        "ntasks-per-node", "open-mode", "output", "parsable", "partition", "qos", "requeue", "reservation", "signal",
        "time", "wait", "array", "wrap", "test-only",
    }
)  # fmt: skip
"""Options that the launcher writes itself, or that would break what it relies on."""

_WORD: Final = re.compile(r"[A-Za-z0-9_.:+@/,=\[\]-]{1,200}", re.ASCII)
_OPTION: Final = re.compile(r"--([a-z][a-z-]{1,40})(=[A-Za-z0-9_.:+@/,=&|*!()\[\]-]{1,200})?", re.ASCII)
_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]{0,79}", re.ASCII)
_MEMORY: Final = re.compile(r"[0-9]{1,9}[KMGT]?", re.ASCII)


def _word(value: str) -> str:
    if value and _WORD.fullmatch(value) is None:
        raise ValueError("a word without spaces, quotes and shell signs")
    return value


def _path(value: str) -> str:
    if value and not (value.isprintable() and Path(value).is_absolute()):
        raise ValueError("an absolute path")
    return value


def _option(value: str) -> str:
    found = _OPTION.fullmatch(value)
    if found is None:
        raise ValueError('a long option of sbatch such as "--constraint=a100"')
    if found[1] in OWN_OPTIONS:
        raise ValueError(f"an option that the launcher does not set itself, so not --{found[1]}")
    return value


def _memory(value: str) -> str:
    if value and _MEMORY.fullmatch(value) is None:
        raise ValueError("a size as sbatch takes it, such as 480G")
    return value


def _variable(value: str) -> str:
    if _VARIABLE.fullmatch(value) is None:
        raise ValueError("a variable's name in capitals")
    if value.startswith(("SLURM_", "SBATCH_")):
        raise ValueError("a variable that is not the batch system's")
    return value


def _line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("one line of printable text")
    return value


Word = Annotated[str, Field(max_length=200), AfterValidator(_word)]
AbsolutePath = Annotated[str, Field(max_length=4096), AfterValidator(_path)]
Option = Annotated[str, AfterValidator(_option)]
Variable = Annotated[str, AfterValidator(_variable)]
Line = Annotated[str, Field(max_length=4096), AfterValidator(_line)]


class ContainerSection(Section):
    """`[slurm.container]`: the image that jobs run in. Without an image they run in `python`'s own environment.

    `binds` are further directories as `SRC[:DEST[:ro]]`; the site's directory and its data are bound anyway.
    `options` go to the runtime as they are, such as "--nv" or "--rocm".
    """

    runtime: Literal["apptainer", "singularity"] = "apptainer"
    image: AbsolutePath = ""
    binds: Annotated[tuple[Line, ...], Field(strict=False, max_length=100)] = ()
    options: Annotated[tuple[Word, ...], Field(strict=False, max_length=20)] = ()


class SlurmSection(Section):
    """`[slurm]`: one job of this site, and how patient the launcher is with the batch system's commands.

    Attributes:
        partition, qos, account, reservation: "" leaves them to the batch system's defaults.
        nodes: of one job.
        gpus_per_node: as the scheduler counts them, which may be half a card (LUMI counts dies).
        gpu_request: how GPUs are asked for; "none" where whole nodes are given out.
        gpu_type: such as "a100", "" for any.
        cpus_per_rank, memory: per rank; of a node. 0 and "" leave them to the batch system.
        exclusive: whole nodes.
        ranks_per_node: processes of the trainer on a node; 0 makes one per GPU, or one without GPUs.
        signal_seconds: how long before the wall time the job is told to end, for its training checkpoint.
        requeue: a job that a failed node or a preemption ended is queued again by the batch system itself.
        exclude_nodes: such as "nid00[1-3]".
        modules: loaded in this order.
        python: interpreter on the compute nodes; "" is the agent's own.
        environment: variables of jobs, such as NCCL_SOCKET_IFNAME.
        options: further long options of sbatch.
        bin_dir: where sbatch and its kind are; "" searches PATH.
        poll_seconds: between two questions to squeue. command_timeout_seconds: for one answer.
        has_accounting: whether sacct answers here. Without it some ends cannot be told, and wait for the operator.
        control_job: keep one held job in the queue: an answer that doesn't show it is false, whatever else it says.
        clean_environment: "NIL" where sbatch knows `--export=NIL` (23.02.3 on), "NONE" where it does not, "auto" asks.
    """

    partition: Word = ""
    qos: Word = ""
    account: Word = ""
    reservation: Word = ""
    nodes: Annotated[int, Field(ge=1, le=100_000)] = 1
    gpus_per_node: Annotated[int, Field(ge=0, le=64)] = 0
    gpu_request: Literal["gpus-per-node", "gres", "none"] = "gpus-per-node"
    gpu_type: Word = ""
    cpus_per_rank: Annotated[int, Field(ge=0, le=4096)] = 0
    memory: Annotated[str, AfterValidator(_memory)] = ""
    exclusive: bool = False
    ranks_per_node: Annotated[int, Field(ge=0, le=256)] = 0
    signal_seconds: Annotated[int, Field(ge=1, le=65_535)] = 240
    requeue: bool = True
    exclude_nodes: Word = ""
    modules: Annotated[tuple[Word, ...], Field(strict=False, max_length=100)] = ()
    python: AbsolutePath = ""
    environment: Annotated[dict[Variable, Line], Field(max_length=200)] = Field(default_factory=dict)
    options: Annotated[tuple[Option, ...], Field(strict=False, max_length=50)] = ()
    bin_dir: AbsolutePath = ""
    poll_seconds: Annotated[float, Field(ge=0.05, le=3600)] = 30.0
    command_timeout_seconds: Annotated[float, Field(ge=1, le=600)] = 60.0
    has_accounting: bool = True
    control_job: bool = True
    clean_environment: Literal["auto", "NIL", "NONE"] = "auto"
    container: ContainerSection = ContainerSection()

    @property
    def num_ranks_per_node(self) -> int:
        """Processes of the trainer on one node."""
        return self.ranks_per_node or max(1, self.gpus_per_node)

    @property
    def num_ranks(self) -> int:
        """Processes of the trainer in one job."""
        return self.nodes * self.num_ranks_per_node

    @property
    def num_gpus(self) -> int:
        """GPUs of one job, as the scheduler counts them."""
        return self.nodes * self.gpus_per_node
