# SPDX-License-Identifier: Apache-2.0
"""Invariant I6 with real processes: killed at any failpoint and started again, a run ends with the undisturbed bits.

SIGKILL leaves the page cache alone, so that missing fsyncs are no business of these tests: the simulator has those.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from federation_processes import PLAIN, RUN, SITES, STREAMING, JobServer, Outcome, ProcessFederation, Setting
from services import environment, maps_of, memory_of, run_command

from federation.leaves import Outcome as Verdict
from federation.rounds import RunState
from site_agent.site_config import REFERENCE_MODULE

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600), pytest.mark.xdist_group("kills")]

MAX_AGENT_BYTES = 200 * 1024 * 1024
COORDINATOR = (
    "coordinator.before-verdict",
    "coordinator.after-verdict",
    "coordinator.after-seal",
    "coordinator.mid-aggregation",
    "coordinator.before-commit-leaf",
    "coordinator.after-commit-leaf",
    "coordinator.after-state-recorded",
    "coordinator.before-tail",
)
"""In the order in which a round meets them: each restart goes on where the last one was killed."""

AGENT = {
    "alpha": ("agent.before-cosign", "agent.after-intent", "agent.after-submit", "agent.before-sign"),
    "beta": ("agent.after-sign", "agent.before-outcome", "agent.after-outcome", "agent.before-cosign"),
}
JOB = (
    "job.after-claim",
    "job.mid-window",
    "job.after-training-checkpoint",
    "job.after-encode",
    "job.after-publish",
    "job.before-merge",
    "job.after-merge",
)


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """An undisturbed run: what it left, and what its processes were like at the end."""

    federation: ProcessFederation
    outcome: Outcome
    document: dict[str, object]
    codes: dict[str, int]
    agents_memory: dict[str, int]
    agents_maps: dict[str, str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    server = JobServer(tmp_path_factory.mktemp("jobs"))
    yield server
    server.service.stop()


@pytest.fixture(scope="module")
def plain(server: JobServer, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """With jobs exactly as sites run them: nothing is forked."""
    base = tmp_path_factory.mktemp("plain")
    with ProcessFederation(base=base, setting=PLAIN, server=server, trainer=REFERENCE_MODULE) as federation:
        federation.set_up().start().run()
        federation.wait_for(lambda: _evaluated(federation), "the last evaluations")
        federation.wait_for(lambda: _jobs_ended(federation), "the jobs' ends")
        document = federation.show()
        pids = {site: federation.services[site].pid for site in SITES}
        memory = {site: memory_of(pid) for site, pid in pids.items()}
        maps = {site: maps_of(pid) for site, pid in pids.items()}
        codes = federation.stop()
    return Undisturbed(
        federation=federation,
        outcome=federation.outcome(),
        document=document,
        codes=codes,
        agents_memory=memory,
        agents_maps=maps,
    )


@pytest.fixture(scope="module")
def streaming(server: JobServer, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    base = tmp_path_factory.mktemp("streaming")
    with ProcessFederation(base=base, setting=STREAMING, server=server) as federation:
        federation.set_up().start().run().stop()
    return federation.outcome()


def _evaluated(federation: ProcessFederation) -> bool:
    newest = [e for e in federation.show()["evaluations"] if e["commits"] == PLAIN.num_rounds]
    return {e["site"] for e in newest} == set(SITES)


def _jobs_ended(federation: ProcessFederation) -> bool:
    """Whether each agent has seen its job's process gone."""
    views = [federation.view(site) for site in SITES]
    return all(view is not None and bool(view.allocation.sentence) for view in views)


def check(federation: ProcessFederation, expected: Outcome, setting: Setting, fired: dict[str, list[str]]) -> None:
    """Everything was killed where it should be, and the run ended as if nothing had happened."""
    assert federation.fired() == fired
    federation.stop()
    found = federation.outcome()
    run = found.run
    assert run.state is RunState.COMPLETED
    assert run.num_commits() == setting.num_rounds
    assert sorted(run.rounds) == list(range(setting.num_rounds)), "a round was abandoned and repeated"
    verdicts = {(r.number, site): v.outcome for r in run.rounds.values() for site, v in r.verdicts.items()}
    assert verdicts == {(n, site): Verdict.ADMITTED for n in range(setting.num_rounds) for site in SITES}
    assert found.theta == expected.theta


# --- undisturbed ------------------------------------------------------------------------------------------------------


def test_an_undisturbed_run_completes_and_every_process_ends_cleanly(plain: Undisturbed) -> None:
    assert plain.outcome.run.state is RunState.COMPLETED
    assert plain.outcome.run.num_commits() == PLAIN.num_rounds
    assert plain.codes == {"coordinator": 0, "carrier": 0, **dict.fromkeys(SITES, 0)}
    assert plain.document["state"] == "completed"
    for site in SITES:
        (allocation,) = plain.federation.agent_state(site).allocations[RUN]
        assert allocation.end is not None
        assert not allocation.end.failed


def test_federation_verify_finds_an_undisturbed_run_true(plain: Undisturbed) -> None:
    federation = plain.federation
    kept = [federation.site(site) / "state/ledger/checkpoint" for site in SITES]
    checkpoints = [part for path in kept for part in ("--checkpoint", path)]
    options = ("--root", federation.fingerprint, *checkpoints, "--json")
    document = json.loads(run_command("federation", "verify", federation.coordinator, *options))
    assert document["verdict"] == "TRUE", document


def test_a_serving_agent_has_neither_torch_nor_much_memory(plain: Undisturbed) -> None:
    for site in SITES:
        assert "site-packages" in plain.agents_maps[site], "the maps are those of a Python process with packages"
        assert "torch" not in plain.agents_maps[site]
        assert "numba" not in plain.agents_maps[site]
        assert plain.agents_memory[site] < MAX_AGENT_BYTES


def test_an_agent_imports_no_torch_whatever_it_does(plain: Undisturbed) -> None:
    """A whole pass over a run that trained, in a process that says what it has imported."""
    code = """
import sys
from site_agent.cli.main import main
try:
    main()
finally:
    print("imported", *sorted({name.partition(".")[0] for name in sys.modules}))
"""
    argv = [sys.executable, "-P", "-c", code, "tick", str(plain.federation.site("alpha"))]
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split("imported", 1)[1].split())
    assert {"site_agent", "federation", "cryptography"} <= imported
    assert not imported & {"torch", "transformers", "numba", "zarr", "coordinator"}


# --- killed -----------------------------------------------------------------------------------------------------------


def test_the_coordinator_killed_at_each_failpoint(server: JobServer, plain: Undisturbed, tmp_path: Path) -> None:
    with ProcessFederation(
        base=tmp_path, setting=PLAIN, server=server, coordinator_failpoints=COORDINATOR
    ) as federation:
        federation.set_up().start().run()
        check(federation, plain.outcome, PLAIN, {"coordinator": list(COORDINATOR)})


def test_agents_killed_at_each_failpoint(server: JobServer, plain: Undisturbed, tmp_path: Path) -> None:
    with ProcessFederation(base=tmp_path, setting=PLAIN, server=server, agent_failpoints=AGENT) as federation:
        federation.set_up().start().run()
        check(federation, plain.outcome, PLAIN, {site: list(names) for site, names in AGENT.items()})
        for site in SITES:
            (allocation,) = federation.agent_state(site).allocations[RUN]
            assert allocation.number == 1, "the job survived its agent"
            assert federation.agent_state(site).epoch == 1 + len(AGENT[site])


@pytest.mark.parametrize("setting", [PLAIN, STREAMING], ids=["plain", "streaming"])
def test_jobs_killed_at_each_failpoint(
    setting: Setting, server: JobServer, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    expected = request.getfixturevalue("plain").outcome if setting is PLAIN else request.getfixturevalue("streaming")
    failpoints = {"alpha": JOB, "beta": (*JOB[5:], *JOB[:5])}
    with ProcessFederation(base=tmp_path, setting=setting, server=server, job_failpoints=failpoints) as federation:
        federation.set_up().start().run()
        fired = {f"job of {site}": list(names) for site, names in failpoints.items()}
        check(federation, expected, setting, fired)
        for site in SITES:
            *killed, last = federation.agent_state(site).allocations[RUN]
            assert [a.end.reason for a in killed if a.end] == ["killed"] * len(JOB)
            assert last.number == len(JOB) + 1
