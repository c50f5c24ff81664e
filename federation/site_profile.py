# SPDX-License-Identifier: Apache-2.0
"""What is known about a centre: facts with their source, data only, one `site.toml` per centre below `sites/`.

Each fact is a table `{value = …, source = "…", mark = "doc"}`. The mark says how far to trust it: `doc` is the centre's
own documentation, `user` a practitioner's public configuration or notes, `U` not verified. A fact that nobody knows is
left out; nothing is guessed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Generic, Literal, TypeVar

from pydantic import Field, StringConstraints

from federation.config import Section, Slug, load_toml
from federation.errors import ConfigError

PROFILE_FILE: Final = "site.toml"

Mark = Literal["doc", "user", "U"]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Texts = Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]
Ports = Annotated[tuple[Annotated[int, Field(ge=1, le=65_535)], ...], Field(strict=False, min_length=1)]
Count = Annotated[int, Field(ge=0)]

T = TypeVar("T")


class Fact(Section, Generic[T]):
    """One fact, where it was read, and how far to trust it."""

    value: T
    source: Text
    mark: Mark


class CentreSection(Section):
    """`[centre]`: who runs the machine."""

    name: Fact[Text]
    organisation: Fact[Text] | None = None


class NodeSection(Section):
    """`[node]`: one compute node. `gpus` counts what the scheduler counts, which may be half a card."""

    accelerator: Fact[Text] | None = None
    gpus: Fact[Count] | None = None
    gpu_unit: Fact[Text] | None = None
    gpu_memory_gb: Fact[Count] | None = None
    cpu_cores: Fact[Count] | None = None
    cpu_architecture: Fact[Literal["x86_64", "aarch64"]] | None = None
    num_nodes: Fact[Count] | None = None


class PartitionSection(Section):
    """`[[partitions]]`: a queue, or a quality of service inside one, with its limits. 0 seconds means no limit."""

    name: Text
    purpose: Literal["training", "small", "debug", "serial"]
    qos: Fact[Text] | None = None
    max_seconds: Fact[Count] | None = None
    max_nodes: Fact[Count] | None = None
    default_seconds: Fact[Count] | None = None
    note: Fact[Text] | None = None


class SchedulerSection(Section):
    """`[scheduler]`: how jobs are submitted and what surprises there are."""

    kind: Fact[Literal["slurm", "none"]]
    max_submitted_jobs: Fact[Count] | None = None
    max_running_jobs: Fact[Count] | None = None
    requeue: Fact[Text] | None = None
    queue_behaviour: Fact[Text] | None = None
    reconciliation: Fact[Text] | None = None


class NetworkSection(Section):
    """`[network]`: the egress class decides the courier.

    A: compute nodes reach out. B: only login or serial nodes do. C: nothing does, a carrier comes from outside.
    """

    egress_class: Fact[Literal["A", "B", "C"]]
    compute_egress: Fact[bool] | None = None
    login_egress: Fact[bool] | None = None
    egress_ports: Fact[Ports] | None = None
    transfer_hosts: Fact[Texts] | None = None
    note: Fact[Text] | None = None


class LoginSection(Section):
    """`[login]`: how people get in, and what may run beside their shell."""

    authentication: Fact[Text] | None = None
    process_rule: Fact[Text] | None = None
    key_rule: Fact[Text] | None = None
    agent_place: Fact[Text] | None = None


class AccountingSection(Section):
    """`[accounting]`: the native unit, and how many of it one GPU-hour costs."""

    unit: Fact[Text]
    units_per_gpu_hour: Fact[Annotated[float, Field(gt=0)]] | None = None
    rule: Fact[Text] | None = None
    tools: Fact[Texts] | None = None


class StorageSection(Section):
    """`[storage]`: what the spool and the training checkpoints live on."""

    rule: Fact[Text] | None = None
    object_store: Fact[Text] | None = None


class ContainerSection(Section):
    """`[container]`: how the trainer's software gets in."""

    runtime: Fact[Text] | None = None
    note: Fact[Text] | None = None


class SiteProfile(Section):
    """Everything that is known about one centre."""

    slug: Slug
    centre: CentreSection
    node: NodeSection
    partitions: Annotated[tuple[PartitionSection, ...], Field(strict=False)] = ()
    scheduler: SchedulerSection
    network: NetworkSection
    login: LoginSection
    accounting: AccountingSection
    storage: StorageSection = StorageSection()
    container: ContainerSection = ContainerSection()


def profile_names() -> tuple[str, ...]:
    """Slugs of the profiles that this installation has, ascending."""
    return tuple(sorted({path.parent.name for base in _bases() for path in base.glob(f"*/{PROFILE_FILE}")}))


def load_profile(slug: str) -> SiteProfile:
    """The profile of one centre.

    Raises:
        ConfigError: there is no such profile, or its file is wrong.
    """
    names = profile_names()
    if slug not in names:
        raise ConfigError(f"profile: expected one of {', '.join(names)}, found {slug!r:.60}")
    path = next(base / slug / PROFILE_FILE for base in _bases() if (base / slug / PROFILE_FILE).is_file())
    return load_profile_file(path)


def load_profile_file(path: Path) -> SiteProfile:
    """A profile from any place, for a centre that this release does not know.

    Raises:
        ConfigError: the file is wrong, or its slug is not the name of its directory.
    """
    profile = load_toml(path, SiteProfile)
    if profile.slug != path.parent.name:
        raise ConfigError(
            f"{path.name}: slug: expected {path.parent.name!r} like its directory, found {profile.slug!r}"
        )
    return profile


def facts_of(section: Section, prefix: str = "") -> Iterator[tuple[str, Fact[object]]]:
    """Every fact of a profile with its key, depth first: `("network.egress_class", Fact(...))`."""
    for name in type(section).model_fields:
        value, key = getattr(section, name), f"{prefix}{name}"
        if isinstance(value, Fact):
            yield key, value
        elif isinstance(value, Section):
            yield from facts_of(value, f"{key}.")
        elif isinstance(value, tuple):
            for index, item in enumerate(value, start=1):
                yield from facts_of(item, f"{key}[{index}].")


def _bases() -> tuple[Path, ...]:
    """Where profiles are: inside the installed package, or beside it in a source tree."""
    package = Path(__file__).parent
    return tuple(base for base in (package / "profiles", package.parent / "sites") if base.is_dir())
