# SPDX-License-Identifier: Apache-2.0
"""A manifest from a coordinator may be hostile: every rule holds on values alone."""

from collections.abc import Callable
from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest

from federation.errors import ConfigError
from federation.leaves import Bounds, Member, Plan
from federation.manifest import (
    NUMERICS_VERSION,
    Alias,
    CodecSettings,
    FragmentTable,
    InnerSettings,
    Manifest,
    ModelSettings,
    OuterSettings,
    TableEntry,
    TrainerSettings,
)
from federation.run_config import check_manifest

BOUNDS = Bounds(
    answer_seconds=10,
    training_seconds=10,
    upload_seconds=10,
    max_round_seconds=60,
    open_grace_seconds=0,
    max_open_wait_seconds=60,
    seal_grace_seconds=0,
    witness_seconds=60,
    max_abandoned=3,
)
PLAN = Plan(
    members=tuple(Member(site=s, num_inner_steps=4, planned_tokens=64) for s in ("a", "b", "c")),
    num_rounds=8,
    num_fragments=2,
    num_inner_steps=4,
    tau=2,
    first_window_steps=0,
    max_rounds_in_flight=2,
    quorum_sites=2,
    quorum_token_percent=50,
    weighting="tokens",
    approvals_required=1,
    evaluate_every=2,
    witness_quorum=2,
    witness_lag=2,
    bounds=BOUNDS,
    theta_digests=("1" * 64, "2" * 64),
)
MANIFEST = Manifest(
    run="run",
    consortium="test",
    plan=PLAN,
    alpha=0.5,
    outer=OuterSettings(lr=0.6, momentum=0.9),
    codecs=CodecSettings(up="int4", down="bf16", error_feedback=False, error_feedback_beta=0.95),
    inner=InnerSettings(
        lr=1e-3,
        weight_decay=0.1,
        beta1=0.9,
        beta2=0.95,
        eps=1e-8,
        grad_clip=1.0,
        warmup_steps=0,
        total_steps=16,
        min_lr_fraction=0.1,
        joiner_warmup_steps=0,
        max_loss=0.0,
    ),
    model=ModelSettings(
        hidden_size=16,
        intermediate_size=32,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        max_positions=8,
        vocab_size=257,
        tie_embeddings=True,
    ),
    trainer=TrainerSettings(name="reference", batch_size=2, sequence_length=8, seed=0, evaluation_bytes=64),
    theta_blob="0" * 64,
    fragments=(
        FragmentTable(num_elements=6, entries=(TableEntry(name="model.w", shape=(2, 3), offset=0),)),
        FragmentTable(
            num_elements=5,
            entries=(TableEntry(name="layers.0.v", shape=(4,), offset=0), TableEntry(name="s", shape=(), offset=4)),
        ),
    ),
    aliases=(Alias(name="head", of="model.w"),),
    max_update_norm=1e3,
    snapshot_every_rounds=1,
    numerics_version=NUMERICS_VERSION,
)


def with_value(thing: Any, path: str, value: object) -> Any:
    """A copy of nested dataclasses and tuples with one value replaced: `plan.members.0.site`."""
    head, _, rest = path.partition(".")
    if isinstance(thing, tuple):
        index = int(head)
        inner = with_value(thing[index], rest, value) if rest else value
        return (*thing[:index], inner, *thing[index + 1 :])
    return replace(thing, **{head: with_value(getattr(thing, head), rest, value) if rest else value})


def refused(manifest: Manifest) -> str:
    with pytest.raises(ConfigError) as caught:
        check_manifest(manifest)
    text = str(caught.value)
    assert all(line.startswith("manifest: ") and line.isprintable() and line.isascii() for line in text.split("\n"))
    return text


def test_the_manifest_of_these_tests_is_accepted() -> None:
    check_manifest(MANIFEST)


EVIL_TEXTS = ["", "../x", "a/b", "x\ny", "$(id)", "`id`", "a b", "A", "ä", "x" * 41, "-a", "a\x00", "a;id", "\u202ea"]


@pytest.mark.parametrize("text", EVIL_TEXTS)
@pytest.mark.parametrize(
    "path", ["run", "consortium", "trainer.name", "plan.members.0.site", "codecs.up", "codecs.down"]
)
def test_ids_are_slugs_and_nothing_else(path: str, text: str) -> None:
    assert "found" in refused(with_value(MANIFEST, path, text))


@pytest.mark.parametrize("text", ["../x", "a/b", "x\ny", "$(id)", "a b", "", ".a", "a.", "a..b", "ä", "x" * 257])
@pytest.mark.parametrize("path", ["fragments.0.entries.0.name", "aliases.0.name"])
def test_parameter_names_are_dotted_words(path: str, text: str) -> None:
    assert "names of letters, digits" in refused(with_value(MANIFEST, path, text))


@pytest.mark.parametrize(
    "path",
    [
        "alpha",
        "max_update_norm",
        "outer.lr",
        "outer.momentum",
        "codecs.error_feedback_beta",
        "inner.lr",
        "inner.weight_decay",
        "inner.beta1",
        "inner.beta2",
        "inner.eps",
        "inner.grad_clip",
        "inner.min_lr_fraction",
        "inner.max_loss",
    ],
)
@pytest.mark.parametrize("value", [nan, inf, -inf, -1.0, 1e300])
def test_numbers_are_finite_and_in_range(path: str, value: float) -> None:
    refused(with_value(MANIFEST, path, value))


@pytest.mark.parametrize(
    "path",
    [
        "snapshot_every_rounds",
        "numerics_version",
        "plan.num_rounds",
        "plan.num_fragments",
        "plan.num_inner_steps",
        "plan.tau",
        "plan.first_window_steps",
        "plan.max_rounds_in_flight",
        "plan.quorum_sites",
        "plan.quorum_token_percent",
        "plan.approvals_required",
        "plan.evaluate_every",
        "plan.witness_quorum",
        "plan.witness_lag",
        "plan.members.1.num_inner_steps",
        "plan.members.1.planned_tokens",
        "plan.members.1.courier_round_trip_seconds",
        "plan.bounds.answer_seconds",
        "plan.bounds.training_seconds",
        "plan.bounds.upload_seconds",
        "plan.bounds.max_round_seconds",
        "plan.bounds.open_grace_seconds",
        "plan.bounds.max_open_wait_seconds",
        "plan.bounds.seal_grace_seconds",
        "plan.bounds.witness_seconds",
        "plan.bounds.max_abandoned",
        "inner.warmup_steps",
        "inner.total_steps",
        "inner.joiner_warmup_steps",
        "model.hidden_size",
        "model.intermediate_size",
        "model.num_layers",
        "model.num_heads",
        "model.num_kv_heads",
        "model.max_positions",
        "model.vocab_size",
        "trainer.batch_size",
        "trainer.sequence_length",
        "trainer.seed",
        "trainer.evaluation_bytes",
        "fragments.0.num_elements",
        "fragments.1.entries.1.offset",
    ],
)
@pytest.mark.parametrize("value", [-1, -(10**30), 2**63, 10**4000])
def test_counts_are_in_range(path: str, value: int) -> None:
    refused(with_value(MANIFEST, path, value))


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("plan.num_inner_steps", 10**9, "schedule.num_inner_steps: expected 1 to 100000, found 1000000000"),
        ("plan.tau", 3, "schedule.tau: expected 0 to H - H/P = 4 - 2 = 2, found 3"),
        ("plan.max_rounds_in_flight", 1, "expected 2 to 2, from 1 + ceil(tau P / H) to P with tau = 2, P = 2, H = 4"),
        ("plan.witness_quorum", 1, "expected 2 to 3, at least floor(n/2) + 1 of 3 sites, found 1"),
        ("plan.weighting", "mine", 'outer.weighting: expected one of tokens, uniform, found "mine"'),
        ("plan.members", (), "sites: expected 1 to 1000 sites, found 0"),
        ("plan.members.1.site", "a", 'sites[2].id: expected each site once, found "a" again'),
        ("plan.members.1.site", "z", 'sites[3].id: expected ids in order, after "z", found "c"'),
        ("plan.members.1.site", "coordinator", "which is reserved"),
        ("plan.theta_digests", ("1" * 64,), "theta_digests: expected one for each of 2 fragments, found 1"),
        ("plan.theta_digests.1", "F" * 64, "theta_digests[2]: expected a SHA-256 digest"),
        ("theta_blob", "../../etc/passwd", "theta_blob: expected a SHA-256 digest"),
        ("numerics_version", 2, "numerics_version: expected 1, found 2"),
        ("fragments", (), "fragments: expected one for each of 2 fragments, found 0"),
        ("fragments.0.entries", (), "fragments[1].num_elements"),
        ("fragments.0.num_elements", 7, "fragments[1].num_elements: expected the sum of its parameters, 6"),
        ("fragments.0.entries.0.shape", (0, 3), "fragments[1].entries[1].shape"),
        ("fragments.0.entries.0.shape", (1,) * 9, "fragments[1].entries[1].shape"),
        ("fragments.1.entries.1.offset", 3, "fragments[2].entries[2].offset: expected 4, without a gap, found 3"),
        ("fragments.1.entries.1.name", "layers.0.v", 'each parameter name once, found "layers.0.v" again'),
        ("fragments.1.entries.1.name", "model.w", 'each parameter name once, found "model.w" again'),
        ("aliases.0.name", "model.w", 'each parameter name once, found "model.w" again'),
        ("aliases.0.of", "nobody", 'aliases: expected a parameter of the fragment table, found "nobody"'),
        ("outer.lr", 1e-40, "outer.lr: expected more than 0 and at most 10"),
    ],
)
def test_one_rule_each(path: str, value: object, expected: str) -> None:
    assert expected in refused(with_value(MANIFEST, path, value))


def test_too_many_parameters() -> None:
    size = 10**13
    table = FragmentTable(num_elements=size, entries=(TableEntry(name="w", shape=(size,), offset=0),))
    manifest = replace(MANIFEST, fragments=(table, MANIFEST.fragments[1]), aliases=())
    assert "expected 1 to 2000000000000 parameters" in refused(manifest)


@pytest.mark.parametrize(("key", "name"), [("codecs.up", "sparse"), ("codecs.down", "sparse-down")])
def test_sparse_needs_an_outer_step_without_momentum(key: str, name: str) -> None:
    sparse = with_value(MANIFEST, key, name)
    assert f"outer.momentum: expected 0, because {key} is {name}, found 0.9" in refused(sparse)
    check_manifest(with_value(sparse, "outer.momentum", 0.0))


@pytest.mark.parametrize(("key", "name"), [("codecs.up", "sparse-down"), ("codecs.down", "sparse")])
def test_a_sparse_codec_has_one_direction(key: str, name: str) -> None:
    text = refused(with_value(with_value(MANIFEST, "outer.momentum", 0.0), key, name))
    assert (
        f'{key}: expected one of bf16, fp32, int4, int8, sparse{"" if name != "sparse" else "-down"}, found "{name}"'
        in text
    )


def test_a_hostile_manifest_gives_a_short_answer() -> None:
    members = tuple(Member(site="x\n" * 1000, num_inner_steps=-1, planned_tokens=-1) for _ in range(20_000))
    text = refused(with_value(MANIFEST, "plan.members", members))
    assert len(text) < 50 * 300


@pytest.mark.parametrize("steps", [0, -4, 3, 5, 10**9])
def test_a_members_own_inner_steps_obey_the_same_rules(steps: int) -> None:
    assert "sites[1].num_inner_steps" in refused(with_value(MANIFEST, "plan.members.0.num_inner_steps", steps))


def test_a_member_may_take_more_inner_steps() -> None:
    check_manifest(with_value(MANIFEST, "plan.members.0.num_inner_steps", 8))


@pytest.mark.parametrize("change", [lambda m: replace(m, alpha=0.0), lambda m: replace(m, alpha=1.0)])
def test_the_ends_of_a_range_are_inside(change: Callable[[Manifest], Manifest]) -> None:
    check_manifest(change(MANIFEST))
