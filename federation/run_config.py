# SPDX-License-Identifier: Apache-2.0
"""run.toml, the operator's wish, and the manifest that it becomes; every key is described in docs/run-toml.md.

The file is read in three steps: types and key names (`RunConfig`), defaults (`resolve`), rules of the protocol
(`federation.manifest_rules`). A manifest that came from a coordinator passes the same rules through `check_manifest`.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from federation.codecs.registry import SPARSE
from federation.config import Problem, Section, parse_toml, raise_if_any, read_config_text
from federation.durations import count
from federation.leaves import Bounds, Member, Plan
from federation.limits import DEFAULT_LIMITS, Limits
from federation.manifest import (
    NUMERICS_VERSION,
    Alias,
    CodecSettings,
    FragmentTable,
    InnerSettings,
    Manifest,
    ModelSettings,
    OuterSettings,
    TrainerSettings,
)
from federation.manifest_rules import manifest_problems, settings_problems

ADVICE: Final = "docs/run-toml.md describes every key; examples/run.toml is a file that works."

_DAY: Final = 86_400
_BYTE_VOCABULARY: Final = 257
"""256 bytes and a beginning-of-text mark."""


SecondsPerStep = Annotated[float, Field(ge=0, le=1e6)]
"""An operator's estimate, for `federation.utilisation` alone: no manifest holds it."""


class RunSection(Section):
    """`[run]`: what is trained, by whom, for how long."""

    id: str
    consortium: str
    num_rounds: int
    approvals_required: int = 1
    evaluate_every: int = 10
    snapshot_every_rounds: int = 10
    max_update_norm: float = DEFAULT_LIMITS.max_update_norm


class ScheduleSection(Section):
    """`[schedule]`: inner steps, fragments, overlap."""

    num_inner_steps: int = 30
    num_fragments: int = 1
    tau: int = 0
    alpha: float | None = None
    first_window_steps: int = 0
    max_rounds_in_flight: int | None = None
    seconds_per_step: SecondsPerStep = 0.0


class OuterSection(Section):
    """`[outer]`: the outer optimizer and the sites' weights."""

    lr: float | None = None
    momentum: float | None = None
    weighting: Literal["uniform", "tokens"] | None = None


class CodecsSection(Section):
    """`[codecs]`: how updates and commits are compressed."""

    up: str = "bf16"
    down: str | None = None
    error_feedback: bool | None = None
    error_feedback_beta: float = 0.95


class QuorumSection(Section):
    """`[quorum]`: what a commit needs."""

    num_sites: int | None = None
    token_percent: int = 50


class WitnessesSection(Section):
    """`[witnesses]`: cosignatures under a commit before its model is used."""

    quorum: int | None = None
    lag: int | None = None


class BoundsSection(Section):
    """`[bounds]`: how long the coordinator waits for what."""

    answer_seconds: int = 900
    training_seconds: int = 4 * 3600
    upload_seconds: int = 2 * 3600
    max_round_seconds: int = _DAY
    open_grace_seconds: int = 3600
    max_open_wait_seconds: int = 7 * _DAY
    seal_grace_seconds: int = 0
    witness_seconds: int = _DAY
    max_abandoned: int = 3


class InnerSection(Section):
    """`[inner]`: AdamW and its learning-rate schedule at every site."""

    lr: float = 4e-4
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    grad_clip: float = 1.0
    warmup_steps: int = 0
    total_steps: int | None = None
    min_lr_fraction: float = 0.1
    joiner_warmup_steps: int = 0
    max_loss: float = 0.0


class ModelSection(Section):
    """`[model]`: the decoder of the reference trainer."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int | None = None
    max_positions: int | None = None
    vocab_size: int = _BYTE_VOCABULARY
    tie_embeddings: bool = True


class TrainerSection(Section):
    """`[trainer]`: which trainer a site resolves by name, and its batches."""

    name: str = "reference"
    batch_size: int
    sequence_length: int
    seed: int = 0
    evaluation_bytes: int = 65_536
    data_sets: tuple[str, ...] = Field(default=(), strict=False)


class SiteSection(Section):
    """`[[sites]]`: one member."""

    id: str
    num_inner_steps: int | None = None
    planned_tokens: int | None = None
    courier_round_trip_seconds: int = 0
    seconds_per_step: SecondsPerStep | None = None


class RunConfig(Section):
    """A whole run.toml: types checked, defaults not yet resolved, rules not yet applied."""

    run: RunSection
    schedule: ScheduleSection = ScheduleSection()
    outer: OuterSection = OuterSection()
    codecs: CodecsSection = CodecsSection()
    quorum: QuorumSection = QuorumSection()
    witnesses: WitnessesSection = WitnessesSection()
    bounds: BoundsSection = BoundsSection()
    inner: InnerSection = InnerSection()
    model: ModelSection
    trainer: TrainerSection
    sites: tuple[SiteSection, ...] = Field(strict=False)


def load_run_config(path: Path) -> RunConfig:
    """Reads and checks a run.toml.

    Raises:
        ConfigError: with one sentence for every problem: file, key, expected, found, line.
    """
    return parse_run_config(read_config_text(path), path.name)


def parse_run_config(text: str, source: str = "run.toml") -> RunConfig:
    """Reads and checks the text of a run.toml; `source` names it in messages.

    Raises:
        ConfigError: as `load_run_config`.
    """
    config = parse_toml(text, source, RunConfig, advice=ADVICE)
    problems = _in_file_order(config, settings_problems(resolve(config)))
    raise_if_any(source, problems, text=text, advice=ADVICE)
    return config


def build_manifest(
    config: RunConfig,
    theta_blob: str,
    fragments: Sequence[FragmentTable],
    aliases: Sequence[Alias],
    theta_digests: Sequence[str],
) -> Manifest:
    """The manifest of a run, all defaults resolved.

    Args:
        config: the operator's wish.
        theta_blob: blob digest of theta_0's safetensors bytes.
        fragments: the fragment table, one entry per fragment.
        aliases: parameters that share another one's storage.
        theta_digests: digest of theta_0 per fragment.

    Raises:
        ConfigError: a rule is broken, or the initial model does not fit the settings.
    """
    draft = resolve(config)
    manifest = replace(
        draft,
        plan=replace(draft.plan, theta_digests=tuple(theta_digests)),
        theta_blob=theta_blob,
        fragments=tuple(fragments),
        aliases=tuple(aliases),
    )
    raise_if_any(f"run {config.run.id}", manifest_problems(manifest), advice=ADVICE)
    return manifest


def check_manifest(manifest: Manifest, limits: Limits = DEFAULT_LIMITS) -> None:
    """Applies every rule to a manifest that somebody else made; it may be hostile.

    Raises:
        ConfigError: with one sentence for every broken rule, all text from the manifest as short printable ASCII.
    """
    raise_if_any("manifest", manifest_problems(manifest, limits), advice="Ask the run's operator for another manifest.")


def resolve(config: RunConfig) -> Manifest:
    """The manifest that a run.toml asks for, without an initial model (its digests and tables are empty)."""
    codecs = _codecs(config.codecs)
    tau, alpha = config.schedule.tau, config.schedule.alpha
    return Manifest(
        run=config.run.id,
        consortium=config.run.consortium,
        plan=_plan(config),
        alpha=alpha if alpha is not None else (0.5 if tau else 0.0),
        outer=_outer(config, codecs),
        codecs=codecs,
        inner=_inner(config),
        model=_model(config),
        trainer=_trainer(config.trainer),
        theta_blob="",
        fragments=(),
        aliases=(),
        max_update_norm=config.run.max_update_norm,
        snapshot_every_rounds=config.run.snapshot_every_rounds,
        numerics_version=NUMERICS_VERSION,
    )


def default_outer_lr(num_sites: int) -> float:
    """Outer learning rate with momentum by number of sites: 0.4 for one, 0.6 below eight, 0.8 from there."""
    if num_sites <= 1:
        return 0.4
    return 0.6 if num_sites < 8 else 0.8


def expected_step_seconds(config: RunConfig) -> dict[str, float]:
    """Seconds of one inner step by site, as far as run.toml says: a site's own estimate, else the schedule's."""
    common = config.schedule.seconds_per_step
    own = {site.id: site.seconds_per_step for site in config.sites}
    return {site: common if seconds is None else seconds for site, seconds in own.items()}


def availability_sentence(plan: Plan) -> str:
    """How many silent agents stop the run, with the arithmetic: what an operator should know before the start."""
    n = len(plan.members)
    for_quorum, for_witnesses = n - plan.quorum_sites, n - plan.witness_quorum
    spare = min(for_quorum, for_witnesses)
    return (
        f"The run goes on with {spare} of {n} sites silent and stops with {spare + 1}: a commit needs "
        f"{count(plan.quorum_sites, 'site')} ({for_quorum} may be missing), its use "
        f"{count(plan.witness_quorum, 'witness', 'witnesses')} "
        f"({for_witnesses} may be missing)."
    )


def _in_file_order(config: RunConfig, problems: Iterable[Problem]) -> Iterator[Problem]:
    """A plan's members ascend by id, run.toml's need not: names each site by its place in the file."""
    places = _by_id(config.sites)
    for problem in problems:
        if match := re.match(r"sites\[(\d+)\]", problem.key):
            place = places[int(match.group(1)) - 1] + 1
            problem = replace(problem, key=f"sites[{place}]{problem.key[match.end() :]}")
        yield problem


def _by_id(sites: Sequence[SiteSection]) -> list[int]:
    """Indices of the sites, ascending by id; equal ids stay in the order of the file."""
    return sorted(range(len(sites)), key=lambda index: sites[index].id)


def _plan(config: RunConfig) -> Plan:
    schedule, sites = config.schedule, config.sites
    in_flight = schedule.max_rounds_in_flight
    in_flight = in_flight if in_flight is not None else schedule.num_fragments
    majority = len(sites) // 2 + 1
    members = tuple(_member(config, sites[index]) for index in _by_id(sites))
    lag = config.witnesses.lag
    return Plan(
        members=members,
        num_rounds=config.run.num_rounds,
        num_fragments=schedule.num_fragments,
        num_inner_steps=schedule.num_inner_steps,
        tau=schedule.tau,
        first_window_steps=schedule.first_window_steps,
        max_rounds_in_flight=in_flight,
        quorum_sites=config.quorum.num_sites if config.quorum.num_sites is not None else majority,
        quorum_token_percent=config.quorum.token_percent,
        weighting=config.outer.weighting or _default_weighting(members),
        approvals_required=config.run.approvals_required,
        evaluate_every=config.run.evaluate_every,
        witness_quorum=config.witnesses.quorum if config.witnesses.quorum is not None else majority,
        witness_lag=lag if lag is not None else in_flight,
        bounds=Bounds(**config.bounds.model_dump()),
        theta_digests=(),
    )


def _default_weighting(members: Sequence[Member]) -> str:
    """Tokens mean little between sites that take different numbers of inner steps: uniform there."""
    return "tokens" if len({member.num_inner_steps for member in members}) <= 1 else "uniform"


def _member(config: RunConfig, site: SiteSection) -> Member:
    steps = site.num_inner_steps if site.num_inner_steps is not None else config.schedule.num_inner_steps
    planned = steps * config.trainer.batch_size * config.trainer.sequence_length
    return Member(
        site=site.id,
        num_inner_steps=steps,
        planned_tokens=site.planned_tokens if site.planned_tokens is not None else planned,
        courier_round_trip_seconds=site.courier_round_trip_seconds,
    )


def _codecs(section: CodecsSection) -> CodecSettings:
    feedback, down = section.error_feedback, section.down
    return CodecSettings(
        up=section.up,
        down=down if down is not None else ("sparse-down" if section.up == "sparse" else "bf16"),
        error_feedback=feedback if feedback is not None else section.up == "sparse",
        error_feedback_beta=section.error_feedback_beta,
    )


def _trainer(section: TrainerSection) -> TrainerSettings:
    """Data sets ascend, so that the order in the file does not change the manifest."""
    return TrainerSettings(**section.model_dump() | {"data_sets": tuple(sorted(section.data_sets))})


def _outer(config: RunConfig, codecs: CodecSettings) -> OuterSettings:
    """SparseLoCo's setting (arXiv 2508.15706) is a plain step at rate 1; what is dense has Nesterov momentum."""
    lr, momentum = config.outer.lr, config.outer.momentum
    sparse = codecs.up in SPARSE or codecs.down in SPARSE
    return OuterSettings(
        lr=lr if lr is not None else (1.0 if sparse else default_outer_lr(len(config.sites))),
        momentum=momentum if momentum is not None else (0.0 if sparse else 0.9),
    )


def _inner(config: RunConfig) -> InnerSettings:
    """The schedule ends with the run: num_rounds windows of nominal H/P inner steps."""
    window = config.schedule.num_inner_steps // max(config.schedule.num_fragments, 1)
    total = config.inner.total_steps
    values = config.inner.model_dump() | {
        "total_steps": total if total is not None else max(config.run.num_rounds * window, 1)
    }
    return InnerSettings(**values)


def _model(config: RunConfig) -> ModelSettings:
    section = config.model
    kv_heads, positions = section.num_kv_heads, section.max_positions
    values = section.model_dump() | {
        "num_kv_heads": kv_heads if kv_heads is not None else section.num_heads,
        "max_positions": positions if positions is not None else config.trainer.sequence_length,
    }
    return ModelSettings(**values)
