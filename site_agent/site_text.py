# SPDX-License-Identifier: Apache-2.0
"""Text of a new site.toml: what an operator is likely to change, with a word on each."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from federation.config import parse_toml
from federation.ids import check_slug
from federation.site_profile import SiteProfile, load_profile, profile_names
from site_agent.site_config import REFERENCE_MODULE, REFERENCE_TRAINER, SITE_FILE, SiteConfig

DEFAULT_WALL_SECONDS: Final = 7200
"""Two hours: where whole nodes are sought after, short jobs that go on in one another are placed sooner."""


@dataclass(frozen=True, kw_only=True)
class BatchChoice:
    """How jobs of a new site are started; "" takes the batch system's own. GPUs and device come from the profile.

    Attributes:
        launcher: "local" or "slurm".
        seconds_limit: wall time of one job, 0 for two hours under Slurm and for none else.
        nodes: of one job.
    """

    launcher: str = "local"
    partition: str = ""
    account: str = ""
    qos: str = ""
    seconds_limit: int = 0
    nodes: int = 1


def site_config_text(
    *, site: str, profile: str, data_dir: Path | str, languages: Sequence[str], batch: BatchChoice | None = None
) -> str:
    """Text of a new site.toml.

    Raises:
        ConfigError: a value that `load_site_config` would refuse, before anything is written.
    """
    check_slug(site, "site")
    batch = batch or BatchChoice()
    is_slurm = batch.launcher == "slurm"
    limit = (batch.seconds_limit or DEFAULT_WALL_SECONDS) if is_slurm else batch.seconds_limit
    text = f"""\
# What this site is, where its data lie, how its jobs run. Nothing here ever comes from a coordinator.
site = {_toml(site)}
profile = {_toml(profile)}
data_dir = {_toml(str(data_dir))}
languages = {_toml(list(languages))}
launcher = {_toml(batch.launcher)}

[job]
num_threads = 1
num_gpus = 0
device = {_toml(_device(profile, is_slurm))}
max_idle_seconds = 600
seconds_limit = {f"{limit}" if is_slurm else f"{limit}          # wall time of one job; 0 for none"}
isolate_network = true     # no network for jobs, where this user may make a network namespace
{_slurm_text(profile, batch) if is_slurm else ""}
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


def _slurm_text(profile: str, batch: BatchChoice) -> str:
    known = _profile(profile)
    gpus = known.node.gpus.value if known is not None and known.node.gpus else 0
    return f"""
[slurm]
partition = {_toml(batch.partition)}
account = {_toml(batch.account)}
qos = {_toml(batch.qos)}
nodes = {batch.nodes}
gpus_per_node = {gpus}          # as the scheduler counts them
modules = []               # loaded before a job, such as ["rocm/6.2"]
signal_seconds = 240       # before the wall time, for the training checkpoint

[slurm.environment]        # of jobs, such as NCCL_SOCKET_IFNAME = "hsn"
"""


def _device(profile: str, is_slurm: bool) -> str:
    known = _profile(profile) if is_slurm else None
    return "cuda" if known is not None and known.node.gpus is not None and known.node.gpus.value else "cpu"


def _profile(profile: str) -> SiteProfile | None:
    """None for a name that `load_site_config` will complain about."""
    return load_profile(profile) if profile in profile_names() else None


def _toml(value: str | list[str]) -> str:
    """JSON without escapes beyond ASCII is TOML for texts and lists of them, once DEL is escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
