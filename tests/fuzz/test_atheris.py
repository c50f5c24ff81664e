# SPDX-License-Identifier: Apache-2.0
"""A short run of the coverage-guided fuzzer over all decoders; `atheris_decoders.py` runs longer ones."""

import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("atheris_decoders.py")
NUM_RUNS = 100_000


def run(*arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("atheris", reason="Atheris is not installed; it has no build for this platform")
    command = [sys.executable, HARNESS, "-seed=1", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=280, check=False)


def test_nothing_is_found_in_a_short_run(tmp_path: Path) -> None:
    done = run(f"-runs={NUM_RUNS}", directory=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    assert f"Done {NUM_RUNS} runs" in done.stderr
    assert not list(tmp_path.iterdir()), "an input that caused a defect"


def test_it_finds_a_defect(tmp_path: Path) -> None:
    """A limit that every decoder breaks, so that a silent harness would be noticed."""
    # The limit is looked at once a second: so there must be no end before that but the time's.
    done = run("-max_total_time=60", "-rss_limit_mb=10", directory=tmp_path)
    assert done.returncode != 0
    assert "out-of-memory" in done.stderr


def test_an_unknown_decoder_is_named(tmp_path: Path) -> None:
    done = run("--decoder", "nothing", directory=tmp_path)
    assert done.returncode == 1
    assert "expected one of codec-fp32" in done.stderr
