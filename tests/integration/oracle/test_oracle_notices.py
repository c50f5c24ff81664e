# SPDX-License-Identifier: Apache-2.0
"""The comparison with the oracle is worth something: every fault put into the federation shows as a difference."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import pytest

from federation import aggregate, error_feedback, outer_optimizer, pseudo_gradient
from federation.codecs import bf16, int4, scaled_int
from federation.reference import RoundPlan, Vector
from federation.schedule import Schedule
from site_agent.inner_loop import exchange, loop
from site_agent.inner_loop.progress import Progress
from site_agent.trainer import lr

pytestmark = pytest.mark.usefixtures("short_chunks")

Patch = pytest.MonkeyPatch
Parts = Iterable[tuple[float, Vector]]
PLANS = {1: RoundPlan(not_sealed=frozenset({"b"})), 4: RoundPlan(abandoned=True)}


def fold(change: Callable[[list[tuple[float, Vector]]], Parts]) -> Callable[[Patch], None]:
    real = aggregate.weighted_sum
    return lambda patch: patch.setattr(aggregate, "weighted_sum", lambda parts, n: real(change(list(parts)), n))


def swap_weights(parts: list[tuple[float, Vector]]) -> Parts:
    weights = [weight for weight, _ in parts]
    return [(weight, part) for weight, (_, part) in zip(reversed(weights), parts, strict=True)]


def flip_the_sign(patch: Patch) -> None:
    patch.setattr(exchange, "pseudo_gradient", lambda theta, local: local - theta)


def drop_feedback(patch: Patch) -> None:
    real = error_feedback.encode_with_feedback
    forgetful = lambda codec, delta, e, beta: real(codec, delta, np.zeros_like(e), beta)  # noqa: E731
    patch.setattr(exchange, "encode_with_feedback", forgetful)


def full_feedback(patch: Patch) -> None:
    real = error_feedback.encode_with_feedback
    patch.setattr(exchange, "encode_with_feedback", lambda codec, delta, e, beta: real(codec, delta, e, 1.0))


def never_adopt(patch: Patch) -> None:
    patch.setattr(exchange.Exchange, "adopt", lambda *_: None)


def always_adopt(patch: Patch) -> None:
    def adopt(self: Any, entry: Any, outcome: Any) -> None:
        self.feedback[outcome.fragment] = self.candidates.pop(entry.round)

    patch.setattr(exchange.Exchange, "adopt", adopt)


def outer(change: Callable[..., Any]) -> Callable[[Patch], None]:
    return lambda patch: patch.setattr(aggregate, "outer_step", partial(change, outer_optimizer.outer_step))


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
    patch.setattr(aggregate, "apply_blob", lambda theta, u, decoded: (theta - decoded, np.zeros_like(u)))


def ignore_alpha(patch: Patch) -> None:
    patch.setattr(exchange, "merge", lambda theta, local, alpha: theta.copy())


def lerp(patch: Patch) -> None:
    """The same in exact arithmetic: (1 - α) θ + α local."""
    blend = lambda theta, local, alpha: np.float32(1 - alpha) * theta + np.float32(alpha) * local  # noqa: E731
    patch.setattr(exchange, "merge", blend)


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


def truncate_bf16(patch: Patch) -> None:
    cut = lambda x: (np.ascontiguousarray(x).view(np.uint32) >> np.uint32(16)).astype(np.uint16)  # noqa: E731
    patch.setattr(bf16, "round_to_bf16", cut)
    patch.setattr(scaled_int, "round_to_bf16", cut)


def swap_nibbles(patch: Patch) -> None:
    def pack(self: Any, q: Any) -> Any:
        nibbles = q.view(np.uint8) & np.uint8(0x0F)
        return nibbles[:, 1::2] | (nibbles[:, 0::2] << np.uint8(4))

    patch.setattr(int4.Int4Codec, "_pack", pack)


def schedule_by_own_steps(patch: Patch) -> None:
    patch.setattr(loop, "learning_rate", lambda inner, position, joined: lr.learning_rate(inner, int(position), joined))


FAULTS: dict[str, Callable[[Patch], None]] = {
    "sign-flipped": flip_the_sign,
    "weights-swapped": fold(swap_weights),
    "one-site-ignored": fold(lambda parts: parts[:-1]),
    "one-site-twice": fold(lambda parts: [*parts, parts[-1]]),
    "fold-in-another-order": fold(lambda parts: list(reversed(parts))),
    "feedback-dropped": drop_feedback,
    "feedback-undamped": full_feedback,
    "feedback-never-adopted": never_adopt,
    "feedback-adopted-though-not-listed": always_adopt,
    "momentum-forgotten": outer(forget_momentum),
    "no-nesterov": outer(no_nesterov),
    "fewer-roundings": outer(in_fp64),
    "residual-dropped": drop_residual,
    "alpha-ignored": ignore_alpha,
    "lerp-instead-of-merge": lerp,
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
    """The names the oracle takes from the federation are data types."""
    import ast
    import inspect

    from federation import reference

    tree = ast.parse(inspect.getsource(reference))
    imported = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("federation")
        for alias in node.names
    }
    assert imported == {f"federation.manifest.{name}" for name in ("FragmentTable", "Manifest", "TableEntry")}
    assert pseudo_gradient.__name__ not in inspect.getsource(reference)
