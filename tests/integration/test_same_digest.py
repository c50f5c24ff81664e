# SPDX-License-Identifier: Apache-2.0
"""Whatever carries the messages, a run ends with the same digest: over gRPC, over the spool, changed in mid-run."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from federation_processes import SITES, STREAMING, JobServer, Outcome, ProcessFederation

from federation.leaves import Outcome as Verdict
from federation.rounds import RunState

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600), pytest.mark.xdist_group("same digest")]

GRPC = dict.fromkeys(SITES, "grpc")
LONG = replace(STREAMING, num_rounds=24)
"""Long enough that somebody can look at the second commit and do something before the last."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    server = JobServer(tmp_path_factory.mktemp("jobs"))
    yield server
    server.service.stop()


@pytest.fixture(scope="module")
def by_spool(server: JobServer, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    base = tmp_path_factory.mktemp("spool")
    with ProcessFederation(base=base, setting=LONG, server=server) as federation:
        federation.set_up().start().run().stop()
    return federation.outcome()


def check(found: Outcome, expected: Outcome) -> None:
    """The same bits, and every update admitted: nothing was late or lost on its way."""
    assert found.run.state is RunState.COMPLETED
    outcomes = {v.outcome for found_round in found.run.rounds.values() for v in found_round.verdicts.values()}
    assert outcomes == {Verdict.ADMITTED}
    assert sorted(found.run.rounds) == list(range(LONG.num_rounds)), "a round was abandoned and repeated"
    assert found.theta == expected.theta


def test_over_grpc(server: JobServer, by_spool: Outcome, tmp_path: Path) -> None:
    with ProcessFederation(base=tmp_path, setting=LONG, server=server, couriers=GRPC) as federation:
        federation.set_up().start().run()
        assert "carrier" not in federation.services
        federation.stop()
    check(federation.outcome(), by_spool)


def test_over_grpc_with_both_ends_killed(server: JobServer, by_spool: Outcome, tmp_path: Path) -> None:
    killed = ProcessFederation(
        base=tmp_path,
        setting=LONG,
        server=server,
        couriers=GRPC,
        coordinator_failpoints=("coordinator.before-verdict", "coordinator.after-seal", "coordinator.before-tail"),
        agent_failpoints={"alpha": ("agent.after-sign", "agent.before-outcome"), "beta": ("agent.before-sign",)},
    )
    with killed as federation:
        federation.set_up().start().run()
        assert {name: len(points) for name, points in federation.fired().items()} == {
            "coordinator": 3,
            "alpha": 2,
            "beta": 1,
        }
        federation.stop()
    check(federation.outcome(), by_spool)


def test_with_a_change_of_courier_in_mid_run(server: JobServer, by_spool: Outcome, tmp_path: Path) -> None:
    """Alpha goes from gRPC to the spool after the second commit; beta stays where it is."""
    with ProcessFederation(base=tmp_path, setting=LONG, server=server, couriers=GRPC) as federation:
        federation.set_up().start().begin()
        federation.wait_for(lambda: federation.show()["commits"] >= 2, "two commits")
        federation.change_to_the_spool("alpha")
        assert federation.show()["commits"] < LONG.num_rounds, "the change came too late to mean anything"
        federation.wait_for(federation.completed, "the run's end")
        federation.stop()
    check(federation.outcome(), by_spool)
