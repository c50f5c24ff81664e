# SPDX-License-Identifier: Apache-2.0
"""Tables, charts and values: n/a is not 0, exports cannot be formulas, long lines keep their spikes."""

import csv
import io
import json

import pytest

from coordinator.dashboard.charts import MAX_POINTS, Bar, Chart, Series
from coordinator.dashboard.losses import MAX_ROUNDS, Losses
from coordinator.dashboard.render import MAX_TEXT, show
from coordinator.dashboard.tables import Column, Kind, Link, Table, columns
from coordinator.telemetry import parsed_lines

NAN, INF = float("nan"), float("inf")


def table(*values: object, kind: Kind = Kind.NUMBER) -> Table:
    return Table(id="t", title="T", columns=columns(("v", "V", kind)), rows=tuple({"v": value} for value in values))


def exported(found: Table) -> list[str]:
    return [row[0] if row else "" for row in csv.reader(io.StringIO(found.as_csv()))][1:]


@pytest.mark.parametrize("descending", [False, True])
def test_what_is_not_there_sorts_last_either_way(descending: bool) -> None:
    found = table(None, 2.0, NAN, 0, -1.0, INF).sorted("v", descending)
    known = [row["v"] for row in found.rows[:3]]
    assert known == sorted([2.0, 0, -1.0], reverse=descending)
    assert all(show(row["v"]) == show(None) for row in found.rows[3:])


def test_an_unknown_column_leaves_the_order() -> None:
    assert table(2, 1).sorted("nonsense", True) == table(2, 1)


def test_numbers_and_texts_of_one_column_sort() -> None:
    found = table("b", 3, Link(text="A", href="/"), True, None).sorted("v", False)
    assert [getattr(row["v"], "text", row["v"]) for row in found.rows] == [True, 3, "A", "b", None]


def test_n_a_is_not_0() -> None:
    assert "n/a" in show(None, kind=Kind.COUNT)
    assert "n/a" in show(NAN, kind=Kind.NUMBER)
    assert [show(0, kind=kind) for kind in (Kind.COUNT, Kind.BYTES)] == ["0", "0 B"]
    assert json.loads(table(None, 0, NAN).as_json())["rows"] == [{"v": None}, {"v": 0}, {"v": None}]
    assert exported(table(None, 0, NAN)) == ["", "0", ""]


def test_what_is_small_is_not_shown_as_nothing() -> None:
    assert [show(value, kind=Kind.NUMBER) for value in (0.0, -0.0004, 0.0006)] == ["0.000", "-4e-04", "0.001"]
    shown = ["0 s", "under 1 ms", "1 ms", "-250 ms", "1.2 s"]
    assert [show(seconds, kind=Kind.SECONDS) for seconds in (0, 3e-6, 0.0006, -0.25, 1.25)] == shown


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://x")'])
def test_a_text_is_no_formula_for_a_spreadsheet(text: str) -> None:
    (cell,) = exported(table(text, kind=Kind.TEXT))
    assert cell == f"'{text}"
    assert json.loads(table(text).as_json())["rows"] == [{"v": text}]


def test_a_number_below_0_stays_a_number() -> None:
    assert exported(table(-1.5)) == ["-1.5"]


@pytest.mark.parametrize("seconds", [1e300, -1e300, 9.3e12, -1e13])
def test_a_time_of_no_calendar_is_none(seconds: float) -> None:
    assert "no time" in show(seconds, kind=Kind.TIME)
    found = table(seconds, 1_790_000_000.0, kind=Kind.TIME)
    assert json.loads(found.as_json())["rows"] == [{"v": None}, {"v": "2026-09-21T14:13:20Z"}]
    assert len(exported(found)) == 2


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("value", [0, -1, 1, 1e-9, 1e30, -1e30, 10**40, True, "<b>", "", NAN, None])
def test_every_value_can_be_shown(value: object, kind: Kind) -> None:
    text = str(show(value, Column(key="k", title="K", kind=kind)))
    assert text or value == ""
    assert "<b>" not in text


def test_long_and_odd_texts_are_cut_and_cleaned() -> None:
    assert len(show("é" * 10_000_000)) < MAX_TEXT + 60
    assert "\x1b" not in show("\x1b[31m \u202e \x00")


@pytest.mark.parametrize("place", [0, 1, 777, 5000, 9999])
def test_a_spike_is_drawn_however_long_the_line(place: int) -> None:
    ys: list[float | None] = [1.0 + n % 3 for n in range(10_000)]
    ys[place], ys[(place + 40) % 10_000], ys[(place + 41) % 10_000] = 99.0, None, NAN
    chart = drawn(ys)
    assert len(chart["y"]) <= MAX_POINTS + 2
    assert chart["y"][chart["x"].index(place)] == 99.0
    assert chart["x"] == sorted(set(chart["x"]))
    assert {0, 9999} <= set(chart["x"])


def drawn(ys: list[float | None]) -> dict[str, list[float]]:
    series = Series(name="s", x=range(len(ys)), y=ys, band=(ys, ys))
    chart = Chart(id="c", title="C", x_title="x", y_title="y", build=lambda last: (series,), has_values=True)
    (found,) = json.loads(chart.as_json())["series"]
    assert len(found["x"]) == len(found["y"]) == len(found["low"]) == len(found["high"])
    return dict(found)


def test_a_short_line_is_drawn_whole_with_its_gaps() -> None:
    assert drawn([1.0, None, INF, 2.0])["y"] == [1.0, None, None, 2.0]


def test_a_charts_table_has_its_figures_newest_first() -> None:
    lines = (Series(name="a", x=[1, 2], y=[1.0, None]), Series(name="b", x=[2, 3], y=[0.0, 4.0]))
    chart = Chart(id="c", title="C", x_title="x", y_title="y", build=lambda last: lines, has_values=True)
    assert chart.table().rows == (
        {"x": 3, "s1": 4.0},
        {"x": 2, "s0": None, "s1": 0.0},
        {"x": 1, "s0": 1.0},
    )
    bar = Bar(lane="alps", phase="training", start=1.0, end=3.0, text="words")
    (row,) = Chart(id="c", title="C", x_title="x", y_title="y", bars=(bar,)).table().rows
    assert (row["lane"], row["seconds"]) == ("alps", 2.0)


def taken(losses: Losses, line: str) -> bool:
    """Whether a stored line of a site says something of the run r."""
    return any(losses.add("alps", record, {"r"}) for record in parsed_lines(line.encode() + b"\n"))


# --- step metrics -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "null",
        "[]",
        '"x"',
        "[" * 100_000,
        '{"run": "r", "num_steps": 1, "round": Infinity, "loss": 1}',
        '{"run": "r", "num_steps": 1, "round": 1, "loss": NaN}',
        '{"run": "r", "num_steps": 1, "round": 1, "loss": ' + "9" * 400 + "}",
        '{"run": "r", "round": ' + "9" * 5000 + ', "loss": 1}',
        '{"run": "r", "num_steps": 1, "round": null, "loss": 1}',
        '{"run": "unknown", "num_steps": 1, "round": 1, "loss": 1}',
    ],
)
def test_a_line_that_is_no_step_says_nothing(line: str) -> None:
    losses = Losses()
    assert not taken(losses, line)
    assert losses.runs == {}


def test_figures_that_are_none_count_nothing() -> None:
    losses = Losses()
    for tokens in ("-5", "true", "1e999", "9" * 400, "[]", '"7"'):
        assert taken(
            losses, f'{{"run": "r", "round": 1, "num_steps": 1, "loss": 2.0, "tokens": {tokens}, "seconds": 1}}'
        )
    steps = losses.of("r", "alps")[1]
    assert (steps.num_steps, steps.tokens, steps.seconds, steps.mean_loss) == (6, 0, 6.0, 2.0)


def test_rounds_are_bounded_whatever_a_site_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.dashboard.losses.MAX_ROUNDS", 5)
    losses = Losses()
    for number in range(100):
        taken(losses, f'{{"run": "r", "round": {number}, "num_steps": 1, "loss": 1}}')
    assert sorted(losses.of("r", "alps")) == [95, 96, 97, 98, 99]
    assert MAX_ROUNDS > 5
