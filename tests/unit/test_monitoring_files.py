# SPDX-License-Identifier: Apache-2.0
"""Alert rules, dashboard and page about monitoring: of metrics that are exported, and no others."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from monitored_world import agent_snapshot, busy_agent, eventful_world, snapshot_of
from promtool import LINT, expressions, needs_prometheus, promtool, selectors

from coordinator.metrics import catalogue as of_coordinator
from coordinator.metrics import render
from federation.exposition import Kind, Metric, exposition
from site_agent import layout
from site_agent.metrics import catalogue as of_agent
from site_agent.metrics.projection import samples

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "contrib/prometheus"
RULES, TESTS = PROMETHEUS / "federation-alerts.yml", PROMETHEUS / "federation-alerts-tests.yml"
DASHBOARD = json.loads((ROOT / "contrib/grafana/federation.json").read_text())
PAGE = (ROOT / "docs/operations/monitoring.md").read_text()


def _yaml(path: Path) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the other one takes seconds
    found: dict[str, Any] = yaml.load(path.read_text(), loader)
    return found


METRICS: dict[str, Metric] = {metric.name: metric for metric in (*of_coordinator.ALL, *of_agent.ALL)}
OF_PROMETHEUS = {
    "up": {"job", "instance"},
    "ALERTS": {"alertname", "alertstate"},
}
ALERTS: list[dict[str, Any]] = [rule for group in _yaml(RULES)["groups"] for rule in group["rules"] if "alert" in rule]
NAMES = [alert["alert"] for alert in ALERTS]


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())
def test_names_follow_the_conventions(metric: Metric) -> None:
    assert re.fullmatch(r"federation(_[a-z0-9]+)+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert metric.name.endswith("_info") == (metric.kind is Kind.INFO)
    assert not re.search(r"_(hours|minutes|days|milliseconds|percent|kib|mib|mb|us|ms)(_|$)", metric.name), "base units"
    assert metric.name.startswith("federation_agent_") == (metric in of_agent.ALL)
    assert "round" not in metric.labels, "its values never end"
    assert metric.help.endswith(".")
    assert "\n" not in metric.help


def test_no_name_is_used_twice() -> None:
    assert len(METRICS) == len(of_coordinator.ALL) + len(of_agent.ALL)


@needs_prometheus
def test_promtool_finds_nothing_in_what_is_exported() -> None:
    text = (
        render(snapshot_of(eventful_world())).decode() + exposition(samples(agent_snapshot(busy_agent()))).body.decode()
    )
    found = promtool("check", "metrics", text=text, codes=(0, LINT)).splitlines()
    # The name that the field gives to its score: no quantity of information that somebody stores.
    assert [line for line in found if 'bits_per_byte use base unit "bytes" instead of "bits"' not in line] == []


# --- rules ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_an_alert_says_what_why_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning")
    summary, description = alert["annotations"]["summary"], alert["annotations"]["description"]
    assert 10 < len(summary) < 160
    assert len(re.findall(r"[.:] ", description + " ")) >= 2, "one sentence is not enough"


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_an_alert_reads_what_is_exported(alert: dict[str, Any]) -> None:
    _check(alert["expr"])


def _check(expr: str) -> None:
    found = list(selectors(expr))
    assert found, f"no metric in {expr}"
    for name, labels in found:
        known = OF_PROMETHEUS.get(name) or {*METRICS[name].labels, "instance", "job"}
        assert labels <= known, f"{name} has no {labels - known}"


def test_a_metric_or_a_label_that_is_not_there_would_be_noticed() -> None:
    with pytest.raises(KeyError):
        _check("rate(federation_run_rounds_total[5m])")
    with pytest.raises(AssertionError):
        _check('federation_run_state{site="x"} == 1')


def test_every_alert_is_tested_to_fire_and_not_to_fire() -> None:
    looks: dict[str, set[bool]] = {}
    for case in _yaml(TESTS)["tests"]:
        for look in case["promql_expr_test"]:
            assert f'alertname="{case["name"]}"' in look["expr"]
            looks.setdefault(case["name"], set()).add(bool(look["exp_samples"]))
    assert looks == {name: {True, False} for name in NAMES}


@needs_prometheus
def test_the_rules_do_what_their_tests_say() -> None:
    promtool("check", "rules", RULES)
    promtool("test", "rules", TESTS)


@needs_prometheus
def test_the_example_configuration_is_one() -> None:
    promtool("check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml")


def test_the_example_scrapes_the_jobs_that_the_rules_name() -> None:
    example = _yaml(PROMETHEUS / "prometheus.yml")
    jobs = {job["job_name"] for job in example["scrape_configs"]}
    assert set(re.findall(r'job="([^"]+)"', RULES.read_text())) <= jobs
    assert example["rule_files"] == [RULES.name]


# --- the dashboard --------------------------------------------------------------------------------------------------


def test_the_dashboard_is_whole() -> None:
    panels = DASHBOARD["panels"]
    assert DASHBOARD["schemaVersion"] >= 39
    assert DASHBOARD["id"] is None, "an id belongs to one Grafana"
    assert len({panel["id"] for panel in panels}) == len(panels)
    sources = [panel["datasource"]["uid"] for panel in panels if panel["type"] != "row"]
    assert set(sources) == {"${datasource}"}
    variables = [variable["name"] for variable in DASHBOARD["templating"]["list"]]
    assert variables == ["datasource", "run", "site"]


def test_no_panel_lies_on_another_one() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert taken.isdisjoint(cells), panel["title"]
        taken |= cells


def test_every_panel_reads_what_is_exported() -> None:
    for title, expr in expressions(DASHBOARD["panels"]):
        assert title
        _check(expr)
    for variable in DASHBOARD["templating"]["list"][1:]:
        name, label = re.findall(r"\(([a-z_]+), ([a-z]+)\)", variable["definition"])[0]
        assert label in METRICS[name].labels


def test_everything_of_the_coordinator_is_on_the_dashboard() -> None:
    shown = {name for _, expr in expressions(DASHBOARD["panels"]) for name, _ in selectors(expr)}
    shown |= set(re.findall(r"federation_[a-z_]+", json.dumps(DASHBOARD["templating"])))
    missing = {metric.name for metric in of_coordinator.ALL} - shown
    assert missing == NOT_SHOWN


NOT_SHOWN = {
    "federation_coordinator_info",
    "federation_roster_version",
    "federation_site_runs",
    "federation_run_pause_info",
    "federation_run_state_since_timestamp_seconds",
    "federation_run_quorum_margin_ratio",
}
"""Words and numbers that say nothing over time."""


@needs_prometheus
def test_every_expression_of_the_dashboard_parses(tmp_path: Path) -> None:
    found = [expr for _, expr in expressions(DASHBOARD["panels"])]
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(found)]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(found)} rules found" in promtool("check", "rules", path)


# --- the page -------------------------------------------------------------------------------------------------------


def _rows(heading: str) -> list[list[str]]:
    """Cells of the first table below a heading."""
    part = PAGE[PAGE.index(f"\n{heading}\n") :]
    lines = part[part.index("\n|") :].lstrip("\n").splitlines()
    end = next((n for n, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:end]]


@pytest.mark.parametrize(
    ("heading", "metrics"),
    [("## The coordinator's metrics", of_coordinator.ALL), ("## An agent's metrics", of_agent.ALL)],
)
def test_the_page_has_every_metric_as_it_is(heading: str, metrics: tuple[Metric, ...]) -> None:
    found = [tuple(cell.replace("`", "") for cell in row) for row in _rows(heading)]
    assert found == [
        (metric.name, metric.kind.value, metric.unit, ", ".join(metric.labels), metric.help) for metric in metrics
    ]


def test_the_page_has_every_alert_in_order() -> None:
    rows = _rows("## What to do at three in the morning")
    assert [row[0].strip("`") for row in rows] == NAMES
    severities = {alert["alert"]: alert["labels"]["severity"] for alert in ALERTS}
    assert {row[0].strip("`"): row[1] for row in rows} == severities


def test_the_page_says_which_metrics_of_an_agent_the_coordinator_has_too() -> None:
    rows = _rows("## Sites that nobody can scrape")
    for row in rows:
        ours, theirs = (re.findall(r"`(federation_[a-z_]+)`", cell) for cell in row[:2])
        assert set(ours) <= {metric.name for metric in of_agent.ALL}
        assert set(theirs) <= {metric.name for metric in of_coordinator.ALL}
    named = {name for row in rows for name in re.findall(r"`(federation_agent_[a-z_]+)`", row[0])}
    in_alerts = {
        name for alert in ALERTS for name, _ in selectors(alert["expr"]) if name.startswith("federation_agent_")
    }
    assert in_alerts <= named, "what matters to alerts is derivable elsewhere, or the page says that it is not"


def test_the_page_names_the_file_that_is_written() -> None:
    assert layout.METRICS in PAGE
