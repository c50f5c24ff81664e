# SPDX-License-Identifier: Apache-2.0
"""A run's manifest: everything that sites agree on before the first step. It holds no code, path or environment."""

from dataclasses import dataclass

from federation.leaves import Plan

NUMERICS_VERSION = 1
"""Version of codecs, fold and outer step. Another value means other bits."""


@dataclass(frozen=True, kw_only=True)
class TableEntry:
    """One trainable parameter inside a fragment: canonical name, shape, offset in fp32 elements."""

    name: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True, kw_only=True)
class FragmentTable:
    """One fragment: a flat fp32 vector of `num_elements`, before padding to whole chunks."""

    num_elements: int
    entries: tuple[TableEntry, ...]


@dataclass(frozen=True, kw_only=True)
class Alias:
    """A parameter name that shares the storage of another one (tied weights)."""

    name: str
    of: str


@dataclass(frozen=True, kw_only=True)
class OuterSettings:
    """The outer optimizer: `m <- mu m + g; s = lr (g + mu m)`, or `s = lr g` when momentum is 0."""

    lr: float
    momentum: float


@dataclass(frozen=True, kw_only=True)
class CodecSettings:
    """Codec of updates and of commits, and error feedback on the update's side."""

    up: str
    down: str
    error_feedback: bool
    error_feedback_beta: float


@dataclass(frozen=True, kw_only=True)
class InnerSettings:
    """The inner optimizer (AdamW) and its learning-rate schedule, in nominal inner steps.

    Linear warm-up to `lr` over `warmup_steps`, then cosine to `lr * min_lr_fraction` at `total_steps`. A site that
    joins late ramps up over `joiner_warmup_steps`. `max_loss` stops a job before it sends (a loss spike), 0 never.
    """

    lr: float
    weight_decay: float
    beta1: float
    beta2: float
    eps: float
    grad_clip: float
    warmup_steps: int
    total_steps: int
    min_lr_fraction: float
    joiner_warmup_steps: int
    max_loss: float


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The reference trainer's model: a Llama-style decoder over bytes (vocabulary 256 and a beginning-of-text mark)."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    max_positions: int
    vocab_size: int
    tie_embeddings: bool


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """Which trainer a site resolves by name, and what every site trains alike.

    `batch_size` sequences of `sequence_length` tokens per inner step; `seed` drives data order and dropout. `data_sets`
    names those that a site may train on, ascending; () leaves that to each site.
    """

    name: str
    batch_size: int
    sequence_length: int
    seed: int
    evaluation_bytes: int
    data_sets: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The whole agreement.

    Attributes:
        run: id of the run.
        consortium: id of the consortium.
        plan: what deciders need.
        alpha: merge factor: local <- theta + alpha (local - theta).
        theta_blob: blob digest of theta_0 (safetensors bytes).
        fragments: the fragment table.
        max_update_norm: admission's bound on a decoded update's norm.
        snapshot_every_rounds: how often (theta, m, r) are made durable.
        numerics_version: version of the arithmetic.
    """

    run: str
    consortium: str
    plan: Plan
    alpha: float
    outer: OuterSettings
    codecs: CodecSettings
    inner: InnerSettings
    model: ModelSettings
    trainer: TrainerSettings
    theta_blob: str
    fragments: tuple[FragmentTable, ...]
    aliases: tuple[Alias, ...]
    max_update_norm: float
    snapshot_every_rounds: int
    numerics_version: int
