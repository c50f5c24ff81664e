# SPDX-License-Identifier: Apache-2.0
"""A whole federation whose sites are carried over ssh from outside, by rsync and by sftp: the digest is the same."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import ssh_server
from federation_processes import PLAIN, SITES, JobServer, Outcome, ProcessFederation
from ssh_server import SshServer

from federation.leaves import Outcome as Verdict
from federation.rounds import RunState

WHY_NOT = ssh_server.why_not()
pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("same digest"),
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-"),
]

VIA = {"alpha": "rsync", "beta": "sftp"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    server = JobServer(tmp_path_factory.mktemp("jobs"))
    yield server
    server.service.stop()


def outcome_of(federation: ProcessFederation) -> Outcome:
    with federation:
        federation.set_up().start().run().stop()
    return federation.outcome()


def test_carried_over_ssh_a_run_ends_with_the_same_digest(server: JobServer, tmp_path: Path) -> None:
    expected = outcome_of(ProcessFederation(base=make(tmp_path / "local"), setting=PLAIN, server=server))
    with SshServer(directory=tmp_path / "sshd") as host:

        def arguments(federation: ProcessFederation, site: str) -> Sequence[str | Path]:
            remote = f"{host.address}:{federation.site(site)}"
            known = f"UserKnownHostsFile={host.known_hosts}"
            options = ["--identity", host.identity, "--ssh-option", known, "--poll-seconds", "0.05"]
            return ["--remote", remote, "--site", site, "--via", VIA[site], *options, federation.coordinator]

        over_ssh = ProcessFederation(
            base=make(tmp_path / "ssh"), setting=PLAIN, server=server, carrier_arguments=arguments
        )
        found = outcome_of(over_ssh)
        assert host.num_logins == len(SITES)
    assert found.run.state is RunState.COMPLETED
    verdicts = {v.outcome for found_round in found.run.rounds.values() for v in found_round.verdicts.values()}
    assert verdicts == {Verdict.ADMITTED}
    assert found.theta == expected.theta


def make(directory: Path) -> Path:
    directory.mkdir()
    return directory
