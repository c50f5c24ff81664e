# SPDX-License-Identifier: Apache-2.0
"""Makes an agent's directory, pins trust in it, and puts an agent together from what lies there."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from federation.durable.api import FileSystem
from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, UsageError
from federation.roster import TrustedRosters, peek_roster, root_fingerprint
from federation.site_profile import load_profile
from site_agent import layout
from site_agent.driver import Agent
from site_agent.identity import job_tag, load_identity, make_identity
from site_agent.launcher.registry import open_launchers
from site_agent.orders import JobSettings
from site_agent.policy import POLICY_FILE, load_policy, policy_text
from site_agent.policy_watch import PolicyWatch
from site_agent.site_config import (
    SITE_FILE,
    SiteConfig,
    load_site_config,
    require_trainer_digests,
)
from site_agent.site_facts import FixedFacts
from site_agent.site_policy import judge_of
from site_agent.site_text import BatchChoice, site_config_text
from site_agent.unmade import nothing_left_behind

KEYS: Final = "keys"
DATA: Final = "data"
"""Directory of a site's own texts, where nobody names another one."""

SIGNAL_EARLY_SECONDS: Final = 60
"""By so much a signal of Slurm's may come too early (sbatch(1), --signal)."""


@dataclass(frozen=True, kw_only=True)
class NewSite:
    """What `init` was asked for; `data_dir` as it is to stand in site.toml."""

    site: str
    profile: str
    data_dir: str
    languages: tuple[str, ...]
    policy: str
    batch: BatchChoice | None = None


def init_site(directory: Path, new: NewSite) -> bytes:
    """Makes site.toml, policy.toml and keys in a directory that has none; returns the request for a roster entry.

    All or nothing: what was made before something went wrong is gone again.

    Raises:
        UsageError: the directory holds an agent already.
        ConfigError: a value is not allowed.
    """
    fs = RealFileSystem(directory)
    for path in (SITE_FILE, POLICY_FILE, layout.UPDATE_KEY):
        if fs.exists(path):
            raise UsageError(
                f"{directory}: expected no agent, found {path}",
                advice="Choose another directory; keys and policies are never overwritten.",
            )
    text = site_config_text(
        site=new.site, profile=new.profile, data_dir=new.data_dir, languages=new.languages, batch=new.batch
    )
    policy_text(new.policy, {})  # refuses an unknown word before anything is written
    with nothing_left_behind(directory, (SITE_FILE, POLICY_FILE, KEYS)):
        fs.mkdir(KEYS)
        fs.write(SITE_FILE, text.encode())
        config = load_site_config(directory)
        allowed = require_trainer_digests(config.trainers)
        fs.write(POLICY_FILE, policy_text(new.policy, allowed, config.num_gpus_per_job).encode())
        return make_identity(fs, new.site)


def install_roster(fs: FileSystem, document: bytes, root: str, now_us: int) -> TrustedRosters:
    """Verifies a roster document against what is pinned here and keeps it; the first one pins its root.

    Args:
        fs: of the agent's directory.
        document: exact bytes.
        root: fingerprint that the operator was given over another channel; "" takes the document's own for the first.
        now_us: this machine's clock.

    Raises:
        ConfigError: `root` is not what is pinned.
        RosterError: the document breaks a rule.
    """
    pinned = fs.read(layout.ROOT_FILE).decode().strip() if fs.exists(layout.ROOT_FILE) else ""
    fingerprint = pinned or root or root_fingerprint(peek_roster(document))
    if root and root != fingerprint:
        raise ConfigError(f"consortium root: expected {fingerprint}, as pinned here, found {root}")
    documents = _documents(fs)
    if documents:
        rosters = TrustedRosters.load(documents, fingerprint, now_us)
        rosters.update(document, now_us)
    else:
        rosters = TrustedRosters.load([document], fingerprint, now_us)
    fs.write(layout.ROOT_FILE, fingerprint.encode())
    fs.write(layout.roster_path(rosters.current.version), document)
    return rosters


def load_rosters(fs: FileSystem, now_us: int) -> TrustedRosters:
    """All installed roster versions, verified from the pinned root.

    Raises:
        ConfigError: none is installed.
        RosterError: a document breaks a rule.
    """
    documents = _documents(fs)
    if not documents or not fs.exists(layout.ROOT_FILE):
        raise ConfigError(
            "no roster is installed",
            advice="With an invite, run `site-agent enroll SITE_DIR --invite FILE --root FINGERPRINT`; without one, "
            "`site-agent roster install SITE_DIR roster` with the document that the consortium root signed.",
        )
    return TrustedRosters.load(documents, fs.read(layout.ROOT_FILE).decode().strip(), now_us)


def open_agent(directory: Path, now_us: int, *, new_epoch: bool) -> tuple[Agent, SiteConfig]:
    """The agent of a directory that the caller has locked.

    Raises:
        ConfigError: configuration, keys or roster are missing or wrong.
        CorruptObjectError: what the agent wrote is damaged.
    """
    fs = RealFileSystem(directory)
    config = load_site_config(directory)
    rosters, identity = load_rosters(fs, now_us), load_identity(fs, config.site)
    watch = PolicyWatch(directory, config, rosters.current.consortium)  # before the policy is read: it misses nothing
    judge = judge_of(config, load_policy(directory), rosters.current.consortium)
    agent = Agent(
        fs=fs,
        root=fs.root,
        settings=config.settings(),
        identity=identity,
        rosters=rosters,
        judge=judge,
        launchers=open_launchers(config, fs, job_tag(identity)),
        jobs=_job_settings(config, directory),
        new_epoch=new_epoch,
        max_blob_wait_seconds=int(config.agent.max_blob_wait_seconds),
        software=software(),
        new_judge=watch.changed,
        fixed_facts=_fixed_facts(config),
    )
    return agent, config


def _documents(fs: FileSystem) -> list[bytes]:
    return [fs.read(f"{layout.ROSTERS}/{name}") for name in fs.list(layout.ROSTERS) if name.endswith(".roster")]


def _fixed_facts(config: SiteConfig) -> FixedFacts:
    architecture = load_profile(config.profile).node.cpu_architecture
    return FixedFacts(
        profile=config.profile,
        launcher=config.launcher,
        num_gpus=config.num_gpus_per_job,
        architecture=architecture.value if architecture else "",
    )


def _job_settings(config: SiteConfig, directory: Path) -> JobSettings:
    job = config.job
    return JobSettings(
        data_dir=str(config.data_path(directory)) if config.data_dir else "",
        languages=config.languages or config.data.languages,
        data_sets=config.data.data_sets(directory),
        seed=job.seed,
        num_threads=job.num_threads,
        num_codec_threads=job.num_codec_threads,
        check_theta_every=job.check_theta_every,
        device=job.device,
        max_idle_seconds=job.max_idle_seconds,
        seconds_limit=job.seconds_limit,
        parallelism=config.job.parallelism,
        drain_seconds=config.slurm.signal_seconds + SIGNAL_EARLY_SECONDS if config.launcher == "slurm" else 0,
        evaluation=config.evaluation.plan(directory),
        commands={name: entry.command for name, entry in config.trainers.items() if entry.command},
    )


def software() -> str:
    """What this agent calls its release towards others."""
    try:
        return f"hpc-federation {version('hpc-federation')}"
    except PackageNotFoundError:
        return "hpc-federation"
