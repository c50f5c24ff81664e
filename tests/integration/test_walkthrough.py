# SPDX-License-Identifier: Apache-2.0
"""The README's walkthrough by hand: the same command lines, in one empty directory, with what each of them says.

Site alpha is served and enrols itself over the network, site beta ticks from cron and has none; both ask a person about
every run. One-shot commands run in this
process through their entry points, which saves a second of imports for each; whatever runs longer is a process.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from ports import free_port
from services import Service, command_line, end_jobs_below, environment, tail, wait_for

from coordinator.cli.main import cli as coordinator_cli
from federation.chunks import fragment_digest
from federation.cli.errors import exit_code_of
from federation.cli.main import federation as federation_cli
from federation.corpus import write_corpus
from federation.initial_model import load_initial_model, parse_tensors, to_fragments
from site_agent.cli.main import cli as site_agent_cli

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]


PROGRAMS: dict[str, click.Command] = {
    "federation": federation_cli,
    "coordinator": coordinator_cli,
    "site-agent": site_agent_cli,
}
NUM_ROUNDS = 4
PORT = free_port()
RUN_TOML = f"""
[run]
id = "first"
consortium = "root"
num_rounds = {NUM_ROUNDS}
[schedule]
num_inner_steps = 4
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
id = "alpha"
[[sites]]
id = "beta"
"""


QUIZ = {"context": "2 + 2 =", "choices": [" 4", " 5"], "answer": 0}
EVALUATION = """
[evaluation]
every_commits = 2
[[evaluation.tasks]]
name = "quiz"
language = "de"
path = "../quiz.jsonl"
"""


class Cron:
    """Starts `site-agent tick` again and again, one after the other; each must end with 0."""

    def __init__(self, site_dir: Path, log: Path) -> None:
        self.argv = command_line("site-agent", "tick", site_dir)
        self.log = log
        self.num_ended = 0
        self._process: subprocess.Popen[bytes] | None = None

    def supervise(self) -> None:
        """What cron does every minute."""
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            assert code == 0, f"tick ended with {code}: {tail(self.log)}"
            self.num_ended += 1
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(self.argv, stdout=output, stderr=output, env=environment())

    def stop(self) -> None:
        """Lets the last one end."""
        if self._process is not None:
            assert self._process.wait(120) == 0, tail(self.log)


class Desk:
    """People at their keyboards, in the directory that everything happens in."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.base, self._monkeypatch, self._capsys = base, monkeypatch, capsys
        self.services: list[Service] = []
        self.cron = Cron(base / "beta", base / "beta.log")
        self._ticking = False
        monkeypatch.chdir(base)
        monkeypatch.setenv("COLUMNS", "200")
        for name, value in environment().items():
            monkeypatch.setenv(name, value)

    def type(self, line: str, code: int = 0) -> str:
        """Types a command line; it must end with `code`, and never with a traceback. Returns what it printed."""
        program, *arguments = line.split()
        self._monkeypatch.setattr(sys, "argv", [program, *arguments])
        self._capsys.readouterr()
        found = exit_code_of(PROGRAMS[program])
        printed = self._capsys.readouterr()
        assert found == code, f"{line}: expected exit code {code}, found {found}: {printed.out}{printed.err}"
        return printed.out if code == 0 else printed.err

    def json(self, line: str) -> Any:
        """What a command prints with --json."""
        return json.loads(self.type(f"{line} --json"))

    def leave_running(self, line: str, log: str) -> Service:
        """Types a command line in a terminal of its own."""
        program, *arguments = line.split()
        service = Service(name=log, argv=command_line(program, *arguments), log=self.base / f"{log}.log")
        service.start()
        self.services.append(service)
        return service

    def tick_from_now_on(self) -> None:
        """Puts beta into cron's table."""
        self._ticking = True

    def supervise(self) -> None:
        """Nothing that should run has ended; cron does its work."""
        for service in self.services:
            service.supervise()
        if self._ticking:
            self.cron.supervise()

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """Waits for something to become true."""
        return wait_for(condition, 240, what, self.supervise, self.base)

    def stop(self) -> dict[str, int]:
        """Ends everything; exit codes by log name."""
        self.cron.stop()
        self._ticking = False
        codes = {service.name: service.stop() for service in reversed(self.services)}
        self.services.clear()
        return codes


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    desk = Desk(tmp_path, monkeypatch, capsys)
    yield desk
    for service in desk.services:
        service.stop()
    end_jobs_below(tmp_path)


def test_the_walkthrough_of_the_readme(desk: Desk) -> None:
    fingerprint = set_up(desk)
    serve(desk)
    enrol_alpha(desk, fingerprint)
    serve_the_sites(desk)
    create_and_approve(desk)
    accept_at_the_sites(desk)
    train_pause_and_roll_back(desk)
    resume_and_finish(desk)
    export(desk)
    refuse_and_abort_another_run(desk)
    assert desk.stop() == {"carrier": 0, "alpha": 0, "coordinator": 0}
    assert desk.cron.num_ended >= NUM_ROUNDS
    kept = "--checkpoint alpha/state/ledger/checkpoint --checkpoint beta/state/ledger/checkpoint"
    assert desk.json(f"federation verify coord --root {fingerprint} {kept}")["verdict"] == "TRUE"


def set_up(desk: Desk) -> str:
    """Keys, requests, roster, theta_0. Returns the root's fingerprint."""
    for site, languages in {"alpha": ("de", "fr"), "beta": ("et", "fi")}.items():
        write_corpus(desk.base / "texts" / site, languages, 30_000)
    fingerprint = str(desk.json("federation consortium init root")["root"])
    desk.type("federation consortium init root", code=2)
    desk.type(f"coordinator init coord --request coordinator.req --listen 127.0.0.1:{PORT}")
    desk.type("coordinator init coord --request coordinator.req", code=2)
    desk.type("coordinator operator init olga --request operator.req")
    desk.type("site-agent init alpha --request alpha.req --data texts/alpha --languages de,fr")
    assert desk.json("site-agent init beta --request beta.req --data texts/beta --languages et,fi")["site"] == "beta"
    desk.type("site-agent init alpha --request alpha.req --data texts/alpha --languages de,fr", code=2)
    for site in ("alpha", "beta"):
        (desk.base / "quiz.jsonl").write_text(f"{json.dumps(QUIZ)}\n" * 5)
        (desk.base / site / "site.toml").open("a").write(EVALUATION)
    assert "no roster is installed" in desk.type("site-agent tick alpha", code=2)
    signed = desk.json("federation consortium sign root coordinator.req operator.req beta.req --out roster")
    assert (signed["version"], signed["complete"], signed["root"]) == (1, True, fingerprint)
    assert fingerprint in desk.type("coordinator roster install coord roster")
    assert "expected" in desk.type(f"site-agent roster install alpha roster --root {'0' * 64}", code=1)
    installed = desk.json(f"site-agent roster install beta roster --root {fingerprint}")
    assert installed == {"version": 1, "root": fingerprint, "listed": True}
    (desk.base / "run.toml").write_text(RUN_TOML)
    made = desk.json("federation init-model run.toml --out model")
    assert set(made["files"]) == {"model.json", "theta0.safetensors"}
    return fingerprint


def serve(desk: Desk) -> None:
    """The coordinator in a terminal of its own."""
    answer = desk.type("coordinator run list --as olga --wait 0.1", code=1)
    assert "coordinator serve" in answer, "the advice names what is missing"
    desk.leave_running("coordinator serve coord", "coordinator")
    assert desk.json("coordinator run list --as olga")["runs"] == []


def enrol_alpha(desk: Desk, fingerprint: str) -> None:
    """An invite, a certificate, and membership through the next roster version."""
    invited = desk.json("coordinator site invite alpha --out alpha.invite --as olga")
    assert (invited["id"], invited["root"]) == ("alpha", fingerprint)
    assert (desk.base / "alpha.invite").stat().st_mode & 0o077 == 0, "an invite is a secret"
    refused = desk.type(f"site-agent enroll alpha --invite alpha.invite --root {'0' * 64}", code=1)
    assert fingerprint in refused
    assert not (desk.base / "alpha/rosters").exists(), "nothing of it is kept"
    enrolled = desk.json(f"site-agent enroll alpha --invite alpha.invite --root {fingerprint}")
    assert (enrolled["site"], enrolled["member"]) == ("alpha", False)
    assert desk.json("site-agent courier set alpha grpc")["courier"] == "grpc"
    assert desk.json("coordinator site requests --out requests --as olga")["files"] == ["requests/alpha.req"]
    signed = desk.json("federation consortium sign root requests/alpha.req --out roster2")
    assert (signed["version"], signed["complete"]) == (2, True)
    desk.type("coordinator roster install coord roster2")
    desk.wait(lambda: sites(desk) == ["alpha", "beta"], "the new roster in force")
    assert desk.json(f"site-agent roster install beta roster2 --root {fingerprint}")["version"] == 2


def sites(desk: Desk) -> list[str]:
    """Members that the coordinator lists."""
    return [site["site"] for site in desk.json("coordinator site list --as olga")["sites"]]


def serve_the_sites(desk: Desk) -> None:
    """Alpha in a terminal of its own, beta in cron's table, with a carrier."""
    desk.leave_running("site-agent serve alpha", "alpha")
    desk.leave_running("site-agent carrier beta coord", "carrier")
    desk.tick_from_now_on()
    checks = desk.wait(lambda: healthy(desk), "alpha's doctor is content")
    assert {"courier", "clock", "disk", "golden vectors", "certificate"} <= checks


def healthy(desk: Desk) -> set[str]:
    """Names of alpha's checks, once all are well."""
    document = desk.json("site-agent doctor alpha")
    return {check["check"] for check in document["checks"]} if document["ok"] else set()


def create_and_approve(desk: Desk) -> None:
    """A run from run.toml and theta_0; nothing starts before the approval."""
    created = desk.json("coordinator run create run.toml --init model --as olga")
    assert created["run"] == "first"
    assert "site" in created["availability"]
    assert "a run of that name exists" in desk.type("coordinator run create run.toml --init model --as olga", code=2)
    assert "needs a run that is approved" in desk.type("coordinator run start first --as olga", code=2)
    desk.type("coordinator run approve first --as olga")
    (run,) = desk.json("coordinator run list --as olga")["runs"]
    assert (run["run"], run["state"], run["manifest_digest"]) == ("first", "approved", created["manifest_digest"])
    assert "approved" in desk.type("coordinator run list --as olga")


def accept_at_the_sites(desk: Desk) -> None:
    """Both policies ask; both people look at the manifest and accept it."""
    for site in ("alpha", "beta"):
        desk.wait(lambda site=site: waiting(desk, site) == ["first"], f"{site} knows the run")  # type: ignore[misc]
    assert "waits for your answer" in desk.type("site-agent run list alpha")
    (shown,) = desk.json("site-agent run list alpha")
    assert shown["policy"] == "ask"
    assert show(desk)["answers"] == {}, "nobody has answered in the sites' stead"
    assert not (desk.base / "alpha/spool/allocations").exists(), "no job before the answer"
    assert "expected manifest 0000" in desk.type("site-agent run accept alpha first --manifest 0000", code=2)
    desk.type("site-agent run accept alpha other", code=2)
    accepted = desk.json(f"site-agent run accept alpha first --manifest {shown['manifest_digest'][:12]}")
    assert accepted["manifest_digest"] == shown["manifest_digest"]
    desk.type("site-agent run accept beta first")
    answered = {site: {"accepted": True, "reason": "none"} for site in ("alpha", "beta")}
    desk.wait(lambda: show(desk)["answers"] == answered, "both answers")
    desk.wait(lambda: waiting(desk, "alpha") == [], "alpha has nothing to answer any more")


def train_pause_and_roll_back(desk: Desk) -> None:
    """A few rounds, a pause, and back to the model after round 0."""
    started = desk.json("coordinator run start first --as olga")
    assert started["leaf"] > 0
    desk.wait(lambda: show(desk)["commits"] >= 2, "two commits")
    desk.type("coordinator run pause first --as olga")
    desk.type("coordinator run pause first --as olga", code=2)
    document = desk.wait(lambda: settled(desk), "no open round in the pause")
    assert document["state"] == "paused"
    assert document["reason"] == "paused by olga"
    last = document["round_log"][-1]["round"]
    assert f"-1 (theta_0) to {last}" in desk.type("coordinator run rollback first --to-round 99 --as olga", code=2)
    rolled = desk.json("coordinator run rollback first --to-round 0 --as olga")
    assert rolled["number"] == 0
    document = show(desk)
    assert document["commits"] == 1
    assert [head["version"] for head in document["heads"]] == [1]
    states = [found["state"] for found in document["round_log"]]
    assert states == ["committed"] + ["reverted"] * (len(states) - 1)
    assert len(states) >= 2


def settled(desk: Desk) -> Any:
    """The document, once no round is open and neither site has a job."""
    document = show(desk)
    jobs = {site["allocation"] for site in document["sites_now"].values()}
    return document if not document["open_rounds"] and jobs <= {"ended", "none"} else None


def resume_and_finish(desk: Desk) -> None:
    """The rest of the rounds, watched."""
    log = desk.base / "watch.json"
    desk.type("coordinator run resume first --as olga")
    with log.open("wb") as output:
        argv = command_line("coordinator", "run", "watch", "first", "--as", "olga", "--json", "--every", "0.5")
        # An operator's directory serves one command at a time, so nothing else of hers is typed until it ends.
        watcher = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT, env=environment())
    desk.wait(lambda: watcher.poll() is not None, "the end of the run")
    assert watcher.returncode == 0, log.read_text()
    documents = [json.loads(line) for line in log.read_text().splitlines()]
    assert [document["run"] for document in documents] == ["first"] * len(documents)
    assert documents[0]["state"] == "running"
    assert documents[-1]["state"] == "completed"
    assert documents[-1]["commits"] == NUM_ROUNDS
    desk.wait(lambda: evaluated(show(desk)), "the last evaluations")
    found = desk.wait(lambda: scored(show(desk)), "the last scores of tasks")
    assert {score["num_items"] for scores in found for score in scores} == {5}
    assert all("bits per byte" in line for line in show(desk)["disagreements"])
    printed = desk.type("coordinator run show first --as olga")
    (score,) = {score["score"] for scores in found for score in scores if score["metric"] == "acc_norm"}
    assert re.search(rf"quiz de acc_norm: {score:.3f} \(.*\), beta,", printed)
    assert f"tasks of the model of {NUM_ROUNDS} commits: 2 scores" in desk.type("site-agent status alpha")
    assert f"COMPLETED  {NUM_ROUNDS}/{NUM_ROUNDS} rounds committed" in printed
    assert "reverted" in printed
    (run,) = desk.json("site-agent run list alpha --all")
    assert (run["answer"], run["state"], run["num_commits"]) == ("accepted", "completed", NUM_ROUNDS)


def evaluated(document: Any) -> bool:
    """Whether both sites have scored the final model."""
    sites = {e["site"] for e in document["evaluations"] if e["commits"] == NUM_ROUNDS}
    return sites == {"alpha", "beta"}


def scored(document: Any) -> Any:
    """The scores of a task by both sites, of the final model, once they are there."""
    found = {e["site"]: e["scores"] for e in document["tasks"] if e["commits"] == NUM_ROUNDS}
    return list(found.values()) if found.keys() == {"alpha", "beta"} else None


def export(desk: Desk) -> None:
    """Models as safetensors, equal to the ledger's digests."""
    document = show(desk)
    newest = desk.json("coordinator run export first --out first.safetensors --as olga")
    again = "coordinator run export first --out first.safetensors --as olga"
    assert "expected a new file" in desk.type(again, code=2)
    assert desk.json(f"{again} --overwrite") == newest
    assert newest["commits"] == NUM_ROUNDS
    assert theta(desk, "first.safetensors") == document["heads"][0]["theta"]
    early = desk.json("coordinator run export first --round 0 --out early.safetensors --as olga")
    assert early["commits"] == 1
    assert theta(desk, "early.safetensors") == document["round_log"][0]["theta"]
    for number in (1, 77):  # reverted, never opened
        answer = desk.type(f"coordinator run export first --round {number} --as olga", code=2)
        assert "not a commit in force" in answer
    assert not (desk.base / "model.safetensors").exists()


def theta(desk: Desk, name: str) -> str:
    """Digest of an exported model's one fragment."""
    description, _ = load_initial_model(desk.base / "model")
    tensors = parse_tensors((desk.base / name).read_bytes(), name)
    (vector,) = to_fragments(tensors, description.fragments, name)
    return fragment_digest(vector)


def refuse_and_abort_another_run(desk: Desk) -> None:
    """Alpha's person refuses; the operator gives up. No job is ever started for it."""
    (desk.base / "second.toml").write_text(RUN_TOML.replace('"first"', '"second"'))
    desk.type("coordinator run create second.toml --init model --as olga")
    desk.wait(lambda: waiting(desk, "alpha") == ["second"], "alpha knows the second run")
    assert desk.json("site-agent run refuse alpha second") == {"run": "second", "accepted": False}
    declined = {"alpha": {"accepted": False, "reason": "policy"}}
    desk.wait(lambda: show(desk, "second")["answers"] == declined, "the refusal")
    refused = desk.type("coordinator run abort second --as olga --confirm first", code=2)
    assert "ends for good after 0 of" in refused
    assert "expected second, found first; nothing was ordered" in refused
    desk.type("coordinator run abort second --as olga --confirm second")
    desk.type("coordinator run resume second --as olga", code=2)
    assert json.loads(desk.type("coordinator run watch second --as olga --json"))["state"] == "aborted"
    assert "ABORTED" in desk.type("coordinator run watch second --as olga")
    desk.wait(lambda: waiting(desk, "beta") == [], "beta has nothing to answer any more")
    assert not (desk.base / "alpha/spool/allocations/second").exists()
    states = {run["run"]: run["state"] for run in desk.json("coordinator run list --as olga")["runs"]}
    assert states == {"first": "completed", "second": "aborted"}
    status = desk.json("site-agent status alpha")
    assert (status["site"], status["fault"]) == ("alpha", "")
    assert "site beta:" in desk.type("site-agent status beta")


def show(desk: Desk, run: str = "first") -> Any:
    """The operator's view."""
    return desk.json(f"coordinator run show {run} --as olga")


def waiting(desk: Desk, site: str) -> list[str]:
    """Runs that wait for a site's person."""
    if not (desk.base / site / "state/view.json").exists():
        return []
    return [run["run"] for run in desk.json(f"site-agent run list {site}")]
