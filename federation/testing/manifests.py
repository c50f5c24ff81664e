# SPDX-License-Identifier: Apache-2.0
"""Small complete manifests for tests: every number can be chosen, everything else is harmless."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import prod

from federation.leaves import Bounds, Member, Plan
from federation.manifest import (
    NUMERICS_VERSION,
    CodecSettings,
    FragmentTable,
    InnerSettings,
    Manifest,
    ModelSettings,
    OuterSettings,
    TableEntry,
    TrainerSettings,
)

BOUNDS = Bounds(
    answer_seconds=60,
    training_seconds=600,
    upload_seconds=600,
    max_round_seconds=3600,
    open_grace_seconds=60,
    max_open_wait_seconds=3600,
    seal_grace_seconds=0,
    witness_seconds=600,
    max_abandoned=3,
)
MODEL = ModelSettings(
    hidden_size=16,
    intermediate_size=32,
    num_layers=2,
    num_heads=2,
    num_kv_heads=2,
    max_positions=32,
    vocab_size=257,
    tie_embeddings=False,
)


def table_of(parameters: Sequence[tuple[str, tuple[int, ...]]]) -> FragmentTable:
    """One fragment of these parameters, in this order."""
    ends = list(accumulate(prod(shape) for _, shape in parameters))
    starts = [0, *ends[:-1]]
    entries = (TableEntry(name=n, shape=s, offset=o) for (n, s), o in zip(parameters, starts, strict=True))
    return FragmentTable(num_elements=ends[-1], entries=tuple(entries))


def inner_settings(
    *, lr: float = 1e-3, total_steps: int = 1000, warmup_steps: int = 0, joiner_warmup_steps: int = 0
) -> InnerSettings:
    """AdamW without weight decay, clipping or spike check."""
    return InnerSettings(
        lr=lr,
        weight_decay=0.0,
        beta1=0.9,
        beta2=0.95,
        eps=1e-8,
        grad_clip=0.0,
        warmup_steps=warmup_steps,
        total_steps=total_steps,
        min_lr_fraction=0.1,
        joiner_warmup_steps=joiner_warmup_steps,
        max_loss=0.0,
    )


def plan_of(
    steps: Mapping[str, int],
    *,
    num_fragments: int = 1,
    tau: int = 0,
    num_rounds: int = 4,
    weighting: str = "uniform",
    first_window_steps: int = 0,
    theta_digests: Sequence[str] = (),
) -> Plan:
    """A plan for these sites, with each its H_i; the nominal H is the largest, the quorum is one site."""
    members = (Member(site=s, num_inner_steps=h, planned_tokens=1000 * h) for s, h in sorted(steps.items()))
    return Plan(
        members=tuple(members),
        num_rounds=num_rounds,
        num_fragments=num_fragments,
        num_inner_steps=max(steps.values()),
        tau=tau,
        first_window_steps=first_window_steps,
        max_rounds_in_flight=num_fragments,
        quorum_sites=1,
        quorum_token_percent=0,
        weighting=weighting,
        approvals_required=1,
        evaluate_every=0,
        witness_quorum=len(steps) // 2 + 1,
        witness_lag=num_fragments,
        bounds=BOUNDS,
        theta_digests=tuple(theta_digests) or ("00" * 32,) * num_fragments,
    )


def manifest_of(
    plan: Plan,
    fragments: Sequence[FragmentTable],
    *,
    alpha: float = 0.0,
    outer_lr: float = 0.7,
    momentum: float = 0.0,
    up: str = "fp32",
    down: str = "fp32",
    feedback_beta: float | None = None,
    inner: InnerSettings | None = None,
    snapshot_every_rounds: int = 1,
) -> Manifest:
    """A manifest of this plan and fragment table; error feedback is on where `feedback_beta` is given."""
    codecs = CodecSettings(
        up=up, down=down, error_feedback=feedback_beta is not None, error_feedback_beta=feedback_beta or 0.0
    )
    return Manifest(
        run="run-1",
        consortium="test",
        plan=plan,
        alpha=alpha,
        outer=OuterSettings(lr=outer_lr, momentum=momentum),
        codecs=codecs,
        inner=inner or inner_settings(),
        model=MODEL,
        trainer=TrainerSettings(name="llama", batch_size=1, sequence_length=16, seed=1, evaluation_bytes=1000),
        theta_blob="11" * 32,
        fragments=tuple(fragments),
        aliases=(),
        max_update_norm=1e6,
        snapshot_every_rounds=snapshot_every_rounds,
        numerics_version=NUMERICS_VERSION,
    )
