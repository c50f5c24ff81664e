# SPDX-License-Identifier: Apache-2.0
"""Data never leave: canaries in everything that a site has and a job may write, and a search of every outgoing byte."""

import gzip
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tapped_agent
from canaries import find
from federation_processes import OPERATOR, PLAIN, SITES, JobServer, ProcessFederation
from leaky_job import LEAK_FILE
from one_site import LIBRARY, TRAINER, OneSite, small_manifest
from services import run_command
from tiny_job import payload_of

from coordinator.cli.create import create_run
from coordinator.operator_client import connect
from federation.durable.real import RealFileSystem
from federation.leaves import Reason
from federation.messages import ManifestAnswer, RoundDeclined, SiteFacts, SiteStatus, Telemetry, UpdateOffer
from site_agent import executor, job_files, layout, site_facts, telemetry
from site_agent.launcher.local import LocalLauncher
from site_agent.policy import POLICY_FILE, Policy
from site_agent.site_config import SITE_FILE

pytestmark = pytest.mark.processes


def canary(place: str) -> str:
    """A word that is an id as well, and that nobody writes by chance."""
    return f"kanarie-{place}-9f31c7"


JOB = canary("job")

# --- one site, whose job tries to tell --------------------------------------------------------------------------------


class WatchedSite(OneSite):
    """Keeps whatever a courier finds in out/."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self.outgoing: dict[str, bytes] = {}
        super().__init__(*arguments, **more)

    def carry(self) -> None:
        out = self.root / layout.MAILBOX / "out"
        for path in (path for path in out.rglob("*") if path.is_file()):
            self.outgoing[f"{path.relative_to(out)} {path.stat().st_mtime_ns}"] = path.read_bytes()
        super().carry()

    def leaked(self) -> list[str]:
        """Canaries in names and bytes of all that went out."""
        assert len(self.outgoing) > 3
        return [found for name, data in self.outgoing.items() for found in find([JOB], name.encode() + b"\n" + data)]


def leaky_world(tmp_path: Path, leak: str, **more: Any) -> WatchedSite:
    path = os.pathsep.join([str(LIBRARY), os.environ.get("PYTHONPATH", "")])
    launcher = LocalLauncher(module="leaky_job", environment={**os.environ, "PYTHONPATH": path, "USER": JOB})
    site = tmp_path / "site"
    (tmp_path / LEAK_FILE).write_text(leak)
    settings = {"max_failures": 1 if leak == "exception" else 5}
    return WatchedSite(
        RealFileSystem(tmp_path / "coordinator"), RealFileSystem(site), site, launcher, settings=settings, **more
    )


@pytest.fixture
def worlds() -> Iterator[list[WatchedSite]]:
    made: list[WatchedSite] = []
    yield made
    for world in made:
        for run in world.agent.state.allocations.values():
            for allocation in run:
                if allocation.handle:
                    world.launcher.cancel(allocation.handle, force=True)


def refused_round(world: WatchedSite) -> RoundDeclined:
    """A round of which no update comes, because of what the job did."""
    world.coordinator.create()
    world.coordinator.start()
    world.until(lambda: any(s.allocations for s in world.coordinator.of(SiteStatus)))
    world.coordinator.open(0)
    world.until(lambda: world.coordinator.of(RoundDeclined))
    world.steps(5)
    declined: RoundDeclined = world.coordinator.of(RoundDeclined)[0]
    return declined


def said_here(world: WatchedSite) -> str:
    """What the site's own log has of it."""
    fs, name = world.fs, layout.JOURNAL
    names = [name] if not fs.list(name) else [f"{name}/{part}" for part in fs.list(name)]
    return "".join(fs.read(part).decode(errors="replace") for part in names)


@pytest.mark.parametrize(
    ("leak", "reason"),
    [("loss-spike", Reason.LOSS_SPIKE), ("codec", Reason.JOB_FAILED), ("exception", Reason.JOB_FAILED)],
)
def test_what_a_job_says_of_its_failure_stays_here(
    leak: str, reason: Reason, tmp_path: Path, worlds: list[WatchedSite]
) -> None:
    worlds.append(world := leaky_world(tmp_path, leak))
    assert refused_round(world).reason is reason
    assert world.leaked() == []
    if leak != "exception":  # a process that dies of one leaves its words in its own log
        assert JOB in said_here(world)


@pytest.mark.parametrize("leak", ["loss-spike", "codec"])
def test_without_the_list_it_would_have_gone_out(
    leak: str, tmp_path: Path, worlds: list[WatchedSite], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "outgoing_sentence", lambda reason, sentence: sentence)
    monkeypatch.setattr(executor, "check_outgoing", lambda body: None)
    worlds.append(world := leaky_world(tmp_path, leak))
    assert JOB in refused_round(world).sentence
    assert world.leaked() != []


def test_a_sentence_that_nobody_composed_is_not_sent_at_all(
    tmp_path: Path, worlds: list[WatchedSite], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(executor, "outgoing_sentence", lambda reason, sentence: sentence)
    worlds.append(world := leaky_world(tmp_path, "loss-spike"))
    world.coordinator.create()
    world.coordinator.start()
    world.until(lambda: any(s.allocations for s in world.coordinator.of(SiteStatus)))
    world.coordinator.open(0)
    world.until(lambda: any("RoundDeclined.sentence" in record.getMessage() for record in caplog.records))
    complaints = [r.getMessage() for r in caplog.records if "RoundDeclined.sentence" in r.getMessage()]
    assert len(complaints) == 1
    assert not any(JOB in complaint for complaint in complaints)
    world.steps(5)
    assert world.coordinator.of(RoundDeclined) == []
    assert world.leaked() == []


def told(world: WatchedSite) -> tuple[Telemetry, ...]:
    """Step metrics, after a round was trained and more was written."""
    world.coordinator.create()
    world.coordinator.start()
    world.until(lambda: any(s.allocations for s in world.coordinator.of(SiteStatus)))
    world.coordinator.open(0)
    world.until(lambda: world.coordinator.of(UpdateOffer))

    def several() -> tuple[Telemetry, ...]:
        world.now += 1.0  # metrics are sent every few seconds of the agent's clock
        return tuple(world.coordinator.of(Telemetry))

    found: tuple[Telemetry, ...] = world.until(several)
    return found


def test_metrics_go_out_as_figures_only(tmp_path: Path, worlds: list[WatchedSite]) -> None:
    worlds.append(world := leaky_world(tmp_path, "metrics"))
    lines = [json.loads(line) for sent in told(world) for line in sent.lines]
    assert lines
    assert all(line.keys() == {"step", "loss"} for line in lines)
    assert world.leaked() == []
    assert any(payload_of(0) == data for data in world.outgoing.values())


def test_without_the_list_metrics_would_have_said_more(
    tmp_path: Path, worlds: list[WatchedSite], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "metric_line", lambda line: line)
    monkeypatch.setattr(telemetry, "check_outgoing", lambda body: None)
    worlds.append(world := leaky_world(tmp_path, "metrics"))
    told(world)
    assert world.leaked() != []


def facts_told(world: WatchedSite) -> SiteFacts:
    """What the site says about itself once its job has run."""
    world.coordinator.create()
    world.coordinator.start()

    def known() -> SiteFacts | None:
        world.now += 10.0  # facts come with the heartbeat
        said = (status.facts for status in world.coordinator.of(SiteStatus))
        return next((facts for facts in said if facts and facts.language_tokens and facts.accelerator), None)

    found: SiteFacts = world.until(known)
    return found


def test_what_a_job_says_of_its_machine_goes_out_in_known_words_only(tmp_path: Path, worlds: list[WatchedSite]) -> None:
    worlds.append(world := leaky_world(tmp_path, "facts"))
    facts = facts_told(world)
    assert (facts.accelerator, facts.num_accelerators, facts.torch) == ("NVIDIA GPU", 2, "2.6.0")
    assert [(entry.language, entry.tokens) for entry in facts.language_tokens] == [("de", 64)]
    world.steps(5)
    assert world.leaked() == []


def test_without_the_list_its_machine_would_have_had_other_names(
    tmp_path: Path, worlds: list[WatchedSite], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (site_facts, job_files):
        monkeypatch.setattr(module, "or_nothing", lambda owner, name, text: text)
    monkeypatch.setattr(executor, "problems", lambda facts: iter(()))
    monkeypatch.setattr(executor, "check_outgoing", lambda body: None)
    worlds.append(world := leaky_world(tmp_path, "facts"))
    assert JOB in str(facts_told(world))
    assert world.leaked() != []


def test_a_policy_that_names_things_of_the_site_tells_only_its_reason(
    tmp_path: Path, worlds: list[WatchedSite]
) -> None:
    values = {"unlisted": "accept", "trainers": {"reference": TRAINER}, "operators": {"creators": (JOB,)}}
    policy = Policy.model_validate(values)
    worlds.append(world := leaky_world(tmp_path, "metrics", policy=policy))
    world.coordinator.create(small_manifest())
    (answer,) = world.until(lambda: world.coordinator.of(ManifestAnswer))
    assert (answer.accepted, answer.reason) == (False, Reason.POLICY)
    world.steps(5)
    assert JOB in said_here(world)
    assert world.leaked() == []


# --- a federation of real processes -----------------------------------------------------------------------------------

PLACES = ("text", "held-out", "file", "directory", "data-set", "field", "environment", "bad-line")
CANARIES = tuple(map(canary, PLACES))


@dataclass(kw_only=True)
class TappedFederation(ProcessFederation):
    """Its agents are tapped, and have canaries in their environment, which their jobs inherit in part.

    Attributes:
        more: environment of the agents besides.
    """

    more: Mapping[str, str] = field(default_factory=dict)

    def tap(self, site: str) -> Path:
        """What went out of a site, as it was before it was encrypted."""
        return self.base / f"{site}.tap"

    def _service(
        self, name: str, argv: Sequence[str], failpoints: Sequence[str], extra: Mapping[str, str] | None = None
    ) -> None:
        if name in SITES:
            argv = [part.replace("site_agent.cli.main", "tapped_agent") for part in argv]
            secrets = {canary("environment"): "1", "USER": canary("environment")}
            extra = {**(extra or {}), **self.more, **secrets, tapped_agent.TAP: str(self.tap(name))}
        super()._service(name, argv, failpoints, extra)

    def plant(self, site: str, allowed: Sequence[str] = ("a-corpus", canary("data-set"))) -> Path:
        """Gives a site named data sets full of canaries, one with a line that is no JSON; returns that file.

        Args:
            allowed: data sets that its policy lets runs have.
        """
        directory = self.site(site) / canary("directory")
        shutil.move(self.site(site) / "data", directory)
        for path in directory.iterdir():
            with path.open("a") as file:
                file.writelines(f"{canary('text')} {n} {canary('held-out')}\n" for n in range(500))
        bad = directory / f"{canary('file')}.jsonl.gz"
        bad.write_bytes(gzip.compress(f'{{"{canary("field")}": "gut"}}\n{canary("bad-line")}'.encode()))
        text = (self.site(site) / SITE_FILE).read_text()
        kept = [line for line in text.splitlines() if not line.startswith(("data_dir", "languages"))]
        sets = [
            {"name": "a-corpus", "path": directory.name, "format": "text"},
            {"name": canary("data-set"), "path": f"{directory.name}/{bad.name}", "format": "jsonl"},
        ]
        sets[1]["text_field"] = canary("field")
        for entry in sets:
            kept += ["[[data.sets]]", f'language = "{SITES[site]}"', *(f'{k} = "{v}"' for k, v in entry.items())]
        (self.site(site) / SITE_FILE).write_text("\n".join(kept) + "\n")
        policy = self.site(site) / POLICY_FILE
        assert "\ndata_sets = []" in policy.read_text()
        policy.write_text(policy.read_text().replace("\ndata_sets = []", f"\ndata_sets = {json.dumps(allowed)}"))
        return bad


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    found = JobServer(tmp_path_factory.mktemp("jobs"))
    yield found
    found.service.stop()


def mend(bad: Path) -> None:
    lines = [json.dumps({canary("field"): f"{canary('text')} {n}"}) for n in range(300)]
    bad.write_bytes(gzip.compress("\n".join(lines).encode()))


def test_nothing_of_a_sites_data_is_in_any_byte_that_it_sends(server: JobServer, tmp_path: Path) -> None:
    couriers = {"alpha": "grpc"}
    with TappedFederation(base=tmp_path, setting=PLAIN, server=server, couriers=couriers) as federation:
        federation.set_up()
        bad = {site: federation.plant(site) for site in SITES}
        checked = run_command("site-agent", "data", "check", federation.site("alpha"), code=1)
        assert f"data set {canary('data-set')}, {bad['alpha'].name}: line 2: expected a JSON object" in checked
        federation.start().begin()
        logs = {site: federation.base / f"{site}.log" for site in SITES}
        for site in SITES:  # jobs fail of the line, and the site's own log says which
            failed = f"a failed job of {site}"
            federation.wait_for(lambda log=logs[site]: canary("file") in log.read_text(), failed, seconds=90)
        for path in bad.values():
            mend(path)
        federation.wait_for(federation.completed, "the run's end", seconds=120)
        federation.stop()
    for site in SITES:
        sent = tapped_agent.tapped(federation.tap(site))
        kinds = {part.split(b" ", 1)[0] for part in sent}
        assert kinds == ({b"mailbox", b"blob", b"rpc"} if site in couriers else {b"mailbox", b"blob"})
        assert [found for part in sent for found in find(CANARIES, part)] == []
    everything = b"".join(path.read_bytes() for path in federation.coordinator.rglob("*") if path.is_file())
    assert find(CANARIES, everything) == []
    names = "\n".join(str(path.relative_to(tmp_path)) for path in federation.coordinator.rglob("*"))
    assert find(CANARIES, names.encode()) == []


@pytest.mark.parametrize("unguarded", [True, False])
def test_the_search_finds_what_an_unguarded_agent_sends(unguarded: bool, server: JobServer, tmp_path: Path) -> None:
    """A policy that allows none of the data sets names them in its sentence."""
    more = {tapped_agent.UNGUARDED: "1"} if unguarded else {}
    couriers = {"alpha": "grpc"}
    with TappedFederation(base=tmp_path, setting=PLAIN, server=server, couriers=couriers, more=more) as federation:
        federation.set_up()
        for site in SITES:
            federation.plant(site, allowed=())
        federation.start()
        client, lock = connect(federation.base / OPERATOR, federation.coordinator)
        with lock:
            create_run(client, federation.base / "run.toml", federation.base / "model", 60)
        federation.wait_for(lambda: set(federation.show()["answers"]) == set(SITES), "two answers", seconds=90)
        federation.stop()
    found = {
        site: {part.split(b" ")[0] for part in tapped_agent.tapped(federation.tap(site)) if find(CANARIES, part)}
        for site in SITES
    }
    leaks = {"alpha": {b"mailbox", b"rpc"}, "beta": {b"mailbox"}}
    assert found == (leaks if unguarded else {"alpha": set(), "beta": set()})
    assert all(canary("data-set") in (federation.base / f"{site}.log").read_text() for site in SITES)
