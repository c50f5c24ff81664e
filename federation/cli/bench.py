# SPDX-License-Identifier: Apache-2.0
"""`federation bench`: figures that anybody can measure again on their own machine; see docs/benchmarks.md."""

from typing import Final

import click

from federation.cli.lazy import LazyGroup

COMMANDS: Final = {
    "codecs": "federation.cli.bench_codecs:codecs",
    "round": "federation.cli.bench_round:round_",
    "memory": "federation.cli.bench_memory:memory",
    "overlap": "federation.cli.bench_overlap:overlap",
    "transfer": "federation.cli.bench_transfer:transfer",
    "loss": "federation.cli.bench_loss:loss",
    "dashboard": "federation.cli.bench_dashboard:dashboard",
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def bench() -> None:
    """Measure speed and memory; each figure stands beside one of the same run."""
