# SPDX-License-Identifier: Apache-2.0
"""`site-agent budget`: where the GPU-hours went, in GPU-hours and in the centre's own unit."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from federation.durable.real import RealFileSystem
from federation.site_profile import load_profile
from site_agent.books import read_books, read_training
from site_agent.budget_report import BudgetReport, DayBudget, RunBudget, report_of
from site_agent.budget_units import NativeUnit, estimate_words
from site_agent.cli.setup import AS_JSON, SITE_DIR, echo
from site_agent.policy import Policy, load_policy
from site_agent.setup import load_rosters
from site_agent.site_config import SiteConfig, load_site_config
from site_agent.site_policy import job_size, unit_of

_COLUMNS = ("spent", "committed", "forecast", "effective", "discarded", "open", "idle")
_AMOUNTS = ("last_24_hours", "spent", "committed", "effective", "discarded", "open", "idle", "gpu_hours")


@click.command()
@click.argument("site_dir", type=SITE_DIR)
@AS_JSON
def budget(site_dir: Path, as_json: bool) -> None:
    """Shows per run and per day what this site's jobs used, may still use and will probably need.

    Effective training is in the model; discarded is not (late, rejected, abandoned, reverted, or trained again after a
    crash); open waits for its round's end; idle is all else that a job held its GPUs for. Live jobs count in full.
    """
    fs, now_us = RealFileSystem(site_dir), time.time_ns() // 1000
    config, policy = load_site_config(site_dir), load_policy(site_dir)
    books, default = read_books(fs, load_rosters(fs, now_us)), job_size(config)
    training = read_training(fs, books.state, default)
    report = report_of(config.site, books.state, books.federation, training, default, now_us)
    echo(_facts(report, unit_of(config)), "\n".join(_lines(report, config, policy)), as_json)


def _facts(report: BudgetReport, unit: NativeUnit) -> dict[str, Any]:
    """The report with a native figure beside each one in GPU-hours; null where the unit's price is not known."""
    return {**_with_native(dataclasses.asdict(report), unit), "unit": dataclasses.asdict(unit)}


def _with_native(values: dict[str, Any], unit: NativeUnit) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found[name] = _with_native(value, unit)
        elif isinstance(value, list | tuple):
            found[name] = [_with_native(item, unit) if isinstance(item, dict) else item for item in value]
        else:
            found[name] = value
            if name in _AMOUNTS:
                found[f"{name}_native"] = None if value is None else unit.of(value)
    return found


def _lines(report: BudgetReport, config: SiteConfig, policy: Policy) -> list[str]:
    unit, size = unit_of(config), job_size(config)
    price = f"{unit.per_gpu_hour:g} for a GPU-hour" if unit.per_gpu_hour is not None else "price not known"
    lines = [
        f"site {report.site}: all figures in GPU-hours / {unit.name} of the centre ({price}; {unit.source})",
        f"  within 24 hours: {_amount(report.last_24_hours, unit)} of {policy.per_day.gpu_hours:g} GPU-hours, "
        f"{report.sent_bytes} of {policy.per_day.bytes} bytes",
        f"  one job costs {estimate_words(size, unit, load_profile(config.profile))}",
        "",
    ]
    runs = [["run", *_COLUMNS], *(_run_row(item, unit) for item in report.runs)]
    days = [["day", "spent", "effective", "discarded", "bytes sent"], *(_day_row(item, unit) for item in report.days)]
    if not report.runs:
        return [*lines, "No job of any run was started here yet."]
    notes = [f"  {item.run}: {_note(item, policy, unit)}" for item in report.runs]
    return [*lines, *_table(runs), *notes, *(["", *_table(days)] if report.days else [])]


def _run_row(item: RunBudget, unit: NativeUnit) -> list[str]:
    forecast = item.forecast.gpu_hours
    figures = (item.spent, item.committed, forecast, item.effective, item.discarded, item.open, item.idle)
    return [item.run, *("?" if figure is None else _amount(figure, unit) for figure in figures)]


def _day_row(item: DayBudget, unit: NativeUnit) -> list[str]:
    amounts = (_amount(figure, unit) for figure in (item.spent, item.effective, item.discarded))
    return [item.day, *amounts, str(item.sent_bytes)]


def _note(item: RunBudget, policy: Policy, unit: NativeUnit) -> str:
    """What the forecast and the figures rest on, and the run's own limits."""
    sources = ", ".join(f"{number} {source}" for source, number in item.sources.items()) or "none"
    limits = []
    if policy.per_run.gpu_hours is not None:
        limits.append(f"{policy.per_run.gpu_hours:g} GPU-hours")
    if policy.per_run.native_units is not None:
        limits.append(f"{policy.per_run.native_units:g} {unit.name}")
    limit = f"; at most {' and '.join(limits)} in all" if limits else ""
    left = f"{item.forecast.num_rounds_left} rounds left, {item.forecast.sureness}"
    return f"{item.state}; {left}; jobs: {sources}{limit}"


def _amount(gpu_hours: float, unit: NativeUnit) -> str:
    native = unit.of(gpu_hours)
    return f"{gpu_hours:.2f}" + ("" if native is None else f" / {native:.2f}")


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as they need to be; the first one to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if not index else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
