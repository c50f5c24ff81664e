# SPDX-License-Identifier: Apache-2.0
"""`federation bench memory`."""

from pathlib import Path
from typing import Any

import click
from rich.table import Table

from federation.bench.model import GPT2_SMALL_PARAMETERS
from federation.cli.bench_output import AS_JSON, CODEC, DIRECTORY, say, scratch, show, table_of
from federation.demo.children import environment


@click.command()
@click.option(
    "--parameters",
    type=click.IntRange(1, 100_000_000_000),
    multiple=True,
    default=(GPT2_SMALL_PARAMETERS, 1_000_000_000),
    show_default=True,
    help="Of the model; may be given several times.",
)
@click.option(
    "--sites",
    type=click.IntRange(1, 256),
    multiple=True,
    default=(4, 16),
    show_default=True,
    help="May be given several times; every model is served to every number of sites.",
)
@click.option("--rounds", type=click.IntRange(1, 1000), default=2, show_default=True, help="Of each case.")
@CODEC
@DIRECTORY
@AS_JSON
def memory(
    parameters: tuple[int, ...],
    sites: tuple[int, ...],
    rounds: int,
    codec: str,
    directory: Path | None,
    as_json: bool,
) -> None:
    """The coordinator's anonymous memory: large models, many sites, updates that were encoded beforehand.

    Reference: the bytes of the model in fp32, and the same model with fewer sites.
    """
    from federation.bench.memory import Case, MemoryBench
    from federation.bench.setting import WorldSetting

    cases = [Case(num_parameters=size, num_sites=number) for size in parameters for number in sites]
    with scratch(directory) as base:
        bench = MemoryBench(
            base=base, environment=environment(), setting=WorldSetting(codec=codec), num_rounds=rounds, say=say
        )
        found = bench.run(cases)
    show(found, as_json, _table(found))


def _table(found: dict[str, Any]) -> Table:
    rows = [
        (
            f"{case['num_parameters']}",
            f"{case['num_sites']}",
            f"{case['coordinator_anonymous_bytes'] / 1e6:.0f}",
            f"{case['anonymous_over_model_bytes']:.3f}",
            f"{max(case['round_seconds']):.1f}",
        )
        for case in found["cases"]
    ]
    growth = [("most / fewest sites", size, f"{ratio:.3f}") for size, ratio in _ratios(found).items()]
    columns = ("parameters", "sites", "anonymous MB", "of the model", "slowest round, s")
    return table_of(f"coordinator, {found['codec']}, {found['num_rounds']} rounds", columns, [*rows, *growth])


def _ratios(found: dict[str, Any]) -> dict[str, float]:
    ratios: dict[str, float] = found["ratios"]["most_over_fewest_sites"]
    return ratios
