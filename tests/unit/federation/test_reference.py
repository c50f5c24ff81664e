# SPDX-License-Identifier: Apache-2.0
"""The oracle against published vectors and against numbers worked out by hand."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from federation import reference as ref
from federation import reference_codecs
from federation.manifest import Manifest
from federation.testing.manifests import inner_settings, manifest_of, plan_of, table_of

F32 = np.float32
RATE_IS_POSITION = inner_settings(lr=1024.0, warmup_steps=1024, total_steps=2048)


@dataclass
class StraightLine:
    """A site whose every step moves every parameter by the same amount."""

    names: tuple[str, ...]
    move: float
    tokens: int = 1
    path: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.values = {name: np.zeros((1,), F32) for name in self.names}

    def parameters(self) -> Mapping[str, ref.Vector]:
        return self.values

    def step(self, lr: float) -> int:
        self.path.append(float(self.values[self.names[0]][0]))
        self.rates.append(lr)
        for value in self.values.values():
            value += F32(self.move)
        return self.tokens


def names_of(num_fragments: int) -> tuple[str, ...]:
    return tuple(f"p{i}" for i in range(num_fragments))


def manifest(steps: dict[str, int], num_fragments: int, **settings: object) -> Manifest:
    plan_keys = {"tau", "num_rounds", "weighting", "first_window_steps"}
    plan = plan_of(steps, num_fragments=num_fragments, **{k: v for k, v in settings.items() if k in plan_keys})
    tables = [table_of([(name, (1,))]) for name in names_of(num_fragments)]
    return manifest_of(plan, tables, **{k: v for k, v in settings.items() if k not in plan_keys})


def ones(num_fragments: int) -> list[ref.Vector]:
    return [np.ones(1, F32) for _ in range(num_fragments)]


def theta_path(results: list[ref.RoundResult], fragment: int = 0) -> list[float]:
    return [float(r.theta[0]) for r in results if r.fragment == fragment]


def test_torchft_streaming_trajectory() -> None:
    """Two replicas, two fragments, inner step -2, outer SGD lr 2, one fragment every 3 steps (torchft)."""
    sites = {name: StraightLine(names_of(2), -2.0) for name in ("a", "b")}
    agreed = manifest({"a": 6, "b": 6}, 2, num_rounds=5, outer_lr=2.0)
    ref.run_reference(agreed, ones(2), sites)
    final = float(sites["a"].values["p0"][0])
    expected = [1, -1, -3, -11, -13, -15, -17, -19, -21, -35, -37, -39, -41, -43, -45]
    assert sites["a"].path == sites["b"].path == expected
    assert final == -59


def test_nesterov_vector() -> None:
    theta, m, seen = F32(1), np.zeros(1, F32), []
    for _ in range(4):
        m, s = ref.outer_step(m, np.full(1, 0.5, F32), 0.7, 0.9)
        theta = theta - s
        seen.append((float(theta[0]), float(m[0])))
    assert np.allclose(seen, [(0.335, 0.5), (-0.6135, 0.95), (-1.81715, 1.355), (-3.250435, 1.7195)], rtol=3e-7)


def test_plain_outer_sgd_leaves_the_momentum_alone() -> None:
    m, s = ref.outer_step(np.zeros(1, F32), np.full(1, 3, F32), 0.5, 0.0)
    assert (float(m[0]), float(s[0])) == (0.0, 1.5)


def test_weights_three_to_one_cancel() -> None:
    weights = ref.weights_of({"a": 3, "b": 1}, "tokens")
    assert ref.weighted_sum({"a": np.ones(1, F32), "b": np.full(1, -3, F32)}, weights) == 0


def test_five_sites_one_of_them_ten() -> None:
    weights = ref.weights_of({site: 17 + i * i for i, site in enumerate("abcde")}, "uniform")
    deltas = {site: np.full(1, 10 if site == "c" else 0, F32) for site in "abcde"}
    assert ref.weighted_sum(deltas, weights) == 2


def test_weights_are_rounded_once() -> None:
    assert ref.weights_of({"a": 1, "b": 2}, "tokens") == {"a": float(F32(1 / 3)), "b": float(F32(2 / 3))}
    assert ref.weights_of({"a": 2**24 + 1, "b": 1}, "tokens")["a"] == 1 - 2**-24


def test_fold_is_ascending_whatever_the_order_of_arrival() -> None:
    values = {"a": 1.0, "b": 1e8, "c": -1e8}
    deltas = {site: np.full(1, value, F32) for site, value in values.items()}
    weights = dict.fromkeys(values, 1.0)
    backwards = dict(reversed(deltas.items()))
    assert ref.weighted_sum(deltas, weights) == ref.weighted_sum(backwards, weights) == 0.0


@pytest.mark.parametrize("codec", ["fp32", "bf16", "int8", "int4"])
def test_codec_is_idempotent_on_what_it_decodes_and_keeps_zero(codec: str) -> None:
    x = np.random.default_rng(3).standard_normal(300).astype(F32)
    once = ref.decode(codec, ref.encode(codec, x), 300)
    tolerance = {"fp32": 0.0, "bf16": 2**-8, "int8": 0.015, "int4": 0.25}[codec]
    assert np.all(np.abs(once - x) <= tolerance * np.abs(x).max())
    assert not ref.decode(codec, ref.encode(codec, np.zeros(300, F32)), 300).any()


@pytest.mark.parametrize(
    ("codec", "size"),
    [("fp32", 520), ("bf16", 260), ("int8", 260), ("int4", 132), ("sparse", 120), ("sparse-down", 514)],
)
def test_payload_holds_only_blocks_with_a_real_element(codec: str, size: int) -> None:
    assert len(ref.encode(codec, np.ones(130, F32))) == size


def test_bf16_rounds_to_nearest_ties_to_even() -> None:
    bits = np.array([0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001, 0xBF808000, 0x00000001, 0x00018000], np.uint32)
    expected = [0x3F80, 0x3F80, 0x3F82, 0x3F81, 0xBF80, 0x0000, 0x0002]
    assert reference_codecs.to_bf16(bits.view(F32)).tolist() == expected


def test_bf16_agrees_with_torch_on_many_bits() -> None:
    torch = pytest.importorskip("torch")
    bits = np.random.default_rng(5).integers(0, 2**32, 200_000, dtype=np.uint32).view(F32)
    x = bits[np.isfinite(bits) & (np.abs(bits) < 3e38)]
    expected = torch.from_numpy(x).to(torch.bfloat16).view(torch.uint16).numpy()
    assert np.array_equal(reference_codecs.to_bf16(x), expected)


def test_int8_bytes_by_hand() -> None:
    x = np.zeros(128, F32)
    x[:4] = [127, -127, 2.5, 3.5]
    data = ref.encode("int8", x)
    assert data[:6] == bytes([0x80, 0x3F, 127, 0x81, 2, 4])
    assert not any(data[6:])


def test_int4_bytes_by_hand_low_nibble_first() -> None:
    x = np.zeros(128, F32)
    x[:5] = [7, -7, 1.5, 0.5, -1]
    data = ref.encode("int4", x)
    assert data[:5] == bytes([0x80, 0x3F, 0x97, 0x02, 0x0F])
    assert ref.decode("int4", data, 6).tolist() == [7, -7, 2, 0, -1, 0]


def test_sparse_bytes_by_hand() -> None:
    """t = (1 + 5 + 3 + 8) / 4 = 4.25; kept at 0x123, 0x456, 0x457, 0xfff, the last place is repeated."""
    x = np.zeros(4096, F32)
    x[[0x123, 0x456, 0x457, 0xFFF]] = [1, 5, -3, -8]
    data = ref.encode("sparse", x)
    assert data[:6] == bytes([0x23, 0x61, 0x45, 0x57, 0xF4, 0xFF])
    assert data[6:96] == 90 * b"\xff"
    assert data[96:112] == bytes([0b11_10_01_00]) + bytes(15)
    assert data[112:] == np.array([1, 5, -3, -8], "<f2").tobytes()
    assert np.array_equal(ref.decode("sparse", data, 4096), x)


def test_sparse_down_bytes_by_hand() -> None:
    x = np.zeros(4096, F32)
    x[[0x123, 0x456, 0xFFF]] = [7, -2.5, 0.1]
    data = ref.encode("sparse-down", x)
    assert data[:8] == bytes([0x80, 0x3F, 0x23, 0x61, 0x45, 0xFF, 0xFF, 0xFF])
    assert data[386:] == bytes([0xE7]) + bytes(127)
    decoded = ref.decode("sparse-down", data, 4096)
    assert {int(i): float(decoded[i]) for i in np.flatnonzero(decoded)} == {0x123: 7, 0x456: -2}


@pytest.mark.parametrize(("codec", "k"), [("sparse", 64), ("sparse-down", 256)])
def test_sparse_codecs_keep_the_largest_and_of_equal_ones_the_first(codec: str, k: int) -> None:
    x = np.random.default_rng(2).standard_normal(4096 + 100).astype(F32)
    there = ref.decode(codec, ref.encode(codec, x), x.size)[:4096] != 0
    assert there.sum() == k
    assert np.abs(x[:4096])[there].min() > np.abs(x[:4096])[~there].max()
    ties = np.full(4096, 2, F32)
    assert np.flatnonzero(ref.decode(codec, ref.encode(codec, ties), 4096)).tolist() == list(range(k))
    assert not ref.decode(codec, ref.encode(codec, np.zeros(300, F32)), 300).any()


def test_a_subnormal_scale_that_was_rounded_down_clips() -> None:
    x = np.full(128, 1.4 * 127 * 2**-133, F32)
    assert ref.decode("int8", ref.encode("int8", x), 128).tolist() == 128 * [127 * 2**-133]


def test_int8_mean_square_error_on_normal_data() -> None:
    x = np.random.default_rng(0).standard_normal(1 << 16).astype(F32)
    assert np.mean((ref.decode("int8", ref.encode("int8", x), x.size) - x) ** 2) < 8e-4


@pytest.mark.parametrize("codec", ["fp32", "bf16", "int8", "int4"])
def test_same_bytes_for_any_chunking_by_whole_blocks(codec: str) -> None:
    x = np.random.default_rng(1).standard_normal(1000).astype(F32)
    pieces = [x[i : i + 256] for i in range(0, 1000, 256)]
    assert b"".join(ref.encode(codec, piece) for piece in pieces) == ref.encode(codec, x)


def test_tau_and_alpha_by_hand() -> None:
    """P = 2, H = 4, τ = 1, α = 1/2, inner step -1, outer SGD lr 1/2.

    p0: start 1; boundary 0 after step 2 at -1: Δ = 2, θ = 0; after step 3 local is -2, merged to 0 + (-2 - 0)/2 = -1;
    three steps later boundary 2 at -4: Δ = 0 + 4, θ = -2; one more step: -5, merged to -2 + (-5 + 2)/2 = -3.5.
    """
    site = StraightLine(names_of(2), -1.0)
    agreed = manifest({"a": 4}, 2, tau=1, alpha=0.5, outer_lr=0.5, num_rounds=4)
    results = ref.run_reference(agreed, ones(2), {"a": site})
    assert site.path == [1, 0, -1, -1, -2, -3, -4, -3.5]
    assert theta_path(results) == [0, -2]
    # p1: boundary 1 after step 4 at -3: Δ = 4, θ = -1; after step 5 local -4, merged to -2.5; boundary 3 at -5.5.
    assert theta_path(results, 1) == [-1, -1 - (-1 + 5.5) / 2]


def test_alpha_one_keeps_local_parameters() -> None:
    site = StraightLine(names_of(1), -1.0)
    ref.run_reference(manifest({"a": 2}, 1, alpha=1.0, num_rounds=3), ones(1), {"a": site})
    assert site.path == [1, 0, -1, -2, -3, -4]


def test_abandoned_round_resets_local_and_holds_the_schedule_back() -> None:
    site = StraightLine(names_of(1), -1.0)
    agreed = manifest({"a": 2}, 1, alpha=1.0, outer_lr=1.0, num_rounds=3, momentum=0.9, inner=RATE_IS_POSITION)
    results = ref.run_reference(agreed, ones(1), {"a": site}, {1: ref.RoundPlan(abandoned=True)})
    assert site.path == [1, 0, -1, -2, float(results[0].theta[0]), float(results[0].theta[0]) - 1]
    assert results[1].theta is results[0].theta
    assert results[1].momentum is results[0].momentum
    assert results[1].blob == b""
    assert site.rates == [0, 1, 2, 3, 2, 3]


def test_tokens_of_an_abandoned_round_are_not_weighed_again() -> None:
    """H = 4, P = 2, τ = 1: round 0 ends abandoned one step into window 1, so three steps stand behind round 2."""
    site = StraightLine(names_of(2), -1.0, tokens=10)
    agreed = manifest({"a": 4}, 2, tau=1, num_rounds=3)
    results = ref.run_reference(agreed, ones(2), {"a": site}, {0: ref.RoundPlan(abandoned=True)})
    assert [result.weight_tokens["a"] for result in results] == [20, 40, 30]
    assert site.path == [1, 0, -1, 1, 0, -1]
    assert results[2].theta == F32(1) - F32(0.7) * F32(1 + 2)


def test_learning_rate_of_a_slower_site_runs_with_the_nominal_window() -> None:
    sites = {"a": StraightLine(names_of(2), 1.0), "b": StraightLine(names_of(2), 1.0)}
    agreed = manifest({"a": 8, "b": 4}, 2, num_rounds=2, inner=RATE_IS_POSITION)
    ref.run_reference(agreed, ones(2), sites)
    assert sites["a"].rates == [0, 1, 2, 3, 4, 5, 6, 7]
    assert sites["b"].rates == [0, 2, 4, 6]


def test_first_window_steps() -> None:
    site = StraightLine(names_of(1), 1.0)
    ref.run_reference(manifest({"a": 4}, 1, num_rounds=2, first_window_steps=1), ones(1), {"a": site})
    assert len(site.path) == 1 + 4


def test_error_feedback_is_adopted_only_by_a_site_in_the_seal() -> None:
    """int4 with scale 1 sends 0 for 0.4; with feedback 0.95 * 0.4 + 0.4 the second round sends 1."""
    results = _feedback_results(not_sealed=frozenset())
    left_out = _feedback_results(not_sealed=frozenset({"b"}))
    assert results[0].payloads == left_out[0].payloads
    x0 = np.array([7.0, 0.4], F32)
    e = x0 - ref.decode("int4", ref.encode("int4", x0), 2)
    assert e.tolist() == [0.0, F32(0.4)]
    adopted = ref.encode("int4", F32(0.95) * e + x0)
    assert results[1].payloads["b"] == adopted
    assert ref.decode("int4", adopted, 2).tolist() == [7, 1]
    assert left_out[1].payloads["b"] == ref.encode("int4", x0)
    assert left_out[1].payloads["a"] == adopted


def _feedback_results(*, not_sealed: frozenset[str]) -> list[ref.RoundResult]:
    agreed = manifest_of(
        plan_of({"a": 1, "b": 1}, num_rounds=2), [table_of([("p", (2,))])], up="int4", feedback_beta=0.95, outer_lr=1.0
    )
    sites = {name: _Descent(np.array([-7, -0.4], F32)) for name in ("a", "b")}
    plans = {0: ref.RoundPlan(not_sealed=not_sealed)}
    return ref.run_reference(agreed, [np.zeros(2, F32)], sites, plans)


class _Descent:
    def __init__(self, move: ref.Vector) -> None:
        self.move = move
        self.values = {"p": np.zeros(2, F32)}

    def parameters(self) -> Mapping[str, ref.Vector]:
        return self.values

    def step(self, lr: float) -> int:
        self.values["p"] += self.move
        return 5


def test_absent_site_reloads_what_is_committed_by_then() -> None:
    """P = 2, τ = 1, α = 1/2: when window 2 starts at 4, round 0 is merged (due at 3), round 1 is not (due at 5)."""
    sites = {name: StraightLine(names_of(2), -1.0) for name in ("a", "b")}
    agreed = manifest({"a": 4, "b": 4}, 2, tau=1, alpha=0.5, num_rounds=3, outer_lr=1.0)
    results = ref.run_reference(agreed, ones(2), sites, {1: ref.RoundPlan(absent=frozenset({"b"}))})
    theta_0, theta_1, theta_2 = (float(result.theta[0]) for result in results)
    assert sites["b"].path == [1, 0, theta_0, theta_0 - 1]
    assert set(results[1].payloads) == {"a"}
    assert results[1].weights == {"a": 1.0}
    # p1 at b: θ0 = 1 is reloaded, one step, half of the way to round 1's θ, one more step.
    assert float(sites["b"].values["p1"][0]) == theta_1 + (0 - theta_1) / 2 - 1
    # p0's round 2 is due after the last step; it is merged all the same.
    assert float(sites["b"].values["p0"][0]) == theta_2 + (theta_0 - 2 - theta_2) / 2


def test_absent_site_drops_the_tokens_of_the_window_before() -> None:
    sites = {name: StraightLine(names_of(2), -1.0) for name in ("a", "b")}
    agreed = manifest({"a": 4, "b": 4}, 2, num_rounds=4)
    results = ref.run_reference(agreed, ones(2), sites, {1: ref.RoundPlan(absent=frozenset({"b"}))})
    assert [dict(result.weight_tokens) for result in results] == [
        {"a": 2, "b": 2},
        {"a": 4},
        {"a": 4, "b": 2},
        {"a": 4, "b": 4},
    ]


def test_tokens_weigh_by_what_stands_behind_each_payload() -> None:
    sites = {"a": StraightLine(names_of(2), -1.0, tokens=3), "b": StraightLine(names_of(2), -1.0, tokens=1)}
    agreed = manifest({"a": 4, "b": 4}, 2, num_rounds=4, weighting="tokens")
    results = ref.run_reference(agreed, ones(2), sites)
    assert [dict(r.weight_tokens) for r in results] == [{"a": 6, "b": 2}] + 3 * [{"a": 12, "b": 4}]
    assert results[2].weights == {"a": 0.75, "b": 0.25}


def test_residual_carries_what_the_downlink_codec_dropped() -> None:
    agreed = manifest_of(
        plan_of({"a": 1}, num_rounds=2), [table_of([("p", (2,))])], down="int4", outer_lr=1.0, momentum=0.0
    )
    first, second = ref.run_reference(agreed, [np.zeros(2, F32)], {"a": _Descent(np.array([-7, -0.4], F32))})
    assert first.theta.tolist() == [-7, 0]
    assert first.residual.tolist() == [0, F32(0.4)]
    # u = 0.4 + 0.4 is sent as 1.
    assert second.theta.tolist() == [-14, -1]
    assert second.residual.tolist() == [0, F32(0.4) + F32(0.4) - 1]


def test_inner_schedule_warms_up_and_ends_at_its_floor() -> None:
    inner = inner_settings(lr=1.0, warmup_steps=10, total_steps=110)
    agreed = manifest_of(plan_of({"a": 1}), [table_of([("p", (1,))])], inner=inner)
    assert [ref.inner_lr(agreed, position) for position in (0, 5, 10)] == [0.0, 0.5, 1.0]
    assert ref.inner_lr(agreed, 110) == ref.inner_lr(agreed, 1e6) == pytest.approx(0.1)
    assert ref.inner_lr(agreed, 60) == pytest.approx(0.55)


def test_joiner_climbs_from_its_first_window_on() -> None:
    sites = {name: StraightLine(names_of(1), -1.0) for name in ("a", "b")}
    inner = inner_settings(lr=1024.0, warmup_steps=1024, total_steps=2048, joiner_warmup_steps=4)
    agreed = manifest({"a": 2, "b": 2}, 1, num_rounds=4, inner=inner)
    ref.run_reference(agreed, ones(1), sites, {0: ref.RoundPlan(absent=frozenset({"b"}))})
    assert sites["a"].rates == [0, 1, 2, 3, 4, 5, 6, 7]
    assert sites["b"].rates == [0, 3 / 4, 4 * 2 / 4, 5 * 3 / 4, 6, 7]
