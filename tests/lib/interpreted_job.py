# SPDX-License-Identifier: Apache-2.0
"""Jobs whose "device" is the CPU under Triton's interpreter: `python interpreted_job.py OUT`.

A process of its own, as `interpreted_kernels`. OUT becomes one JSON document: what jobs encoded, and what they logged.
"""

import json
import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import interpreted_kernels  # first: it chooses the interpreter
from device_jobs import boundaries, refusal, whole_job

from federation.codecs_device import check
from site_agent.inner_loop import encoding_on_device, exchange, parameters


class Lines(logging.Handler):
    """Everything that is logged of encoding."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname}: {record.getMessage()}")


@contextmanager
def logged() -> Iterator[list[str]]:
    log, handler = logging.getLogger(encoding_on_device.__name__), Lines()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler.lines
    log.removeHandler(handler)


def watched_job(codec: str, feedback: float | None) -> dict[str, Any]:
    """A job, how often its device was checked, how often the CPU encoded, and its log."""
    with (
        tempfile.TemporaryDirectory() as directory,
        mock.patch.object(check, "check_device", wraps=check.check_device) as checked,
        mock.patch.object(exchange, "encode_fragment", wraps=exchange.encode_fragment) as on_cpu,
        logged() as lines,
    ):
        found = whole_job(Path(directory), codec, feedback)
    return {**found, "num_checks": checked.call_count, "num_on_cpu": on_cpu.call_count, "log": lines}


def nothing_travels(codec: str, feedback: float | None) -> list[dict[str, str]]:
    """Encoding fails here if it asks for the local values on the host."""

    def encode(self: exchange.Exchange, *arguments: Any) -> Any:
        with mock.patch.object(parameters.LocalParameters, "_fragments", side_effect=AssertionError("it travelled")):
            return right(self, *arguments)

    right = exchange.Exchange.encode
    with mock.patch.object(exchange.Exchange, "encode", encode):
        return boundaries("cpu", codec, feedback)


def main(out: Path) -> None:
    parameters.ACCELERATORS = ("cpu",)
    results: dict[str, Any] = {
        "int4": watched_job("int4", 0.9),
        "int8": watched_job("int8", None),
        "sparse": watched_job("sparse", 0.9),
        "boundaries": nothing_travels("int4", 0.9),
        "refusals": [refusal("cpu", value) for value in (float("nan"), 2.0**121)],
    }
    with interpreted_kernels.flushing_divisions():
        results["flushing"] = watched_job("int4", 0.9)
    with mock.patch.object(check, "check_device", side_effect=OSError("no compiler")):
        results["broken"] = watched_job("int4", 0.9)
    out.write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
