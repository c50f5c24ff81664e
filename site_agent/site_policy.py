# SPDX-License-Identifier: Apache-2.0
"""What site.toml and the centre's profile mean for policy and budget: the judge, put together for one site."""

from typing import Final

from federation.site_profile import load_profile
from site_agent.budget import JobSize
from site_agent.budget_units import NativeUnit, native_unit
from site_agent.manifests import ManifestJudge
from site_agent.policy import Policy
from site_agent.site_config import SiteConfig, trainer_digests

GRACES_TO_DRAIN: Final = 3
"""A job that is told to end gets one grace time by itself and one after SIGTERM; the third is the queue's."""


def judge_of(config: SiteConfig, policy: Policy, consortium: str) -> ManifestJudge:
    """The policy, bound to this site as it is configured and to the trainers as they are installed now.

    Raises:
        ConfigError: there is no such profile, or its file is wrong.
    """
    return ManifestJudge(
        policy=policy,
        site=config.site,
        consortium=consortium,
        trainers=trainer_digests(config.trainers),
        data_sets=tuple(sorted(entry.name for entry in config.data.sets)),
        job=job_size(config),
        unit=unit_of(config),
        command_trainers=frozenset(name for name, entry in config.trainers.items() if entry.command),
        drain_seconds=GRACES_TO_DRAIN * config.agent.stop_grace_seconds,
    )


def job_size(config: SiteConfig) -> JobSize:
    """What one job gets: under Slurm its nodes times their GPUs, else what `[job]` states."""
    return JobSize(num_gpus=config.num_gpus_per_job, seconds_limit=config.job.seconds_limit)


def unit_of(config: SiteConfig) -> NativeUnit:
    """The centre's own unit. Raises ConfigError: there is no such profile, or its file is wrong."""
    return native_unit(config.accounting, load_profile(config.profile))
