# SPDX-License-Identifier: Apache-2.0
"""run.toml: defaults, one sentence for every broken rule, and the manifest that comes out."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from federation.config import ProblemsError
from federation.errors import ConfigError
from federation.leaves import Bounds
from federation.manifest import Alias, CodecSettings, FragmentTable, Manifest, OuterSettings, TableEntry
from federation.run_config import (
    ADVICE,
    availability_sentence,
    build_manifest,
    check_manifest,
    default_outer_lr,
    load_run_config,
    parse_run_config,
    resolve,
)

ROOT = Path(__file__).resolve().parents[3]

MINIMAL = """\
[run]
id = "tiny"
consortium = "test"
num_rounds = 10
[schedule]
num_inner_steps = 12
num_fragments = 2
tau = 0
[outer]
[codecs]
[quorum]
[witnesses]
[bounds]
[inner]
[model]
hidden_size = 16
intermediate_size = 32
num_layers = 2
num_heads = 2
[trainer]
batch_size = 2
sequence_length = 8
[[sites]]
id = "b"
[[sites]]
id = "a"
"""

TABLES = (
    FragmentTable(num_elements=6, entries=(TableEntry(name="w", shape=(2, 3), offset=0),)),
    FragmentTable(num_elements=4, entries=(TableEntry(name="layers.0.v", shape=(4,), offset=0),)),
)
ALIASES = (Alias(name="head", of="w"),)
DIGESTS = ("1" * 64, "2" * 64)


def changed(key: str, value: str) -> str:
    """MINIMAL with `value` for the key `section.name`, in the first site for `sites.name`."""
    section, name = key.split(".")
    if key == "run.id":
        return MINIMAL.replace('id = "tiny"', f"id = {value}")
    if section == "sites":
        return MINIMAL.replace('id = "b"\n', f"{name} = {value}\n" + ('id = "b"\n' if name != "id" else ""))
    text = re.sub(rf"(?m)^{name} = .*\n", "", MINIMAL)
    return text.replace(f"[{section}]\n", f"[{section}]\n{name} = {value}\n")


def manifest_of(text: str = MINIMAL) -> Manifest:
    return build_manifest(parse_run_config(text), "0" * 64, TABLES, ALIASES, DIGESTS)


def problems_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_run_config(text)
    assert caught.value.exit_code == 2
    assert caught.value.advice == ADVICE
    return str(caught.value).splitlines()


def test_the_example_is_a_run_that_works() -> None:
    manifest = resolve(load_run_config(ROOT / "examples/run.toml"))
    assert [member.site for member in manifest.plan.members] == ["jupiter", "leonardo", "lumi", "marenostrum5"]
    assert manifest.plan.members[3].courier_round_trip_seconds == 1800


def test_data_sets_are_asked_for_by_name_in_any_order() -> None:
    assert manifest_of().trainer.data_sets == ()
    named = manifest_of(changed("trainer.data_sets", '["wikipedia", "hplt"]'))
    assert named.trainer.data_sets == ("hplt", "wikipedia")
    assert problems_of(changed("trainer.data_sets", '["hplt", "hplt"]'))[0].startswith(
        "run.toml: trainer.data_sets: expected each data set once, ascending, found "
    )
    assert (
        "trainer.data_sets[1]: expected lower-case letters" in problems_of(changed("trainer.data_sets", '["A/B"]'))[0]
    )


def test_defaults() -> None:
    manifest = manifest_of()
    plan = manifest.plan
    assert [m.site for m in plan.members] == ["a", "b"]
    assert {m.planned_tokens for m in plan.members} == {12 * 2 * 8}
    assert (plan.max_rounds_in_flight, plan.witness_lag) == (2, 2)
    assert (plan.quorum_sites, plan.witness_quorum, plan.quorum_token_percent) == (2, 2, 50)
    assert plan.weighting == "tokens"
    assert plan.bounds.max_open_wait_seconds == 7 * 86_400
    assert plan.theta_digests == DIGESTS
    assert manifest.alpha == 0.0
    assert (manifest.outer.lr, manifest.outer.momentum) == (0.6, 0.9)
    assert manifest.codecs.error_feedback is False
    assert manifest.codecs.error_feedback_beta == 0.95
    assert manifest.inner.total_steps == 10 * 6
    assert (manifest.model.num_kv_heads, manifest.model.max_positions, manifest.model.vocab_size) == (2, 8, 257)


def test_weights_are_uniform_where_inner_steps_differ() -> None:
    manifest = manifest_of(changed("sites.num_inner_steps", "24"))
    assert manifest.plan.weighting == "uniform"
    assert [m.num_inner_steps for m in manifest.plan.members] == [12, 24]
    assert [m.planned_tokens for m in manifest.plan.members] == [192, 384]


def test_what_the_operator_states_wins_over_defaults() -> None:
    text = changed("outer.lr", "0.7").replace("[quorum]", "[quorum]\nnum_sites = 1\ntoken_percent = 0")
    text = text.replace("[witnesses]", "[witnesses]\nlag = 5").replace("tau = 0", "tau = 3\nalpha = 0.25")
    text = text.replace("[outer]", '[outer]\nweighting = "uniform"\nmomentum = 0')
    manifest = manifest_of(text)
    assert (manifest.outer.lr, manifest.outer.momentum, manifest.alpha) == (0.7, 0.0, 0.25)
    assert (manifest.plan.quorum_sites, manifest.plan.witness_lag, manifest.plan.weighting) == (1, 5, "uniform")


def test_overlap_mixes_by_half_unless_stated() -> None:
    assert manifest_of(changed("schedule.tau", "3")).alpha == 0.5


@pytest.mark.parametrize(("sites", "lr"), [(1, 0.4), (2, 0.6), (3, 0.6), (4, 0.6), (7, 0.6), (8, 0.8), (20, 0.8)])
def test_default_outer_lr(sites: int, lr: float) -> None:
    assert default_outer_lr(sites) == lr


def test_sparse_defaults_to_sparselocos_setting() -> None:
    manifest = manifest_of(changed("codecs.up", '"sparse"'))
    assert manifest.codecs == CodecSettings(
        up="sparse", down="sparse-down", error_feedback=True, error_feedback_beta=0.95
    )
    assert manifest.outer == OuterSettings(lr=1.0, momentum=0.0)


def test_either_direction_may_be_sparse() -> None:
    manifest = manifest_of(changed("codecs.down", '"sparse-down"'))
    assert (manifest.codecs.up, manifest.codecs.down) == ("bf16", "sparse-down")
    assert (manifest.outer.momentum, manifest.codecs.error_feedback) == (0.0, False)
    stated = changed("codecs.up", '"sparse"').replace("[codecs]", '[codecs]\ndown = "int4"')
    assert manifest_of(stated).codecs.down == "int4"


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("run.id", '"Tiny"', 'lower-case letters, digits and hyphens, 1 to 40 of them, found "Tiny"'),
        ("run.id", '"../x"', 'lower-case letters, digits and hyphens, 1 to 40 of them, found "../x"'),
        ("run.num_rounds", "0", "1 to 1000000, found 0"),
        ("run.num_rounds", "1000001", "1 to 1000000, found 1000001"),
        ("run.approvals_required", "0", "1 to 1000, found 0"),
        ("run.evaluate_every", "-1", "0 to 1000000, found -1"),
        ("run.snapshot_every_rounds", "0", "1 to 1000000, found 0"),
        ("run.max_update_norm", "0", "more than 0 and at most 1e+06, found 0.0"),
        ("run.max_update_norm", "2e6", "more than 0 and at most 1e+06, found 2000000.0"),
        ("schedule.num_fragments", "5", "a divisor of num_inner_steps = 12, found 5"),
        ("schedule.num_fragments", "0", "a divisor of num_inner_steps = 12, found 0"),
        ("schedule.num_fragments", "24", "a divisor of num_inner_steps = 12, found 24"),
        ("schedule.tau", "7", "0 to H - H/P = 12 - 6 = 6, found 7"),
        ("schedule.tau", "-1", "0 to H - H/P = 12 - 6 = 6, found -1"),
        ("schedule.alpha", "1.5", "0 to 1, found 1.5"),
        ("schedule.first_window_steps", "-1", "0 to 100000, found -1"),
        ("schedule.max_rounds_in_flight", "3", "1 to 2, from 1 + ceil(tau P / H) to P with tau = 0, P = 2, H = 12"),
        ("schedule.max_rounds_in_flight", "0", "1 to 2, from 1 + ceil(tau P / H) to P with tau = 0, P = 2, H = 12"),
        ("outer.lr", "0", "more than 0 and at most 10, found 0.0"),
        ("outer.momentum", "1", "at least 0 and less than 1, found 1.0"),
        ("codecs.up", '"zip"', 'one of bf16, fp32, int4, int8, sparse, found "zip"'),
        ("codecs.down", '"zip"', 'one of bf16, fp32, int4, int8, sparse-down, found "zip"'),
        ("codecs.up", '"sparse-down"', 'one of bf16, fp32, int4, int8, sparse, found "sparse-down"'),
        ("codecs.down", '"sparse"', 'one of bf16, fp32, int4, int8, sparse-down, found "sparse"'),
        ("codecs.error_feedback_beta", "1.1", "0 to 1, found 1.1"),
        ("quorum.num_sites", "3", "1 to 2, the number of sites, found 3"),
        ("quorum.num_sites", "0", "1 to 2, the number of sites, found 0"),
        ("quorum.token_percent", "101", "0 to 100, found 101"),
        ("witnesses.quorum", "1", "2 to 2, at least floor(n/2) + 1 of 2 sites, found 1"),
        ("witnesses.quorum", "3", "2 to 2, at least floor(n/2) + 1 of 2 sites, found 3"),
        ("witnesses.lag", "65", "0 to 64, found 65"),
        ("bounds.answer_seconds", "0", "1 to 31622400, found 0"),
        ("bounds.seal_grace_seconds", "-1", "0 to 31622400, found -1"),
        ("bounds.max_abandoned", "0", "1 to 1000, found 0"),
        ("inner.beta2", "1", "at least 0 and less than 1, found 1.0"),
        ("inner.warmup_steps", "61", "0 to 60, inner.total_steps, found 61"),
        (
            "model.hidden_size",
            "18",
            "a multiple of 2 num_heads = 4 (rotary positions need an even head size), found 18",
        ),
        ("model.num_kv_heads", "3", "a divisor of num_heads = 2, found 3"),
        ("model.vocab_size", "256", "257 to 16777216, found 256"),
        ("model.max_positions", "4", "2 to 4, model.max_positions, found 8"),
        ("trainer.name", '"$(id)"', 'lower-case letters, digits and hyphens, 1 to 40 of them, found "$(id)"'),
        ("trainer.batch_size", "0", "1 to 1048576, found 0"),
        ("sites.num_inner_steps", "13", "a multiple of num_fragments = 2, found 13"),
        ("sites.num_inner_steps", "200000", "1 to 100000, found 200000"),
        ("sites.courier_round_trip_seconds", "-1", "0 to 31622400, found -1"),
        ("sites.id", '"coordinator"', 'an id of its own, found "coordinator", which is reserved'),
        ("sites.id", '"a"', 'each site once, found "a" again'),
    ],
)
def test_one_sentence_for_each_broken_rule(key: str, value: str, sentence: str) -> None:
    found = [line for line in problems_of(changed(key, value)) if sentence in line]
    assert len(found) == 1
    assert found[0].startswith("run.toml: ")
    assert re.search(r" \(line \d+\)$", found[0])


def test_a_site_with_too_few_inner_steps_for_tau() -> None:
    text = changed("sites.num_inner_steps", "4").replace("tau = 0", "tau = 6")
    assert problems_of(text) == [
        "run.toml: sites[1].num_inner_steps: expected H - H/P of at least tau = 6, found 4 - 2 = 2 (line 24)"
    ]


def test_sites_are_named_by_their_place_in_the_file() -> None:
    """A plan's members ascend by id; the file's order is the operator's."""
    text = MINIMAL + "courier_round_trip_seconds = -5\n"
    assert problems_of(text) == [
        "run.toml: sites[2].courier_round_trip_seconds: expected 0 to 31622400, found -5 (line 27)"
    ]


def test_no_sites_at_all() -> None:
    lines = problems_of(MINIMAL[: MINIMAL.index("[[sites]]")])
    assert lines == ["run.toml: sites: expected this key, found nothing"]


def test_sparse_with_momentum_says_so() -> None:
    lines = problems_of(changed("outer.momentum", "0.9").replace("[codecs]", '[codecs]\nup = "sparse"'))
    assert ["outer.momentum: expected 0, because codecs.up is sparse, found 0.9" in line for line in lines] == [True]


def test_many_problems_come_at_once() -> None:
    text = MINIMAL.replace("num_rounds = 10", "num_rounds = 0").replace("tau = 0", "tau = 99")
    text = text.replace("[outer]", "[outer]\nlr = -1").replace('id = "a"', 'id = "b"')
    assert len(problems_of(text)) == 4


def test_build_manifest_refuses_a_model_that_does_not_fit() -> None:
    config = parse_run_config(MINIMAL)
    with pytest.raises(ProblemsError, match="fragments: expected one for each of 2 fragments, found 1"):
        build_manifest(config, "0" * 64, TABLES[:1], (), DIGESTS)
    with pytest.raises(ProblemsError, match=r"run tiny: theta_blob: expected a SHA-256 digest"):
        build_manifest(config, "", TABLES, (), DIGESTS)


def test_a_manifest_that_was_built_passes_the_check() -> None:
    check_manifest(manifest_of())


def test_availability_says_how_many_silent_agents_stop_the_run() -> None:
    plan = manifest_of().plan
    assert availability_sentence(plan) == (
        "The run goes on with 0 of 2 sites silent and stops with 1: a commit needs 2 sites (0 may be missing), "
        "its use 2 witnesses (0 may be missing)."
    )
    assert "goes on with 0" in availability_sentence(replace(plan, quorum_sites=1))


def test_all_bounds_of_a_plan_can_be_stated() -> None:
    config = parse_run_config(MINIMAL)
    assert Bounds(**config.bounds.model_dump()) == resolve(config).plan.bounds
