# SPDX-License-Identifier: Apache-2.0
"""`federation bench dashboard` with a short history and few viewers: figures are there, and are what they say."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from browser_tab import CHROMIUM
from click.testing import CliRunner

from federation.cli.bench import bench

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parents[2]
SIZES = ("--rounds", "8", "--sites", "4", "--languages", "3", "--viewers", "4", "--minutes", "0.1", "--every", "0.2")
PARTS = ("--paints", "2", "--live-rounds", "6")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One `bench dashboard`; it has left nothing behind."""
    if not CHROMIUM.exists():
        pytest.skip(f"needs {CHROMIUM}, of Debian's package chromium")
    directory = tmp_path_factory.mktemp("dashboard")
    arguments = ["dashboard", *SIZES, *PARTS, "--directory", str(directory), "--json"]
    result = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert list(directory.iterdir()) == []
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_viewers_were_told_what_happened(found: dict[str, Any]) -> None:
    assert found["leaves_per_second"] > 0
    assert found["viewers"]["frames_per_second"] > 0
    assert found["viewers"]["bytes_per_second"] > 1000 * found["viewers"]["frames_per_second"]
    update = found["update_seconds"]
    assert update["num_samples"] > 0
    assert 0 < update["median"] <= update["p99"] <= update["largest"]


def test_processes_were_watched(found: dict[str, Any]) -> None:
    for part in ("nobody", "viewers"):
        assert 0 <= found[part]["dashboard_cores"] < 2
        assert 20e6 < found[part]["anonymous_bytes_at_start"] < 600e6
        assert 20e6 < found[part]["anonymous_bytes_at_end"] < 600e6


def test_pages_were_answered(found: dict[str, Any]) -> None:
    assert {"/", "/languages", "/ledger", "/sites"} < set(found["pages"])
    for page in found["pages"].values():
        assert page["bytes"] > 1000
        assert 0 < page["warm_seconds"] < 5


def test_a_browser_has_painted(found: dict[str, Any]) -> None:
    assert set(found["paint"]["addresses"]) == set(found["pages"])
    for painted in found["paint"]["addresses"].values():
        assert 0 < painted["median_seconds"] <= painted["largest_seconds"] < 30


def test_rounds_went_on_with_and_without_viewers(found: dict[str, Any]) -> None:
    rounds = found["rounds"]
    assert rounds["seconds_nobody"]["num_samples"] == rounds["seconds_viewers"]["num_samples"] == 3
    assert rounds["frames_per_second"] > 0
    assert rounds["dashboard_cores"] > 0
    assert found["ratios"]["round_over_nobody"] == rounds["viewers_over_nobody"] > 0


def test_every_key_is_documented(found: dict[str, Any]) -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    documented = set(re.findall(r"`([a-z0-9_]+)`", text))
    keys = {*found, *found["ratios"], *found["viewers"], *found["update_seconds"], *found["pages"]["/"]}
    keys |= {*found["paint"], *found["paint"]["addresses"]["/"], *found["rounds"]}
    assert keys <= documented, sorted(keys - documented)
