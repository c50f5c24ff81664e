# SPDX-License-Identifier: Apache-2.0
"""The accelerator's part of the codec bench: figures of another process, or a sentence that says why there are none."""

import json
import sys
from io import StringIO

import pytest
from click.testing import CliRunner
from rich.console import Console

from federation.bench import device
from federation.bench.device import device_figures
from federation.cli import bench_codecs
from federation.cli.bench import bench
from federation.cli.bench_codecs import device_table

FIGURES = {
    "name": "An Accelerator",
    "num_parameters": 1000,
    "num_samples": 20,
    "copy_bytes_per_second": 2.5e12,
    "payload_equals_cpu": True,
    "codecs": {"int4": {"encode_share_of_copy": 0.625, "apply_share_of_copy": 0.75}},
}


def says(script: str) -> tuple[str, ...]:
    return sys.executable, "-c", script


def text_of(found: dict[str, object]) -> str:
    out = StringIO()
    Console(file=out, width=200).print(device_table(found))
    return out.getvalue()


def test_figures_are_what_the_other_process_prints() -> None:
    assert device_figures(says(f"print({json.dumps(json.dumps(FIGURES))})")) == FIGURES


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("raise OSError('no driver')", "its measurement failed: OSError: no driver"),
        ("raise SystemExit(3)", "its measurement failed: without a word"),
    ],
)
def test_a_failure_is_told_in_one_line(script: str, why: str) -> None:
    assert device_figures(says(script)) == {"absent": why}


def test_it_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_LIMIT_SECONDS", 0.2)
    assert device_figures(says("import time; time.sleep(60)")) == {"absent": "it was not measured within 0 s"}


def test_the_table_has_the_shares() -> None:
    text = text_of(FIGURES)
    assert " ".join(text.split()).startswith("An Accelerator: 1000 parameters, the CPU's bits, median of 20")
    rows = [line.split() for line in text.splitlines()]
    assert rows[-2:] == [["copy", "2500", "1.00", "1.00"], ["int4", "0.62", "0.75"]]


def test_the_table_says_that_bits_differ() -> None:
    assert "NOT THE CPU'S BITS" in text_of(FIGURES | {"payload_equals_cpu": False})


def test_one_command_measures_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_codecs, "device_figures", lambda: {"absent": "there is none"})
    arguments = ["codecs", "--codec", "fp32", "--parameters", "1000", "--samples", "1"]
    result = CliRunner().invoke(bench, [*arguments, "--json"], catch_exceptions=False)
    assert json.loads(result.stdout)["device"] == {"absent": "there is none"}
    result = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert "no device: there is none" in result.stdout
