# SPDX-License-Identifier: Apache-2.0
"""`federation bench dashboard`."""

from pathlib import Path
from typing import Any

import click
from rich.table import Table

from federation.cli.bench_output import AS_JSON, DIRECTORY, say, scratch, show, table_of
from federation.demo.children import Children, environment


@click.command()
@click.option("--rounds", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="Of the history.")
@click.option("--sites", type=click.IntRange(2, 200), default=20, show_default=True)
@click.option("--languages", type=click.IntRange(1, 36), default=36, show_default=True)
@click.option("--viewers", type=click.IntRange(1, 1000), default=200, show_default=True, help="At once.")
@click.option("--minutes", type=click.FloatRange(min=0.01), default=2.0, show_default=True, help="With viewers.")
@click.option(
    "--every", type=click.FloatRange(min=0.01), default=1.0, show_default=True, help="Seconds between two decisions."
)
@click.option(
    "--paints", type=click.IntRange(0, 100), default=5, show_default=True, help="Of each page in Chromium; 0: none."
)
@click.option(
    "--live-rounds",
    type=click.IntRange(0, 10_000),
    default=48,
    show_default=True,
    help="Of a real federation, half of them looked at; 0: none.",
)
@DIRECTORY
@AS_JSON
def dashboard(
    rounds: int,
    sites: int,
    languages: int,
    viewers: int,
    minutes: float,
    every: float,
    paints: int,
    live_rounds: int,
    directory: Path | None,
    as_json: bool,
) -> None:
    """The dashboard's processor time, memory and delay, with a long history and many viewers.

    Reference: the same process of the same run, following the same ledger, while nobody looks.
    """
    from federation.bench.dashboard import DashboardBench, DashboardSetting

    setting = DashboardSetting(
        num_rounds=rounds,
        num_sites=sites,
        num_languages=languages,
        num_viewers=viewers,
        seconds=60 * minutes,
        every_seconds=every,
        num_paints=paints,
        num_live_rounds=live_rounds,
    )
    with scratch(directory) as base, Children(base / "logs", environment()) as children:
        found = DashboardBench(base=base, children=children, setting=setting, say=say).run()
    show(found, as_json, _figures(found), _pages(found))


def _figures(found: dict[str, Any]) -> Table:
    viewers, nobody, update = found["viewers"], found["nobody"], found["update_seconds"]
    rows = [
        ("dashboard, cores", f"{viewers['dashboard_cores']:.3f}", f"{nobody['dashboard_cores']:.3f}"),
        ("viewers' own, cores", f"{viewers['viewers_cores']:.3f}", ""),
        ("anonymous MB at the end", _megabytes(viewers), _megabytes(nobody)),
        ("anonymous MB more per hour", f"{viewers['anonymous_bytes_per_hour'] / 1e6:.1f}", ""),
        ("sent, MB a second", f"{viewers['bytes_per_second'] / 1e6:.2f}", ""),
    ]
    if rounds := found["rounds"]:
        watched, alone = (rounds[f"seconds_{part}"]["median"] for part in ("viewers", "nobody"))
        rows.append(("a live round, s", f"{watched:.3f}", f"{alone:.3f}"))
    if update["num_samples"]:
        rows += [(f"leaf to page, s, {name}", f"{update[name]:.2f}", "") for name in ("median", "p99", "largest")]
    return table_of(f"{found['setting']['num_viewers']} viewers", ("", "with viewers", "nobody looks"), rows)


def _megabytes(part: dict[str, Any]) -> str:
    return f"{part['anonymous_bytes_at_end'] / 1e6:.0f}"


def _pages(found: dict[str, Any]) -> Table:
    painted = (found["paint"] or {"addresses": {}})["addresses"]
    rows = [
        (
            address,
            f"{page['bytes'] / 1e3:.0f}",
            f"{page['cold_seconds']:.3f}",
            f"{page['warm_seconds']:.3f}",
            f"{painted[address]['median_seconds']:.3f}" if address in painted else "",
        )
        for address, page in found["pages"].items()
    ]
    return table_of("pages", ("", "kB", "first, s", "again, s", "first paint, s"), rows)
