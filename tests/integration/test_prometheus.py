# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus scrapes an agent's port and a dashboard's, and tells of a site that fell silent."""

import http.client
import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from dashboard_process import DashboardProcess
from monitored_world import eventful_world, snapshot_of
from one_site import OneSite
from promtool import PROMETHEUS, needs_prometheus

from coordinator.bench.generated import generate
from coordinator.bench.setting import CONSORTIUM, VIEWER
from coordinator.dashboard.identity import CERTIFICATE
from coordinator.metrics import render
from federation.certificates import operator_subject, pem
from federation.durable.real import RealFileSystem
from federation.durable.simulated import SimulatedFileSystem
from federation.errors import ConfigError
from federation.messages import CommandKind
from federation.roster_document import Role
from federation.tls_keys import key_pem
from site_agent import layout
from site_agent.metrics.export import MetricsExport
from site_agent.metrics.server import MAX_CONNECTIONS, MetricsServer
from site_agent.metrics.settings import MetricsSection
from site_agent.site_config import SiteConfig

RULES = Path(__file__).parents[2] / "contrib/prometheus/federation-alerts.yml"
LISTENS = SiteConfig(site="alpha", data_dir="data", languages=("de",), metrics=MetricsSection(listen="127.0.0.1:0"))
DEADLINE_SECONDS = 120.0


@pytest.fixture
def agent_port(tmp_path: Path) -> Iterator[int]:
    """Port at which an agent that has made its passes answers."""
    world = OneSite(SimulatedFileSystem(), SimulatedFileSystem(), tmp_path)
    world.coordinator.create()
    world.steps(2)
    with closing(MetricsExport(RealFileSystem(tmp_path / "site"), LISTENS, listens=True)) as export:
        export.look(world.agent, time.time(), 0.0)
        yield export.port


def ask(port: int, path: str = "/metrics", method: str = "GET", accept: str = "") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    connection.request(method, path, headers={"Accept": accept})
    return connection.getresponse()


def test_a_scrape_gets_what_is_in_the_file(agent_port: int, tmp_path: Path) -> None:
    answer = ask(agent_port)
    assert answer.status == 200
    assert answer.getheader("Content-Type", "").startswith("text/plain")
    assert answer.read() == (tmp_path / "site" / layout.METRICS).read_bytes()
    assert ask(agent_port, accept="application/openmetrics-text; version=1.0.0").read().endswith(b"# EOF\n")
    assert ask(agent_port, method="HEAD").read() == b""


def test_nothing_else_is_served(agent_port: int) -> None:
    assert ask(agent_port, "/").status == 404
    assert ask(agent_port, "/metrics/../site.toml").status == 404
    assert ask(agent_port, method="POST").status == 405
    assert ask(agent_port, "/metrics?name[]=federation_agent_info").status == 200


def test_a_port_that_is_taken_is_the_operators_mistake() -> None:
    with (
        closing(MetricsServer("127.0.0.1", 0)) as server,
        pytest.raises(ConfigError, match=r"metrics\.listen: .* in use"),
    ):
        MetricsServer("127.0.0.1", server.port)


def test_connections_that_say_nothing_keep_nobody_from_ending() -> None:
    server = MetricsServer("127.0.0.1", 0)
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2 * MAX_CONNECTIONS)]
    begin = time.monotonic()
    server.close()
    assert time.monotonic() - begin < DEADLINE_SECONDS
    for each in idle:
        each.close()


# --- with Prometheus ------------------------------------------------------------------------------------------------


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as found:
        return int(found.getsockname()[1])


class Quiet(SimpleHTTPRequestHandler):
    """Files of a directory."""

    extensions_map = {"": "text/plain"}  # noqa: RUF012

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(directory: Path) -> Iterator[int]:
    """Port at which the files of a directory are served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def impatient_rules(directory: Path) -> Path:
    """The rules as they are shipped, but for how long a condition must hold."""
    path = directory / "rules.yml"
    text, count = re.subn(r"^( +)for: \w+$", r"\1for: 1s", RULES.read_text(), flags=re.MULTILINE)
    assert count > 10
    path.write_text(text)
    return path


def configuration(directory: Path, coordinator: int, agent: int) -> Path:
    jobs = {"federation-coordinator": coordinator, "federation-agent": agent}
    scrapes = [{"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in jobs.items()]
    path = directory / "prometheus.yml"
    path.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
                "rule_files": [str(impatient_rules(directory))],
                "scrape_configs": scrapes,
            }
        )
    )
    return path


class RealPrometheus:
    """Debian's, with its data below a directory of the test."""

    def __init__(self, directory: Path, config: Path) -> None:
        self.port, self._log = free_port(), directory / "prometheus.log"
        argv = [str(PROMETHEUS), f"--config.file={config}", f"--storage.tsdb.path={directory / 'tsdb'}"]
        argv += [f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(argv, cwd=directory, stdout=log, stderr=subprocess.STDOUT)

    def get(self, path: str) -> Any:
        """What the API answers, None while it does not."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}", timeout=10) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    def firing(self) -> dict[tuple[str, str], dict[str, str]]:
        """Annotations of the alerts that fire, by name and site."""
        found = (self.get("alerts") or {"alerts": []})["alerts"]
        return {
            (a["labels"]["alertname"], a["labels"].get("site", "")): a["annotations"]
            for a in found
            if a["state"] == "firing"
        }

    def until(self, wanted: set[tuple[str, str]]) -> dict[tuple[str, str], dict[str, str]]:
        """Waits until all of these fire."""
        deadline, found = time.monotonic() + DEADLINE_SECONDS, self.firing()
        while not wanted <= found.keys():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, (
                f"expected {wanted}, found {set(found)}: {self._log.read_text()[-2000:]}"
            )
            time.sleep(0.1)
            found = self.firing()
        return found

    def until_known(self, metric: str) -> None:
        """Waits until there is a sample of it."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (self.get(f"query?query={metric}") or {"result": []})["result"]:
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, f"no {metric}: {self.get('targets')}"
            time.sleep(0.1)

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def silent_beta(directory: Path) -> None:
    """The coordinator's figures: of three sites one has said nothing for two hours."""
    world = eventful_world()
    world.command(CommandKind.RUN_RESUME)
    now = time.time()
    sites = {
        site: replace(seen, received_at=now - (7200 if site == "beta" else 5))
        for site, seen in world.seen.sites.items()
    }
    text = render(snapshot_of(world, observations=replace(world.seen, sites=sites), now=now, coordinator_seen_at=now))
    (directory / "metrics").write_bytes(text)


@needs_prometheus
def test_prometheus_tells_of_a_silent_site(agent_port: int, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    silent_beta(files)
    with (
        served(files) as port,
        closing(RealPrometheus(tmp_path, configuration(tmp_path, port, agent_port))) as prometheus,
    ):
        found = prometheus.until({("FederationSiteSilent", "beta"), ("FederationQuorumAtRisk", "")})
        said = found["FederationSiteSilent", "beta"]
        assert said["summary"].startswith("Site beta has said nothing for 2h 0m")
        assert "coordinator site drain" in said["description"]
        silent = {site for name, site in found if name == "FederationSiteSilent"}
        assert silent == {"beta"}
        assert not {name for name, _ in found} & {"FederationCoordinatorAbsent", "FederationCoordinatorDown"}
        targets = prometheus.get("targets")["activeTargets"]
        assert {target["labels"]["job"]: target["health"] for target in targets} == {
            "federation-coordinator": "up",
            "federation-agent": "up",
        }
        rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
        assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []
        seen = prometheus.get("query?query=federation_agent_ledger_leaves")["result"]
        assert [(r["metric"]["site"], r["value"][1]) for r in seen] == [("alpha", "1")]
    shutil.rmtree(tmp_path / "tsdb")


def as_the_example_says(directory: Path, dashboard: DashboardProcess, key: Path, certificate: Path) -> Path:
    """The shipped example with this machine's files, and nothing but the dashboard to scrape."""
    found = yaml.safe_load(RULES.with_name("prometheus.yml").read_text())
    (job,) = (job for job in found["scrape_configs"] if job["job_name"] == "federation-coordinator")
    own = str(dashboard.directory / CERTIFICATE)
    assert set(job["tls_config"]) == {"ca_file", "cert_file", "key_file"}
    job["tls_config"] = {"ca_file": own, "cert_file": str(certificate), "key_file": str(key)}
    job["static_configs"] = [{"targets": [dashboard.listen]}]
    made = {"global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"}, "scrape_configs": [job]}
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(made))
    return path


@needs_prometheus
def test_prometheus_scrapes_the_dashboard_with_a_viewers_certificate(tmp_path: Path) -> None:
    now = time.time()
    made = generate(tmp_path / "c", num_rounds=3, num_sites=3, languages=("deu_Latn",), now_us=int(now * 1e6))
    made.close()
    holder, subject = f"operator/{VIEWER}", operator_subject(CONSORTIUM, VIEWER, (Role.VIEWER,))
    key, certificate = tmp_path / "tls.pem", tmp_path / "certificate.pem"
    key.write_bytes(key_pem(made.consortium.tls_key(holder)))
    certificate.write_bytes(pem(made.consortium.certificate(subject, holder, now)))
    with (
        DashboardProcess(directory=tmp_path / "c") as dashboard,
        closing(RealPrometheus(tmp_path, as_the_example_says(tmp_path, dashboard, key, certificate))) as prometheus,
    ):
        prometheus.until_known("federation_ledger_leaves")
        (target,) = prometheus.get("targets")["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")
        (leaves,) = prometheus.get("query?query=federation_ledger_leaves")["result"]
        assert int(leaves["value"][1]) == made.ledger.size
        assert leaves["metric"]["job"] == "federation-coordinator"
    shutil.rmtree(tmp_path / "tsdb")
