# SPDX-License-Identifier: Apache-2.0
"""`federation bench overlap` on a tiny model: both runs behind shaped links, and every documented figure."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from federation.cli.bench import bench

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parents[2]
PARAMETERS, SITES, ROUNDS, STEP_SECONDS, ROUND_TRIP = 40_000, 2, 2, 0.05, 0.4


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A link with a delay that a classic round cannot hide: the model needs no time on it, its round trips do."""
    directory = tmp_path_factory.mktemp("overlap")
    sizes = ("--parameters", str(PARAMETERS), "--sites", str(SITES), "--rounds", str(ROUNDS))
    link = ("--round-trip", str(ROUND_TRIP), "--step-seconds", str(STEP_SECONDS))
    where = ("--inner-steps", "16", "--tau", "12", "--directory", str(directory), "--json")
    result = CliRunner().invoke(bench, ["overlap", *sizes, *link, *where], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert list(directory.iterdir()) == []
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_streaming_waits_less_than_classic(found: dict[str, Any]) -> None:
    assert 0 < found["classic_utilisation"] < found["streaming_utilisation"] <= 1
    ratio = found["streaming_utilisation"] / found["classic_utilisation"]
    assert found["ratios"]["streaming_over_classic_utilisation"] == pytest.approx(ratio)
    assert found["num_windows"] == 4 * ROUNDS
    assert found["num_classic_rounds"] == ROUNDS


def test_shares_make_up_the_time(found: dict[str, Any]) -> None:
    # Of two sites the median is the mean, of sums as of parts.
    for kind, shares in (("streaming", found["phase_shares"]), ("classic", found["classic_phase_shares"])):
        assert sum(shares.values()) == pytest.approx(1 - found[f"{kind}_utilisation"])
        assert all(shares[phase] > 0 for phase in ("encode", "snapshot", "merge", "files"))
        assert min(shares.values()) >= 0


def test_nothing_crosses_the_link_faster_than_it_carries(found: dict[str, Any]) -> None:
    assert found["link_seconds"] >= ROUND_TRIP
    assert min(found["spread"]["fragment_commit_seconds"]["samples"]) > found["link_seconds"]
    # More than a round trip is waited for in every classic round, whose inner steps take two.
    assert found["classic_phase_shares"]["commit"] > 0.2


def test_every_parameter_crosses_the_link_both_ways(found: dict[str, Any]) -> None:
    # As fp32, give or take what is under way at either end of the few windows counted; messages are little beside it.
    fragments = 4 * ROUNDS
    for way in ("up", "down"):
        assert 4 * (fragments - 2) / fragments < found[f"bytes_per_parameter_{way}"] < 8


def test_every_training_checkpoint_is_written(found: dict[str, Any]) -> None:
    assert found["writing_seconds"] > 0
    assert found["setting"]["overlap"] is True


def test_every_key_is_documented(found: dict[str, Any]) -> None:
    documented = set(re.findall(r"`([a-z0-9_]+)`", (ROOT / "docs" / "benchmarks.md").read_text()))
    keys = set(found) | set(found["ratios"]) | set(found["phase_shares"])
    assert keys <= documented, sorted(keys - documented)


def test_half_a_schedule_is_refused() -> None:
    result = CliRunner().invoke(bench, ["overlap", "--tau", "3"])
    assert result.exit_code == 2
    assert "expected both or none, found one" in result.output
