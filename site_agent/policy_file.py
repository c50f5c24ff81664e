# SPDX-License-Identifier: Apache-2.0
"""policy.toml as it is written: what this site lets be done with its machines. docs/policy-toml.md has every key."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from federation.config import Section, Slug, describe, load_toml
from federation.errors import ConfigError
from federation.ids import is_digest
from site_agent.policy_hours import HoursSection, MaintenanceSection

POLICY_FILE: Final = "policy.toml"
ADVICE: Final = "docs/policy-toml.md describes every key; `site-agent policy check SITE_DIR` says what they come to."

Unlisted = Literal["decline", "ask", "accept"]


def _check_digest(value: str) -> str:
    if not is_digest(value):
        raise ValueError("a SHA-256 digest in 64 lower-case hexadecimal digits")
    return value


Digest = Annotated[str, AfterValidator(_check_digest)]
Digests = Annotated[tuple[Digest, ...], Field(strict=False, max_length=10_000)]
Slugs = Annotated[tuple[Slug, ...], Field(strict=False, max_length=10_000)]
Amount = Annotated[float, Field(ge=0)]


class OperatorsSection(Section):
    """`[operators]`: whose runs are taken. An empty list asks for nobody in particular.

    `creators`: who may have created a run. `approvers`: of whom at least one must have approved it.
    """

    creators: Slugs = ()
    approvers: Slugs = ()


class PerDay(Section):
    """`[per_day]`: what jobs of this site may use within any 24 hours. No GPU-hour and no byte unless stated."""

    gpu_hours: Amount = 0.0
    bytes: Annotated[int, Field(ge=0)] = 0


class PerRun(Section):
    """`[per_run]`: what the jobs of one run may use in all; None leaves it to the day's limit."""

    gpu_hours: Amount | None = None
    native_units: Amount | None = None


class Policy(Section):
    """A whole policy.toml.

    Attributes:
        runs, manifests: ids of runs, and digests of manifests, that are accepted.
        refused_runs, refused_manifests: those that are declined, whatever else is said.
        unlisted: the answer to any other one: "decline", "ask" (a person decides) or "accept".
        data_sets: names of site.toml's data sets that runs may train on.
        trainers: per trainer name the digest of the source that may run here.
        operators: whose runs are taken.
        per_day, per_run: budgets of jobs.
        hours, maintenance: when jobs may start.
    """

    runs: Slugs = ()
    refused_runs: Slugs = ()
    manifests: Digests = ()
    refused_manifests: Digests = ()
    unlisted: Unlisted = "decline"
    data_sets: Slugs = ()
    trainers: dict[Slug, Digest] = Field(default_factory=dict)
    operators: OperatorsSection = OperatorsSection()
    per_day: PerDay = PerDay()
    per_run: PerRun = PerRun()
    hours: HoursSection = HoursSection()
    maintenance: Annotated[tuple[MaintenanceSection, ...], Field(strict=False, max_length=1000)] = ()


def load_policy(site_dir: Path) -> Policy:
    """Reads SITE_DIR/policy.toml. A missing file is an error, not a permission.

    Raises:
        ConfigError: with one sentence for every problem: file, key, expected, found, line.
    """
    return load_toml(site_dir / POLICY_FILE, Policy, advice=ADVICE)


def policy_text(unlisted: str, trainers: Mapping[str, str], num_gpus: int = 1) -> str:
    """Text of a new policy.toml that allows the trainers as they are installed now.

    Args:
        num_gpus: of one job; a day's budget lets one job run all day.

    Raises:
        ConfigError: `unlisted` is not one of its words.
    """
    if unlisted not in ("decline", "ask", "accept"):
        raise ConfigError(f"policy: expected decline, ask or accept, found {describe(unlisted)}")
    allowed = "".join(f'{name} = "{digest}"\n' for name, digest in sorted(trainers.items()))
    return f"""\
# What this site lets be done with its machines. What is not allowed here is declined.

# Ids of runs and digests of manifests that are accepted or refused, and the answer to any other one:
# "decline", "ask" (`site-agent run accept RUN`) or "accept" (for trials on one machine).
runs = []
refused_runs = []
manifests = []
refused_manifests = []
unlisted = "{unlisted}"

# Data sets of site.toml that runs may train on.
data_sets = []

# Digest of each trainer's source that may run here. A new release of a trainer has another one.
[trainers]
{allowed}
# Within any 24 hours.
[per_day]
gpu_hours = {24.0 * max(1, num_gpus)}
bytes = {10**12}

# When new jobs may start, on the site's own clock; no window: at any time.
[hours]
windows = []               # such as ["mon-fri 20:00-06:00", "sat,sun 00:00-24:00"]
time_zone = "UTC"
drain = false              # true: jobs that run when the windows close are told to end
"""
