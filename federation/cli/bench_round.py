# SPDX-License-Identifier: Apache-2.0
"""`federation bench round`."""

from pathlib import Path
from typing import Any

import click
from rich.table import Table

from federation.cli.bench_output import AS_JSON, CODEC, DIRECTORY, PARAMETERS, say, scratch, show, spread_of, table_of
from federation.demo.children import Children, environment


@click.command("round")
@PARAMETERS
@click.option("--sites", type=click.IntRange(1, 64), default=4, show_default=True, help="Each an agent and a job.")
@click.option(
    "--rounds", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Timed, after three more."
)
@click.option(
    "--counted-rounds",
    type=click.IntRange(0, 1000),
    default=2,
    show_default=True,
    help="Through a proxy that counts bytes, after the timed ones; 0: not at all.",
)
@CODEC
@DIRECTORY
@AS_JSON
def round_(
    parameters: int,
    sites: int,
    rounds: int,
    counted_rounds: int,
    codec: str,
    directory: Path | None,
    as_json: bool,
) -> None:
    """Rounds of a real federation on loopback: all of it but inner steps and training checkpoints.

    Coordinator, site agents and jobs are processes; gRPC with mutual TLS, signatures, admission, ledger and every fsync
    are in it. References of the same run: copying the model, and writing and fsyncing the bytes that a round does.
    """
    from federation.bench.model import model_of
    from federation.bench.round import RoundBench
    from federation.bench.setting import WorldSetting

    setting = WorldSetting(num_sites=sites, parameters=model_of(parameters), codec=codec)
    with scratch(directory) as base, Children(base / "logs", environment()) as children:
        bench = RoundBench(
            base=base,
            children=children,
            setting=setting,
            num_rounds=rounds,
            counted_rounds=counted_rounds,
            say=say,
        )
        found = bench.run()
    show(found, as_json, _figures(found), _phases(found))


def _figures(found: dict[str, Any]) -> Table:
    spread, ratios, references = found["spread"], found["ratios"], found["references"]
    critical = "coordinator_critical_seconds"
    rows = [
        ("round, s", f"{found['median_round_seconds']:.2f}", spread_of(spread["round_seconds"])),
        ("coordinator: last byte to commit, s", f"{found[critical]:.2f}", spread_of(spread[critical])),
        ("coordinator, anonymous MB", f"{found['coordinator_anonymous_bytes'] / 1e6:.0f}", ""),
        ("a training checkpoint (not in it), s", f"{found['training_checkpoint_seconds']:.2f}", ""),
        ("copy the model, s", f"{references['copy_seconds']['median']:.3f}", spread_of(references["copy_seconds"], 3)),
        _written(references),
        ("round / copy", f"{ratios['round_over_copy']:.1f}", ""),
        ("round / write and fsync", f"{ratios['round_over_write_and_fsync']:.2f}", ""),
    ]
    for way in ("up", "down"):
        if (key := f"bytes_per_parameter_{way}") in found:
            rows.append((f"bytes per parameter {way}", f"{found[key]:.4f}", "4 as fp32"))
    setting = found["setting"]
    title = f"{setting['num_parameters']} parameters, {setting['num_sites']} sites, {setting['codec']}"
    return table_of(f"{title}, median of {found['num_samples']} rounds", ("", "median", "lowest to highest"), rows)


def _written(references: dict[str, Any]) -> tuple[str, str, str]:
    name, seconds = "write and fsync", references["write_and_fsync_seconds"]
    megabytes = references["write_and_fsync_bytes"] / 1e6
    return f"{name} {megabytes:.0f} MB, s", f"{seconds['median']:.2f}", spread_of(seconds)


def _phases(found: dict[str, Any]) -> Table:
    rows = [
        (phase, f"{seconds:.3f}", spread_of(found["spread"][phase], 3))
        for phase, seconds in found["phase_seconds"].items()
    ]
    return table_of("until the last party was through with it, after the one before", ("", "s", "spread"), rows)
