# SPDX-License-Identifier: Apache-2.0
"""`federation bench overlap`."""

from pathlib import Path
from typing import Any, Final

import click
from rich.table import Table

from federation.cli.bench_output import AS_JSON, DIRECTORY, say, scratch, show, spread_of, table_of
from federation.codecs.registry import uplink_names
from federation.demo.children import environment

DEFAULT_PARAMETERS: Final = 8_000_000


@click.command()
@click.option(
    "--parameters",
    type=click.IntRange(1, 100_000_000_000),
    default=DEFAULT_PARAMETERS,
    show_default=True,
    help="Of the model.",
)
@click.option("--sites", type=click.IntRange(1, 64), default=2, show_default=True, help="Each behind its own link.")
@click.option("--fragments", type=click.IntRange(2, 64), default=4, show_default=True, help="P of the streaming run.")
@click.option("--step-seconds", type=click.FloatRange(0.001), default=0.1, show_default=True, help="Of one inner step.")
@click.option("--rounds", type=click.IntRange(2, 1000), default=6, show_default=True, help="Of the classic run.")
@click.option("--megabits", type=click.FloatRange(0.001), default=100.0, show_default=True, help="A second, each way.")
@click.option("--round-trip", type=click.FloatRange(0.0), default=0.05, show_default=True, help="Seconds, of the link.")
@click.option(
    "--codec",
    type=click.Choice(uplink_names()),
    default="fp32",
    show_default=True,
    help="Of updates; commits use the one that belongs to it.",
)
@click.option("--inner-steps", type=click.IntRange(1), help="H, a multiple of P; with --tau.  [default: from a probe]")
@click.option("--tau", type=click.IntRange(0), help="With --inner-steps.  [default: from a probe]")
@DIRECTORY
@AS_JSON
def overlap(
    parameters: int,
    sites: int,
    fragments: int,
    step_seconds: float,
    rounds: int,
    megabits: float,
    round_trip: float,
    codec: str,
    inner_steps: int | None,
    tau: int | None,
    directory: Path | None,
    as_json: bool,
) -> None:
    """Share of the time in inner steps, behind slow links: classic DiLoCo, then streaming with the same H.

    H is chosen so that the classic round waits half of its time, tau so that a fragment is back in time.
    """
    from federation.bench.model import model_of
    from federation.bench.overlap import Link, OverlapBench
    from federation.bench.setting import WorldSetting

    if (inner_steps is None) != (tau is None):
        raise click.UsageError("--inner-steps and --tau: expected both or none, found one")
    setting = WorldSetting(
        num_sites=sites,
        parameters=model_of(parameters),
        codec=codec,
        step_seconds=step_seconds,
        gate=False,
        overlap=True,
    )
    with scratch(directory) as base:
        bench = OverlapBench(
            base=base,
            environment=environment(),
            setting=setting,
            num_fragments=fragments,
            schedule=None if inner_steps is None or tau is None else (inner_steps, tau),
            num_rounds=rounds,
            link=Link(bits_per_second=megabits * 1e6, round_trip_seconds=round_trip),
            say=say,
        )
        found = bench.run()
    show(found, as_json, _figures(found), _phases(found))


def _figures(found: dict[str, Any]) -> Table:
    spread, setting, link = found["spread"], found["setting"], found["link"]
    commit, ratios = "fragment_commit_seconds", found["ratios"]
    rows = [
        (kind, f"{found[key]:.3f}", spread_of(spread[key], 3))
        for kind, key in (("classic", "classic_utilisation"), ("streaming", "streaming_utilisation"))
    ]
    rows += [
        ("streaming / classic", f"{ratios['streaming_over_classic_utilisation']:.2f}", ""),
        ("boundary to commit of a fragment, s", f"{found[commit]:.2f}", spread_of(spread[commit])),
        ("its bytes on the bare link, s", f"{found['link_seconds']:.2f}", ""),
        ("tau, s", f"{found['tau_seconds']:.2f}", ""),
        ("bytes per parameter up", f"{found['bytes_per_parameter_up']:.4f}", ""),
        ("bytes per parameter down", f"{found['bytes_per_parameter_down']:.4f}", ""),
    ]
    title = (
        f"share of time in inner steps; {setting['num_parameters']} parameters, {setting['num_sites']} sites, "
        f"{setting['codec']}, H {setting['num_inner_steps']}, P {setting['num_fragments']}, tau {setting['tau']}; "
        f"{link['bits_per_second'] / 1e6:g} Mbit/s, {1e3 * link['round_trip_seconds']:g} ms"
    )
    return table_of(title, ("", "median", "lowest to highest"), rows)


def _phases(found: dict[str, Any]) -> Table:
    classic, streaming = found["classic_phase_shares"], found["phase_shares"]
    rows = [(phase, f"{share:.4f}", f"{classic[phase]:.4f}") for phase, share in streaming.items()]
    rows.append(("of these without a processor", f"{found['queued_share']:.4f}", ""))
    return table_of("share of the time between inner steps", ("", "streaming", "classic"), rows)
