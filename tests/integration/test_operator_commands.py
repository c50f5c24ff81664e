# SPDX-License-Identifier: Apache-2.0
"""Invites, requests, certificates by hand, revocations and status, typed by an operator against a live coordinator."""

import hashlib
import io
import json
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest

from coordinator import metrics_desk, observation_store, startup
from coordinator.cli.main import cli as coordinator_cli
from coordinator.home import load_issuers
from coordinator.observations import Progress, SiteSeen
from coordinator.phases import PhaseLog
from coordinator.rpc.enrolment import EnrolmentDesk
from coordinator.rpc.membership import membership_of
from coordinator.service import Coordinator
from coordinator.startup import open_coordinator
from federation import leaves as lv
from federation.certificates import CertRole, Identity, der, read_certificate, read_identity
from federation.cli.errors import exit_code_of
from federation.cli.main import federation as federation_cli
from federation.corpus import write_corpus
from federation.durable.real import RealFileSystem
from federation.invite import Invite, read_invite
from federation.leaves import PartyKind
from federation.messages import SiteStatus, Telemetry
from federation.rpc.enrolment import enrolled_from_bytes
from federation.testing.history import history
from site_agent.cli.main import cli as site_agent_cli

pytestmark = pytest.mark.timeout(120)

ENDPOINT = "coordinator.example.org:443"
RUN_TOML = """
[run]
id = "slow"
consortium = "root"
num_rounds = 4
[schedule]
num_inner_steps = 60
seconds_per_step = 2.0
[model]
hidden_size = 16
intermediate_size = 32
num_layers = 1
num_heads = 2
[trainer]
batch_size = 2
sequence_length = 16
[[sites]]
id = "alpha"
courier_round_trip_seconds = 600
[[sites]]
id = "beta"
"""
PROGRAMS: dict[str, click.Command] = {
    "federation": federation_cli,
    "coordinator": coordinator_cli,
    "site-agent": site_agent_cli,
}


@dataclass(kw_only=True)
class Office:
    """A coordinator that a thread drives, and people who type in the same directory."""

    base: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    with_issuer: bool = True
    complaints: str = ""
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    problems: list[BaseException] = field(default_factory=list)

    def type(self, line: str, code: int = 0, stdin: str = "") -> str:
        """A command line; it must end with `code`. Returns what it printed, with `code` 0 only on standard output."""
        program, *arguments = line.split()
        self.monkeypatch.setattr(sys, "argv", [program, *arguments])
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        self.capsys.readouterr()
        found = exit_code_of(PROGRAMS[program])
        printed = self.capsys.readouterr()
        self.complaints = printed.err
        assert found == code, f"{line}: expected exit code {code}, found {found}: {printed.out}{printed.err}"
        return printed.out if code == 0 else printed.err

    def json(self, line: str, **options: Any) -> Any:
        return json.loads(self.type(f"{line} --json", **options))

    def serve(self) -> None:
        """Drives the coordinator until `stop`."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._drive, daemon=True)
        self._thread.start()

    def _drive(self) -> None:
        try:
            coordinator = open_coordinator(self.base / "coord", time.time())
            if self.with_issuer:
                desk = self.desk(coordinator)
                coordinator.invites = lambda invite, public: desk.invite_document(invite, public, time.time())
            while not self._stop.is_set():
                if not coordinator.step(time.time()):
                    self._stop.wait(0.01)
            coordinator.ledger.close()
        except BaseException as error:
            self.problems.append(error)

    def desk(self, coordinator: Coordinator) -> EnrolmentDesk:
        issuers = load_issuers(coordinator.fs)
        assert issuers is not None
        return EnrolmentDesk(coordinator.fs, issuers, coordinator.consortium, ENDPOINT)

    def stop(self) -> Coordinator:
        """Stops driving; returns the coordinator as its directory has it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(30)
            self._thread = None
        assert self.problems == []
        return open_coordinator(self.base / "coord", time.time())

    def enrol_over(self, invite: Invite, request: bytes) -> bytes:
        """What the Enroll call does, without a socket."""
        coordinator = self.stop()
        answer = self.desk(coordinator).enroll(
            self.identity_of(invite), bytes.fromhex(invite.token), request, membership_of(coordinator), time.time()
        )
        self.serve()
        return answer.certificate

    def identity_of(self, invite: Invite) -> Identity:
        issuers = load_issuers(RealFileSystem(self.base / "coord"))
        assert issuers is not None
        certificate = invite.certificate.encode()
        return read_identity(certificate, der(issuers.tls.certificate), der(issuers.enrolment.certificate), time.time())


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Office]:
    """Coordinator, operator olga, viewer vera, sites alpha and beta in roster version 1."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    office = Office(base=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    write_corpus(tmp_path / "texts", ("de",), 2000)
    office.type("federation consortium init root")
    office.type("coordinator init coord --request coordinator.req")
    office.type("coordinator operator init olga --request olga.req")
    office.type("coordinator operator init vera --request vera.req --role viewer")
    for site in ("alpha", "beta"):
        office.type(f"site-agent init {site} --request {site}.req --data texts --languages de")
    office.type("federation consortium sign root coordinator.req olga.req vera.req alpha.req beta.req --out roster")
    office.type("coordinator roster install coord roster")
    office.serve()
    yield office
    office.stop()


def leaves(coordinator: Coordinator, kind: type[Any]) -> list[Any]:
    return [leaf.body for leaf in coordinator.ledger.leaves() if isinstance(leaf.body, kind)]


# --- invites ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("group", "kind"), [("site", PartyKind.SITE), ("operator", PartyKind.OPERATOR)])
def test_an_invite_file_holds_all_that_a_newcomer_needs_and_the_ledger_no_secret(
    office: Office, group: str, kind: PartyKind
) -> None:
    said = office.json(f"coordinator {group} invite gamma --as olga --out gamma.invite --valid-hours 2")
    path = office.base / "gamma.invite"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    invite = read_invite(path)
    fingerprint = (office.base / "coord/root").read_text()
    assert (invite.kind, invite.id, invite.root, invite.endpoint) == (kind, "gamma", fingerprint, ENDPOINT)
    assert abs(invite.expires_at_us / 1e6 - time.time() - 7200) < 60
    identity = office.identity_of(invite)
    assert (identity.roles, identity.kind, identity.id) == ((CertRole.BOOTSTRAP,), kind, "gamma")
    (issued,) = leaves(office.stop(), lv.InviteIssuedV1)
    assert issued.token_digest == hashlib.sha256(bytes.fromhex(invite.token)).hexdigest()
    assert (issued.kind, issued.party, issued.operator, issued.command) == (kind, "gamma", "olga", said["command"])
    secrets = (invite.token.encode(), bytes.fromhex(invite.token), invite.key.encode())
    for file in (office.base / "coord").rglob("*"):
        assert not file.is_file() or not any(secret in file.read_bytes() for secret in secrets), file


def test_an_invite_whose_reply_was_lost_is_the_same_again(office: Office) -> None:
    first = office.json("coordinator site invite gamma --as olga --out one.invite --command-id i1")
    again = office.json("coordinator site invite gamma --as olga --out two.invite --command-id i1 --valid-hours 1")
    assert again["leaf"] == first["leaf"]
    one, two = (read_invite(office.base / name) for name in ("one.invite", "two.invite"))
    assert (one.token, one.key, one.expires_at_us) == (two.token, two.key, two.expires_at_us)
    other = office.type("coordinator site invite delta --as olga --out three.invite --command-id i1", code=2)
    assert "invited site gamma with another token" in other
    assert not (office.base / "three.invite").exists()
    assert len(leaves(office.stop(), lv.InviteIssuedV1)) == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("site invite gamma --as olga --out olga.req", "--out: expected a new file"),
        ("site invite gamma --as olga --out new --valid-hours 0", "--valid-hours: expected more than 0"),
        ("site invite gamma --as olga --out new --valid-hours 721", "found 721"),
        ("site invite gamma --as olga --out new --valid-hours nan", "found nan"),
        (f"site invite gamma --as olga --out new --root {'0' * 64}", "as pinned in"),
        ("site invite gamma --as olga --out new --endpoint nowhere", "expected HOST:PORT"),
        ("site invite ../up --as olga --out new", "lower-case"),
        ("site invite coordinator --as olga --out new", "expected one of its own"),
        ("operator invite alpha --as olga --out new", "has a site of that name"),
        ("site invite olga --as olga --out new", "has an operator of that name"),
        ("site invite gamma --as vera --out new", "vera has no operator's role"),
        ("site invite gamma --as olga --out new --endpoint 0.0.0.0:443", "expected a HOST:PORT that others can dial"),
        ("site invite gamma --as olga --out new --endpoint [::]:443", "set `endpoint` in coordinator.toml"),
        ("site revoke atlantis --as olga --confirm atlantis", "not in roster version 1"),
        ("site revoke vera --as olga --confirm vera", "federation consortium sign ROOT --remove operator:vera"),
        ("site drain atlantis --as olga", "not in roster version 1"),
        ("run abort nothing --as olga --confirm nothing", "no run of that name"),
        ("site certify coord alpha.req --out olga.req", "--out: expected a new file"),
        ("site certify olga alpha.req --out new", "has no TLS issuer"),
        ("run list --as texts", "/texts: expected a directory that `coordinator operator init` made"),
        (
            "site invite gamma --as coord --out new",
            "/coord: expected a directory that `coordinator operator init` made",
        ),
        ("operator enroll alpha", "/alpha: expected a directory that `coordinator operator init` made"),
        ("serve olga", "/olga: expected a directory that `coordinator init` made"),
        ("roster install alpha roster", "/alpha: expected a directory that `coordinator init` made"),
    ],
)
def test_what_does_not_fit_is_refused_in_words_and_leaves_nothing(office: Office, line: str, words: str) -> None:
    assert words in office.type(f"coordinator {line}", code=2)
    assert not (office.base / "new").exists()
    assert {type(leaf.body) for leaf in office.stop().ledger.leaves()} <= {lv.RosterInstalledV1}


def test_a_coordinator_without_a_network_cannot_invite(office: Office) -> None:
    office.stop()
    office.with_issuer = False
    office.serve()
    said = office.type("coordinator site invite gamma --as olga --out new", code=2)
    assert "this coordinator has no TLS issuer" in said
    assert leaves(office.stop(), lv.InviteIssuedV1) == []


def test_an_address_that_nobody_can_dial_is_not_invited_to(office: Office) -> None:
    (office.base / "coord/status").mkdir(exist_ok=True)
    (office.base / "coord/status/network.json").write_text('{"endpoint": "0.0.0.0:443"}')
    said = office.type("coordinator site invite gamma --as olga --out new", code=2)
    assert "expected a HOST:PORT that others can dial, found 0.0.0.0:443" in said
    office.type("coordinator site invite gamma --as olga --out gamma.invite --endpoint a.example.org:443")
    assert read_invite(office.base / "gamma.invite").endpoint == "a.example.org:443"
    assert len(leaves(office.stop(), lv.InviteIssuedV1)) == 1, "the refused one was not ordered"


def test_an_invited_operator_is_told_both_steps(office: Office) -> None:
    said = office.type("coordinator operator invite otto --as olga --out otto.invite").splitlines()
    fingerprint = (office.base / "coord/root").read_text()
    assert said[-2:] == [
        "  coordinator operator init otto --request otto.req",
        f"  coordinator operator enroll otto --invite otto.invite --root {fingerprint}",
    ]


def test_an_enrolment_that_failed_leaves_nothing(office: Office) -> None:
    office.type("coordinator operator init otto --request otto.req")
    office.type("coordinator operator invite otto --as olga --out otto.invite --endpoint 127.0.0.1:1")
    root = (office.base / "coord/root").read_text()
    before = {path: path.read_bytes() for path in (office.base / "otto").rglob("*") if path.is_file()}
    office.type(f"coordinator operator enroll otto --invite otto.invite --root {root}", code=1)
    assert {path: path.read_bytes() for path in (office.base / "otto").rglob("*") if path.is_file()} == before


def test_invites_that_wait_for_nobody_any_more_are_not_listed(office: Office) -> None:
    for name, hours in (("gamma", 168), ("delta", 0.0006), ("alpha", 168)):
        office.type(f"coordinator site invite {name} --as olga --out {name}.invite --valid-hours {hours}")
    wait_for(lambda: time.time() * 1e6 > read_invite(office.base / "delta.invite").expires_at_us)
    listed = office.json("coordinator site list --as olga")["invites"]
    assert [(i["party"], i["member"]) for i in listed] == [("gamma", False), ("alpha", True)]
    printed = office.type("coordinator site list --as olga")
    assert "invite: site gamma, by olga, expires in 7 days" in printed
    assert "invite: site delta" not in printed, "it has expired"
    assert "invite: site alpha" not in printed, "it is a member"


# --- from the invite to the roster ------------------------------------------------------------------------------------


def test_a_newcomers_request_reaches_the_root_and_leaves_the_list_once_it_is_signed(office: Office) -> None:
    office.type("coordinator site invite gamma --as olga --out gamma.invite")
    office.type("site-agent init gamma --request gamma.req --data texts --languages de")
    request = (office.base / "gamma.req").read_bytes()
    office.enrol_over(read_invite(office.base / "gamma.invite"), request)
    listed = office.json("coordinator site list --as olga")
    assert [(r["kind"], r["id"]) for r in listed["requests"]] == [("site", "gamma")]
    assert listed["invites"] == [], "it was used"
    printed = office.type("coordinator site list --as olga")
    assert "request: site gamma waits for the root" in printed
    assert "invite:" not in printed
    problems = office.json("coordinator status --as vera")["problems"]
    assert (
        "site gamma: its key request waits for the consortium root; `coordinator site requests` fetches it" in problems
    )
    assert office.json("coordinator site requests --as olga --out wanted") == {"files": ["wanted/gamma.req"]}
    assert (office.base / "wanted/gamma.req").read_bytes() == request
    assert office.json("coordinator site requests --as olga --out wanted") == {"files": ["wanted/gamma.req"]}
    (office.base / "wanted/gamma.req").write_bytes(b"mine")
    assert "expected no other gamma.req" in office.type("coordinator site requests --as olga --out wanted", code=2)
    office.type("federation consortium sign root gamma.req --out roster2")
    office.type("coordinator roster install coord roster2")
    wait_for(lambda: not office.json("coordinator site list --as olga")["requests"])
    assert office.json("coordinator site requests --as olga --out none") == {"files": []}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline


def test_a_site_without_a_network_is_certified_by_hand(office: Office) -> None:
    office.type("coordinator site certify coord beta.req --out beta.reply")
    reply = enrolled_from_bytes((office.base / "beta.reply").read_bytes())
    assert reply.member
    certificate = read_certificate(reply.certificate)
    (office.base / "coord/coordinator.toml").write_text('[network]\nlisten = "0.0.0.0:443"\n')
    again = office.json("coordinator site certify coord beta.req --out beta2.reply")
    assert enrolled_from_bytes((office.base / "beta2.reply").read_bytes()).endpoint == "", "nobody can dial that"
    assert again["member"]
    assert der(certificate) == enrolled_from_bytes((office.base / "beta2.reply").read_bytes()).certificate
    fingerprint = (office.base / "coord/root").read_text()
    office.type(f"site-agent enroll beta --reply beta.reply --root {fingerprint}")
    office.type("site-agent init gamma --request gamma.req --data texts --languages de")
    stranger = office.type("coordinator site certify coord gamma.req --out gamma.reply", code=1)
    assert "found neither" in stranger
    assert "First have the consortium root sign this request" in stranger
    assert "invite." not in stranger
    (office.base / "junk.req").write_bytes(b"junk")
    office.type("coordinator site certify coord junk.req --out gamma.reply", code=1)
    assert not (office.base / "gamma.reply").exists()
    office.type("coordinator site revoke beta --as olga --confirm beta")
    revoked = office.type("coordinator site certify coord beta.req --out beta3.reply", code=1)
    assert "revoked by an operator" in revoked
    assert "First have" not in revoked


# --- revocation -------------------------------------------------------------------------------------------------------


def test_a_revocation_wants_the_name_and_comes_back_alike(office: Office) -> None:
    for typed in ("", "alpha\n", "BETA\n"):
        refused = office.type("coordinator site revoke beta --as olga", code=2, stdin=typed)
        assert "nothing that beta sends is taken" in refused, "the consequences come first"
        assert "nothing was ordered" in refused
    assert "expected beta, found alpha" in office.type("coordinator site revoke beta --as olga --confirm alpha", code=2)
    first = office.json("coordinator site revoke beta --as olga --command-id r1", stdin="beta\n")
    again = office.json("coordinator site revoke beta --as olga --command-id r1 --confirm beta")
    assert first == again, "the same operator and id, the same answer"
    assert "is revoked already" in office.type("coordinator site revoke beta --as olga --confirm beta", code=2)
    states = {entry["site"]: entry["state"] for entry in office.json("coordinator site list --as olga")["sites"]}
    assert states == {"alpha": "active", "beta": "revoked"}
    (revoked,) = leaves(office.stop(), lv.SiteRevokedV1)
    assert (revoked.site, revoked.operator, revoked.command) == ("beta", "olga", "r1")


def test_of_a_revoked_site_is_said_how_it_comes_back(office: Office) -> None:
    office.type("coordinator site revoke beta --as olga --confirm beta")
    resumed = office.type("coordinator site resume beta --as olga", code=2)
    assert "is revoked, not drained" in resumed
    assert "another update key" in resumed
    office.type("coordinator site invite beta --as olga --out beta.invite")
    assert "comes back only with new keys, made by `site-agent init` in a new directory" in office.complaints
    office.type("coordinator site invite alpha --as olga --out alpha.invite")
    assert office.complaints == ""


def test_who_only_asks_in_vain_hears_that_nothing_was_changed(office: Office) -> None:
    office.stop()
    for question in ("status", "run list", "run show demo", "site list"):
        said = office.type(f"coordinator {question} --as olga --wait 0.1", code=1)
        assert "nothing was changed" in said
        assert "coordinator serve" in said
        assert "repeat" not in said
        assert "queued" not in said
    said = office.type("coordinator site drain alpha --as olga --wait 0.1 --command-id d1", code=1)
    assert "stays queued as d1" in said
    assert "before you repeat command d1" in said


def test_the_help_names_names_alike(office: Office) -> None:
    for line in ("run show", "run abort", "run approve", "round abandon", "site drain", "site revoke", "site invite"):
        assert "[OPTIONS] NAME\n" in office.type(f"coordinator {line} --help")


def test_status_shows_what_somebody_has_to_see_to(office: Office) -> None:
    office.type("coordinator site drain alpha --as olga")
    office.type("coordinator site revoke beta --as olga --confirm beta")
    document = office.json("coordinator status --as vera")
    assert (document["consortium"], document["roster"]["version"]) == ("root", 1)
    assert [(s["site"], s["state"]) for s in document["sites"]] == [("alpha", "drained"), ("beta", "revoked")]
    assert document["problems"] == ["site beta is revoked", "site alpha was never heard of"]
    printed = office.type("coordinator status --as olga")
    assert "consortium root, roster version 1" in printed
    assert f"compiler: {document['compiler']}\n" in printed
    assert document["compiler"].startswith("numba ")
    assert "site beta is revoked" in printed


def test_what_sites_measured_of_their_couriers_is_told_in_status_and_when_a_run_is_created(office: Office) -> None:
    office.stop()
    for site, seconds in (("alpha", 1900), ("beta", 2)):
        status = SiteStatus(ledger_size=0, measured_round_trip_seconds=seconds, declared_round_trip_seconds=0)
        seen = SiteSeen(received_at=time.time(), status=status)
        observation_store.save(RealFileSystem(office.base / "coord"), site, seen)
    office.serve()
    (office.base / "run.toml").write_text(RUN_TOML)
    office.type("federation init-model run.toml --out model")
    created = office.type("coordinator run create run.toml --init model --as olga")
    assert "site alpha: its courier's round trip is 1900 s, as its agent measured, and 600 s are added" in created
    assert "another one with courier_round_trip_seconds = 1900 for alpha" in created
    for site in ("alpha", "beta"):
        assert f"Warning: {site} is expected to train" in created
    assert created.count("(slowest courier: alpha, 1900 s, as its agent measured)") == 2
    assert "site beta" not in created, "a courier over the network needs nothing added"
    document = office.json("coordinator status --as vera")
    assert [line["round_trip"]["measured_seconds"] for line in document["sites"]] == [1900, 2]
    assert document["sites"][0]["round_trip"]["added_seconds"] == {"slow": 600}
    (problem,) = [said for said in document["problems"] if said.startswith("run slow")]
    assert "create a new run with courier_round_trip_seconds = 1900 for alpha" in problem
    assert "alpha 1900 s no slow 600 s" in " ".join(office.type("coordinator status --as olga").split())


# --- exports ----------------------------------------------------------------------------------------------------------


def with_run(office: Office, leaves: list[lv.Leaf]) -> None:
    """Puts a run's history into the ledger, and what a site said of its steps beside it; it has no blobs."""
    office.monkeypatch.setattr(startup, "_check", lambda *_: None)
    coordinator = office.stop()
    coordinator.ledger.append([leaf for leaf in leaves if not isinstance(leaf.body, lv.RosterInstalledV1)])
    lines = tuple(json.dumps({"num_steps": n, "round": 0, "loss": 4.0 - n}) for n in (1, 2, 2))
    coordinator.telemetry.add("alpha", Telemetry(run="demo", allocation="a1", lines=(*lines, "<script>")), 1000.5)
    heard = Progress(answered_at=5.0, training_at=6.5, loss=float("nan"))
    PhaseLog(coordinator.fs).note("alpha", {}, {"demo/3": heard})
    coordinator.ledger.close()
    office.serve()


@pytest.mark.parametrize("who", ["olga", "vera"])
def test_a_runs_metrics_are_exported_from_the_ledgers_own_leaves(office: Office, who: str) -> None:
    with_run(office, history())
    said = office.json(f"coordinator run export demo --metrics --format jsonl --as {who} --out metrics")
    assert said["rows"] == {"rounds": 4, "updates": 15, "scores": 1, "tasks": 0, "phases": 12, "steps": 2}
    steps = [json.loads(line) for line in (office.base / "metrics/steps.jsonl").read_text().splitlines()]
    assert [(s["num_steps"], s["loss"], s["received_at"]) for s in steps] == [
        (1, 3.0, "1970-01-01T00:16:40.500000Z"),
        (2, 2.0, "1970-01-01T00:16:40.500000Z"),
    ]
    phases = [json.loads(line) for line in (office.base / "metrics/phases.jsonl").read_text().splitlines()]
    (heard,) = (row for row in phases if row["answered_at"])
    assert (heard["round"], heard["site"], heard["uploading_at"]) == (3, "alpha", None)
    assert heard["answered_at"] == "1970-01-01T00:00:05.000000Z"
    assert heard["training_at"] == "1970-01-01T00:00:06.500000Z"
    about = json.loads((office.base / "metrics/columns.json").read_text())
    coordinator = office.stop()
    assert (about["ledger"]["size"], about["ledger"]["root"]) == (coordinator.ledger.size, coordinator.ledger.root())
    assert list(coordinator.blobs.digests()) == [coordinator.state.roster_digest]
    assert list((office.base / f"coord/mailbox/{who}/out/blobs").iterdir()) == []
    assert not list((office.base / who / "blobs").rglob("?" * 64))
    assert leaves(coordinator, lv.RunCompletedV1) == [lv.RunCompletedV1(run="demo")]


def test_metrics_go_where_nobody_named_a_place_and_overwrite_if_told(office: Office) -> None:
    with_run(office, history()[:6])
    said = office.type("coordinator run export demo --metrics --as olga")
    assert said.startswith("Wrote demo-metrics-csv: 0 rounds, 0 updates, 0 scores, 0 tasks, 0 phases, 2 steps. From ")
    assert (office.base / "demo-metrics-csv/rounds.csv").read_text().startswith("round,fragment,state,")
    assert "--overwrite" in office.type("coordinator run export demo --metrics --as olga", code=2)
    office.type("coordinator run export demo --metrics --as olga --overwrite")
    office.type("coordinator run export demo --metrics --as olga --format json")
    assert json.loads((office.base / "demo-metrics.json").read_text())["state"] == "approved"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nothing --metrics", "run 'nothing': no run of that name; known runs: demo"),
        ("demo --metrics --format excel", "--format: expected csv, json, jsonl, parquet, tensorboard, found 'excel'"),
        ("demo --metrics --round 3", "--round: expected without --metrics only"),
        ("demo --format csv", "--format: expected with --metrics only"),
        ("demo --out olga.req", "expected a new file, found something of that name"),
        ("demo --out texts", "--out: expected a file, found directory texts"),
        ("demo --metrics --out texts", "expected a new directory, found something of that name"),
        ("demo --metrics --out texts --overwrite", "expected an earlier export as a directory to overwrite"),
        ("demo --metrics --out olga.req/metrics", "expected a directory that you may write to"),
    ],
)
def test_an_export_that_cannot_be_is_refused_in_words_and_leaves_nothing(office: Office, line: str, words: str) -> None:
    with_run(office, history())
    before = {path.name for path in office.base.iterdir()}
    assert words in office.type(f"coordinator run export {line} --as olga", code=2)
    assert {path.name for path in office.base.iterdir()} == before


def test_leaves_that_the_ledger_did_not_sign_make_no_export(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    with_run(office, history())
    honest = metrics_desk.write_blob

    def lying(sink: Any, header: Any, leaves: Any, *beside: Any) -> None:
        honest(sink, header, [*list(leaves)[:-1], b"another leaf"], *beside)

    monkeypatch.setattr(metrics_desk, "write_blob", lying)
    said = office.type("coordinator run export demo --metrics --as olga --out metrics", code=1)
    assert "export: expected 41 leaves with root" in said
    assert not (office.base / "metrics").exists()


def test_an_export_that_nobody_waited_for_leaves_nothing_once_the_next_one_came(office: Office) -> None:
    with_run(office, history())
    office.stop()
    office.type("coordinator run export demo --metrics --as olga --out metrics --wait 0", code=1)
    assert not (office.base / "metrics").exists()
    office.serve()
    office.type("coordinator run export demo --metrics --as olga --out metrics")
    coordinator = office.stop()
    assert list(coordinator.blobs.digests()) == [coordinator.state.roster_digest]
    assert list((office.base / "coord/mailbox/olga/out/blobs").iterdir()) == []
    assert not list((office.base / "olga/blobs").rglob("?" * 64))
