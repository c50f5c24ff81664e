# SPDX-License-Identifier: Apache-2.0
"""site.toml of an agent's directory: what this site is, where its data lie, how its jobs run.

A manifest names a trainer; this file alone says which module that is. Nothing here ever comes from a coordinator.
"""

import hashlib
import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from federation.config import Problem, Section, Slug, describe, parse_toml, raise_if_any, read_config_text
from federation.errors import ConfigError
from federation.ids import COORDINATOR
from federation.site_profile import profile_names
from site_agent.budget_units import AccountingSection
from site_agent.credential_settings import MAX_CREDENTIALS, CredentialEntry
from site_agent.data_settings import DataSection, Language, data_problems
from site_agent.launcher.slurm.settings import SlurmSection
from site_agent.metrics.settings import MetricsSection
from site_agent.observations import AgentSettings
from site_agent.task_settings import EvaluationSection, task_problems
from site_agent.trainer.command_rules import command_digest

SITE_FILE: Final = "site.toml"
REFERENCE_TRAINER: Final = "reference"
REFERENCE_MODULE: Final = "site_agent.trainer.job"
COMMAND_MODULE: Final = "site_agent.trainer.command"


def _matches(pattern: str, words: str) -> AfterValidator:
    def check(value: str) -> str:
        if re.fullmatch(pattern, value, re.ASCII) is None:
            raise ValueError(words)
        return value

    return AfterValidator(check)


Module = Annotated[str, _matches(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*){0,20}", "a Python module's dotted name")]
Device = Annotated[str, _matches(r"[a-z]{1,20}(:[0-9]{1,4})?", "a torch device such as cpu or cuda:0")]
Argument = Annotated[str, Field(min_length=1, max_length=4096), _matches(r"[^\x00-\x1f\x7f]*", "one line of text")]
Seconds = Annotated[float, Field(gt=0, le=366 * 86_400)]


class TrainerEntry(Section):
    """`[trainers.NAME]`: the Python module that is started as a job for the trainer that a manifest calls NAME.

    `command`: executable and arguments, for the module `site_agent.trainer.command` and no other.
    """

    module: Module
    command: Annotated[tuple[Argument, ...], Field(strict=False, max_length=100)] = ()


def _reference_only() -> dict[str, TrainerEntry]:
    return {REFERENCE_TRAINER: TrainerEntry(module=REFERENCE_MODULE)}


class JobSection(Section):
    """`[job]`: what one job gets of this machine.

    `num_codec_threads`: threads that encode updates and apply commits, 0 for every processor that the job may use.
    `check_theta_every`: of so many commits of a fragment, a job compares one with its digest. `max_idle_seconds`: a job
    without work for so long ends, and can be continued. `seconds_limit`: wall time of one job, 0 for none. `num_gpus`:
    for the policy's budget. `parallelism`: of a trainer of several ranks.
    `isolate_network`: a job gets no network at all, where this user may make a network
    namespace.
    """

    num_threads: Annotated[int, Field(ge=1, le=1024)] = 1
    num_codec_threads: Annotated[int, Field(ge=0, le=1024)] = 0
    check_theta_every: Annotated[int, Field(ge=1, le=1000)] = 1
    num_gpus: Annotated[int, Field(ge=0, le=65_536)] = 0
    device: Device = "cpu"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    max_idle_seconds: Seconds = 600.0
    seconds_limit: Annotated[int, Field(ge=0, le=366 * 86_400)] = 0
    isolate_network: bool = True
    parallelism: Literal["ddp", "fsdp"] = "ddp"


class AgentSection(Section):
    """`[agent]`: the agent's own patience; `observations.AgentSettings` says what each means."""

    poll_seconds: Seconds = 0.5
    heartbeat_seconds: Seconds = 30.0
    max_silence_seconds: Seconds = 3600.0
    max_blob_wait_seconds: Seconds = 7 * 86_400.0
    backoff_seconds: Seconds = 30.0
    max_failures: Annotated[int, Field(ge=1, le=1000)] = 5
    stop_grace_seconds: Seconds = 120.0
    max_start_delay_seconds: Annotated[float, Field(ge=0, le=86_400)] = 21_600.0
    lock_stale_seconds: Annotated[float, Field(ge=1, le=86_400)] = 120.0


class CourierSection(Section):
    """`[courier]`: how the gRPC courier goes out. A serving agent notices changes.

    `http_proxy`: "http://HOST:PORT" of an HTTP CONNECT proxy, "" for none; the environment's variables do not count.
    `connect_to`: "HOST:PORT" that is dialled in the coordinator's place, such as a forward's end; not with a proxy.
    `max_upload_bytes_per_second`: of updates and other blobs, on average; 0 for as fast as they go.
    `round_trip_seconds`: declared, from a message until its answer is here; 0 for what is measured.
    """

    http_proxy: Annotated[str, _matches(r"|http://[!-~]{1,500}:[0-9]{1,5}/?", "http://HOST:PORT or nothing")] = ""
    connect_to: Annotated[str, _matches(r"|[A-Za-z0-9.\-\[\]:]{1,255}:[0-9]{1,5}", "HOST:PORT or nothing")] = ""
    max_upload_bytes_per_second: Annotated[int, Field(ge=0, lt=2**53)] = 0
    round_trip_seconds: Annotated[float, Field(ge=0, le=30 * 86_400)] = 0.0


class SiteConfig(Section):
    """A whole site.toml. Data are either `data_dir` (may be relative: see `data_path`) and `languages`, or `data`."""

    site: Slug
    profile: str = "localhost"
    data_dir: str = ""
    languages: Annotated[tuple[Language, ...], Field(strict=False, max_length=1000)] = ()
    data: DataSection = DataSection()
    launcher: Literal["local", "slurm"] = "local"
    job: JobSection = JobSection()
    slurm: SlurmSection = SlurmSection()
    agent: AgentSection = AgentSection()
    courier: CourierSection = CourierSection()
    accounting: AccountingSection = AccountingSection()
    metrics: MetricsSection = MetricsSection()
    evaluation: EvaluationSection = EvaluationSection()
    credentials: Annotated[tuple[CredentialEntry, ...], Field(strict=False, max_length=MAX_CREDENTIALS)] = ()
    trainers: dict[Slug, TrainerEntry] = Field(default_factory=_reference_only)

    def data_path(self, site_dir: Path) -> Path:
        """Absolute path of the directory with the site's text files."""
        return (site_dir / self.data_dir).absolute()

    @property
    def num_gpus_per_job(self) -> int:
        """GPUs of one job, as the scheduler counts them."""
        return self.slurm.num_gpus if self.launcher == "slurm" else self.job.num_gpus

    def settings(self) -> AgentSettings:
        """The part that the agent's decider reads."""
        agent = self.agent
        return AgentSettings(
            site=self.site,
            heartbeat_seconds=agent.heartbeat_seconds,
            max_silence_seconds=agent.max_silence_seconds,
            backoff_seconds=agent.backoff_seconds,
            max_failures=agent.max_failures,
            stop_grace_seconds=agent.stop_grace_seconds,
            # A job that begins at once, whatever is asked, is not one that waits.
            max_start_delay_seconds=agent.max_start_delay_seconds if self.launcher == "slurm" else 0.0,
            round_trip_seconds=self.courier.round_trip_seconds,
            tasks_every=self.evaluation.every,
        )


def load_site_config(site_dir: Path) -> SiteConfig:
    """Reads SITE_DIR/site.toml.

    Raises:
        ConfigError: with one sentence for every problem: file, key, expected, found, line.
    """
    text = read_config_text(site_dir / SITE_FILE)
    config = parse_toml(text, SITE_FILE, SiteConfig)
    raise_if_any(SITE_FILE, _problems(config, site_dir), text=text)
    return config


def load_courier_section(site_dir: Path) -> CourierSection:
    """`[courier]` of SITE_DIR/site.toml, for who looks at it again and again. Raises ConfigError."""
    return parse_toml(read_config_text(site_dir / SITE_FILE), SITE_FILE, SiteConfig).courier


def _problems(config: SiteConfig, site_dir: Path) -> list[Problem]:
    problems = []
    if config.site == COORDINATOR:
        problems.append(Problem(key="site", expected="an id of its own", found=f'"{COORDINATOR}", which is reserved'))
    if config.profile not in profile_names():
        expected = f"one of {', '.join(profile_names())}"
        problems.append(Problem(key="profile", expected=expected, found=describe(config.profile)))
    problems += [problem for name, entry in config.trainers.items() for problem in _command_problems(name, entry)]
    if config.launcher == "slurm" and not config.job.seconds_limit:
        expected = "the wall time of one job, since the launcher is slurm"
        problems.append(Problem(key="job.seconds_limit", expected=expected, found="0"))
    problems += task_problems(config.evaluation, site_dir)
    problems += data_problems(config.data, site_dir, data_dir=config.data_dir, languages=config.languages)
    return problems


def _command_problems(name: str, entry: TrainerEntry) -> Iterator[Problem]:
    key = f"trainers.{name}.command"
    if entry.module == COMMAND_MODULE and not entry.command:
        expected = f"an executable and its arguments, since the module is {COMMAND_MODULE}"
        yield Problem(key=key, expected=expected, found="none")
    elif entry.module != COMMAND_MODULE and entry.command:
        expected = f"none, since the module is not {COMMAND_MODULE}"
        yield Problem(key=key, expected=expected, found=describe(entry.command[0]))
    elif entry.command and not Path(entry.command[0]).is_absolute():
        yield Problem(key=key, expected="the absolute path of an executable first", found=describe(entry.command[0]))


def trainer_digests(trainers: Mapping[str, TrainerEntry]) -> dict[str, str]:
    """Digest of the source of each trainer as it is installed now; a trainer whose module is missing is left out."""
    digests = {}
    for name, entry in trainers.items():
        files = _source_files(entry.module)
        if files:
            digests[name] = _with_command(_digest_of(files), entry.command)
    return digests


def _with_command(source: str, command: Sequence[str]) -> str:
    """The digest of a trainer that runs a command covers that command and the files that it names."""
    return hashlib.sha256(f"{source} {command_digest(command)}".encode()).hexdigest() if command else source


def require_trainer_digests(trainers: Mapping[str, TrainerEntry]) -> dict[str, str]:
    """As `trainer_digests`, for a command of the operator.

    Raises:
        ConfigError: a module is not installed.
    """
    digests = trainer_digests(trainers)
    for name in trainers:
        if name not in digests:
            module = trainers[name].module
            raise ConfigError(f"{SITE_FILE}: trainers.{name}.module: expected an installed module, found {module!r}")
    return digests


def _source_files(module: str) -> dict[str, Path]:
    """Python files of the package that a module belongs to, by relative path; its file alone if it is in none."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return {}
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return {}
    file = Path(spec.origin)
    if "." not in module and spec.submodule_search_locations is None:
        return {file.name: file}
    return {path.relative_to(file.parent).as_posix(): path for path in file.parent.rglob("*.py")}


def _digest_of(files: Mapping[str, Path]) -> str:
    """SHA-256 over one line per file, ascending by path: the file's own SHA-256, two spaces, its path."""
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n" for name, path in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
