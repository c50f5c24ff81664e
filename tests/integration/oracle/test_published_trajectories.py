# SPDX-License-Identifier: Apache-2.0
"""Published trajectories, and the settings in which the federation is an ordinary optimizer."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch

from federation import reference as ref
from federation.chunks import fragment_digest
from federation.testing.manifests import inner_settings, manifest_of, plan_of, table_of
from site_agent.inner_loop import Shard, StepResult, TrainerState
from site_agent.inner_loop.seam import whole

pytestmark = pytest.mark.usefixtures("short_chunks")


class ConstantStep:
    """Two parameters of one element; every inner step adds the same number to both."""

    def __init__(self, move: float) -> None:
        self.move = move
        self.values = {name: torch.zeros(1) for name in ("p0", "p1")}
        self.path: list[float] = []

    def step(self, lr: float) -> StepResult:
        self.path.append(self.values["p0"].item())
        for value in self.values.values():
            value += self.move
        return StepResult(0.0, 1)

    def local_shards(self) -> Iterable[Shard]:
        return [Shard(name, whole(value), value) for name, value in self.values.items()]

    def state_dict(self) -> TrainerState:
        return TrainerState()

    def load_state_dict(self, state: TrainerState) -> None:
        raise AssertionError("nothing is resumed here")


@pytest.mark.parametrize("late", [False, True])
def test_torchft_streaming_trajectory(lab: Any, late: bool) -> None:
    """τ = 0, α = 0: two replicas, two fragments at 1, inner step -2, outer SGD lr 2, one fragment every 3 steps."""
    theta0 = [np.ones(1, np.float32), np.ones(1, np.float32)]
    digests = [fragment_digest(theta) for theta in theta0]
    plan = plan_of({"a": 6, "b": 6}, num_fragments=2, num_rounds=5, theta_digests=digests)
    manifest = manifest_of(plan, [table_of([("p0", (1,))]), table_of([("p1", (1,))])], outer_lr=2.0)
    federation = lab.federate(manifest, theta0, dict.fromkeys(("a", "b"), lambda: ConstantStep(-2.0)), late=late)
    for job in federation.jobs.values():
        assert job.trainer.path == [1, -1, -3, -11, -13, -15, -17, -19, -21, -35, -37, -39, -41, -43, -45]
        assert job.trainer.values["p0"].item() == -59


def test_nesterov_vector_through_commits(lab: Any) -> None:
    """θ = 1, g = .5 four times, lr .7, μ .9."""
    # Both parameters in one fragment; α = 0 makes every Δ the one step of -.5.
    theta0 = [np.ones(2, np.float32)]
    plan = plan_of({"a": 1, "b": 1}, num_rounds=4, theta_digests=[fragment_digest(theta0[0])])
    manifest = manifest_of(plan, [table_of([("p0", (1,)), ("p1", (1,))])], outer_lr=0.7, momentum=0.9)
    results = lab.federate(manifest, theta0, dict.fromkeys(("a", "b"), lambda: ConstantStep(-0.5))).results
    assert np.allclose([r.theta[0] for r in results], [0.335, -0.6135, -1.81715, -3.250435], rtol=1e-6)
    assert np.allclose([r.momentum[0] for r in results], [0.5, 0.95, 1.355, 1.7195], rtol=1e-6)


def test_one_site_with_h_1_is_adamw_up_to_one_rounding(lab: Any) -> None:
    """fp32, outer lr 1, no momentum: θ - (θ - θ_i) is θ_i but for one rounding in each round."""
    manifest, theta0, trainers = lab.setting({"steps": {"a": 1}, "num_rounds": 20}, outer_lr=1.0)
    results = lab.federate(manifest, theta0, trainers).results
    rounded, plain = (_started(lab, manifest, theta0) for _ in range(2))
    for k, result in enumerate(results):
        before = _flat(rounded, manifest)
        for trainer in (rounded, plain):
            trainer.step(ref.inner_lr(manifest, k))
        local = _flat(rounded, manifest)
        after = before - (before - local)
        assert np.array_equal(result.theta, after)
        assert np.all(np.abs(after - local) <= np.spacing(np.maximum(np.abs(before), np.abs(local))) / 2)
        _set(rounded, manifest, after)
    assert np.abs(results[-1].theta - _flat(plain, manifest)).max() < 1e-5
    assert np.abs(results[-1].theta - theta0[0]).max() > 0.1


def _started(lab: Any, manifest: Any, theta0: list[ref.Vector]) -> Any:
    trainer = lab.trainer(0)
    _set(trainer, manifest, theta0[0])
    return trainer


def _flat(trainer: Any, manifest: Any) -> ref.Vector:
    values = trainer.parameters()
    return np.concatenate([values[entry.name].reshape(-1) for entry in manifest.fragments[0].entries])


def _set(trainer: Any, manifest: Any, vector: ref.Vector) -> None:
    for entry in manifest.fragments[0].entries:
        value = trainer.parameters()[entry.name]
        value[...] = vector[entry.offset : entry.offset + value.size].reshape(value.shape)


def test_identical_sites_give_what_one_of_them_gives(lab: Any) -> None:
    """Four replicas of one site: weights 1/4 are exact, so the commit is that of the site alone."""
    steps = {"steps": {"a": 4}, "num_rounds": 3}
    inner = inner_settings(lr=0.02)
    manifest, theta0, trainers = lab.setting(steps, momentum=0.9, inner=inner)
    alone = lab.federate(manifest, theta0, trainers).results
    many = {**steps, "steps": dict.fromkeys("abcd", 4)}
    manifest, theta0, _ = lab.setting(many, momentum=0.9, inner=inner)
    together = lab.federate(manifest, theta0, dict.fromkeys("abcd", trainers["a"])).results
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one.theta, other.theta)
        assert one.blob == other.blob
