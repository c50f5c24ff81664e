# SPDX-License-Identifier: Apache-2.0
"""Real processes over loopback gRPC that a test kills, stops, moves and gives other directories; jobs train nothing.

Keys, roster, certificates and theta_0 are made by library calls in this process, so that a world stands in a second.
"""

import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from ports import free_port
from safetensors.numpy import save
from services import Service, command_line, end_jobs_below, run_command, tail, wait_for
from travelling_blob import Travelling

from coordinator.cli.create import create_run
from coordinator.home import LEDGER, ROOT_FILE, load_issuers, load_keys, load_rosters, roster_path
from coordinator.identities import make_coordinator, make_operator
from coordinator.operator_client import OperatorClient, connect, new_id
from federation import leaves as lv
from federation.blobs.store import BlobStore
from federation.certificates import bootstrap_subject, load_tls_key, operator_subject, pem, site_subject, spki
from federation.chunks import fragment_digest
from federation.consortium import init_root, sign_roster
from federation.durable.real import RealFileSystem
from federation.fragments import build_fragments, flatten
from federation.ids import COORDINATOR
from federation.initial_model import MODEL_FILE, THETA_FILE, InitialModel
from federation.ledger.log import Ledger
from federation.mailbox.mailbox import Mailbox
from federation.merkle import blob_digest
from federation.messages import Command, CommandKind, Query, QueryKind, UpdateOffer
from federation.roster_document import Role
from federation.rpc import credentials
from federation.rpc.credentials import Endpoint
from federation.rpc.status import CourierStatus
from site_agent import layout
from site_agent.agent_state import AgentState
from site_agent.courier import grpc
from site_agent.courier.choice import CourierKind, read_status, write_choice
from site_agent.identity import load_identity
from site_agent.journal import Journal
from site_agent.json_records import write_record
from site_agent.policy import POLICY_FILE, policy_text
from site_agent.setup import NewSite, init_site, install_roster
from site_agent.site_config import REFERENCE_MODULE, SITE_FILE, load_site_config, trainer_digests
from site_agent.views import RunView, SiteView, read_view

CONSORTIUM, RUN, OPERATOR = "test", "tiny", "olga"
SERVER = "coordinator"
DAY = 86_400.0


@dataclass(kw_only=True)
class KillableService(Service):
    """A command that the test ends as it likes."""

    @property
    def running(self) -> bool:
        """Whether it was started and not ended by the test."""
        return self._process is not None

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        assert self._process is not None
        self._process.kill()
        code = self._process.wait()
        assert code == -signal.SIGKILL, f"{self.name} had ended with {code}: {tail(self.log)}"
        self._process = None


@dataclass(kw_only=True)
class MishapWorld:
    """A consortium in `base`; leaving the `with` block ends all its processes.

    Attributes:
        settings: lines of run.toml beyond what every run here has, by section.
    """

    base: Path
    sites: tuple[str, ...] = ("alpha",)
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    services: dict[str, KillableService] = field(default_factory=dict)

    # --- files --------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """All files that are there before the first process."""
        root = init_root(self.base / "root", CONSORTIUM)
        requests = [
            make_coordinator(self.coordinator, time.time(), listen=self.address),
            make_operator(self.operator, OPERATOR),
            *map(self._make_site, self.sites),
        ]
        document = sign_roster(self.base / "root", requests, now=time.time()).document
        self.coordinator.write(roster_path(1), document)
        self.coordinator.write(ROOT_FILE, root.fingerprint.encode())
        for fs in (self.operator, *map(self.site, self.sites)):
            install_roster(fs, document, root.fingerprint, time.time_ns() // 1000)
        for site in self.sites:
            self.certify(site)
            self.dial(site, self.address)
            write_choice(self.site(site), CourierKind.GRPC)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for service in reversed(self.services.values()):
            if service.running:
                service.kill()
        end_jobs_below(self.base)

    @property
    def address(self) -> str:
        """Where the coordinator is to listen."""
        return f"127.0.0.1:{self.port}"

    @property
    def coordinator(self) -> RealFileSystem:
        """The coordinator's directory."""
        return RealFileSystem(self.base / SERVER)

    @property
    def operator(self) -> RealFileSystem:
        """The operator's directory."""
        return RealFileSystem(self.base / OPERATOR)

    def site(self, site: str) -> RealFileSystem:
        """A site's directory."""
        return RealFileSystem(self.base / site)

    def _make_site(self, site: str) -> bytes:
        directory = self.base / site
        (directory / "data").mkdir(parents=True)
        new = NewSite(site=site, profile="localhost", data_dir="data", languages=("de",), policy="accept")
        request = init_site(directory, new)
        text = (directory / SITE_FILE).read_text()
        for old, changed in ((REFERENCE_MODULE, "zero_job"), ("isolate_network = true ", "isolate_network = false ")):
            assert old in text
            text = text.replace(old, changed)
        (directory / SITE_FILE).write_text(text)
        self.set_policy(site, "accept")
        return request

    def set_policy(self, site: str, word: str) -> None:
        """What a site says to manifests that its policy does not list; counts from the agent's next start."""
        digests = trainer_digests(load_site_config(self.base / site).trainers)
        (self.base / site / POLICY_FILE).write_text(policy_text(word, digests))

    def certify(self, site: str, *, made_at: float | None = None) -> None:
        """Gives a site a certificate for 30 days from `made_at` (now), and one for renewals."""
        fs, issuers = self.site(site), load_issuers(self.coordinator)
        assert issuers is not None
        public, now = spki(load_tls_key(fs, credentials.TLS_KEY)), time.time()
        channel = issuers.issue(site_subject(CONSORTIUM, site), public, now if made_at is None else made_at)
        renewal = issuers.issue(bootstrap_subject(CONSORTIUM, lv.PartyKind.SITE, site), public, now - DAY, 365 * DAY)
        fs.write(credentials.CERTIFICATE, pem(channel))
        fs.write(credentials.RENEWAL, pem(renewal))

    def enrol_operator(self) -> None:
        """From now on this operator's commands go over the network."""
        fs, issuers = self.operator, load_issuers(self.coordinator)
        assert issuers is not None
        subject = operator_subject(CONSORTIUM, OPERATOR, (Role.OPERATOR.value,))
        certificate = issuers.issue(subject, spki(load_tls_key(fs, credentials.TLS_KEY)), time.time())
        fs.write(credentials.CERTIFICATE, pem(certificate))
        credentials.write_endpoint(fs, Endpoint.parse(self.address))

    def dial(self, site: str, address: str) -> None:
        """Where a site's courier calls."""
        credentials.write_endpoint(self.site(site), Endpoint.parse(address))

    # --- directories as a whole ---------------------------------------------------------------------------------------

    def keep(self, name: str) -> None:
        """A backup of the coordinator's and the operator's directories; the coordinator must not run."""
        assert not self.services[SERVER].running
        for party in (SERVER, OPERATOR):
            shutil.copytree(self.base / party, self.base / name / party)

    def restore(self, name: str) -> None:
        """Both directories as they were when they were kept under that name."""
        assert not self.services[SERVER].running
        for party in (SERVER, OPERATOR):
            shutil.rmtree(self.base / party)
            shutil.copytree(self.base / name / party, self.base / party)

    def fork_ledger(self) -> None:
        """The same keys, another past: the newest leaf was written a microsecond later. Mailboxes stay as they are."""
        leaves = self.leaves()
        entry = load_rosters(self.coordinator, time.time_ns() // 1000).coordinator()
        shutil.rmtree(self.base / SERVER / LEDGER)
        key = load_keys(self.coordinator).ledger
        ledger = Ledger.create(self.coordinator, LEDGER, entry.ledger_origin, key)
        ledger.append([*leaves[:-1], replace(leaves[-1], at_us=leaves[-1].at_us + 1)])

    # --- processes ----------------------------------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        """Starts "coordinator" or a site's agent, for the first time or again."""
        for name in names:
            command = ("coordinator", "serve") if name == SERVER else ("site-agent", "serve")
            where = ("--listen", self.address) if name == SERVER else ()
            argv = command_line(*command, self.base / name, "--poll-seconds", "0.03", *where)
            self.services[name] = KillableService(name=name, argv=argv, log=self.base / f"{name}.log")
            self.services[name].start()

    def kill(self, name: str) -> None:
        """By SIGKILL."""
        self.services[name].kill()

    def stop(self, name: str) -> None:
        """By SIGTERM; it must end well."""
        assert self.services[name].stop() == 0

    def wait_for(self, condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
        """Waits for a condition; nothing that should run may have ended meanwhile."""
        return wait_for(condition, seconds, what, self._supervise, self.base)

    def _supervise(self) -> None:
        for service in self.services.values():
            service.supervise()

    # --- what people do -----------------------------------------------------------------------------------------------

    @contextmanager
    def client(self) -> Iterator[OperatorClient]:
        """The operator's, over the network if enrolled."""
        remote = self.operator.exists(credentials.ENDPOINT)
        client, hold = connect(self.base / OPERATOR, None if remote else self.base / SERVER)
        with hold:
            yield client

    def command(self, *kinds: CommandKind, subject: str = RUN) -> None:
        """Commands that must be carried out."""
        with self.client() as client:
            for kind in kinds:
                assert client.command(Command(id=new_id(), kind=kind, subject=subject), 30).ok

    def show(self) -> dict[str, Any]:
        """The run's document."""
        with self.client() as client:
            return client.query(Query(id=new_id(), kind=QueryKind.RUN, subject=RUN), 30)

    def create_run(self) -> None:
        """Creates the run that all sites are members of."""
        model, run_toml = self.base / "model", self.base / "run.toml"
        write_model(model)
        run_toml.write_text(self._run_toml())
        with self.client() as client:
            create_run(client, run_toml, model, 30)

    def _run_toml(self) -> str:
        sections = {
            "run": f'id = "{RUN}"\nconsortium = "{CONSORTIUM}"\nnum_rounds = 1000\nevaluate_every = 0',
            "schedule": "num_inner_steps = 4",
            "codecs": 'up = "fp32"\ndown = "fp32"',
            "inner": "lr = 3e-3",
            "trainer": "batch_size = 2\nsequence_length = 16",
            "model": "hidden_size = 16\nintermediate_size = 32\nnum_layers = 1\nnum_heads = 2",
        }
        names = dict.fromkeys((*sections, *self.settings))
        texts = [f"[{name}]\n{sections.get(name, '')}\n{self.settings.get(name, '')}\n" for name in names]
        return "\n".join([*texts, *(f'[[sites]]\nid = "{site}"\n' for site in self.sites)])

    # --- what is to be seen -------------------------------------------------------------------------------------------

    def courier(self, site: str) -> CourierStatus:
        """What an agent's courier last said of itself."""
        return read_status(self.site(site)) or CourierStatus(courier="none yet")

    def check_status(self, site: str, *words: str) -> None:
        """`site-agent status` must print all of these words."""
        text = self.status(site)
        missing = [word for word in words if word not in text]
        assert not missing, f"expected {missing} in: {text}"

    def status(self, site: str) -> str:
        """What `site-agent status` prints."""
        return run_command("site-agent", "status", self.base / site)

    def site_view(self, site: str) -> SiteView | None:
        """What an agent last saw."""
        return read_view(self.site(site))

    def view(self, site: str) -> RunView | None:
        """The run as an agent last saw it."""
        view = self.site_view(site)
        return next((run for run in view.runs if run.run == RUN), None) if view else None

    def answered(self, site: str) -> str:
        """The site's answer to the manifest, as its agent gave it."""
        view = self.view(site)
        return view.answer if view else ""

    def outgoing(self, site: str) -> set[str]:
        """Messages that a site offers and has no acknowledgement of."""
        return {name for name in self.site(site).list(f"{layout.MAILBOX}/out") if name.endswith(".msg")}

    def agent_state(self, site: str) -> AgentState:
        """The journal of an agent, folded."""
        data = self.site(site).read(layout.JOURNAL)
        copy = RealFileSystem(self.base / "journals" / f"{site}-{time.monotonic_ns()}")
        copy.write(layout.JOURNAL, data)
        journal = Journal(copy, layout.JOURNAL)
        journal.close()
        return journal.state

    def ledger(self) -> Ledger:
        """The coordinator's ledger, opened to be read."""
        rosters = load_rosters(self.coordinator, time.time_ns() // 1000)
        entry = rosters.coordinator()
        public, witnesses = entry.ledger_public, rosters.witness_publics
        return Ledger.open(self.coordinator, LEDGER, entry.ledger_origin, None, public, witnesses)

    def leaves(self) -> list[lv.Leaf]:
        """All leaves."""
        return self.ledger().leaves()

    def station(self, site: str) -> Any:
        """A site's end of the courier, for a call beside its agent's."""
        return grpc.station_of(self.site(site), load_site_config(self.base / site))

    # --- blobs --------------------------------------------------------------------------------------------------------

    def send_up(self, site: str, data: bytes) -> Travelling:
        """Posts a blob to the coordinator, before the site's agent runs. The message around it is not even looked at
        before the blob is there, and means nothing then."""
        fs = self.site(site)
        blobs, key = BlobStore(fs, layout.BLOBS), load_identity(fs, site).update
        digest = blobs.put(data)
        mailbox = Mailbox(fs, layout.MAILBOX, blobs, site, COORDINATOR, CONSORTIUM, key)
        mailbox.post(UpdateOffer(signed_update=b"no update"), blobs=(digest,))
        return Travelling(
            fs=self.coordinator, mailbox=f"mailbox/{site}", store="blobs", digest=digest, num_bytes=len(data)
        )

    def send_down(self, site: str, data: bytes) -> Travelling:
        """Posts a blob to a site, before the coordinator runs; the message around it means nothing."""
        fs = self.coordinator
        blobs, key = BlobStore(fs), load_keys(fs).coordinator
        digest = blobs.put(data)
        mailbox = Mailbox(fs, f"mailbox/{site}", blobs, COORDINATOR, site, CONSORTIUM, key)
        mailbox.post(Query(id="nothing", kind=QueryKind.RUNS), blobs=(digest,))
        return Travelling(
            fs=self.site(site), mailbox=layout.MAILBOX, store=layout.BLOBS, digest=digest, num_bytes=len(data)
        )


def write_model(directory: Path, shapes: Sequence[tuple[str, tuple[int, ...]]] = (("model.weight", (8, 8)),)) -> None:
    """What `federation init-model` writes, without torch: all zeros."""
    fs = RealFileSystem(directory)
    values = {name: np.zeros(shape, np.float32) for name, shape in shapes}
    data, fragments = save(values), build_fragments(shapes, 1)
    description = InitialModel(
        num_parameters=sum(value.size for value in values.values()),
        theta_blob=blob_digest(data),
        theta_digests=tuple(fragment_digest(flatten(table, values.__getitem__)) for table in fragments),
        fragments=fragments,
        aliases=(),
    )
    fs.write(THETA_FILE, data)
    write_record(fs, MODEL_FILE, description)
