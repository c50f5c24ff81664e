# SPDX-License-Identifier: Apache-2.0
"""The batch script of one job, as text. Pure: `site-agent job render` shows what `submit` will hand in.

The signal before the wall time goes to the job's steps (no `B:`, which would tell the batch shell alone), so the
trainer runs in a step; the shell waits for it whatever it is told itself.
"""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from site_agent.failures import EXIT_MODULE_MISSING
from site_agent.job_paths import LAST_WORD_FILE
from site_agent.launcher.slurm.settings import SlurmSection

LOG_FILE: Final = "job.log"
"""Name of the job's output inside its allocation directory."""

SCRIPT_FILE: Final = "job.sbatch"
"""Name of the script inside its allocation directory."""

_FIRST_PORT: Final = 20_000
_NUM_PORTS: Final = 20_000


@dataclass(frozen=True, kw_only=True)
class BatchJob:
    """What is asked of the batch system for one allocation.

    Attributes:
        name: unique to the allocation.
        directory: the allocation's, absolute.
        site_dir, data_dirs: absolute; bound into a container.
        module: the trainer's job module.
        python: interpreter on the compute nodes.
        seconds_limit: wall time.
        begin_after_seconds: from its submission, before which the job need not start; 0 for none.
        clean_environment: "NIL" or "NONE": how sbatch is told to hand on no variable of the submitting shell.
        variables: of the job besides `settings.environment`, such as switches of tests.
    """

    name: str
    directory: str
    site_dir: str
    data_dirs: tuple[str, ...] = ()
    module: str
    python: str
    seconds_limit: int
    begin_after_seconds: int = 0
    clean_environment: str = "NIL"
    settings: SlurmSection
    variables: Mapping[str, str] = field(default_factory=dict)


def render(job: BatchJob) -> str:
    """The whole script."""
    settings = job.settings
    # Modules are a function of the login shell; nothing else of the profile is wanted.
    shell = "#!/bin/bash -l" if settings.modules else "#!/bin/bash"
    lines = [shell, *(f"#SBATCH --{option}" for option in _options(job)), "set -u", *_preparations(job), ""]
    return "\n".join([*lines, *_step(job)]) + "\n"


def control_script(settings: SlurmSection, name: str) -> str:
    """A job that is held for ever and costs nothing: answers of the batch system are true if they show it."""
    lines = [f"job-name={name}", "hold", "nodes=1", "time=00:01:00", "output=/dev/null", *_places(settings)]
    return "\n".join(["#!/bin/sh", *(f"#SBATCH --{line}" for line in lines), "exit 0"]) + "\n"


def wall_time(seconds: int) -> str:
    """Seconds as sbatch takes them: [D-]HH:MM:SS."""
    days, rest = divmod(seconds, 86_400)
    clock = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days}-{clock}" if days else clock


def _options(job: BatchJob) -> Iterator[str]:
    settings = job.settings
    yield f"job-name={job.name}"
    yield "dependency=singleton"
    yield _directive("output", _pattern(f"{job.directory}/{LOG_FILE}"))
    yield "open-mode=append"
    yield _directive("chdir", job.directory)
    yield f"export={job.clean_environment}"
    yield f"time={wall_time(job.seconds_limit)}"
    yield f"signal=TERM@{min(settings.signal_seconds, max(1, job.seconds_limit // 2))}"
    yield "requeue" if settings.requeue else "no-requeue"
    if job.begin_after_seconds:  # relative: no clock but the batch system's own matters
        yield f"begin=now+{job.begin_after_seconds}"
    yield f"nodes={settings.nodes}"
    yield "ntasks-per-node=1"
    yield from _resources(settings)
    yield from _places(settings)
    yield from (option.removeprefix("--") for option in settings.options)


def _resources(settings: SlurmSection) -> Iterator[str]:
    gpus = f"{settings.gpu_type}:{settings.gpus_per_node}" if settings.gpu_type else str(settings.gpus_per_node)
    if settings.gpus_per_node and settings.gpu_request == "gres":
        yield f"gres=gpu:{gpus}"
    elif settings.gpus_per_node and settings.gpu_request == "gpus-per-node":
        yield f"gpus-per-node={gpus}"
    if settings.cpus_per_rank:
        yield f"cpus-per-task={settings.cpus_per_rank * settings.num_ranks_per_node}"
    if settings.memory:
        yield f"mem={settings.memory}"
    if settings.exclusive:
        yield "exclusive"
    if settings.exclude_nodes:
        yield f"exclude={settings.exclude_nodes}"


def _places(settings: SlurmSection) -> Iterator[str]:
    for name in ("partition", "qos", "account", "reservation"):
        if value := getattr(settings, name):
            yield f"{name}={value}"


def _preparations(job: BatchJob) -> Iterator[str]:
    # What the steps inherit: nothing came in with the submission.
    yield "export SLURM_EXPORT_ENV=ALL"
    yield 'export HOME="${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}" PYTHONSAFEPATH=1'
    # Releases before 23.02 do not say when the job ends; from here on it is known to a second or two.
    yield f'export FEDERATION_ENDS_AT="${{SLURM_JOB_END_TIME:-$(($(date +%s) + {job.seconds_limit}))}}"'
    for module in job.settings.modules:
        words = f"module-missing: {module}"
        yield f"module load {shlex.quote(module)} || {{ echo {shlex.quote(words)} >&2; exit {EXIT_MODULE_MISSING}; }}"
    for name, value in sorted({**job.settings.environment, **job.variables}.items()):
        yield f"export {name}={shlex.quote(value)}"


def _step(job: BatchJob) -> Iterator[str]:
    command = shlex.join([*_container(job), *_trainer(job)])
    if job.settings.num_ranks > 1:
        yield from _rendezvous(job)
        # Each node's own shell fills in what it alone knows.
        places = '--node-rank="$SLURM_NODEID" --master-addr="$MASTER_ADDR" --master-port="$MASTER_PORT"'
        command = shlex.join(["bash", "-c", f"exec {command.replace(_PLACES, places)}"])
    yield f"rm -f {LAST_WORD_FILE}"
    yield "# The shell outlives its own TERM: the step is told as well, and says when it is done."
    yield "trap : TERM"
    yield f"srun --export=ALL --kill-on-bad-exit=1 {command} &"
    yield "step=$!"
    yield 'wait "$step"; status=$?'
    yield 'while kill -0 "$step" 2>/dev/null; do wait "$step"; status=$?; done'
    yield "# After whatever srun and torchrun had to say."
    yield f"cat {LAST_WORD_FILE} 2>/dev/null"
    yield 'exit "$status"'


_PLACES: Final = "--places-of-this-node"


def _rendezvous(job: BatchJob) -> Iterator[str]:
    """One address and one port for the ranks of this job, from what every node knows."""
    if job.settings.nodes > 1:
        yield 'export MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"'
    else:
        yield "export MASTER_ADDR=127.0.0.1"
    yield f"export MASTER_PORT=$(({_FIRST_PORT} + SLURM_JOB_ID % {_NUM_PORTS}))"


def _trainer(job: BatchJob) -> list[str]:
    settings = job.settings
    start = [job.python, "-P", "-m"]
    if settings.num_ranks == 1:
        return [*start, job.module, job.directory]
    ranks = [f"--nnodes={settings.nodes}", f"--nproc-per-node={settings.num_ranks_per_node}", "--max-restarts=0"]
    return [*start, "torch.distributed.run", *ranks, _PLACES, "--module", job.module, job.directory]


def _container(job: BatchJob) -> list[str]:
    container = job.settings.container
    if not container.image:
        return []
    binds = [*dict.fromkeys((job.site_dir, *job.data_dirs)), *container.binds]
    return [container.runtime, "exec", *container.options, *(f"--bind={bind}" for bind in binds), container.image]


def _directive(name: str, value: str) -> str:
    """`name=value` for a line of sbatch, which reads quotes and backslashes like a shell."""
    plain = all(c.isalnum() or c in "_-./,:@+%=[]" for c in value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f"{name}={value}" if plain else f'{name}="{escaped}"'


def _pattern(path: str) -> str:
    """A path in which sbatch fills in nothing."""
    return path.replace("%", "%%")
