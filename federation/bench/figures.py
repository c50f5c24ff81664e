# SPDX-License-Identifier: Apache-2.0
"""Samples into figures: median, spread, ratios; and what a result says of the machine that it was measured on."""

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

from federation.kernels.dispatch import compiler

Document: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Samples:
    """One figure, measured several times."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Of at least one value."""
        if not values:
            raise ValueError("samples: expected at least one, found none")
        return cls(tuple(values))

    @property
    def median(self) -> float:
        """Half of the samples lie below."""
        return statistics.median(self.values)

    @property
    def document(self) -> Document:
        """For JSON: median, lowest, highest, number of samples, and the samples."""
        return {
            "median": self.median,
            "lowest": min(self.values),
            "highest": max(self.values),
            "num_samples": len(self.values),
            "samples": [round(value, 6) for value in self.values],
        }


def machine() -> Document:
    """Processors that this process may use, their name, and what computes on them."""
    return {
        "num_cpus": len(os.sched_getaffinity(0)),
        "cpu": _cpu_name(),
        "python": platform.python_version(),
        "compiler": compiler(),
    }


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def spreads(found: Mapping[str, Samples]) -> Document:
    """The samples of several figures, by name."""
    return {name: samples.document for name, samples in found.items()}
