# SPDX-License-Identifier: Apache-2.0
"""A federation to be measured: coordinator, site agents and their jobs as processes, over gRPC with mutual TLS.

Everything that a round does is the real thing, through the same commands that people use; only the inner steps are
noise (`site_agent.bench`). Use it like this:

    with Children(base / "logs", environment()) as children, World(base, children, setting) as world:
        world.set_up()                    # keys, roster, theta_0; the coordinator serves
        world.start_run()
        world.allow(10)                   # rounds 0 to 9 may begin to encode
        world.start_agents()
        world.wait_applied(9, 600.0)      # every site holds what round 9 committed
        world.site_marks("site-01").by_round("applied")
"""

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from federation.bench.marks import Marks
from federation.bench.model import write_initial_model
from federation.bench.pool import write_pool
from federation.bench.processes import wait_until
from federation.bench.setting import CONSORTIUM, RUN, WorldSetting
from federation.chunk_pool import in_order, num_threads_here
from federation.demo.children import Child, Children, command_line, tail
from federation.durable.real import RealFileSystem
from federation.errors import JobFailedError
from federation.initial_model import THETA_FILE, InitialModel
from federation.trace import TRACE_VARIABLE

PREPARE_MODULE: Final = "site_agent.bench.prepare"
SPEC_FILE: Final = "bench.json"
"""As `site_agent.bench.spec` names it."""

SET_UP_SECONDS: Final = 600.0
STOP_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.25
"""Between two looks at marks and logs of what is measured."""


class World:
    """Processes and files of one benchmark, all below `base`. Leaving the `with` block ends agents and jobs."""

    def __init__(self, base: Path, children: Children, setting: WorldSetting) -> None:
        self.base, self.children, self.setting = base, children, setting
        self.fs = RealFileSystem(base)
        self.coordinator: Child | None = None
        self.agents: dict[str, Child] = {}
        self.model: InitialModel | None = None
        self._fingerprint = ""
        self._marks: dict[str, Marks] = {}

    # --- where things are ---------------------------------------------------------------------------------------------

    @property
    def coordinator_dir(self) -> Path:
        """The coordinator's directory."""
        return self.base / "coordinator"

    @property
    def operator_dir(self) -> Path:
        """The operator's directory."""
        return self.base / "operator"

    def site_dir(self, site: str) -> Path:
        """A site's directory."""
        return self.base / "sites" / site

    def coordinator_marks(self) -> Marks:
        """`piece` (site, digest, piece): one arrived; `leaf` (kind, round, site): one is durable and in force."""
        return self._marks_of("coordinator")

    def site_marks(self, site: str) -> Marks:
        """Of a site's job: see `site_agent.bench.job`."""
        return self._marks_of(site)

    def agent_marks(self, site: str) -> Marks:
        """`posted` (kind, key): the agent has signed a message and put it into its mailbox."""
        return self._marks_of(f"agent-{site}")

    def _marks_of(self, name: str) -> Marks:
        return self._marks.setdefault(name, Marks(self._marks_path(name)))

    def _marks_path(self, name: str) -> Path:
        return self.base / "marks" / f"{name}.jsonl"

    # --- beginning ----------------------------------------------------------------------------------------------------

    def set_up(self) -> None:
        """Keys, roster, theta_0 and the sites' files; the coordinator serves, the sites are enrolled."""
        for name in ("marks", "gate", "sites"):
            self.fs.mkdir(name)
        self.fs.write("run.toml", self.setting.toml().encode())
        self.model = write_initial_model(self.base / "model", self.setting.parameters, self.setting.num_fragments)
        self._make_parties()
        self._link_theta()
        self.start_coordinator()
        self._enrol()

    def start_coordinator(self) -> Child:
        """Serves on loopback. Called by `set_up`; again after the coordinator was stopped."""
        argv = command_line("coordinator", "serve", self.coordinator_dir, "--listen", "127.0.0.1:0")
        trace = {TRACE_VARIABLE: str(self._marks_path("coordinator"))}
        self.coordinator = self.children.start("coordinator", argv, **trace)
        self._wait(lambda: bool(self.address), SET_UP_SECONDS, "the coordinator's port")
        return self.coordinator

    @property
    def address(self) -> str:
        """HOST:PORT where the coordinator listens, "" if it does not yet."""
        log = self.children.logs / "coordinator.log"
        words = log.read_text().split() if log.exists() else []
        places = [index for index in range(2, len(words)) if words[index - 2 : index] == ["listening", "on"]]
        return words[places[-1]] if places else ""

    def start_run(self) -> None:
        """Creates, approves and starts the run."""
        model = ("--init", self.base / "model", "--wait", str(SET_UP_SECONDS))
        self._coordinator("run", "create", self.base / "run.toml", *model)
        self._coordinator("run", "approve", RUN)
        self._coordinator("run", "start", RUN)

    def dial(self, site: str, address: str) -> None:
        """Sends a site's agent to another HOST:PORT (a proxy's); while the agent is not running."""
        self.children.run("site-agent", "courier", "set", self.site_dir(site), "grpc", "--endpoint", address)

    def start_agents(self) -> None:
        """Starts every site's agent; each starts or finds its job."""
        poll = self.setting.agent_poll_seconds
        options = () if poll is None else ("--poll-seconds", str(poll))
        for site in self.setting.sites:
            argv = command_line("site-agent", "serve", self.site_dir(site), *options)
            trace = {TRACE_VARIABLE: str(self._marks_path(f"agent-{site}"))}
            self.agents[site] = self.children.start(site, argv, **trace)

    def stop_agents(self) -> None:
        """Ends the agents, not their jobs."""
        self.children.stop(*self.agents.values())
        self.agents.clear()

    # --- measuring ----------------------------------------------------------------------------------------------------

    def allow(self, num_rounds: int) -> None:
        """Sites may take the inner steps of rounds below this number."""
        self.fs.write("gate/allowed", str(num_rounds).encode())

    def wait_applied(self, round_number: int, seconds: float) -> None:
        """Returns when every site has merged the end of a round.

        Raises:
            DeadlineExceededError: not in that time.
            JobFailedError: a process or job ended.
        """
        marks = [self.site_marks(site) for site in self.setting.sites]
        what = f"round {round_number} at every site"
        self._wait(lambda: all(round_number in found.by_round("applied") for found in marks), seconds, what)

    def wait_recorded(self, round_number: int, seconds: float) -> None:
        """Returns when every site has merged a round's commit and cosigned the record of the state's digests.

        Raises: as `wait_applied`.
        """
        self.wait_applied(round_number, seconds)
        leaves, what = self.coordinator_marks(), f"cosignatures of the record of round {round_number}'s state"

        def cosigned() -> bool:
            leaf = leaves.by_round("leaf", kind="StateRecordedV1").get(round_number)
            return leaf is not None and all(self._cosigned_at(site) > leaf["at"] for site in self.setting.sites)

        self._wait(cosigned, seconds, what, self.children.check)  # not `check`: the last round ends the jobs

    def _cosigned_at(self, site: str) -> float:
        """When a site's agent has posted its newest cosignature."""
        posted = (mark["at"] for mark in self.agent_marks(site).of("posted") if mark["kind"] == "PostCosignature")
        return max(posted, default=0.0)

    def job_pids(self) -> list[int]:
        """Processes of the sites' jobs that still run."""
        began = [mark for site in self.setting.sites for mark in self.site_marks(site).of("began")]
        return [mark["pid"] for mark in began if _runs(mark["pid"], mark["allocation"])]

    def check(self) -> None:
        """Raises JobFailedError if a process that should run, or a site's job, has ended."""
        self.children.check()
        self._check_accepted()
        for site in self.setting.sites:
            for ended in self.site_dir(site).glob("spool/allocations/*/*/ended.json"):
                said = json.loads(ended.read_text())["sentence"]
                raise JobFailedError(f"{site}: its job ended: {said}; log: {tail(ended.parent / 'job.log')}")

    def _check_accepted(self) -> None:
        """A site that declines the run is waited for in vain: its trainer may have been edited since the set-up."""
        log = self.children.logs / "coordinator.log"
        declined = [line for line in log.read_text().splitlines() if f"run {RUN}: " in line and " declined (" in line]
        if declined:
            raise JobFailedError(f"{declined[0].partition(f'run {RUN}: ')[2]}; see the site's log beside {log}")

    def _wait(
        self, condition: Callable[[], bool], seconds: float, what: str, check: Callable[[], None] | None = None
    ) -> None:
        """As `wait_until`, with less haste: this process shares its cores with what it measures."""
        deadline = time.monotonic() + seconds

        def seldom() -> bool:
            time.sleep(LOOK_SECONDS)
            return condition()

        wait_until(seldom, max(0.0, deadline - time.monotonic()), what, check or self.check)

    # --- ending -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Ends agents first, so that they start no new jobs, then jobs."""
        self.stop_agents()
        pids = self.job_pids()
        for number, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            deadline = time.monotonic() + patience
            while (pids := self.job_pids()) and time.monotonic() < deadline:
                time.sleep(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- steps of the set-up ------------------------------------------------------------------------------------------

    def _coordinator(self, *arguments: str | Path) -> None:
        who = ("--as", self.operator_dir, "--coordinator", self.coordinator_dir)
        self.children.run("coordinator", *arguments, *who)

    def _make_parties(self) -> None:
        run, base, sites = self.children.run, self.base, self.setting.sites
        requests = [base / f"{name}.req" for name in ("coordinator", "operator", *sites)]
        run("federation", "consortium", "init", base / "root", "--consortium", CONSORTIUM)
        run("coordinator", "init", self.coordinator_dir, "--request", requests[0])
        run("coordinator", "operator", "init", self.operator_dir, "--request", requests[1])
        self._make_sites()
        signed = run("federation", "consortium", "sign", base / "root", *requests, "--out", base / "roster", "--json")
        self._fingerprint = json.loads(signed)["root"]
        run("coordinator", "roster", "install", self.coordinator_dir, base / "roster", "--root", self._fingerprint)

    def _make_sites(self) -> None:
        """Each site's keys, configuration and specification; on all cores, since every command is a process."""
        setting = self.setting
        pool = write_pool(self.base / "pool", setting.codec, setting.num_parameters, setting.noise_scale)
        spec = {
            "gate": str(self.base / "gate") if setting.gate else "",
            "num_sites": setting.num_sites,
            "noise_scale": setting.noise_scale,
            "step_seconds": setting.step_seconds,
            "pool": str(pool.blocks) if setting.replay else "",
            "block_bytes": pool.block_bytes,
            "tail": str(pool.tail or ""),
            "overlap": setting.overlap,
        }
        settings = (str(setting.num_threads), str(setting.check_theta_every))

        def make(index: int) -> None:
            site = setting.sites[index]
            request = ("--request", self.base / f"{site}.req", "--policy", "accept")
            self.children.run("site-agent", "init", self.site_dir(site), *request)
            own = {"index": index, "events": str(self._marks_path(site))}
            self.fs.write(f"sites/{site}/data/{SPEC_FILE}", json.dumps({**spec, **own}).encode())
            self.children.run_module(PREPARE_MODULE, self.site_dir(site), *settings)

        self._for_all_sites(make)

    def _for_all_sites(self, work: Callable[[int], None]) -> None:
        for _ in in_order(work, self.setting.num_sites, num_threads_here()):
            pass

    def _link_theta(self) -> None:
        """theta_0 lies in every store beforehand: its way to the sites is not measured, and may be gigabytes."""
        assert self.model is not None
        digest = self.model.theta_blob
        stores = ["coordinator/blobs", "operator/blobs", *(f"sites/{s}/spool/blobs" for s in self.setting.sites)]
        for store in stores:
            self.fs.link(f"model/{THETA_FILE}", f"{store}/{digest[:2]}/{digest}")

    def _enrol(self) -> None:
        for site in self.setting.sites:  # one after the other: an operator's directory serves one command at a time
            self._coordinator("site", "invite", site, "--out", self.base / f"{site}.invite")

        def enrol(index: int) -> None:
            site = self.setting.sites[index]
            invite = ("--invite", self.base / f"{site}.invite", "--root", self._fingerprint)
            self.children.run("site-agent", "enroll", self.site_dir(site), *invite)
            self.children.run("site-agent", "courier", "set", self.site_dir(site), "grpc")

        self._for_all_sites(enrol)


def settings_document(setting: WorldSetting) -> dict[str, object]:
    """What a result says of the federation that it was measured on."""
    left_out = ("parameters", "run_toml")
    named = {name: value for name, value in asdict(setting).items() if name not in left_out}
    return {**named, "num_parameters": setting.num_parameters}


def _runs(pid: int, allocation: str) -> bool:
    """Whether a process is still the job of this allocation, not another one with its number."""
    try:
        return allocation in Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return False
