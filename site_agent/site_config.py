# SPDX-License-Identifier: Apache-2.0
"""site.toml of an agent's directory: what this site is, where its data lie, how its jobs run.

A manifest names a trainer; this file alone says which module that is. Nothing here ever comes from a coordinator.
"""

import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints

from federation.config import Problem, Section, Slug, describe, parse_toml, raise_if_any, read_config_text
from federation.errors import ConfigError
from federation.ids import COORDINATOR, check_slug
from federation.site_profile import profile_names
from site_agent.observations import AgentSettings

SITE_FILE: Final = "site.toml"
REFERENCE_TRAINER: Final = "reference"
REFERENCE_MODULE: Final = "site_agent.trainer.job"


def _matches(pattern: str, words: str) -> AfterValidator:
    def check(value: str) -> str:
        if re.fullmatch(pattern, value, re.ASCII) is None:
            raise ValueError(words)
        return value

    return AfterValidator(check)


Language = Annotated[str, _matches(r"[a-z]{2,3}(_[A-Z][a-z]{3})?", "a language code such as de, deu or deu_Latn")]
Module = Annotated[str, _matches(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*){0,20}", "a Python module's dotted name")]
Device = Annotated[str, _matches(r"[a-z]{1,20}(:[0-9]{1,4})?", "a torch device such as cpu or cuda:0")]
Seconds = Annotated[float, Field(gt=0, le=366 * 86_400)]


class TrainerEntry(Section):
    """`[trainers.NAME]`: the Python module that is started as a job for the trainer that a manifest calls NAME."""

    module: Module


def _reference_only() -> dict[str, TrainerEntry]:
    return {REFERENCE_TRAINER: TrainerEntry(module=REFERENCE_MODULE)}


class JobSection(Section):
    """`[job]`: what one job gets of this machine.

    `num_codec_threads`: threads that encode updates and apply commits, 0 for every processor that the job may use.
    `check_theta_every`: of so many commits of a fragment, a job compares one with its digest. `max_idle_seconds`: a job
    without work for so long ends, and can be continued. `seconds_limit`: wall time of one job, 0 for none. `num_gpus`:
    for the policy's budget. `isolate_network`: a job gets no network at all, where this user may make a network
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

    @property
    def gpu_hours(self) -> float:
        """GPU-hours that one job can use; a job without a wall time counts as one of a day."""
        return self.num_gpus * (self.seconds_limit or 86_400) / 3600


class AgentSection(Section):
    """`[agent]`: the agent's own patience; `observations.AgentSettings` says what each means."""

    poll_seconds: Seconds = 0.5
    heartbeat_seconds: Seconds = 30.0
    max_silence_seconds: Seconds = 3600.0
    max_blob_wait_seconds: Seconds = 7 * 86_400.0
    backoff_seconds: Seconds = 30.0
    max_failures: Annotated[int, Field(ge=1, le=1000)] = 5
    stop_grace_seconds: Seconds = 120.0


class CourierSection(Section):
    """`[courier]`: how the gRPC courier goes out. A serving agent notices changes.

    `http_proxy`: "http://HOST:PORT" of an HTTP CONNECT proxy, "" for none; the environment's variables do not count.
    `max_upload_bytes_per_second`: of updates and other blobs, on average; 0 for as fast as they go.
    """

    http_proxy: Annotated[str, _matches(r"|http://[!-~]{1,500}:[0-9]{1,5}/?", "http://HOST:PORT or nothing")] = ""
    max_upload_bytes_per_second: Annotated[int, Field(ge=0, lt=2**53)] = 0


class SiteConfig(Section):
    """A whole site.toml. `data_dir` may be relative to the agent's directory: see `data_path`."""

    site: Slug
    profile: str = "localhost"
    data_dir: Annotated[str, StringConstraints(min_length=1)]
    languages: Annotated[tuple[Language, ...], Field(strict=False, min_length=1, max_length=1000)]
    launcher: Literal["local"] = "local"
    job: JobSection = JobSection()
    agent: AgentSection = AgentSection()
    courier: CourierSection = CourierSection()
    trainers: dict[Slug, TrainerEntry] = Field(default_factory=_reference_only)

    def data_path(self, site_dir: Path) -> Path:
        """Absolute path of the directory with the site's text files."""
        return (site_dir / self.data_dir).absolute()

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
    if not config.data_path(site_dir).is_dir():
        expected, found = "a directory with the site's text files", f"none at {config.data_path(site_dir)}"
        problems.append(Problem(key="data_dir", expected=expected, found=found))
    if len(set(config.languages)) != len(config.languages):
        problems.append(Problem(key="languages", expected="each language once", found=", ".join(config.languages)))
    return problems


def site_config_text(*, site: str, profile: str, data_dir: Path | str, languages: Sequence[str]) -> str:
    """Text of a new site.toml with what an operator is likely to change.

    Raises:
        ConfigError: a value that `load_site_config` would refuse, before anything is written.
    """
    check_slug(site, "site")
    text = f"""\
# What this site is, where its data lie, how its jobs run. Nothing here ever comes from a coordinator.
site = {_toml(site)}
profile = {_toml(profile)}
data_dir = {_toml(str(data_dir))}
languages = {_toml(list(languages))}
launcher = "local"

[job]
num_threads = 1
num_gpus = 0
device = "cpu"
max_idle_seconds = 600
seconds_limit = 0          # wall time of one job; 0 for none
isolate_network = true     # no network for jobs, where this user may make a network namespace

[agent]
heartbeat_seconds = 30
max_failures = 5           # failed jobs in a row, then rounds are declined until `site-agent run retry`

[courier]
http_proxy = ""            # of an HTTP CONNECT proxy that the gRPC courier goes out through: "http://HOST:PORT"
max_upload_bytes_per_second = 0

# A manifest names a trainer; this table says which Python module is started for it.
[trainers.{REFERENCE_TRAINER}]
module = {_toml(REFERENCE_MODULE)}
"""
    parse_toml(text, SITE_FILE, SiteConfig)
    return text


def _toml(value: str | list[str]) -> str:
    """JSON without escapes beyond ASCII is TOML for texts and lists of them, once DEL is escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def trainer_digests(trainers: Mapping[str, TrainerEntry]) -> dict[str, str]:
    """Digest of the source of each trainer as it is installed now; a trainer whose module is missing is left out."""
    digests = {}
    for name, entry in trainers.items():
        files = _source_files(entry.module)
        if files:
            digests[name] = _digest_of(files)
    return digests


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
