# SPDX-License-Identifier: Apache-2.0
"""Charts as data: what `static/charts.js` draws with plotly, and the table that stands beside each of them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

from coordinator.dashboard.tables import Column, Kind, Row, Table

MAX_POINTS: Final = 600
"""Of one line that are drawn: more than a screen shows apart."""

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
        build: the lines; with a number only their part over that many newest x. Called where they are needed.
        has_values: whether `build` gives anything to draw.
        empty: the sentence in place of a chart without values.
    """

    id: str
    title: str
    x_title: str
    y_title: str
    build: Callable[[int | None], tuple[Series, ...]] = lambda last: ()
    has_values: bool = False
    bars: tuple[Bar, ...] = ()
    lanes: tuple[str, ...] = ()
    y_digits: int = 3
    empty: str = "Nothing to draw yet."
    note: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not self.bars and not self.has_values

    def as_json(self) -> str:
        """What the page's script fetches."""
        document = {
            "title": self.title,
            "x_title": self.x_title,
            "y_title": self.y_title,
            "series": [_series(s) for s in self.build(None)],
            "bars": [vars(bar) for bar in self.bars],
            "lanes": list(self.lanes),
        }
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

    def table(self, last: int | None = None) -> Table:
        """The same figures, newest first; with a number only the newest rows."""
        return _bar_table(self) if self.bars else _line_table(self, last)


def _series(series: Series) -> dict[str, Any]:
    chosen = _thinned(series.y)
    found: dict[str, Any] = {"name": series.name, "x": [series.x[i] for i in chosen]}
    found["y"] = [_finite(series.y[i]) for i in chosen]
    if series.band is not None:
        found["low"], found["high"] = ([_finite(side[i]) for i in chosen] for side in series.band)
    return found


def _thinned(values: Sequence[float | None]) -> Sequence[int]:
    """Places to draw: all of a short line; of a long one the lowest and the highest of each stretch."""
    if len(values) <= MAX_POINTS:
        return range(len(values))
    stretch = -(-2 * len(values) // MAX_POINTS)
    chosen: set[int] = {0, len(values) - 1}
    for start in range(0, len(values), stretch):
        known = [(v, i) for i, v in enumerate(values[start : start + stretch], start) if v is not None and isfinite(v)]
        chosen.update((min(known)[1], max(known)[1]) if known else (start,))
    return sorted(chosen)


def _finite(value: float | None) -> float | None:
    return None if value is None or not isfinite(value) else round(value, 6)


def _line_table(chart: Chart, last: int | None) -> Table:
    rows: dict[float, dict[str, Any]] = {}
    lines = chart.build(last)
    for index, series in enumerate(lines):
        for x, y in zip(series.x, series.y, strict=True):
            rows.setdefault(x, {"x": x})[f"s{index}"] = _finite(y)
    figures = tuple(
        Column(key=f"s{index}", title=series.name, kind=Kind.NUMBER, digits=chart.y_digits, name=series.name)
        for index, series in enumerate(lines)
    )
    ordered: tuple[Row, ...] = tuple(rows[x] for x in sorted(rows, reverse=True))
    columns = (Column(key="x", title=chart.x_title, kind=Kind.COUNT, name=chart.x_title.lower()), *figures)
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
