# SPDX-License-Identifier: Apache-2.0
"""Wrong files, damaged directories, full disks: one sentence, an exit code, nothing half-written."""

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from cli_words import named
from hostile_site import HostileSite, HostileWorld
from majority_world import MajorityWorld, coordinator_directory, files_of
from simulator.checks import check, undisturbed
from simulator.settings import CONSORTIUM, OPERATOR, RUN, Setting, consortium, model, roster_document
from simulator.world import START, SiteMachine, World

from coordinator.cli.main import cli as coordinator_cli
from coordinator.home import COORDINATOR_KEY, LEDGER_KEY, ROSTERS
from coordinator.operator_client import OPERATOR_ID, OPERATOR_KEY
from coordinator.startup import open_coordinator
from federation import signing
from federation.cli.errors import exit_code_of
from federation.cli.main import federation as federation_cli
from federation.directory_lock import DirectoryLock
from federation.durable.real import RealFileSystem
from federation.durable.simulated import SimulatedFileSystem
from federation.errors import CorruptObjectError, DiskFullError
from federation.initial_model import MODEL_FILE, THETA_FILE, InitialModel
from federation.leaves import Reason
from federation.ledger.log import Ledger
from federation.messages import CommandKind
from federation.rounds import Round, RunState
from site_agent import layout
from site_agent.cli.main import cli as site_cli


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it wrote to standard error."""

    code: int
    text: str


Command = Callable[..., Said]


@pytest.fixture
def run_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Runs a command line in this process, as its console script does; an uncaught error would fail the test."""
    handlers = {name: list(logging.getLogger(name).handlers) for name in _LOGGERS}

    def run(command: click.Command, *arguments: object) -> Said:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        code = exit_code_of(command)
        text = capsys.readouterr().err
        assert "Traceback" not in text
        return Said(code, text)

    yield run
    for name, kept in handlers.items():
        logger = logging.getLogger(name)
        logger.handlers[:], logger.propagate = kept, True


_LOGGERS = ("federation", "coordinator", "site_agent", "federation.security")

# --- run.toml ---------------------------------------------------------------------------------------------------------

RUN_TOML = f"""
[run]
id = "{RUN}"
consortium = "{CONSORTIUM}"
num_rounds = 2

[schedule]
num_inner_steps = 4

[codecs]
up = "int8"

[model]
hidden_size = 16
intermediate_size = 32
num_layers = 1
num_heads = 2

[trainer]
batch_size = 2
sequence_length = 16

[[sites]]
id = "site-a"

[[sites]]
id = "site-b"
"""

MISTAKES = [
    ("num_rounds = 2", "num_rounds = 2\ncolour = 1", ("run.colour", "num_rounds")),
    ("[codecs]", "[colours]\n[codecs]", ("colours", "codecs")),
    ("num_rounds = 2", 'num_rounds = "two"', ("run.num_rounds", "whole number")),
    ("num_rounds = 2", "num_rounds = 2.5", ("run.num_rounds", "whole number")),
    ("num_rounds = 2", "", ("run.num_rounds",)),
    ("num_inner_steps = 4", "num_inner_steps = 0", ("schedule.num_inner_steps", "1 to 100000", "found 0")),
    ("num_inner_steps = 4", "num_inner_steps = -1", ("schedule.num_inner_steps", "1 to 100000", "found -1")),
    ("num_inner_steps = 4", "num_inner_steps = 4\nnum_fragments = 3", ("num_fragments", "divisor", "4", "found 3")),
    ('up = "int8"', 'up = "sparse-down"', ("codecs.up", "int4, int8, sparse,", '"sparse-down"')),
    ('up = "int8"', 'up = "zip"', ("codecs.up", "bf16", "int8", '"zip"')),
    ('id = "site-b"', 'id = "../b"', ("sites[2].id", "lower-case")),
    ('id = "site-b"', 'id = "site-a"', ("sites[2].id", "each site once")),
    (f'id = "{RUN}"', 'id = "$(reboot)"', ("run.id", "lower-case")),
    ("[run]", "[run", ("run.toml",)),
]


def bad_toml(directory: Path, old: str, new: str) -> Path:
    assert RUN_TOML.count(old) == 1
    path = directory / "run.toml"
    path.write_text(RUN_TOML.replace(old, new))
    return path


def check_words(said: Said, path: Path, words: tuple[str, ...]) -> None:
    assert said.code == 2, said
    for word in (path.name, *words):
        assert word in said.text, said.text


@pytest.mark.parametrize(("old", "new", "words"), MISTAKES)
def test_init_model_refuses_a_wrong_run_toml_and_makes_nothing(
    tmp_path: Path, run_command: Command, old: str, new: str, words: tuple[str, ...]
) -> None:
    path = bad_toml(tmp_path, old, new)
    check_words(run_command(federation_cli, "init-model", path, "--out", tmp_path / "model"), path, words)
    assert [found.name for found in tmp_path.iterdir()] == ["run.toml"]


@dataclass(frozen=True)
class Office:
    """Directories of a coordinator that has done nothing yet and of an operator, and an initial model."""

    base: Path

    @property
    def arguments(self) -> tuple[object, ...]:
        """Options of `run create`."""
        where = self.base
        return ("--init", where / "model", "--as", where / OPERATOR, "--coordinator", where / "coordinator")

    def made(self) -> list[str]:
        """Everything that a command could have left behind."""
        found = self.base.rglob("*")
        return sorted(str(p.relative_to(self.base)) for p in found if "lock" not in p.parts and p.name != "run.toml")


@pytest.fixture
def office(tmp_path: Path) -> Office:
    keys = consortium(3)
    operator, coordinator = RealFileSystem(tmp_path / OPERATOR), RealFileSystem(tmp_path / "coordinator")
    signing.save_private_key(operator, OPERATOR_KEY, keys.key(f"operator/{OPERATOR}"))
    operator.write(OPERATOR_ID, OPERATOR.encode())
    signing.save_private_key(coordinator, COORDINATOR_KEY, keys.key("coordinator"))
    signing.save_private_key(coordinator, LEDGER_KEY, keys.key("ledger"))
    document = tmp_path / "roster"
    document.write_bytes(roster_document(3))
    data, _, manifest = model(1)
    described = InitialModel(
        num_parameters=manifest.fragments[0].num_elements,
        theta_blob=manifest.theta_blob,
        theta_digests=manifest.plan.theta_digests,
        fragments=manifest.fragments,
        aliases=(),
    )
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / MODEL_FILE).write_text(json.dumps(asdict(described)))
    (tmp_path / "model" / THETA_FILE).write_bytes(data)
    return Office(tmp_path)


@pytest.fixture
def open_office(office: Office, run_command: Command) -> Office:
    said = run_command(coordinator_cli, "roster", "install", office.base / "coordinator", office.base / "roster")
    assert said.code == 0, said
    RealFileSystem(office.base / OPERATOR).write("root", (office.base / "coordinator/root").read_bytes())
    return office


@pytest.mark.parametrize(("old", "new", "words"), MISTAKES)
def test_run_create_refuses_a_wrong_run_toml_and_sends_nothing(
    open_office: Office, run_command: Command, old: str, new: str, words: tuple[str, ...]
) -> None:
    path, before = bad_toml(open_office.base, old, new), open_office.made()
    check_words(run_command(coordinator_cli, "run", "create", path, *open_office.arguments), path, words)
    left = [name for name in open_office.made() if name not in before]
    assert not [name for name in left if name.endswith(".msg") or "blobs" in name], left


def serving(office: Office, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A coordinator that works whenever the operator's command waits."""
    coordinator = open_coordinator(office.base / "coordinator", time.time())

    def wait(seconds: float) -> None:
        coordinator.step(time.time())

    patched = SimpleNamespace(monotonic=time.monotonic, time_ns=time.time_ns, sleep=wait)
    monkeypatch.setattr("coordinator.operator_client.time", patched)
    coordinator.step(time.time())
    return coordinator.ledger


def test_an_unknown_site_is_refused_in_words_and_leaves_no_leaf(
    open_office: Office, run_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = serving(open_office, monkeypatch)
    before = ledger.size
    path = bad_toml(open_office.base, 'id = "site-b"', 'id = "nowhere"')
    said = run_command(coordinator_cli, "run", "create", path, *open_office.arguments)
    assert said.code == 2
    assert "sites nowhere: not in roster version 1, which has site-a, site-b, site-c" in said.text
    assert ledger.size == before
    path = bad_toml(open_office.base, 'id = "site-b"', 'id = "site-c"')
    assert run_command(coordinator_cli, "run", "create", path, *open_office.arguments).code == 0
    assert ledger.size == before + 1
    again = run_command(coordinator_cli, "run", "create", path, *open_office.arguments)
    assert (again.code, ledger.size) == (2, before + 1)
    assert f"run {RUN}: a run of that name exists" in again.text


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda d: (d / MODEL_FILE).unlink(), MODEL_FILE),
        (lambda d: (d / THETA_FILE).unlink(), THETA_FILE),
        (lambda d: (d / MODEL_FILE).write_text("{}"), MODEL_FILE),
        (lambda d: (d / THETA_FILE).write_bytes(b"junk"), "theta_0"),
        (lambda d: shutil.rmtree(d), "--init"),
    ],
)
def test_a_missing_or_wrong_initial_model(
    open_office: Office, run_command: Command, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(open_office.base / "model")
    path = bad_toml(open_office.base, "num_rounds = 2", "num_rounds = 1")
    said = run_command(coordinator_cli, "run", "create", path, *open_office.arguments)
    assert said.code == 2
    assert words in said.text
    assert not [name for name in open_office.made() if name.endswith(".msg")]


# --- keys and rosters -------------------------------------------------------------------------------------------------


def junk(path: Path) -> None:
    path.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")


def as_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def absent(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("spoil", [junk, as_directory, absent])
@pytest.mark.parametrize("key", [COORDINATOR_KEY, LEDGER_KEY])
def test_serve_needs_both_keys(
    open_office: Office, run_command: Command, key: str, spoil: Callable[[Path], None]
) -> None:
    directory = open_office.base / "coordinator"
    spoil(directory / key)
    said = run_command(coordinator_cli, "serve", directory)
    assert said.code == 2
    assert said.text.startswith(f"error: {key}: expected an ")
    assert not (directory / "ledger").exists()


def test_serve_needs_a_roster(office: Office, run_command: Command) -> None:
    said = run_command(coordinator_cli, "serve", office.base / "coordinator")
    assert said.code == 2
    assert said.text.startswith("error: no roster is installed\nRun `coordinator roster install")


def test_serve_refuses_a_spoilt_roster(open_office: Office, run_command: Command) -> None:
    path = next((open_office.base / "coordinator" / ROSTERS).iterdir())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    said = run_command(coordinator_cli, "serve", open_office.base / "coordinator")
    assert said.code == 1
    assert said.text.startswith("error: ")
    assert not (open_office.base / "coordinator/ledger").exists()


@pytest.mark.parametrize("spoil", [junk, as_directory, absent])
def test_an_operator_needs_her_key(open_office: Office, run_command: Command, spoil: Callable[[Path], None]) -> None:
    spoil(open_office.base / OPERATOR / OPERATOR_KEY)
    options = open_office.arguments[2:]
    said = run_command(coordinator_cli, "run", "list", *options)
    assert said.code == 2
    assert said.text.startswith(f"error: {OPERATOR_KEY}: expected an ")


@pytest.fixture
def site_dir(tmp_path: Path, run_command: Command) -> Path:
    directory = tmp_path / "site"
    said = run_command(site_cli, "init", directory, "--request", tmp_path / "site.req", "--site", "site-a")
    assert said.code == 0, said
    document = tmp_path / "roster"
    document.write_bytes(roster_document(3))
    assert run_command(site_cli, "roster", "install", directory, document).code == 0
    return directory


@pytest.mark.parametrize(
    ("path", "spoil", "code", "words"),
    [
        (layout.UPDATE_KEY, junk, 2, layout.UPDATE_KEY),
        (layout.UPDATE_KEY, absent, 2, layout.UPDATE_KEY),
        (layout.WITNESS_KEY, as_directory, 2, layout.WITNESS_KEY),
        (layout.ROOT_FILE, absent, 2, "no roster is installed"),
        (layout.roster_path(1), absent, 2, "no roster is installed"),
        (layout.roster_path(1), junk, 1, "envelope"),
        ("policy.toml", absent, 2, "policy.toml"),
        ("policy.toml", junk, 2, "policy.toml"),
        ("site.toml", absent, 2, "site.toml"),
        ("site.toml", junk, 2, "site.toml"),
    ],
)
def test_an_agent_needs_its_files(
    site_dir: Path, run_command: Command, path: str, spoil: Callable[[Path], None], code: int, words: str
) -> None:
    spoil(site_dir / path)
    said = run_command(site_cli, "tick", site_dir)
    assert said.code == code, said
    assert said.text.startswith("error: ")
    assert words in said.text
    assert not (site_dir / layout.JOURNAL).exists()


def test_a_directory_has_one_process(site_dir: Path, open_office: Office, run_command: Command) -> None:
    coordinator = open_office.base / "coordinator"
    with DirectoryLock.acquire(RealFileSystem(coordinator)):
        said = run_command(coordinator_cli, "serve", coordinator)
        assert said.code == 1
        assert f"found process {os.getpid()} on " in said.text
    with DirectoryLock.acquire(RealFileSystem(site_dir), base=layout.LOCK):
        said = run_command(site_cli, "tick", site_dir)
        assert said.code == 1
        assert f"found process {os.getpid()} on " in said.text
    assert not (coordinator / "ledger").exists()
    assert not (site_dir / layout.JOURNAL).exists()
    assert run_command(site_cli, "tick", site_dir).code == 0


def test_what_serve_advises_about_a_taken_directory_exists() -> None:
    for command in (named(coordinator_cli, "serve"), named(site_cli, "serve"), named(site_cli, "tick")):
        assert "--take-over" in [option for parameter in command.params for option in parameter.opts]


# --- damage -----------------------------------------------------------------------------------------------------------


def two_answers(site: HostileSite, found: Round) -> None:
    first = site.payload(found)
    for payload in (first, bytes(len(first))):
        site.offer(site.descriptor(found, payload), payload)


@pytest.fixture(scope="module")
def finished_world() -> World:
    world = HostileWorld(deed=two_answers, setting=Setting(patient=False, codec="int8", num_rounds=2)).run(9000)
    assert world.run_now.state is RunState.COMPLETED
    assert world.coordinator is not None
    while world.coordinator.step(world.now):
        pass
    return world


@pytest.fixture
def served(finished_world: World, tmp_path: Path) -> Path:
    directory = coordinator_directory(finished_world, tmp_path / "coordinator")
    open_coordinator(directory, START)
    return directory


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


def refusal(directory: Path) -> str:
    """What serving says about damage, "" if it finds none."""
    try:
        open_coordinator(directory, START)
    except CorruptObjectError as error:
        return error.diagnostics()
    return ""


def test_a_byte_of_any_blob_is_missed(served: Path) -> None:
    blobs = sorted(path for path in (served / "blobs").rglob("*") if path.is_file())
    payload_of_no_leaf = []
    for path in blobs:
        whole = path.read_bytes()
        flip(path, len(whole) // 2)
        said = refusal(served)
        path.write_bytes(whole)
        if said:
            assert path.name[:12] in said
            assert "Do not serve this directory" in said
        else:
            payload_of_no_leaf.append(path.name)
    # A discarded second answer's payload is nothing that was relied on; its signed update is evidence and is checked.
    assert len(payload_of_no_leaf) <= 1
    open_coordinator(served, START)


def test_a_missing_blob_is_missed(served: Path, run_command: Command) -> None:
    next(path for path in (served / "blobs").rglob("*") if path.is_file() and path.stat().st_size > 400).unlink()
    said = run_command(coordinator_cli, "serve", served)
    assert said.code == 1
    assert "Do not serve this directory" in said.text


def test_every_byte_of_the_ledger_counts(finished_world: World) -> None:
    keys = finished_world.keys
    origin = finished_world.coordinator.ledger.origin if finished_world.coordinator else ""

    def opened(fs: SimulatedFileSystem) -> Ledger:
        return Ledger.open(fs, "ledger", origin, keys.key("ledger"), keys.public("ledger"))

    names = [p for p in files_of(finished_world.fs) if p.startswith("ledger/")]
    contents = {path: finished_world.fs.read(path) for path in names}
    segment = next(path for path in names if "/segments/" in path)
    for path in (segment, "ledger/checkpoint"):
        for position in range(0, len(contents[path]), 7):
            fs = SimulatedFileSystem(1)
            for name, data in contents.items():
                fs.write_unsynced(name, data)
            changed = bytearray(contents[path])
            changed[position] ^= 0x10
            fs.write_unsynced(path, bytes(changed))
            with pytest.raises(CorruptObjectError):
                opened(fs)


def test_a_damaged_or_cut_ledger_is_not_served(served: Path, run_command: Command) -> None:
    (segment,) = (served / "ledger/segments").iterdir()
    whole, size = segment.read_bytes(), segment.stat().st_size
    for cut in (1, 100, size):
        segment.write_bytes(whole[: size - cut])
        said = run_command(coordinator_cli, "serve", served)
        assert said.code == 1
        assert said.text.startswith(f"error: {served}: ")
        assert "Do not serve this directory" in said.text
        assert segment.read_bytes() == whole[: size - cut]  # nothing was "repaired"
    segment.write_bytes(whole)
    open_coordinator(served, START)


def test_an_older_ledger_is_not_served_as_long_as_a_cosignature_tells(finished_world: World, served: Path) -> None:
    """Leaves and checkpoint of a backup, put back without the cosigned notes: a witness has seen more."""
    assert finished_world.coordinator is not None
    ledger = finished_world.coordinator.ledger
    older = SimulatedFileSystem(1)
    key = finished_world.keys.key("ledger")
    Ledger.create(older, "ledger", ledger.origin, key).append(ledger.leaves(0, 5))
    for path in files_of(older):
        (served / path).write_bytes(older.read(path))
    with pytest.raises(CorruptObjectError) as caught:
        open_coordinator(served, START)
    assert "Do not serve this directory" in caught.value.advice


def files_below(directory: Path) -> list[Path]:
    found = sorted(path for path in directory.rglob("*") if path.is_file() and path.stat().st_size)
    assert found
    return found


@pytest.mark.parametrize("array", ["theta", "momentum", "residual"])
@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_damaged_state_is_rebuilt_from_evidence_with_a_warning(
    served: Path, caplog: pytest.LogCaptureFixture, array: str, part: float
) -> None:
    """One array of the newest version is damaged in every copy that there is, mapped and durable."""
    head = open_coordinator(served, START).state.runs[RUN].heads()[0]
    below = [path for path in files_below(served / "state") if str(head.number) in path.parts]
    copies = [path for path in below if array in (*path.parts, path.stem)]
    assert copies
    for path in copies:
        flip(path, int(path.stat().st_size * part))
    caplog.clear()
    coordinator = open_coordinator(served, START)
    assert "state was rebuilt" in caplog.text
    run, manifest = coordinator.state.runs[RUN], coordinator.manifest_of(RUN)
    assert coordinator.aggregation.ensure(run, manifest, 0, head.number) == 0
    reader = coordinator.states.open(RUN, 0, head.number)
    assert reader is not None


def test_damage_of_one_copy_of_the_state_is_survived(served: Path) -> None:
    for path in files_below(served / "state"):
        if not path.exists():  # an older version that a rebuild has replaced
            continue
        flip(path, path.stat().st_size // 2)
        coordinator = open_coordinator(served, START)
        run, manifest = coordinator.state.runs[RUN], coordinator.manifest_of(RUN)
        assert coordinator.aggregation.ensure(run, manifest, 0, run.heads()[0].number) == 0


def test_state_that_is_gone_is_rebuilt_from_evidence(served: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(served / "state")
    caplog.clear()
    open_coordinator(served, START)
    assert "state was rebuilt from 2 rounds" in caplog.text


def test_a_damaged_journal_stops_the_agent(site_dir: Path, run_command: Command) -> None:
    assert run_command(site_cli, "tick", site_dir).code == 0
    journal = site_dir / layout.JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole)
    flip(journal, len(whole) // 2)
    said = run_command(site_cli, "tick", site_dir)
    assert said.code == 1
    assert "expected whole records" in said.text
    assert "Restore the state directory" in said.text


# --- full disks -------------------------------------------------------------------------------------------------------

PATIENT = Setting(num_sites=2, num_rounds=1, codec="fp32")


@dataclass(kw_only=True)
class FullWorld(World):
    """A disk fills up somewhere; the process that meets it ends, as its command would, and is started again later.

    Attributes:
        room: bytes that are left when the trouble begins.
        victim: "coordinator" or a site.
    """

    seed: int = 3
    setting: Setting = PATIENT
    room: int = 0
    victim: str = "coordinator"
    num_failures: int = 0

    def trouble(self) -> SimulatedFileSystem:
        """The disk that is short of space."""
        return next((m.fs for m in self.machines if m.site == self.victim), self.fs)

    def _on_coordinator(self, act: Callable[[], object]) -> None:
        try:
            super()._on_coordinator(act)
        except DiskFullError:
            self.num_failures += 1
            self.coordinator = None

    def _on_site(self, machine: SiteMachine, act: Callable[[], object]) -> None:
        try:
            super()._on_site(machine, act)
        except DiskFullError:
            self.num_failures += 1
            machine.agent = None


@pytest.mark.parametrize("victim", ["coordinator", "site-a"])
@pytest.mark.parametrize("begin", [0, 60, 200])
@pytest.mark.parametrize("room", [0, 700, 5000])
def test_a_full_disk_loses_nothing_and_all_goes_on_once_there_is_space(victim: str, begin: int, room: int) -> None:
    world = FullWorld(victim=victim, room=room, seed=begin + room)
    for _ in range(begin):
        world.step()
    world.trouble().fail_writes_after(room)
    for _ in range(250):
        world.step()
    world.trouble().fail_writes_after(None)
    run = world.run(9000).state_of_run()
    if run is not None and run.state is RunState.PAUSED:  # it saw the end coming
        assert run.pause is not None
        assert run.pause.reason is Reason.DISK_FULL
        world.command(CommandKind.RUN_RESUME)
        for _ in range(200):
            world.step()
        run = world.run(9000).state_of_run()
    assert run is not None
    assert run.state is RunState.COMPLETED
    assert tuple(head.theta_digest for head in run.heads()) == undisturbed(PATIENT)
    check(world)
    if room == 0:
        assert world.num_failures


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("this user may not mount a small file system to fill")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_one_sentence(small_disk: Path, tmp_path: Path, run_command: Command) -> None:
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    commands: list[tuple[click.Command, tuple[object, ...]]] = [
        (coordinator_cli, ("init", small_disk / "c", "--request", tmp_path / "c.req")),
        (site_cli, ("init", small_disk / "s", "--request", tmp_path / "s.req", "--site", "s")),
    ]
    for command, arguments in commands:
        said = run_command(command, *arguments)
        assert said.code == 1
        assert "expected room for" in said.text
        assert "Free space on this file system" in said.text
    assert not list(small_disk.rglob("*.pem"))
    filler.unlink()
    for command, arguments in commands:
        assert run_command(command, *arguments).code == 0


def test_a_world_with_space_ends_alike() -> None:
    """The digests that the tests above compare with are not of a run that failed everywhere."""
    world = MajorityWorld().run(9000)
    assert world.run_now.num_commits() == 1
