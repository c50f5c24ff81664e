# SPDX-License-Identifier: Apache-2.0
"""A tiny real federation in a directory: keys and rosters by library calls, every party a process of its own.

Two sites train a Llama of one layer on a few kilobytes of text. Bounds are long, all sites are required, so that the
result doesn't depend on timing: a federation in which processes were killed must end with the undisturbed one's theta.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import forked_job
from ports import free_port
from services import LIBRARY, Service, command_line, end_jobs_below, environment, run_command, wait_for

from coordinator.cli.create import create_run
from coordinator.home import LEDGER, ROOT_FILE, load_rosters, roster_path
from coordinator.identities import make_coordinator, make_operator
from coordinator.operator_client import OperatorClient, connect, new_id
from coordinator.startup import check_blobs
from federation.blobs.store import BlobStore
from federation.cli.init_model import init_settings
from federation.consortium import init_root, sign_roster
from federation.corpus import write_corpus
from federation.durable.real import RealFileSystem
from federation.errors import DeadlineExceededError
from federation.ledger.log import Ledger
from federation.messages import Command, CommandKind, Query, QueryKind
from federation.rounds import Federation, Run, fold
from federation.run_config import load_run_config
from site_agent import layout
from site_agent.agent_state import AgentState
from site_agent.journal import Journal
from site_agent.policy import POLICY_FILE, policy_text
from site_agent.setup import NewSite, init_site, install_roster
from site_agent.site_config import REFERENCE_MODULE, SITE_FILE, load_site_config, trainer_digests
from site_agent.site_text import BatchChoice
from site_agent.views import RunView, read_view

CONSORTIUM, RUN, OPERATOR = "test", "tiny", "olga"
SITES = {"alpha": "de", "beta": "fr"}
FORKED_MODULE = "forked_job"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Numbers of a run; H is 4."""

    num_rounds: int = 3
    num_fragments: int = 1
    tau: int = 0
    codec: str = "int8"
    error_feedback: bool = False

    def run_toml(self, run: str = RUN) -> str:
        """run.toml; alpha has its default, 0.5 where tau is above 0."""
        sites = "".join(f'\n[[sites]]\nid = "{site}"\n' for site in SITES)
        return f"""
[run]
id = "{run}"
consortium = "{CONSORTIUM}"
num_rounds = {self.num_rounds}
evaluate_every = 0

[schedule]
num_inner_steps = 4
num_fragments = {self.num_fragments}
tau = {self.tau}

[codecs]
up = "{self.codec}"
down = "{self.codec}"
error_feedback = {str(self.error_feedback).lower()}

[quorum]
num_sites = {len(SITES)}

[inner]
lr = 3e-3

[model]
hidden_size = 16
intermediate_size = 32
num_layers = 1
num_heads = 2

[trainer]
batch_size = 2
sequence_length = 16
seed = 3
evaluation_bytes = 128
{sites}"""


PLAIN = Setting()
STREAMING = Setting(num_rounds=6, num_fragments=2, tau=1, codec="int4", error_feedback=True)


class JobServer:
    """`forked_job --serve` as a process."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "server"
        argv = [*command_line("federation")[:2], "-m", "forked_job", "--serve", str(self.path), *forked_job.JOB_MODULES]
        self.service = Service(name="job server", argv=argv, log=directory / "server.log")
        self.service.start()

    def ready(self) -> bool:
        """Whether it listens."""
        return self.path.exists()

    def run(self, module: str, *arguments: str) -> None:
        """Runs a module's `main` and expects that it succeeds."""
        wait_for(self.ready, 180, "job server", self.service.supervise)
        status = forked_job.request(str(self.path), module, list(arguments), environment())
        assert status == 0, f"{module}: {status}"


@dataclass(kw_only=True)
class Outcome:
    """What a federation left: state folded from its reopened ledger, and theta digests by fragment."""

    state: Federation
    theta: tuple[str, ...]

    @property
    def run(self) -> Run:
        """The run."""
        return self.state.runs[RUN]


@dataclass(kw_only=True)
class ProcessFederation:
    """A federation in `base`; leaving the `with` block ends all its processes.

    Attributes:
        trainer: module of the sites' training jobs.
        coordinator_failpoints, agent_failpoints, job_failpoints: what processes are killed at, in this order; agents'
            and jobs' per site.
        couriers: "grpc" for the sites that go over the network; the carrier carries the others.
        carrier_arguments: what `site-agent carrier` gets for one site, where each has a carrier of its own.
        command: of the trainer, where it is the one that runs an executable.
        batch: how the sites' jobs are started; None for processes of the agents.
        slurm: keys and values of the sites' `[slurm]`.
        elsewhere: sites whose agent is started by somebody else.
    """

    base: Path
    setting: Setting
    server: JobServer
    trainer: str = FORKED_MODULE
    coordinator_failpoints: Sequence[str] = ()
    agent_failpoints: Mapping[str, Sequence[str]] = field(default_factory=dict)
    job_failpoints: Mapping[str, Sequence[str]] = field(default_factory=dict)
    couriers: Mapping[str, str] = field(default_factory=dict)
    carrier_arguments: "Callable[[ProcessFederation, str], Sequence[str | Path]] | None" = None
    command: Sequence[str] = ()
    batch: BatchChoice | None = None
    slurm: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Sequence[str] = ()
    fingerprint: str = ""
    services: dict[str, Service] = field(default_factory=dict)

    # --- set-up -------------------------------------------------------------------------------------------------------

    @property
    def coordinator(self) -> Path:
        """The coordinator's directory."""
        return self.base / "coordinator"

    def site(self, site: str) -> Path:
        """A site's directory."""
        return self.base / "sites" / site

    def set_up(self) -> Self:
        """Keys, roster, text, theta_0: all files that are there before the first process."""
        root = init_root(self.base / "root", CONSORTIUM)
        self.fingerprint = root.fingerprint
        requests = [
            make_coordinator(RealFileSystem(self.coordinator), time.time(), listen=self._listen()),
            make_operator(RealFileSystem(self.base / OPERATOR), OPERATOR),
            *map(self._make_site, SITES),
        ]
        document = sign_roster(self.base / "root", requests, now=time.time()).document
        fs = RealFileSystem(self.coordinator)
        fs.write(roster_path(1), document)
        fs.write(ROOT_FILE, self.fingerprint.encode())
        for site in SITES:
            install_roster(RealFileSystem(self.site(site)), document, self.fingerprint, time.time_ns() // 1000)
        for site, request in zip(SITES, requests[2:], strict=True):
            if self.couriers.get(site) == "grpc":
                self._enrol(site, request)
        (self.base / forked_job.SERVER_FILE).write_text(str(self.server.path))
        self._make_model()
        return self

    def _listen(self) -> str:
        return f"127.0.0.1:{free_port()}" if self.couriers else ""

    def _enrol(self, site: str, request: bytes) -> None:
        """Through files, before anybody is served."""
        asked, reply = self.base / f"{site}.req", self.base / f"{site}.reply"
        asked.write_bytes(request)
        run_command("coordinator", "site", "certify", self.coordinator, asked, "--out", reply)
        run_command("site-agent", "enroll", self.site(site), "--reply", reply)
        run_command("site-agent", "courier", "set", self.site(site), "grpc")

    def _make_site(self, site: str) -> bytes:
        directory, language = self.site(site), SITES[site]
        write_corpus(directory / "data", (language,), 20_000)
        new = NewSite(
            site=site, profile="localhost", data_dir="data", languages=(language,), policy="accept", batch=self.batch
        )
        request = init_site(directory, new)
        text = (directory / SITE_FILE).read_text()
        kept = [line for line in text.splitlines() if line.split(" =")[0] not in self.slurm]
        text = "\n".join(kept).replace("[slurm]", "\n".join(["[slurm]", *map(" = ".join, self.slurm.items())])) + "\n"
        text = text.replace("[slurm.environment]", f"[slurm.environment]\nPYTHONPATH = {json.dumps(str(LIBRARY))}\n#")
        # Jobs that are killed on purpose are started again at once, and as often as it takes.
        for old, changed in (
            (f'"{REFERENCE_MODULE}"', f'"{self.trainer}"{self._command_line()}'),
            ("max_failures = 5 ", "max_failures = 1000\nbackoff_seconds = 0.01 "),
            ("isolate_network = true ", "isolate_network = false "),
        ):
            assert old in text
            text = text.replace(old, changed)
        (directory / SITE_FILE).write_text(text)
        digests = trainer_digests(load_site_config(directory).trainers)
        (directory / POLICY_FILE).write_text(policy_text("accept", digests))
        return request

    def _command_line(self) -> str:
        return f"\ncommand = {json.dumps(list(self.command))}" if self.command else ""

    def _make_model(self) -> None:
        model, run_toml = self.base / "model", self.base / "run.toml"
        model.mkdir()
        run_toml.write_text(self.setting.run_toml())
        settings = self.base / "init.json"
        settings.write_text(json.dumps(init_settings(load_run_config(run_toml), seed=3)))
        self.server.run("site_agent.trainer.init", str(settings), str(model))

    # --- processes ----------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Starts coordinator, agents and carrier."""
        serve = command_line("coordinator", "serve", self.coordinator, "--poll-seconds", "0.03")
        self._service("coordinator", serve, self.coordinator_failpoints)
        for site in (each for each in SITES if each not in self.elsewhere):
            serve = command_line("site-agent", "serve", self.site(site), "--poll-seconds", "0.05")
            of_jobs = ",".join(f"{name}=kill" for name in self.job_failpoints.get(site, ()))
            extra = {"FEDERATION_JOB_FAILPOINTS": of_jobs} if of_jobs else {}
            self._service(site, serve, self.agent_failpoints.get(site, ()), extra)
        self._carry([site for site in SITES if self.couriers.get(site) != "grpc"], "carrier")
        return self

    def _carry(self, sites: Sequence[str], name: str) -> None:
        if self.carrier_arguments is not None:
            for site in sites:
                carrier = command_line("site-agent", "carrier", *self.carrier_arguments(self, site))
                self._service(f"carrier of {site}", carrier, ())
        elif sites:
            directories = [self.site(site) for site in sites]
            carrier = command_line("site-agent", "carrier", *directories, self.coordinator, "--poll-seconds", "0.03")
            self._service(name, carrier, ())

    def change_to_the_spool(self, site: str) -> None:
        """As an operator does it while everything runs."""
        run_command("site-agent", "courier", "set", self.site(site), "spool")
        self._carry([site], f"carrier of {site}")

    def _service(
        self, name: str, argv: Sequence[str], failpoints: Sequence[str], extra: Mapping[str, str] | None = None
    ) -> None:
        log = self.base / f"{name}.log"
        service = Service(name=name, argv=argv, log=log, extra=extra or {}, failpoints=list(failpoints))
        self.services[name] = service
        service.start()

    def supervise(self) -> None:
        """Starts again what a failpoint killed."""
        for service in self.services.values():
            service.supervise()

    def wait_for(self, condition: Callable[[], Any], what: str, seconds: float = 200) -> Any:
        """Waits for a condition while everything is kept running."""
        return wait_for(condition, seconds, what, self.supervise, self.base)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> dict[str, int]:
        """Ends all processes, jobs too; returns exit codes by name."""
        codes = {name: service.stop() for name, service in reversed(self.services.items())}
        self.services.clear()
        end_jobs_below(self.base)
        return codes

    # --- the run ------------------------------------------------------------------------------------------------------

    def run(self) -> Self:
        """Creates, approves and starts the run, and waits until every site has seen its end."""
        self.begin()
        self.wait_for(self.completed, "the run's end")
        return self

    def begin(self) -> None:
        """Creates, approves and starts the run."""
        client, lock = connect(self.base / OPERATOR, self.coordinator)
        with lock:
            create_run(client, self.base / "run.toml", self.base / "model", 60)
            for kind in (CommandKind.RUN_APPROVE, CommandKind.RUN_START):
                self._command(client, Command(id=new_id(), kind=kind, subject=RUN))

    def _command(self, client: OperatorClient, command: Command) -> None:
        """One command, repeated with the same id until there is an answer."""

        def answered() -> bool:
            try:
                return client.command(command, 1.0).ok
            except DeadlineExceededError:
                return False

        self.wait_for(answered, f"an answer to {command.kind}")

    def show(self) -> dict[str, Any]:
        """The run's document, from the coordinator."""
        client, lock = connect(self.base / OPERATOR, self.coordinator)
        with lock:
            return client.query(Query(id=new_id(), kind=QueryKind.RUN, subject=RUN), 60)

    def view(self, site: str) -> RunView | None:
        """The run as a site's agent sees it."""
        view = read_view(RealFileSystem(self.site(site)))
        return next((run for run in view.runs if run.run == RUN), None) if view else None

    def completed(self) -> bool:
        """Whether every site has seen the end of the run; a pause, which nothing here may cause, is an error."""
        states = [view.state if view else "" for view in map(self.view, SITES)]
        assert "paused" not in states, self.show()["reason"]
        return set(states) == {"completed"}

    # --- afterwards ---------------------------------------------------------------------------------------------------

    def fired(self) -> dict[str, list[str]]:
        """Failpoints at which processes died by SIGKILL, by service and, for jobs, "job of <site>"."""
        of_services = {name: service.fired for name, service in self.services.items() if service.fired}
        of_jobs = {f"job of {site}": forked_job.fired(self.base, site) for site in SITES}
        return of_services | {name: found for name, found in of_jobs.items() if found}

    def outcome(self) -> Outcome:
        """Reopens and verifies the ledger and every blob that it names, and folds it."""
        fs = RealFileSystem(self.coordinator)
        entry = load_rosters(fs, time.time_ns() // 1000).coordinator()
        ledger = Ledger.open(fs, LEDGER, entry.ledger_origin, None, entry.ledger_public)
        state = fold(ledger.leaves(0, ledger.size))
        check_blobs(BlobStore(fs), state)
        return Outcome(state=state, theta=tuple(head.theta_digest for head in state.runs[RUN].heads()))

    def agent_state(self, site: str) -> AgentState:
        """A site's journal, folded."""
        journal = Journal(RealFileSystem(self.site(site)), layout.JOURNAL)
        journal.close()
        return journal.state
