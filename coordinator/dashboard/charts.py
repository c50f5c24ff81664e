# SPDX-License-Identifier: Apache-2.0
"""Charts as data: what `static/charts.js` draws with plotly, and the table that stands beside each of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

from coordinator.dashboard.tables import Column, Kind, Row, Table

TABLE_ROWS: Final = 12
"""Newest rows of a chart's table on the page; its CSV and JSON have all."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line: `y[i]` at `x[i]`, None where nothing was measured. `band`: (low, high) around it at each x."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    band: tuple[Sequence[float | None], Sequence[float | None]] | None = None


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A stretch of one lane; times are unix seconds. `text` says it in words."""

    lane: str
    phase: str
    start: float
    end: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Lines over x, or bars in lanes over time.

    Attributes:
        id: unique within its page.
        y_kind: how the values read in the table.
        empty: the sentence in place of a chart without values.
    """

    id: str
    title: str
    x_title: str
    y_title: str
    series: tuple[Series, ...] = ()
    bars: tuple[Bar, ...] = ()
    lanes: tuple[str, ...] = ()
    y_digits: int = 3
    empty: str = "Nothing to draw yet."
    note: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not self.bars and not any(value is not None for s in self.series for value in s.y)

    def as_json(self) -> str:
        """What the page's script fetches."""
        document = {
            "title": self.title,
            "x_title": self.x_title,
            "y_title": self.y_title,
            "series": [_series(s) for s in self.series],
            "bars": [vars(bar) for bar in self.bars],
            "lanes": list(self.lanes),
        }
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

    def table(self) -> Table:
        """The same figures, newest first."""
        return _bar_table(self) if self.bars else _line_table(self)


def _series(series: Series) -> dict[str, Any]:
    found: dict[str, Any] = {"name": series.name, "x": list(series.x), "y": [_finite(v) for v in series.y]}
    if series.band is not None:
        found["low"], found["high"] = ([_finite(v) for v in side] for side in series.band)
    return found


def _finite(value: float | None) -> float | None:
    return None if value is None or not isfinite(value) else round(value, 6)


def _line_table(chart: Chart) -> Table:
    rows: dict[float, dict[str, Any]] = {}
    for index, series in enumerate(chart.series):
        for x, y in zip(series.x, series.y, strict=True):
            rows.setdefault(x, {"x": x})[f"s{index}"] = _finite(y)
    figures = tuple(
        Column(key=f"s{index}", title=series.name, kind=Kind.NUMBER, digits=chart.y_digits)
        for index, series in enumerate(chart.series)
    )
    ordered: tuple[Row, ...] = tuple(rows[x] for x in sorted(rows, reverse=True))
    columns = (Column(key="x", title=chart.x_title, kind=Kind.COUNT), *figures)
    return Table(id=chart.id, title=chart.title, columns=columns, rows=ordered, empty=chart.empty)


def _bar_table(chart: Chart) -> Table:
    columns = (
        Column(key="lane", title="Site"),
        Column(key="phase", title="Phase"),
        Column(key="start", title="From", kind=Kind.TIME),
        Column(key="end", title="To", kind=Kind.TIME),
        Column(key="seconds", title="Duration", kind=Kind.SECONDS),
        Column(key="text", title="In words"),
    )
    rows = [{**vars(bar), "seconds": bar.end - bar.start} for bar in chart.bars]
    rows.sort(key=lambda row: row["start"], reverse=True)
    return Table(id=chart.id, title=chart.title, columns=columns, rows=tuple(rows), empty=chart.empty)
