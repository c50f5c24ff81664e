# SPDX-License-Identifier: Apache-2.0
"""The oracle: the whole protocol in one process, from windows to commits, in plain numpy.

The federation must equal it to the bit. So it shares no arithmetic with the federation: it has its own codecs
(`reference_codecs`), weights, outer step and timetable, and takes only the manifest's data types. It keeps every θ,
knows every payload at once and therefore needs neither digests nor blobs to travel. Arithmetic is explicit fp32
(DESIGN 3): one rounding per operation.
Streaming DiLoCo: arXiv 2501.18512, algorithm 2; DiLoCo: 2311.08105; error feedback: 2508.15706.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Protocol

import numpy as np

from federation.manifest import FragmentTable, Manifest, TableEntry
from federation.reference_codecs import Vector, decode, encode

__all__ = [
    "Reference",
    "RoundPlan",
    "RoundResult",
    "Site",
    "Vector",
    "decode",
    "encode",
    "inner_lr",
    "outer_step",
    "run_reference",
    "weighted_sum",
    "weights_of",
]


class Site(Protocol):
    """One site's local training: its live parameters and one inner step."""

    def parameters(self) -> Mapping[str, Vector]:
        """Writable fp32 views of the live parameters by canonical name, each in its table's shape."""

    def step(self, lr: float) -> int:
        """Takes one inner step at this learning rate; returns the tokens it trained on."""


@dataclass(frozen=True, kw_only=True)
class RoundPlan:
    """What is to happen in one round; by default everybody takes part and it commits.

    Attributes:
        abandoned: the round ends without a commit.
        not_sealed: sites that trained and encoded, but whose update the seal does not list.
        absent: sites that skip this window (nobody invited them).
        num_void_below: lower rounds known to be void when this one opened; None: those abandoned up to round - P.
    """

    abandoned: bool = False
    not_sealed: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()
    num_void_below: int | None = None


@dataclass(frozen=True, kw_only=True)
class RoundResult:
    """State of one fragment after one round, and what travelled.

    Attributes:
        theta, momentum, residual: f32[num_elements]; those of the round before where this one was abandoned.
        payloads: encoded pseudo-gradient per site that trained, listed or not.
        weight_tokens: tokens behind each payload.
        weights: final fp32 weight of each sealed site.
        blob: the commit blob, b"" of an abandoned round.
    """

    fragment: int
    theta: Vector
    momentum: Vector
    residual: Vector
    payloads: Mapping[str, bytes] = field(default_factory=dict)
    weight_tokens: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    blob: bytes = b""


def weights_of(tokens: Mapping[str, int], weighting: str) -> dict[str, float]:
    """Final weight per site: a quotient in fp64, rounded once to fp32. Uniform: 1/n, else by tokens."""
    shares = {site: 1 if weighting == "uniform" else n for site, n in tokens.items()}
    return {site: float(np.float32(share / sum(shares.values()))) for site, share in shares.items()}


def weighted_sum(deltas: Mapping[str, Vector], weights: Mapping[str, float]) -> Vector:
    """g = sum of w_i Δ_i over ascending site ids, one multiply and one add at a time, from zero."""
    total = np.zeros_like(next(iter(deltas.values())))
    for site in sorted(deltas):
        total = total + np.float32(weights[site]) * deltas[site]
    return total


def outer_step(momentum: Vector, g: Vector, lr: float, mu: float) -> tuple[Vector, Vector]:
    """(new m, s): Nesterov in PyTorch's convention; plain SGD where mu is 0, then m stays as it is."""
    if mu == 0:
        return momentum, np.float32(lr) * g
    momentum = np.float32(mu) * momentum + g
    return momentum, np.float32(lr) * (g + np.float32(mu) * momentum)


def inner_lr(manifest: Manifest, position: float, joined_at: float = -inf) -> float:
    """Learning rate at a position in nominal inner steps: linear warm-up, then a cosine down to its floor.

    A site whose first window began at `joined_at` climbs over `joiner_warmup_steps` besides.
    """
    inner = manifest.inner
    if position < inner.warmup_steps:
        rate = inner.lr * position / inner.warmup_steps
    else:
        done = min(1.0, (position - inner.warmup_steps) / max(1, inner.total_steps - inner.warmup_steps))
        floor = inner.lr * inner.min_lr_fraction
        rate = floor + 0.5 * (inner.lr - floor) * (1.0 + float(np.cos(np.pi * done)))
    since = position - joined_at
    return rate * (since / inner.joiner_warmup_steps) if since < inner.joiner_warmup_steps else rate


@dataclass
class _Member:
    """One site as the protocol sees it: base and error feedback per fragment, and what it waits for."""

    manifest: Manifest
    name: str
    site: Site
    window: int
    base: list[Vector]
    feedback: list[Vector]
    tokens: list[int]
    next_merge: int = 0
    trained: int = -1
    joined_at: float = -inf
    candidates: dict[int, Vector] = field(default_factory=dict)

    def boundary(self, k: int) -> int:
        """Position, in this site's inner steps, where window k ends."""
        return (self.manifest.plan.first_window_steps or self.window) + k * self.window

    def train(self, k: int, lr_position: int, history: Sequence[RoundResult]) -> None:
        """Window k, with the merges that fall inside it."""
        start = self.boundary(k - 1) if k else 0
        if k and self.trained != k - 1:
            self.merge_through(start, history)
            self.joined_at = lr_position if self.trained < 0 else self.joined_at
            for p in range(len(self.base)):
                self.reset(p)
        num_steps = self.boundary(k) - start
        nominal = self.manifest.plan.num_inner_steps // self.manifest.plan.num_fragments
        for j in range(num_steps):
            if j:
                self.merge_through(start + j, history)
            position = lr_position + (j / num_steps) * nominal
            new_tokens = self.site.step(inner_lr(self.manifest, position, self.joined_at))
            self.tokens = [n + new_tokens for n in self.tokens]
        self.trained = k

    def encode(self, k: int) -> tuple[bytes, int]:
        """Boundary k: payload of Δ = base - local (with error feedback), and the tokens behind it."""
        p, codecs = k % self.manifest.plan.num_fragments, self.manifest.codecs
        x = self.base[p] - self.read(p)
        if codecs.error_feedback:
            x = np.float32(codecs.error_feedback_beta) * self.feedback[p] + x
        payload = encode(codecs.up, x)
        self.candidates[k] = x - decode(codecs.up, payload, x.size)
        tokens, self.tokens[p] = self.tokens[p], 0
        return payload, tokens

    def merge_through(self, position: float, history: Sequence[RoundResult]) -> None:
        """Every merge due up to a position: round j's is at boundary j + τ."""
        tau = self.manifest.plan.tau
        while self.next_merge < len(history) and self.boundary(self.next_merge) + tau <= position:
            self.merge(self.next_merge, history[self.next_merge])
            self.next_merge += 1

    def merge(self, k: int, result: RoundResult) -> None:
        """local <- θ + α (local - θ); of an abandoned round local <- θ. Feedback is adopted if the seal lists it."""
        p, alpha = result.fragment, np.float32(self.manifest.alpha)
        candidate = self.candidates.pop(k, None)
        if candidate is not None and self.name in result.weights:
            self.feedback[p] = candidate
        self.base[p] = result.theta
        if result.blob:
            self.write(p, result.theta + alpha * (self.read(p) - result.theta))
        else:
            self.reset(p)

    def reset(self, p: int) -> None:
        """local <- base; nothing is trained since."""
        self.write(p, self.base[p])
        self.tokens[p] = 0

    def read(self, p: int) -> Vector:
        """Local values of fragment p as one flat vector."""
        parameters = self.site.parameters()
        return np.concatenate([parameters[e.name].reshape(-1) for e in _entries(self.manifest.fragments[p])])

    def write(self, p: int, vector: Vector) -> None:
        """Sets the local values of fragment p."""
        parameters = self.site.parameters()
        for e in _entries(self.manifest.fragments[p]):
            size = int(np.prod(e.shape))
            parameters[e.name][...] = vector[e.offset : e.offset + size].reshape(e.shape)


def _entries(table: FragmentTable) -> list[TableEntry]:
    return sorted(table.entries, key=lambda entry: entry.offset)


class Reference:
    """A run of the whole protocol, one round at a time.

    Args:
        manifest: the agreement; only its numbers are used.
        theta0: version 0 of each fragment, f32[num_elements]; written into every site first.
        sites: local training of each member by id. Its parameters end as the protocol leaves them.

    Attributes:
        history: one result per round so far, abandoned ones included.
    """

    def __init__(self, manifest: Manifest, theta0: Sequence[Vector], sites: Mapping[str, Site]) -> None:
        self.manifest = manifest
        self.history: list[RoundResult] = []
        self._theta0 = [np.asarray(theta, np.float32).copy() for theta in theta0]
        self._members = [self._join(m.site, m.num_inner_steps, sites[m.site]) for m in manifest.plan.members]

    def _join(self, name: str, num_inner_steps: int, site: Site) -> _Member:
        member = _Member(
            manifest=self.manifest,
            name=name,
            site=site,
            window=num_inner_steps // self.manifest.plan.num_fragments,
            base=list(self._theta0),
            feedback=[np.zeros_like(theta) for theta in self._theta0],
            tokens=[0] * len(self._theta0),
        )
        for p in range(len(self._theta0)):
            member.reset(p)
        return member

    def run_round(self, todo: RoundPlan | None = None) -> RoundResult:
        """Window, boundary and end of the next round at every site that takes part; returns what it left."""
        todo, k = todo or RoundPlan(), len(self.history)
        active = [member for member in self._members if member.name not in todo.absent]
        for member in active:
            member.train(k, self._lr_position(k, todo), self.history)
        sent = {member.name: member.encode(k) for member in active}
        payloads = {name: payload for name, (payload, _) in sent.items()}
        tokens = {name: count for name, (_, count) in sent.items()}
        result = replace(self._last(k), payloads=payloads, weight_tokens=tokens, weights={}, blob=b"")
        if not todo.abandoned:
            result = self._commit(result, [name for name in sent if name not in todo.not_sealed])
        self.history.append(result)
        for member in active:
            member.merge_through(member.boundary(k), self.history)
        return result

    def finish(self) -> None:
        """Every merge that is still due, without another inner step."""
        for member in self._members:
            member.merge_through(inf, self.history)

    def _lr_position(self, k: int, todo: RoundPlan) -> int:
        plan, void = self.manifest.plan, todo.num_void_below
        if void is None:
            ended = self.history[: max(0, k - plan.num_fragments + 1)]
            void = sum(1 for result in ended if not result.blob)
        return (k - void) * (plan.num_inner_steps // plan.num_fragments)

    def _last(self, k: int) -> RoundResult:
        p = k % self.manifest.plan.num_fragments
        if k > p:
            return self.history[k - self.manifest.plan.num_fragments]
        theta = self._theta0[p]
        return RoundResult(fragment=p, theta=theta, momentum=np.zeros_like(theta), residual=np.zeros_like(theta))

    def _commit(self, last: RoundResult, sealed: Sequence[str]) -> RoundResult:
        """The next version of a fragment from the payloads that the seal lists."""
        codecs, outer = self.manifest.codecs, self.manifest.outer
        weights = weights_of({name: last.weight_tokens[name] for name in sealed}, self.manifest.plan.weighting)
        deltas = {name: decode(codecs.up, last.payloads[name], last.theta.size) for name in sealed}
        g = weighted_sum(deltas, weights)
        momentum, step = outer_step(last.momentum, g, outer.lr, outer.momentum)
        u = step + last.residual
        blob = encode(codecs.down, u)
        applied = decode(codecs.down, blob, u.size)
        theta, residual = last.theta - applied, u - applied
        return replace(last, theta=theta, momentum=momentum, residual=residual, weights=weights, blob=blob)


def run_reference(
    manifest: Manifest,
    theta0: Sequence[Vector],
    sites: Mapping[str, Site],
    plans: Mapping[int, RoundPlan] | None = None,
) -> list[RoundResult]:
    """All rounds of the plan and every merge that is due at the end; arguments as of `Reference`.

    Args:
        plans: what differs from full participation, by round.
    """
    reference = Reference(manifest, theta0, sites)
    for k in range(manifest.plan.num_rounds):
        reference.run_round((plans or {}).get(k))
    reference.finish()
    return reference.history
