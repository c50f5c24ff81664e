# SPDX-License-Identifier: Apache-2.0
"""Real processes over loopback gRPC: the same bits as over the spool, also when a site changes over in mid-run."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from federation_processes import OPERATOR, PLAIN, RUN, SITES, JobServer, ProcessFederation
from services import command_line, maps_of, memory_of, run_command

from federation.rounds import RunState

pytestmark = pytest.mark.processes

MAX_AGENT_BYTES = 300 * 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    found = JobServer(tmp_path_factory.mktemp("jobs"))
    yield found
    found.service.stop()


@pytest.fixture(scope="module")
def over_spool(server: JobServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Digests of theta after a run over the spool alone."""
    with ProcessFederation(base=tmp_path_factory.mktemp("spool"), setting=PLAIN, server=server) as federation:
        federation.set_up().start().run().stop()
        return federation.outcome().theta


def start_networked(federation: ProcessFederation) -> str:
    """Starts a coordinator that listens; returns its address."""
    serve = command_line(
        "coordinator", "serve", federation.coordinator, "--poll-seconds", "0.03", "--listen", "127.0.0.1:0"
    )
    federation._service("coordinator", serve, ())
    status = federation.coordinator / "status" / "network.json"
    federation.wait_for(status.exists, "a coordinator that listens")
    address: str = json.loads(status.read_text())["address"]
    return address


def enroll(federation: ProcessFederation, site: str) -> None:
    """By invite, as people do it."""
    operator = federation.base / OPERATOR
    invite = federation.base / f"{site}.invite"
    run_command(
        "coordinator",
        "site",
        "invite",
        site,
        "--as",
        operator,
        "--coordinator",
        federation.coordinator,
        "--out",
        invite,
    )
    run_command("site-agent", "enroll", federation.site(site), "--invite", invite, "--root", federation.fingerprint)


def start_site(federation: ProcessFederation, site: str) -> None:
    federation._service(site, command_line("site-agent", "serve", federation.site(site), "--poll-seconds", "0.05"), ())


def commits(federation: ProcessFederation, site: str) -> int:
    view = federation.view(site)
    return view.num_commits if view else 0


def test_a_run_over_grpc_and_an_operator_elsewhere(
    server: JobServer, over_spool: tuple[str, ...], tmp_path: Path
) -> None:
    with ProcessFederation(base=tmp_path, setting=PLAIN, server=server) as federation:
        federation.set_up()
        start_networked(federation)
        for site in SITES:
            enroll(federation, site)
            run_command("site-agent", "courier", "set", federation.site(site), "grpc")
            start_site(federation, site)
        operator, invite = tmp_path / OPERATOR, tmp_path / "operator.invite"
        here = ("--as", operator, "--coordinator", federation.coordinator)
        run_command("coordinator", "operator", "invite", OPERATOR, *here, "--out", invite)
        run_command("coordinator", "operator", "enroll", operator, "--invite", invite, "--root", federation.fingerprint)
        config, model = tmp_path / "run.toml", tmp_path / "model"
        run_command("coordinator", "run", "create", config, "--init", model, "--as", operator)
        for word in ("approve", "start"):
            run_command("coordinator", "run", word, RUN, "--as", operator)
        watched = run_command("coordinator", "run", "watch", RUN, "--as", operator, "--json", "--every", "0.2")
        assert json.loads(watched.splitlines()[-1])["state"] == RunState.COMPLETED.value
        federation.wait_for(federation.completed, "the run's end")
        for site in SITES:
            pid = federation.services[site].pid
            assert "torch" not in maps_of(pid)
            assert memory_of(pid) < MAX_AGENT_BYTES
            assert "connected" in run_command("site-agent", "status", federation.site(site))
        assert set(federation.stop().values()) == {0}
        assert federation.outcome().theta == over_spool


def test_a_site_changes_over_in_mid_run_and_back(
    server: JobServer, over_spool: tuple[str, ...], tmp_path: Path
) -> None:
    with ProcessFederation(base=tmp_path, setting=PLAIN, server=server) as federation:
        federation.set_up()
        start_networked(federation)
        for site in SITES:
            enroll(federation, site)
            start_site(federation, site)
        sites = [federation.site(site) for site in SITES]
        carrier = command_line("site-agent", "carrier", *sites, federation.coordinator, "--poll-seconds", "0.03")
        federation._service("carrier", carrier, ())
        federation.begin()
        federation.wait_for(lambda: commits(federation, "alpha") >= 1, "a first commit")
        run_command("site-agent", "courier", "set", federation.site("alpha"), "grpc")
        run_command("site-agent", "courier", "set", federation.site("beta"), "grpc")
        federation.services.pop("carrier").stop()
        federation.wait_for(lambda: commits(federation, "alpha") >= 2, "a second commit")
        run_command("site-agent", "courier", "set", federation.site("beta"), "spool")
        carrier = command_line("site-agent", "carrier", federation.site("beta"), federation.coordinator)
        federation._service("carrier", carrier, ())
        federation.wait_for(federation.completed, "the run's end")
        federation.stop()
        assert federation.outcome().theta == over_spool
