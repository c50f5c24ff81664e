# SPDX-License-Identifier: Apache-2.0
"""policy.toml: what this site lets be done with its machines. Deny by default; it wins against any coordinator.

The decisions are pure functions of policy, manifest and figures. What a person answered to `ask` is not known here: it
can turn an `ask` into a yes, never a `decline`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from federation.config import Section, Slug, describe, load_toml
from federation.errors import ConfigError
from federation.ids import is_digest, short
from federation.leaves import Reason
from federation.manifest import Manifest
from federation.run_config import check_manifest
from site_agent.observations import Answer

POLICY_FILE: Final = "policy.toml"

Unlisted = Literal["decline", "ask", "accept"]


def _check_digest(value: str) -> str:
    if not is_digest(value):
        raise ValueError("a SHA-256 digest in 64 lower-case hexadecimal digits")
    return value


Digest = Annotated[str, AfterValidator(_check_digest)]
Digests = Annotated[tuple[Digest, ...], Field(strict=False, max_length=10_000)]


class PerDay(Section):
    """`[per_day]`: what jobs of this site may use within any 24 hours; both are 0 unless stated."""

    gpu_hours: Annotated[float, Field(ge=0)] = 0.0
    bytes: Annotated[int, Field(ge=0)] = 0


class Policy(Section):
    """A whole policy.toml.

    Attributes:
        manifests: digests of manifests that are accepted.
        refused_manifests: digests of manifests that are declined, whatever else is said.
        unlisted: the answer to any other manifest: "decline", "ask" (a person decides) or "accept".
        trainers: per trainer name the digest of the source that may run here.
        per_day: budget of jobs.
    """

    manifests: Digests = ()
    refused_manifests: Digests = ()
    unlisted: Unlisted = "decline"
    trainers: dict[Slug, Digest] = Field(default_factory=dict)
    per_day: PerDay = PerDay()


@dataclass(frozen=True, kw_only=True)
class PolicyAnswer:
    """A policy's answer: what, why as a code, and why as a sentence with expected and found."""

    answer: Answer
    reason: Reason
    sentence: str


def load_policy(site_dir: Path) -> Policy:
    """Reads SITE_DIR/policy.toml. A missing file is an error, not a permission.

    Raises:
        ConfigError: with one sentence for every problem: file, key, expected, found, line.
    """
    return load_toml(site_dir / POLICY_FILE, Policy)


def decide_manifest(
    policy: Policy,
    manifest: Manifest,
    manifest_digest: str,
    *,
    site: str,
    consortium: str,
    trainers: Mapping[str, str],
) -> PolicyAnswer:
    """The site's answer to a manifest, by these checks in this order; the first that fails declines.

    1. The manifest obeys the protocol's rules and limits.
    2. It belongs to this consortium and names this site.
    3. site.toml knows its trainer.
    4. That trainer's source is one that the policy allows.
    5. The policy does not refuse it by digest.
    6. The policy lists it, or says what becomes of others.

    Args:
        policy: the site's.
        manifest: as received; may be hostile.
        manifest_digest: of its exact bytes.
        site, consortium: this site's, from its own files.
        trainers: digest of each trainer's source as installed now (`site_config.trainer_digests`).
    """
    refusal = (
        _broken_rule(manifest)
        or _not_ours(manifest, site, consortium)
        or _trainer_refusal(policy, manifest.trainer.name, trainers)
    )
    if refusal is not None:
        return refusal
    if manifest_digest in policy.refused_manifests:  # 5
        return _decline(Reason.POLICY, f"policy.toml refuses manifest {short(manifest_digest)}")
    if manifest_digest in policy.manifests:  # 6
        sentence = f"policy.toml lists manifest {short(manifest_digest)}"
        return PolicyAnswer(answer=Answer.ACCEPT, reason=Reason.NONE, sentence=sentence)
    return _unlisted(policy.unlisted, manifest_digest)


def may_start(
    policy: Policy,
    *,
    gpu_hours_spent: float,
    bytes_spent: int,
    gpu_hours_wanted: float = 0.0,
    bytes_wanted: int = 0,
) -> PolicyAnswer:
    """Whether the day's budget has room for one more job. `spent` counts the last 24 hours, live jobs in full."""
    budget = policy.per_day
    lines = (
        ("GPU-hours", budget.gpu_hours, gpu_hours_spent, gpu_hours_wanted),
        ("bytes", budget.bytes, bytes_spent, bytes_wanted),
    )
    for unit, allowed, spent, wanted in lines:
        if not spent + wanted <= allowed:
            return _decline(
                Reason.BUDGET,
                f"expected at most {allowed:g} {unit} within 24 hours, found {spent:g} spent and {wanted:g} wanted",
            )
    return PolicyAnswer(answer=Answer.ACCEPT, reason=Reason.NONE, sentence="within the day's budget")


def policy_text(unlisted: str, trainers: Mapping[str, str]) -> str:
    """Text of a new policy.toml that allows the trainers as they are installed now.

    Raises:
        ConfigError: `unlisted` is not one of its words.
    """
    if unlisted not in ("decline", "ask", "accept"):
        raise ConfigError(f"policy: expected decline, ask or accept, found {describe(unlisted)}")
    allowed = "".join(f'{name} = "{digest}"\n' for name, digest in sorted(trainers.items()))
    return f"""\
# What this site lets be done with its machines. What is not allowed here is declined.

# Digests of manifests that are accepted or refused, and the answer to any other one:
# "decline", "ask" (`site-agent run accept RUN`) or "accept" (for trials on one machine).
manifests = []
refused_manifests = []
unlisted = "{unlisted}"

# Digest of each trainer's source that may run here. A new release of a trainer has another one.
[trainers]
{allowed}
# Within any 24 hours.
[per_day]
gpu_hours = 24.0
bytes = {10**12}
"""


def _broken_rule(manifest: Manifest) -> PolicyAnswer | None:
    """Check 1. The first broken rule is enough for an answer; the sentence says how many there are."""
    try:
        check_manifest(manifest)
    except ConfigError as error:
        first, *others = str(error).splitlines()
        more = f" (and {len(others)} more)" if others else ""
        return _decline(Reason.MANIFEST_INVALID, first + more)
    return None


def _not_ours(manifest: Manifest, site: str, consortium: str) -> PolicyAnswer | None:
    """Check 2."""
    if manifest.consortium != consortium:
        return _decline(Reason.POLICY, f"expected a run of consortium {consortium}, found {manifest.consortium}")
    if all(member.site != site for member in manifest.plan.members):
        return _decline(Reason.POLICY, f"expected {site} among the run's sites, found {_members(manifest)}")
    return None


def _trainer_refusal(policy: Policy, name: str, installed: Mapping[str, str]) -> PolicyAnswer | None:
    """Checks 3 and 4."""
    if name not in installed:
        known = ", ".join(sorted(installed)) or "none"
        return _decline(Reason.UNKNOWN_TRAINER, f"expected a trainer of site.toml ({known}), found {name}")
    allowed = policy.trainers.get(name)
    if allowed is None:
        return _decline(Reason.UNKNOWN_TRAINER, f"expected trainer {name} in policy.toml, found no digest for it")
    if allowed != installed[name]:
        sentence = f"expected trainer {name} with digest {short(allowed)}, found {short(installed[name])} installed"
        return _decline(Reason.UNKNOWN_TRAINER, sentence)
    return None


def _unlisted(unlisted: Unlisted, manifest_digest: str) -> PolicyAnswer:
    """Check 6 for a manifest that is not listed."""
    found = f"policy.toml does not list manifest {short(manifest_digest)}"
    if unlisted == "accept":
        return PolicyAnswer(answer=Answer.ACCEPT, reason=Reason.NONE, sentence=f"{found} and accepts such")
    if unlisted == "ask":
        return PolicyAnswer(answer=Answer.ASK, reason=Reason.POLICY, sentence=f"{found} and leaves it to a person")
    return _decline(Reason.POLICY, f"{found} and declines such")


def _decline(reason: Reason, sentence: str) -> PolicyAnswer:
    return PolicyAnswer(answer=Answer.DECLINE, reason=reason, sentence=sentence)


def _members(manifest: Manifest) -> str:
    listed = [member.site for member in manifest.plan.members[:8]]
    return ", ".join(listed) + (", …" if len(manifest.plan.members) > len(listed) else "")
