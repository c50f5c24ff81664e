# SPDX-License-Identifier: Apache-2.0
"""The comparison with the oracle is worth something: every fault put into the federation shows as a difference."""

import ast
import inspect
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from federation import commit_pass, outer_optimizer, pseudo_gradient, reference, reference_codecs
from federation.codecs import bf16, int4, scaled_int
from federation.codecs.api import Codec
from federation.kernels import api as kernels
from federation.kernels import chunks, strips
from federation.reference import RoundPlan, Vector
from federation.schedule import Schedule
from federation.state.api import StateChunk
from site_agent.inner_loop import exchange, loop
from site_agent.inner_loop.progress import Progress
from site_agent.trainer import lr

pytestmark = pytest.mark.usefixtures("short_chunks")

Patch = pytest.MonkeyPatch
Parts = Iterable[tuple[float, Vector]]
PLANS = {1: RoundPlan(not_sealed=frozenset({"b"})), 4: RoundPlan(abandoned=True)}


def commit_in_strips(patch: Patch) -> None:
    """The bits are the same then (tests of the kernels), and a fault can be put between two operations."""
    patch.setattr(kernels, "commit", lambda *_: False)
    patch.setattr(kernels, "can_commit", lambda *_: False)


def fold(change: Callable[[list[tuple[float, Vector]]], Parts]) -> Callable[[Patch], None]:
    real = commit_pass.weighted_sum

    def put(patch: Patch) -> None:
        commit_in_strips(patch)
        patch.setattr(commit_pass, "weighted_sum", lambda parts, n, g: real(change(list(parts)), n, g))

    return put


def swap_weights(parts: list[tuple[float, Vector]]) -> Parts:
    weights = [weight for weight, _ in parts]
    return [(weight, part) for weight, (_, part) in zip(reversed(weights), parts, strict=True)]


def encoding(change: Callable[..., Any]) -> Callable[[Patch], None]:
    """Puts a change of (theta, local, e, beta) before every encoding."""
    real = kernels.encode_difference_with_feedback

    def changed(codec: Codec, theta: Vector, local: Vector, e: Vector, beta: float, *out: Any) -> None:
        real(codec, *change(theta, local, e, beta), *out)

    return lambda patch: patch.setattr(kernels, "encode_difference_with_feedback", changed)


def never_adopt(patch: Patch) -> None:
    patch.setattr(exchange.Exchange, "_adopt", lambda *_: None)


def always_adopt(patch: Patch) -> None:
    def adopt(self: Any, entry: Any, outcome: Any) -> None:
        self.feedback[outcome.fragment] = self.candidates.pop(entry.round)

    patch.setattr(exchange.Exchange, "_adopt", adopt)


def outer(change: Callable[..., Any]) -> Callable[[Patch], None]:
    def step(m: Vector, r: Vector, g: Vector, rate: float, mu: float, m_out: Vector, u_out: Vector) -> None:
        m_out[:], u_out[:] = change(outer_optimizer.outer_step, m, r, g, rate, mu)

    def put(patch: Patch) -> None:
        commit_in_strips(patch)
        patch.setattr(kernels, "outer_step_into", step)

    return put


def forget_momentum(real: Any, m: Vector, r: Vector, g: Vector, rate: float, mu: float) -> tuple[Vector, Vector]:
    return m, real(m, r, g, rate, mu)[1]


def no_nesterov(real: Any, m: Vector, r: Vector, g: Vector, rate: float, mu: float) -> tuple[Vector, Vector]:
    m = np.float32(mu) * m + g
    return m, np.float32(rate) * m + r


def in_fp64(real: Any, m: Vector, r: Vector, g: Vector, rate: float, mu: float) -> tuple[Vector, Vector]:
    """What fused multiply-adds do: fewer roundings."""
    wide = np.float64(np.float32(mu)) * m + g
    u = np.float64(np.float32(rate)) * (g + np.float64(np.float32(mu)) * wide) + r
    return wide.astype(np.float32), u.astype(np.float32)


def drop_residual(patch: Patch) -> None:
    def apply(theta: Vector, u: Vector, decoded: Vector, new: StateChunk) -> None:
        new.theta[:], new.residual[:] = theta - decoded, 0

    commit_in_strips(patch)
    patch.setattr(commit_pass, "_apply", apply)


def merging(change: Callable[[Vector, Vector, float], Vector]) -> Callable[[Patch], None]:
    def changed(theta: Vector, local: Vector, alpha: float, out: Vector) -> None:
        out[:] = change(theta, local, alpha)

    return lambda patch: patch.setattr(kernels, "merge_into", changed)


def lerp(theta: Vector, local: Vector, alpha: float) -> Vector:
    """The same in exact arithmetic: (1 - α) θ + α local."""
    return np.float32(1 - alpha) * theta + np.float32(alpha) * local


def merge_too_early(patch: Patch) -> None:
    patch.setattr(Schedule, "merge_of", lambda self, k: self.boundary_of(k) + max(0, self.tau - 1))


def keep_local_when_abandoned(patch: Patch) -> None:
    real = exchange.Exchange.merge

    def merge(self: Any, entry: Any, outcome: Any, chain: Any) -> None:
        if outcome.version:
            real(self, entry, outcome, chain)

    patch.setattr(exchange.Exchange, "merge", merge)


def count_discarded_tokens(patch: Patch) -> None:
    real = Progress.after_merge

    def after_merge(self: Any, entry: Any, outcome: Any) -> Any:
        after = real(self, entry, outcome)
        return exchange_tokens(after, self.tokens_at_boundary)

    patch.setattr(Progress, "after_merge", after_merge)


def exchange_tokens(progress: Progress, tokens: tuple[int, ...]) -> Progress:
    return Progress(**{**vars(progress), "tokens_at_boundary": tokens})


def without_compiled_codecs(patch: Patch) -> None:
    """The bits are the same then (tests of the kernels), and a fault can be put into numpy."""
    patch.setattr(strips, "codec_kernels", lambda name: None)
    patch.setattr(chunks, "codec_numbers", lambda name: None)


def truncate_bf16(patch: Patch) -> None:
    cut = lambda x: (np.ascontiguousarray(x).view(np.uint32) >> np.uint32(16)).astype(np.uint16)  # noqa: E731
    without_compiled_codecs(patch)
    patch.setattr(bf16, "round_to_bf16", cut)
    patch.setattr(scaled_int, "round_to_bf16", cut)


def swap_nibbles(patch: Patch) -> None:
    def pack(self: Any, q: Any) -> Any:
        nibbles = q.view(np.uint8) & np.uint8(0x0F)
        return nibbles[:, 1::2] | (nibbles[:, 0::2] << np.uint8(4))

    without_compiled_codecs(patch)
    patch.setattr(int4.Int4Codec, "_pack", pack)


def schedule_by_own_steps(patch: Patch) -> None:
    patch.setattr(loop, "learning_rate", lambda inner, position, joined: lr.learning_rate(inner, int(position), joined))


FAULTS: dict[str, Callable[[Patch], None]] = {
    "sign-flipped": encoding(lambda theta, local, e, beta: (local, theta, e, beta)),
    "weights-swapped": fold(swap_weights),
    "one-site-ignored": fold(lambda parts: parts[:-1]),
    "one-site-twice": fold(lambda parts: [*parts, parts[-1]]),
    "fold-in-another-order": fold(lambda parts: list(reversed(parts))),
    "feedback-dropped": encoding(lambda theta, local, e, beta: (theta, local, np.zeros_like(e), beta)),
    "feedback-undamped": encoding(lambda theta, local, e, beta: (theta, local, e, 1.0)),
    "feedback-never-adopted": never_adopt,
    "feedback-adopted-though-not-listed": always_adopt,
    "momentum-forgotten": outer(forget_momentum),
    "no-nesterov": outer(no_nesterov),
    "fewer-roundings": outer(in_fp64),
    "residual-dropped": drop_residual,
    "alpha-ignored": merging(lambda theta, local, alpha: theta),
    "lerp-instead-of-merge": merging(lerp),
    "merged-one-step-early": merge_too_early,
    "local-kept-after-abandoned": keep_local_when_abandoned,
    "discarded-tokens-weighed": count_discarded_tokens,
    "bf16-truncated": truncate_bf16,
    "nibbles-swapped": swap_nibbles,
    "schedule-without-fractions": schedule_by_own_steps,
}


def compare(lab: Any) -> list[str]:
    steps = {"steps": {"a": 8, "b": 8, "c": 12}, "num_fragments": 4, "tau": 2, "num_rounds": 13, "weighting": "tokens"}
    setting = lab.setting(steps, alpha=0.3, momentum=0.9, up="int4", down="int8", feedback_beta=0.95)
    return lab.compare(*setting, plans=PLANS)  # type: ignore[no-any-return]


def test_nothing_is_different_without_a_fault(lab: Any) -> None:
    assert compare(lab) == []


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_shows(fault: Callable[[Patch], None], lab: Any, monkeypatch: Patch) -> None:
    fault(monkeypatch)
    assert compare(lab) != []


def test_reference_and_federation_share_no_arithmetic() -> None:
    """The names the oracle takes from the federation are data types, but for codecs of its own."""
    own = {f"federation.reference_codecs.{name}" for name in ("Vector", "decode", "encode")}
    types = {f"federation.manifest.{name}" for name in ("FragmentTable", "Manifest", "TableEntry")}
    assert imported_by(reference) == types | own
    assert imported_by(reference_codecs) == set()
    assert pseudo_gradient.__name__ not in inspect.getsource(reference)


def imported_by(module: ModuleType) -> set[str]:
    nodes = list(ast.walk(ast.parse(inspect.getsource(module))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named = {
        f"{node.module}.{alias.name}" for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    return {name for name in plain | named if name.startswith(("federation", "site_agent", "coordinator"))}
