# SPDX-License-Identifier: Apache-2.0
"""Profiles of centres: every fact has a source and a mark, and nothing unknown gets in."""

from pathlib import Path

import pytest

from federation.errors import ConfigError
from federation.site_profile import facts_of, load_profile, load_profile_file, profile_names

SITES = Path(__file__).resolve().parents[3] / "sites"

ALL = ("jupiter", "leonardo", "localhost", "lumi", "marenostrum5")


def test_the_centres_that_are_shipped() -> None:
    assert profile_names() == ALL


@pytest.mark.parametrize("slug", ALL)
def test_every_fact_names_its_source(slug: str) -> None:
    facts = list(facts_of(load_profile(slug)))
    assert len(facts) >= 5
    assert all(fact.source and fact.mark in ("doc", "user", "U") for _, fact in facts)


@pytest.mark.parametrize(
    ("slug", "egress"), [("lumi", "A"), ("leonardo", "B"), ("jupiter", "B"), ("marenostrum5", "C")]
)
def test_egress_classes(slug: str, egress: str) -> None:
    assert load_profile(slug).network.egress_class.value == egress


def test_facts_that_decide_something() -> None:
    lumi, mn5, jupiter = load_profile("lumi"), load_profile("marenostrum5"), load_profile("jupiter")
    assert lumi.node.gpus is not None
    assert lumi.node.gpus.value == 8
    assert lumi.scheduler.requeue is not None
    assert mn5.network.login_egress is not None
    assert mn5.network.login_egress.value is False
    assert mn5.accounting.units_per_gpu_hour is not None
    assert mn5.accounting.units_per_gpu_hour.value == 20
    assert jupiter.login.key_rule is not None
    assert jupiter.partitions[0].max_seconds is not None
    assert jupiter.partitions[0].max_seconds.value == 12 * 3600


def test_a_fact_has_its_key() -> None:
    keys = [key for key, _ in facts_of(load_profile("lumi"))]
    assert "network.egress_class" in keys
    assert "partitions[1].max_seconds" in keys


def test_an_unknown_centre_is_named_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"expected one of jupiter, leonardo, .*, found '\.\./x'"):
        load_profile("../x")


def changed(tmp_path: Path, old: str, new: str) -> str:
    path = tmp_path / "lumi" / "site.toml"
    path.parent.mkdir()
    text = (SITES / "lumi" / "site.toml").read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load_profile_file(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[network]", "[network]\ncompute_egres = 1", 'found "compute_egres", which is unknown; did you mean'),
        ('mark = "doc" }', 'mark = "rumour" }', "expected 'doc', 'user' or 'U', found \"rumour\""),
        ("value = 2978", 'value = "2978"', 'node.num_nodes.value: expected a whole number, found "2978" (line'),
        ('slug = "lumi"', 'slug = "lumo"', "slug: expected 'lumi' like its directory, found 'lumo'"),
        ('egress_class = { value = "A"', 'egress_class = { value = "D"', "expected 'A', 'B' or 'C', found \"D\""),
        (', mark = "doc" }', " }", "centre.name.mark: expected this key, found nothing"),
    ],
)
def test_a_profile_is_read_strictly(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert expected in changed(tmp_path, old, new)


def test_a_centre_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine" / "site.toml"
    path.parent.mkdir()
    path.write_text((SITES / "localhost" / "site.toml").read_text().replace("localhost", "mine"))
    assert load_profile_file(path).slug == "mine"
