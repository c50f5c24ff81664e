# SPDX-License-Identifier: Apache-2.0
"""What a run's manifest may say: one list of rules for the operator's run.toml and for a manifest from a coordinator.

Rules look at values only and trust none of them: a manifest may be hostile. Keys in problems are those of run.toml.
Every rule yields all its problems, so that an operator repairs a file once.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from math import prod
from typing import Final

from federation.codecs.registry import SPARSE, downlink_names, uplink_names
from federation.config import SLUG_WORDS, Problem, describe
from federation.ids import COORDINATOR, is_digest, is_slug
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
    TrainerSettings,
)
from federation.schedule import Schedule

MAX_WAIT_SECONDS: Final = 366 * 86_400
"""Longest bound of a run: a year."""

MAX_WITNESS_LAG: Final = 64
"""Largest L: two histories shown to two sites can differ by at most this many commits."""

MAX_TOKENS: Final = 10**15
"""Largest count of tokens of one site in one round."""

MAX_DATA_SETS: Final = 1000
"""Names of data sets in one manifest."""

MAX_SEED: Final = 2**63 - 1
"""Seeds travel as signed 64-bit numbers."""

SMALLEST_FP32: Final = 1.2e-38
"""Factors below the smallest normal fp32 number would be rounded to something else."""

_PARAMETER_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_MAX_NAME_CHARS = 256
_MAX_DIMENSIONS = 8

Problems = Iterator[Problem]


def manifest_problems(manifest: Manifest, limits: Limits = DEFAULT_LIMITS) -> Problems:
    """Everything that is wrong with a whole manifest, its fragment table included."""
    yield from settings_problems(manifest, limits)
    yield from model_problems(manifest, limits)


def settings_problems(manifest: Manifest, limits: Limits = DEFAULT_LIMITS) -> Problems:
    """Everything that is wrong with what run.toml states: all but the initial model and its fragment table."""
    plan = manifest.plan
    yield from _slug("run.id", manifest.run)
    yield from _slug("run.consortium", manifest.consortium)
    yield from _within("run.max_update_norm", manifest.max_update_norm, SMALLEST_FP32, limits.max_update_norm)
    yield from _within("run.snapshot_every_rounds", manifest.snapshot_every_rounds, 1, limits.max_num_rounds)
    yield from _within("schedule.alpha", manifest.alpha, 0, 1)
    yield from _plan_problems(plan, limits)
    yield from _outer_problems(manifest)
    yield from _codec_problems(manifest.codecs)
    yield from _inner_problems(manifest.inner)
    yield from _model_settings_problems(manifest.model)
    yield from _trainer_problems(manifest.trainer, manifest.model)
    if manifest.numerics_version != NUMERICS_VERSION:
        yield Problem(key="numerics_version", expected=str(NUMERICS_VERSION), found=describe(manifest.numerics_version))


def model_problems(manifest: Manifest, limits: Limits = DEFAULT_LIMITS) -> Problems:
    """Everything that is wrong with theta_0's digests and the fragment table."""
    p = manifest.plan.num_fragments
    yield from _digest("theta_blob", manifest.theta_blob)
    for key, items in (("fragments", manifest.fragments), ("theta_digests", manifest.plan.theta_digests)):
        if len(items) != p:
            yield Problem(key=key, expected=f"one for each of {describe(p)} fragments", found=str(len(items)))
    for index, digest in enumerate(manifest.plan.theta_digests):
        yield from _digest(f"theta_digests[{index + 1}]", digest)
    for index, table in enumerate(manifest.fragments):
        yield from _table_problems(f"fragments[{index + 1}]", table)
    total = sum(table.num_elements for table in manifest.fragments)
    yield from _within("fragments", total, 1, limits.max_num_parameters, what=" parameters")
    yield from _name_problems(manifest.fragments, manifest.aliases)


# --- plan -------------------------------------------------------------------------------------------------------------


def _plan_problems(plan: Plan, limits: Limits) -> Problems:
    n = len(plan.members)
    yield from _within("run.num_rounds", plan.num_rounds, 1, limits.max_num_rounds)
    yield from _within("run.approvals_required", plan.approvals_required, 1, limits.max_num_sites)
    yield from _within("run.evaluate_every", plan.evaluate_every, 0, limits.max_num_rounds)
    yield from _schedule_problems(plan, limits)
    yield from _within("sites", n, 1, limits.max_num_sites, what=" sites")
    yield from _member_problems(plan, limits)
    yield from _within("quorum.num_sites", plan.quorum_sites, 1, n, why=", the number of sites")
    yield from _within("quorum.token_percent", plan.quorum_token_percent, 0, 100)
    yield from _one_of("outer.weighting", plan.weighting, ("tokens", "uniform"))
    majority = f", at least floor(n/2) + 1 of {n} sites"
    yield from _within("witnesses.quorum", plan.witness_quorum, n // 2 + 1, n, why=majority)
    yield from _within("witnesses.lag", plan.witness_lag, 0, MAX_WITNESS_LAG)
    yield from _bounds_problems(plan.bounds)


def _schedule_problems(plan: Plan, limits: Limits) -> Problems:
    top = limits.max_num_inner_steps
    h, p, tau = plan.num_inner_steps, plan.num_fragments, plan.tau
    yield from _within("schedule.num_inner_steps", h, 1, top)
    yield from _within("schedule.first_window_steps", plan.first_window_steps, 0, top)
    if not 1 <= h <= top:
        return
    if not 1 <= p <= h or h % p:
        expected = f"a divisor of num_inner_steps = {h}"
        yield Problem(key="schedule.num_fragments", expected=expected, found=describe(p))
        return
    if not 0 <= tau <= h - h // p:
        expected = f"0 to H - H/P = {h} - {h // p} = {h - h // p}"
        yield Problem(key="schedule.tau", expected=expected, found=describe(tau))
        return
    low = Schedule(num_inner_steps=h, num_fragments=p, tau=tau).min_rounds_in_flight
    why = f", from 1 + ceil(tau P / H) to P with tau = {tau}, P = {p}, H = {h}"
    yield from _within("schedule.max_rounds_in_flight", plan.max_rounds_in_flight, low, p, why=why)


def _member_problems(plan: Plan, limits: Limits) -> Problems:
    for index, member in enumerate(plan.members):
        key = f"sites[{index + 1}]"
        yield from _slug(f"{key}.id", member.site)
        if member.site == COORDINATOR:
            yield Problem(key=f"{key}.id", expected="an id of its own", found=f'"{COORDINATOR}", which is reserved')
        yield from _member_steps(key, member, plan, limits)
        yield from _within(f"{key}.planned_tokens", member.planned_tokens, 1, MAX_TOKENS)
        seconds = member.courier_round_trip_seconds
        yield from _within(f"{key}.courier_round_trip_seconds", seconds, 0, MAX_WAIT_SECONDS)
    for index, (before, after) in enumerate(pairwise(plan.members), start=2):
        key = f"sites[{index}].id"
        if before.site == after.site:
            yield Problem(key=key, expected="each site once", found=f"{describe(after.site)} again")
        elif before.site > after.site:
            yield Problem(key=key, expected=f"ids in order, after {describe(before.site)}", found=describe(after.site))


def _member_steps(key: str, member: Member, plan: Plan, limits: Limits) -> Problems:
    """H_i obeys what H does: P divides it, and tau leaves room for one open round per fragment."""
    h, p, key = member.num_inner_steps, plan.num_fragments, f"{key}.num_inner_steps"
    if h == plan.num_inner_steps:
        return  # said once, under `schedule`
    if not 1 <= h <= limits.max_num_inner_steps:
        yield from _within(key, h, 1, limits.max_num_inner_steps)
    elif p >= 1 and h % p:
        yield Problem(key=key, expected=f"a multiple of num_fragments = {p}", found=str(h))
    elif p >= 1 and plan.tau > h - h // p:
        room = f"H - H/P of at least tau = {describe(plan.tau)}"
        yield Problem(key=key, expected=room, found=f"{h} - {h // p} = {h - h // p}")


_AT_LEAST_ONE_SECOND: Final = (
    "answer_seconds",
    "training_seconds",
    "upload_seconds",
    "max_round_seconds",
    "max_open_wait_seconds",
    "witness_seconds",
)


def _bounds_problems(bounds: Bounds) -> Problems:
    for name in _AT_LEAST_ONE_SECOND:
        yield from _within(f"bounds.{name}", getattr(bounds, name), 1, MAX_WAIT_SECONDS)
    for name in ("open_grace_seconds", "seal_grace_seconds"):
        yield from _within(f"bounds.{name}", getattr(bounds, name), 0, MAX_WAIT_SECONDS)
    yield from _within("bounds.max_abandoned", bounds.max_abandoned, 1, 1_000)


# --- numerics ---------------------------------------------------------------------------------------------------------


def _outer_problems(manifest: Manifest) -> Problems:
    outer = manifest.outer
    yield from _within("outer.lr", outer.lr, SMALLEST_FP32, 10)
    if not 0 <= outer.momentum < 1:
        yield Problem(key="outer.momentum", expected="at least 0 and less than 1", found=describe(outer.momentum))
        return
    for key in ("up", "down"):
        name = getattr(manifest.codecs, key)
        if name in SPARSE and outer.momentum:
            expected = f"0, because codecs.{key} is {name}"
            yield Problem(key="outer.momentum", expected=expected, found=describe(outer.momentum))
            return


def _codec_problems(codecs: CodecSettings) -> Problems:
    yield from _one_of("codecs.up", codecs.up, uplink_names())
    yield from _one_of("codecs.down", codecs.down, downlink_names())
    yield from _within("codecs.error_feedback_beta", codecs.error_feedback_beta, 0, 1)


def _inner_problems(inner: InnerSettings) -> Problems:
    yield from _within("inner.lr", inner.lr, SMALLEST_FP32, 10)
    yield from _within("inner.weight_decay", inner.weight_decay, 0, 10)
    for name in ("beta1", "beta2"):
        if not 0 <= getattr(inner, name) < 1:
            found = describe(getattr(inner, name))
            yield Problem(key=f"inner.{name}", expected="at least 0 and less than 1", found=found)
    yield from _within("inner.eps", inner.eps, SMALLEST_FP32, 1)
    yield from _within("inner.grad_clip", inner.grad_clip, 0, 1e6)
    yield from _within("inner.total_steps", inner.total_steps, 1, 10**12)
    yield from _within("inner.warmup_steps", inner.warmup_steps, 0, inner.total_steps, why=", inner.total_steps")
    yield from _within("inner.min_lr_fraction", inner.min_lr_fraction, 0, 1)
    yield from _within("inner.joiner_warmup_steps", inner.joiner_warmup_steps, 0, 10**12)
    yield from _within("inner.max_loss", inner.max_loss, 0, 1e6)


def _model_settings_problems(model: ModelSettings) -> Problems:
    tops = {"hidden_size": 2**20, "intermediate_size": 2**22, "num_layers": 10_000, "num_heads": 2**16}
    tops |= {"num_kv_heads": 2**16, "max_positions": 2**26, "vocab_size": 2**24}
    lows = {"vocab_size": 257}  # 256 bytes and a beginning-of-text mark
    sizes = [
        problem
        for name, top in tops.items()
        for problem in _within(f"model.{name}", getattr(model, name), lows.get(name, 1), top)
    ]
    yield from sizes
    if sizes:
        return
    hidden, heads = model.hidden_size, model.num_heads
    if hidden % (2 * heads):
        expected = f"a multiple of 2 num_heads = {2 * heads} (rotary positions need an even head size)"
        yield Problem(key="model.hidden_size", expected=expected, found=str(hidden))
    if heads % model.num_kv_heads:
        expected = f"a divisor of num_heads = {heads}"
        yield Problem(key="model.num_kv_heads", expected=expected, found=str(model.num_kv_heads))


def _trainer_problems(trainer: TrainerSettings, model: ModelSettings) -> Problems:
    yield from _slug("trainer.name", trainer.name)
    yield from _within("trainer.batch_size", trainer.batch_size, 1, 2**20)
    top = max(model.max_positions, 2)
    yield from _within("trainer.sequence_length", trainer.sequence_length, 2, top, why=", model.max_positions")
    yield from _within("trainer.seed", trainer.seed, 0, MAX_SEED)
    yield from _within("trainer.evaluation_bytes", trainer.evaluation_bytes, 1, 2**40)
    yield from _data_set_problems(trainer.data_sets)


def _data_set_problems(names: Sequence[str]) -> Problems:
    """Ids in one order: two manifests that ask for the same have the same bytes."""
    yield from _within("trainer.data_sets", len(names), 0, MAX_DATA_SETS, what=" data sets")
    for index, name in enumerate(names):
        yield from _slug(f"trainer.data_sets[{index + 1}]", name)
    if any(one >= other for one, other in pairwise(names)):
        yield Problem(key="trainer.data_sets", expected="each data set once, ascending", found=describe(list(names)))


# --- initial model ----------------------------------------------------------------------------------------------------


def _table_problems(key: str, table: FragmentTable) -> Problems:
    offset = 0
    for index, entry in enumerate(table.entries):
        where = f"{key}.entries[{index + 1}]"
        if len(entry.shape) > _MAX_DIMENSIONS or any(size < 1 for size in entry.shape):
            expected = f"at most {_MAX_DIMENSIONS} dimensions of at least 1"
            yield Problem(key=f"{where}.shape", expected=expected, found=describe(str(entry.shape)))
            return
        if entry.offset != offset:
            yield Problem(key=f"{where}.offset", expected=f"{offset}, without a gap", found=describe(entry.offset))
            return
        offset += prod(entry.shape)
    if table.num_elements != offset or offset < 1:
        expected = f"the sum of its parameters, {offset}, and at least 1"
        yield Problem(key=f"{key}.num_elements", expected=expected, found=describe(table.num_elements))


def _name_problems(fragments: Sequence[FragmentTable], aliases: Sequence[Alias]) -> Problems:
    """Every parameter has one place: in one fragment, or as another name of one that is in a fragment."""
    stored: set[str] = set()
    for name in (entry.name for table in fragments for entry in table.entries):
        yield from _parameter_name(name, stored)
        stored.add(name)
    seen = set(stored)
    for alias in aliases:
        yield from _parameter_name(alias.name, seen)
        seen.add(alias.name)
        if alias.of not in stored:
            expected = "a parameter of the fragment table"
            yield Problem(key="aliases", expected=expected, found=describe(alias.of))


def _parameter_name(name: str, seen: set[str]) -> Problems:
    if len(name) > _MAX_NAME_CHARS or _PARAMETER_NAME.fullmatch(name) is None:
        expected = f"names of letters, digits, '_', '-' and single dots, at most {_MAX_NAME_CHARS} characters"
        yield Problem(key="fragments", expected=expected, found=describe(name))
    if name in seen:
        yield Problem(key="fragments", expected="each parameter name once", found=f"{describe(name)} again")


# --- single values ----------------------------------------------------------------------------------------------------


def _within(key: str, value: float, low: float, high: float, *, what: str = "", why: str = "") -> Problems:
    """NaN is within nothing."""
    if not low <= value <= high:
        expected = f"{_number(low)} to {_number(high)}"
        if low == SMALLEST_FP32:
            expected = f"more than 0 and at most {_number(high)}"
        yield Problem(key=key, expected=f"{expected}{what}{why}", found=describe(value))


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _slug(key: str, value: str) -> Problems:
    if not is_slug(value):
        yield Problem(key=key, expected=SLUG_WORDS, found=describe(value))


def _one_of(key: str, value: str, allowed: Iterable[str]) -> Problems:
    names = sorted(allowed)
    if value not in names:
        yield Problem(key=key, expected=f"one of {', '.join(names)}", found=describe(value))


def _digest(key: str, value: str) -> Problems:
    if not is_digest(value):
        yield Problem(key=key, expected="a SHA-256 digest in 64 hexadecimal digits", found=describe(value))
