# SPDX-License-Identifier: Apache-2.0
"""The walkthrough on two machines with a slow link: enrolment online and through files, and an operator far away."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from services import Service, command_line, end_jobs_below, environment, wait_for
from two_machines import Machine, two_machines, why_not

from federation.corpus import write_corpus

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600), pytest.mark.xdist_group("two machines")]

NUM_ROUNDS = 3
PORT = 443
RUN_TOML = f"""
[run]
id = "far"
consortium = "root"
num_rounds = {NUM_ROUNDS}
[schedule]
num_inner_steps = 4
[codecs]
up = "int4"
down = "int4"
[model]
hidden_size = 32
intermediate_size = 64
num_layers = 2
num_heads = 2
[trainer]
batch_size = 2
sequence_length = 16
evaluation_bytes = 128
[[sites]]
id = "alpha"
[[sites]]
id = "beta"
"""


class World:
    """People at two machines, which share no directory but `desk`, where files are handed over."""

    def __init__(self, base: Path, centre: Machine, sites: Machine) -> None:
        self.base, self.centre, self.sites = base, centre, sites
        self.services: list[Service] = []
        for name in ("centre", "sites", "desk"):
            (base / name).mkdir()

    def at_the_centre(self, line: str, code: int = 0) -> str:
        """A command line typed at the coordinator's machine."""
        return self._type(self.centre, self.base / "centre", line, code)

    def at_the_sites(self, line: str, code: int = 0) -> str:
        """A command line typed at the other machine."""
        return self._type(self.sites, self.base / "sites", line, code)

    def _type(self, machine: Machine, directory: Path, line: str, code: int) -> str:
        program, *arguments = line.split()
        argv = machine.argv(*command_line(program, *arguments))
        done = subprocess.run(argv, cwd=directory, env=environment(), capture_output=True, text=True, timeout=240)
        assert done.returncode == code, f"{line}: expected {code}, found {done.returncode}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout if code == 0 else done.stderr

    def serve(self, machine: Machine, directory: str, line: str, name: str) -> None:
        """Leaves a command running."""
        program, *arguments = line.split()
        place = self.base / directory
        argv = ["env", "-C", str(place), *machine.argv(*command_line(program, *arguments))]
        service = Service(name=name, argv=argv, log=self.base / f"{name}.log")
        service.start()
        self.services.append(service)

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """Waits for something to become true, while everything runs."""
        return wait_for(condition, 240, what, self._supervise, self.base)

    def _supervise(self) -> None:
        for service in self.services:
            service.supervise()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    reason = why_not()
    if reason:
        pytest.skip(f"two machines: {reason}")
    with two_machines() as (centre, sites):
        world = World(tmp_path, centre, sites)
        yield world
        for service in reversed(world.services):
            service.stop()
        end_jobs_below(tmp_path)


def test_the_walkthrough_on_two_machines(world: World) -> None:
    fingerprint = found_the_consortium(world)
    enrol(world, fingerprint)
    world.serve(world.sites, "sites", "site-agent serve alpha", "alpha")
    world.serve(world.sites, "sites", "site-agent serve beta", "beta")
    steer_from_far_away(world)
    document = world.wait(lambda: completed(world), "the end of the run")
    assert document["commits"] == NUM_ROUNDS
    assert document["missed"] == {}
    export_and_verify(world, fingerprint)


def found_the_consortium(world: World) -> str:
    """Keys at both machines, one roster. Returns the root's fingerprint."""
    for site, languages in {"alpha": ("de", "fr"), "beta": ("et", "fi")}.items():
        write_corpus(world.base / "sites" / "texts" / site, languages, 30_000)
    fingerprint = str(json.loads(world.at_the_centre("federation consortium init root --json"))["root"])
    address = f"{world.centre.address}:{PORT}"
    world.at_the_centre(f"coordinator init coord --request ../desk/coordinator.req --listen {address}")
    world.at_the_centre("coordinator operator init olga --request ../desk/olga.req")
    world.at_the_sites("coordinator operator init otto --request ../desk/otto.req")
    for site, languages in {"alpha": "de,fr", "beta": "et,fi"}.items():
        options = f"--data texts/{site} --languages {languages} --policy accept"
        world.at_the_sites(f"site-agent init {site} --request ../desk/{site}.req {options}")
    requests = " ".join(f"../desk/{name}.req" for name in ("coordinator", "olga", "otto", "beta"))
    world.at_the_centre(f"federation consortium sign root {requests} --out roster")
    world.at_the_centre(f"coordinator roster install coord roster --root {fingerprint}")
    world.serve(world.centre, "centre", "coordinator serve coord", "coordinator")
    return fingerprint


def enrol(world: World, fingerprint: str) -> None:
    """Alpha and the far operator by invites, beta through files; then alpha becomes a member."""
    world.at_the_centre("coordinator site invite alpha --out ../desk/alpha.invite --as olga")
    world.at_the_centre("coordinator operator invite otto --out ../desk/otto.invite --as olga")
    world.at_the_centre("coordinator site certify coord ../desk/beta.req --out ../desk/beta.reply")
    world.at_the_sites(f"site-agent enroll alpha --invite ../desk/alpha.invite --root {fingerprint}")
    world.at_the_sites(f"site-agent enroll beta --reply ../desk/beta.reply --root {fingerprint}")
    world.at_the_sites(f"coordinator operator enroll otto --invite ../desk/otto.invite --root {fingerprint}")
    used = world.at_the_sites(f"coordinator operator enroll otto --invite ../desk/alpha.invite --root {fingerprint}", 1)
    assert "alpha" in used, "an invite of somebody else's is refused by name"
    for site in ("alpha", "beta"):
        world.at_the_sites(f"site-agent courier set {site} grpc")
    world.at_the_centre("coordinator site requests --out ../desk/requests --as olga")
    world.at_the_centre("federation consortium sign root ../desk/requests/alpha.req --out roster2")
    world.at_the_centre("coordinator roster install coord roster2")


def steer_from_far_away(world: World) -> None:
    """Otto has no access to the coordinator's directory: everything goes through the network."""
    (world.base / "sites" / "run.toml").write_text(RUN_TOML)
    world.at_the_sites("federation init-model run.toml --out model")
    world.wait(lambda: members(world) == ["alpha", "beta"], "the second roster")
    created = world.at_the_sites("coordinator run create run.toml --init model --as otto")
    assert "far" in created
    world.at_the_sites("coordinator run approve far --as otto")
    world.at_the_sites("coordinator run start far --as otto")


def members(world: World) -> list[str]:
    """Sites that the far operator sees."""
    found = json.loads(world.at_the_sites("coordinator site list --as otto --json"))
    return [site["site"] for site in found["sites"]]


def completed(world: World) -> Any:
    """The run's document once it is over."""
    document = json.loads(world.at_the_sites("coordinator run show far --as otto --json"))
    return document if document["state"] == "completed" else None


def export_and_verify(world: World, fingerprint: str) -> None:
    """The model arrives at the far machine; a checkpoint that a site kept anchors the ledger."""
    world.at_the_sites("coordinator run export far --out far.safetensors --as otto")
    watched = world.at_the_sites("coordinator run watch far --as otto --json").splitlines()
    assert json.loads(watched[-1])["state"] == "completed"
    for site in ("alpha", "beta"):
        status = json.loads(world.at_the_sites(f"site-agent status {site} --json"))
        assert status["fault"] == ""
        assert status["courier"]["courier"] == "grpc"
    checkpoint = world.base / "sites" / "alpha" / "state" / "ledger" / "checkpoint"
    verdict = world.at_the_centre(f"federation verify coord --root {fingerprint} --checkpoint {checkpoint} --json")
    assert json.loads(verdict)["verdict"] == "TRUE"
