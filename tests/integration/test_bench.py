# SPDX-License-Identifier: Apache-2.0
"""`federation bench` on tiny federations of real processes: every documented figure is there, and is what it says."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from federation.bench.timeline import PHASES
from federation.cli.bench import bench
from federation.codecs.payload import payload_bytes
from federation.codecs.registry import get_codec

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parents[2]
PARAMETERS, SITES, ROUNDS, COUNTED = 100_000, 2, 2, 1


def run(directory: Path, *arguments: str) -> dict[str, Any]:
    """The document that a command prints; it has left nothing behind, no process either."""
    result = CliRunner().invoke(bench, [*arguments, "--directory", str(directory), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert list(directory.iterdir()) == []
    assert processes_below(directory) == []
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def processes_below(directory: Path) -> list[str]:
    """Command lines of processes that were given a path in a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_text(errors="replace").split("\0")
            except OSError:
                continue
            if any(word.startswith(f"{directory}/") for word in words):
                found.append(" ".join(words))
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One `bench round` with sparse updates."""
    sizes = ("--parameters", str(PARAMETERS), "--sites", str(SITES), "--codec", "sparse")
    rounds = ("--rounds", str(ROUNDS), "--counted-rounds", str(COUNTED))
    return run(tmp_path_factory.mktemp("round"), "round", *sizes, *rounds)


def test_a_round_is_made_up_of_its_phases(found: dict[str, Any]) -> None:
    samples = [found["spread"][phase]["samples"] for phase in PHASES]
    for index, seconds in enumerate(found["spread"]["round_seconds"]["samples"]):
        assert 0.01 < seconds == pytest.approx(sum(phase[index] for phase in samples), abs=1e-4)
    assert found["num_samples"] == ROUNDS
    assert 0 < found["coordinator_critical_seconds"] < found["median_round_seconds"]


def test_bytes_on_the_socket_are_the_payloads_and_little_more(found: dict[str, Any]) -> None:
    for way, codec in (("up", "sparse"), ("down", "sparse-down")):
        payload = payload_bytes(get_codec(codec), PARAMETERS)
        carried = found[f"bytes_per_parameter_{way}"] * PARAMETERS
        # Messages, leaves, TLS records: some kilobytes, whatever the size of the model.
        assert payload < carried < payload + 40_000
    assert found["num_counted_rounds"] == COUNTED


def test_the_coordinator_was_watched_all_the_time(found: dict[str, Any]) -> None:
    parts = found["coordinator_anonymous_bytes_by_part"]
    assert found["coordinator_anonymous_bytes"] == max(parts.values())
    assert all(20e6 < peak < 600e6 for peak in parts.values())
    assert 20e6 < found["coordinator_anonymous_bytes_at_end"] < 600e6


def test_every_figure_stands_beside_a_reference(found: dict[str, Any]) -> None:
    references, ratios = found["references"], found["ratios"]
    copy, write = references["copy_seconds"]["median"], references["write_and_fsync_seconds"]["median"]
    assert ratios["round_over_copy"] == pytest.approx(found["median_round_seconds"] / copy)
    assert ratios["round_over_write_and_fsync"] == pytest.approx(found["median_round_seconds"] / write)
    payload, blob = (payload_bytes(get_codec(name), PARAMETERS) for name in ("sparse", "sparse-down"))
    assert references["write_and_fsync_bytes"] == 2 * SITES * payload + (SITES + 1) * blob
    assert ratios["bytes_up_over_raw_fp32"] == found["bytes_per_parameter_up"] / 4
    assert found["training_checkpoint_seconds"] > 0


def test_replayed_updates_are_committed(tmp_path: Path) -> None:
    memory = run(tmp_path, "memory", "--parameters", str(PARAMETERS), "--sites", str(SITES), "--rounds", str(ROUNDS))
    (case,) = memory["cases"]
    assert (case["num_parameters"], case["num_sites"]) == (PARAMETERS, SITES)
    assert len(case["round_seconds"]) == ROUNDS
    assert 20e6 < memory["coordinator_anonymous_bytes"] == case["coordinator_anonymous_bytes"] < 600e6
    assert case["anonymous_over_model_bytes"] == case["coordinator_anonymous_bytes"] / (4 * PARAMETERS)


@pytest.mark.parametrize("what", ["memory", "round"])
def test_a_disk_that_is_too_small_is_refused_before_anything_starts(tmp_path: Path, what: str) -> None:
    sizes = ("--parameters", "100000000000", "--sites", "64")
    result = CliRunner().invoke(bench, [what, *sizes, "--directory", str(tmp_path)])
    assert "of free disk for 100000000000 parameters and 64 sites" in str(result.exception)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_every_key_is_documented(found: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    documented = set(re.findall(r"`([a-z0-9_]+)`", page))
    keys = set(found) | set(found["ratios"]) | set(found["references"]) | set(found["phase_seconds"])
    assert keys <= documented, sorted(keys - documented)
