# SPDX-License-Identifier: Apache-2.0
"""docs/operations/new-site.md: its command lines as they stand there, on a fake Slurm, end in an accepted update.

Only what differs from machine to machine is put in another one's place: options' values, the fingerprint, the run's id.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from fake_slurm import FakeSlurm
from ports import free_port
from services import Service, command_line, end_jobs_below, environment, run_command, wait_for

from federation.corpus import write_corpus

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

PAGE: Final = Path(__file__).parents[2] / "docs/operations/new-site.md"
BLOCKS: Final = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
HERE: Final = {
    "--profile": "localhost",
    "--partition": "batch",
    "--account": "",
    "--qos": "",
    "--nodes": "1",
    "--wall-seconds": "600",
    "--data": "texts",
    "--languages": "fi,sv",
}
"""Values of options that fit the fake cluster and the generated texts."""

RUN_TOML: Final = """
[run]
id = "first"
consortium = "root"
num_rounds = 1
[schedule]
num_inner_steps = 2
[codecs]
up = "int4"
down = "int4"
[model]
hidden_size = 16
intermediate_size = 32
num_layers = 1
num_heads = 2
[trainer]
batch_size = 2
sequence_length = 16
evaluation_bytes = 128
[[sites]]
id = "SITE"
"""


def lines_of(block: str, fingerprint: str) -> list[list[str]]:
    """The page's command lines as words, with this machine's values."""
    found = [shlex.split(line) for line in block.replace("\\\n", " ").splitlines()]
    own = {"FINGERPRINT": fingerprint, "RUN": "first"}
    return [
        [own.get(word, HERE.get(before, word)) for before, word in zip(["", *words], words, strict=False)]
        for words in found
    ]


class Desk:
    """Everybody at once, in one directory; the site's operator has Slurm's commands in PATH."""

    def __init__(self, base: Path) -> None:
        self.base, self.services = base, dict[str, Service]()
        slurm = FakeSlurm(base / "slurm", runs_jobs=True)
        slurm.set_partitions(batch=14_400)
        self.path = slurm.environment

    def type(self, line: str) -> str:
        program, *words = line.split()
        return run_command(program, *words, **self.path)

    def json(self, line: str) -> Any:
        return json.loads(self.type(f"{line} --json"))

    def leave_running(self, line: str) -> None:
        program, *words = line.split()
        argv, log = command_line(program, *words), self.base / f"{words[0]}-{len(self.services)}.log"
        self.services[line] = Service(name=line, argv=argv, log=log, extra=self.path)
        self.services[line].start()

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        def supervise() -> None:
            for service in self.services.values():
                service.supervise()

        return wait_for(condition, 240, what, supervise, self.base)

    def stop(self) -> None:
        for service in reversed(self.services.values()):
            service.stop()
        end_jobs_below(self.base)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.chdir(tmp_path)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    desk = Desk(tmp_path)
    yield desk
    desk.stop()


def consortium(desk: Desk, site: str) -> str:
    """What is there before the site: root, coordinator, an operator, theta_0, an invite. Returns the fingerprint."""
    write_corpus(desk.base / "texts", ("fi", "sv"), 20_000)
    fingerprint = str(desk.json("federation consortium init root")["root"])
    desk.type(f"coordinator init coord --request coordinator.req --listen 127.0.0.1:{free_port()}")
    desk.type("coordinator operator init olga --request operator.req")
    desk.type("federation consortium sign root coordinator.req operator.req --out roster1")
    desk.type("coordinator roster install coord roster1")
    (desk.base / "run.toml").write_text(RUN_TOML.replace("SITE", site))
    desk.type("federation init-model run.toml --out model")
    desk.leave_running("coordinator serve coord")
    desk.type(f"coordinator site invite {site} --out {site}.invite --as olga")
    return fingerprint


def sign(desk: Desk, request: str) -> None:
    """The key holders take the site in."""
    desk.type(f"federation consortium sign root {request} --out roster")
    desk.type("coordinator roster install coord roster")


def after(desk: Desk, words: list[str], site: str) -> None:
    """What the others do, or the operator waits for, after a command of the site's."""
    match words[1:3]:
        case ["init", _] if site == "bsc":
            sign(desk, "bsc.req")
        case ["courier", "set"]:
            desk.type("coordinator site requests --out requests --as olga")
            sign(desk, f"requests/{site}.req")
        case ["serve", _]:
            if site == "bsc":
                desk.leave_running(f"site-agent carrier {site} coord")
            desk.wait(lambda: heard(desk, site), "the first word of the coordinator")
        case ["doctor", _]:
            desk.type("coordinator run create run.toml --init model --as olga")
            desk.type("coordinator run approve first --as olga")
            desk.wait(lambda: "first" in desk.type(f"site-agent run list {site}"), "the run")
        case ["run", "accept"]:
            desk.wait(lambda: job(desk, site) == "ready", "the first job")
            desk.type("coordinator run start first --as olga")
            desk.wait(lambda: verdict(desk, site) == "admitted", "the verdict")


def heard(desk: Desk, site: str) -> bool:
    return (desk.base / site / "state/view.json").exists() and bool(
        desk.json(f"site-agent status {site}")["heard_at_us"]
    )


def job(desk: Desk, site: str) -> str:
    return next((str(run["allocation"]["state"]) for run in desk.json(f"site-agent status {site}")["runs"]), "")


def verdict(desk: Desk, site: str) -> str:
    rounds = desk.json("coordinator run show first --as olga")["round_log"]
    return next((str(found["verdicts"][site]["outcome"]) for found in rounds if site in found["verdicts"]), "")


@pytest.mark.parametrize(("number", "site"), [(0, "lumi"), (1, "bsc")], ids=["with a network", "by files"])
def test_the_pages_commands_end_in_an_accepted_update(desk: Desk, number: int, site: str) -> None:
    lines = lines_of(BLOCKS[number], consortium(desk, site))
    assert 0 < len(lines) <= 10
    for words in lines:
        if words[1] == "serve":
            desk.leave_running(shlex.join(words))
        else:
            said = run_command(words[0], *words[1:], **desk.path)
        after(desk, words, site)
    assert lines[-1][1] == "status"
    desk.wait(lambda: "1/1 rounds" in desk.type(shlex.join(lines[-1])), "the commit at the site")
    assert "accepted: the site's operator accepted this manifest" in said
