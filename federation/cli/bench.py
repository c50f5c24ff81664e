# SPDX-License-Identifier: Apache-2.0
"""`federation bench`: figures that anybody can measure again on their own machine; see docs/benchmarks.md."""

import click

from federation.cli.bench_codecs import codecs
from federation.cli.bench_dashboard import dashboard
from federation.cli.bench_loss import loss
from federation.cli.bench_memory import memory
from federation.cli.bench_overlap import overlap
from federation.cli.bench_round import round_
from federation.cli.bench_transfer import transfer


@click.group()
def bench() -> None:
    """Measure speed and memory; each figure stands beside one of the same run."""


for command in (codecs, round_, memory, overlap, transfer, loss, dashboard):
    bench.add_command(command)
