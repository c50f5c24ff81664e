# SPDX-License-Identifier: Apache-2.0
"""Real coordinator directories for audits: what a simulated federation left, and a dishonest coordinator's hand in it.

The history has everything that an audit must understand: admitted and rejected updates, equivocation, a rollback,
evaluations, stored state, cosignatures.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import simulator.world
from simulator.settings import CONSORTIUM, RUN, Setting, consortium
from simulator.world import START, World

from federation import dsse, notes, wire
from federation.blobs.store import BlobStore
from federation.codecs.payload import encode_vector
from federation.codecs.registry import get_codec
from federation.durable import FileSystem
from federation.durable.real import RealFileSystem
from federation.leaves import EvaluationRecordedV1, Leaf, RoundSealedV1, TasksEvaluatedV1, VerdictV1
from federation.ledger.log import Ledger
from federation.merkle import blob_digest
from federation.messages import CommandKind, Update, UpdateOffer
from federation.notes import witness_name
from federation.roster import peek_roster, root_fingerprint
from federation.rounds import Round, RoundState, Run, RunState
from federation.signing import public_bytes
from federation.state.api import StateStore
from federation.state.zarr_store import ZarrStateStore
from federation.testing.rosters import MemoryConsortium
from federation.verify import Check, Report, Verdict, verify_directory
from federation.verify.present import lines

MAX_STEPS = 20_000
_built: dict[int, "Bench"] = {}
Edit = Callable[[list[Leaf]], list[Leaf]]
Script = Callable[[World], None]


@cache
def roster_document(num_sites: int) -> bytes:
    """Roster version 1, in force while the simulation lasts."""
    keys = consortium(num_sites)
    return keys.document(keys.roster(now_us=int((START - 3600) * 1e6)))


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A coordinator's directory, and what an auditor brings.

    Attributes:
        older: the same directory as it was in the middle of the run.
        checkpoints: what each site's agent kept at the end.
    """

    directory: Path
    older: Path
    root: str
    checkpoints: tuple[Path, ...]
    keys: MemoryConsortium
    _renamed: list[tuple[str, str]] = field(default_factory=list)

    def copy(self, target: Path) -> Path:
        """The directory once more, to be tampered with."""
        shutil.copytree(self.directory, target)
        return target

    def ledger(self, directory: Path) -> Ledger:
        """The ledger of a directory, opened with its key."""
        key, origin = self.keys.key("ledger"), notes.default_origin(CONSORTIUM)
        fs = RealFileSystem(directory)
        return Ledger.open(fs, "ledger", origin, key, public_bytes(key), self._witnesses)

    def leaves(self, directory: Path) -> list[Leaf]:
        """All leaves."""
        return self.ledger(directory).leaves()

    def rewrite(self, directory: Path, edit: Edit) -> None:
        """What a coordinator and witnesses that lie together can do: other leaves, and everything signed anew."""
        self._write(directory, edit(self.leaves(directory)))

    def _write(self, directory: Path, leaves: list[Leaf]) -> None:
        shutil.rmtree(directory / "ledger")
        key = self.keys.key("ledger")
        fs = RealFileSystem(directory)
        ledger = Ledger.create(fs, "ledger", notes.default_origin(CONSORTIUM), key, self._witnesses)
        ledger.append(leaves)
        for site in self.keys.sites:
            witness = self.keys.key(f"site/{site}/witness")
            ledger.cosign(notes.cosign(ledger.checkpoint(), witness_name(CONSORTIUM, site), witness, int(START)))
        ledger.close()

    def _witnesses(self) -> dict[str, bytes]:
        return {witness_name(CONSORTIUM, s): self.keys.public(f"site/{s}/witness") for s in self.keys.sites}

    def rekey(self, directory: Path) -> "Bench":
        """Everything signed anew by a made-up consortium with the same names: a forgery without a seam."""
        forged = replace(
            self, directory=directory, keys=MemoryConsortium(name=CONSORTIUM, seed="stranger", sites=self.keys.sites)
        )
        forged.keys.operators = self.keys.operators
        leaves = [self._resigned(forged, directory, leaf) for leaf in self.leaves(directory)]
        document = forged.keys.document(forged.keys.roster(now_us=int((START - 3600) * 1e6)))
        leaves = changed(leaves, 0, digest=put_blob(directory, document))
        (directory / "rosters" / "000001.roster").write_bytes(document)
        fingerprint = root_fingerprint(peek_roster(document))
        (directory / "root").write_text(fingerprint)
        names = dict(forged._renamed)
        forged._write(directory, [_with_names(leaf, names) for leaf in leaves])
        return replace(forged, root=fingerprint)

    def _resigned(self, forged: "Bench", directory: Path, leaf: Leaf) -> Leaf:
        body = leaf.body
        evaluated = dsse.TASKS_TYPE if isinstance(body, TasksEvaluatedV1) else dsse.EVALUATION_TYPE
        for name, kind in (("update_digest", dsse.UPDATE_TYPE), ("evidence_digest", evaluated)):
            digest = getattr(body, name, "")
            if digest:
                payload = dsse.peek_payload(blob_of(directory, digest).read_bytes(), kind)
                key = forged.keys.key(f"site/{getattr(body, 'site', '')}/update")
                new = put_blob(directory, dsse.sign_envelope(kind, payload, key))
                forged._renamed.append((digest, new))
        return leaf


def build(base: Path, num_fragments: int, codec: str = "int4") -> Bench:
    """Runs a federation of three sites, with faults and a rollback, and leaves its directory on a real disk."""

    def begin(world: World) -> None:
        _disturb(world)
        until(world, lambda run: run.num_commits() >= 2 and all(v[-1].number for v in run.versions))

    def go_on(world: World) -> None:
        world.command(CommandKind.RUN_ROLLBACK, number=0)
        until(world, lambda run: run.reverted_at >= 0)

    setting = Setting(num_sites=3, num_fragments=num_fragments, num_rounds=4, codec=codec, patient=False, tasks_every=1)
    return build_with(base, World(seed=3, setting=setting), begin, go_on)


def build_with(base: Path, world: World, begin: Script, go_on: Script) -> Bench:
    """The directory after `begin` (the older one), `go_on`, and the completion of the run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulator.world, "roster_document", roster_document)
        begin(world)
        older = _directory(world, base / "older")
        go_on(world)
        until(world, lambda run: run.state is RunState.COMPLETED)
        for _ in range(600):  # the last cosignatures and evaluations
            world.step()
        directory = _directory(world, base / "directory")
        kept = tuple(_kept(world, base, number) for number in range(len(world.machines)))
    root = root_fingerprint(peek_roster(roster_document(3)))
    return Bench(directory=directory, older=older, root=root, checkpoints=kept, keys=world.keys)


def until(world: World, holds: Callable[[Run], bool]) -> None:
    """Steps until something holds of the run; a run that paused is resumed."""
    for _ in range(MAX_STEPS):
        run = world.state_of_run()
        if run is not None and holds(run):
            return
        if run is not None and run.state is RunState.PAUSED and not _resuming(world):
            world.command(CommandKind.RUN_RESUME)
        world.step()
    raise AssertionError("the simulated run never came so far")


def _resuming(world: World) -> bool:
    """Whether a command is still under way."""
    return world.operator.last_sequence > len(world.replies)


def _disturb(world: World) -> None:
    """One site signs a second payload, another one that breaks the codec's format."""
    until(world, lambda run: any(_half_full(found) for found in run.rounds.values()))
    run = world.state_of_run()
    assert run is not None
    found = next(found for found in run.rounds.values() if _half_full(found))
    vector = np.full(world.manifest.fragments[found.fragment].num_elements, 0.25, np.float32)
    good = encode_vector(get_codec(world.manifest.codecs.up), vector)
    _offer(world, found, found.admitted()[0].site, good)
    _offer(world, found, found.waiting_for()[0], b"\xff" * len(good))


def _half_full(found: Round) -> bool:
    return found.state is RoundState.OPEN and bool(found.admitted()) and bool(found.waiting_for())


def _offer(world: World, found: Round, site: str, payload: bytes) -> None:
    coordinator = world.coordinator
    assert coordinator is not None
    invitation = found.invitation(site)
    assert invitation is not None
    run = coordinator.state.runs[RUN]
    update = Update(
        consortium=CONSORTIUM,
        run=RUN,
        manifest_digest=run.manifest_digest,
        round=found.number,
        fragment=found.fragment,
        base_digest=found.base_digest,
        site=site,
        allocation=invitation.allocation,
        codec=world.manifest.codecs.up,
        weight_tokens=16,
        new_tokens=16,
        num_steps=invitation.num_steps,
        payload_digest=blob_digest(payload),
        payload_bytes=len(payload),
    )
    key = world.keys.key(f"site/{site}/update")
    signed = dsse.sign_envelope(dsse.UPDATE_TYPE, wire.update_to_bytes(update), key)
    coordinator.blobs.put(payload)
    entry = coordinator.rosters.site(site)
    event = coordinator.examiner.site_input(coordinator.state, entry, UpdateOffer(signed_update=signed))
    assert event is not None
    coordinator._decide(event, world.now)


def _directory(world: World, target: Path) -> Path:
    copy_files(world.fs, "", target)
    (target / "rosters").mkdir()
    (target / "rosters" / "000001.roster").write_bytes(roster_document(3))
    (target / "root").write_text(root_fingerprint(peek_roster(roster_document(3))))
    assert world.coordinator is not None
    _copy_state(world, world.coordinator.states, ZarrStateStore(RealFileSystem(target)))
    return target


def _copy_state(world: World, source: StateStore, target: StateStore) -> None:
    for fragment, table in enumerate(world.manifest.fragments):
        for version in source.versions(RUN, fragment):
            reader = source.open(RUN, fragment, version)
            assert reader is not None
            with target.create(RUN, fragment, version, table.num_elements) as writer:
                for index in range(reader.grid.num_chunks):
                    writer.write_chunk(index, *reader.read_chunk(index))
                writer.commit()


def _kept(world: World, base: Path, number: int) -> Path:
    machine = world.machines[number]
    path = base / f"kept-{machine.site}"
    path.write_bytes(machine.fs.read("state/ledger/checkpoint"))
    return path


def copy_files(fs: FileSystem, path: str, target: Path) -> None:
    """Every file of a simulated disk below a path, to a real directory."""
    for name in fs.list(path):
        child = f"{path}/{name}" if path else name
        if fs.list(child):
            copy_files(fs, child, target / name)
        else:
            target.mkdir(parents=True, exist_ok=True)
            try:
                (target / name).write_bytes(fs.read(child))
            except Exception:  # an empty directory
                continue


def changed(leaves: list[Leaf], index: int, **values: object) -> list[Leaf]:
    """The leaves with other values in one of them."""
    body = replace(leaves[index].body, **values)  # type: ignore[arg-type]
    return [replace(leaf, body=body) if number == index else leaf for number, leaf in enumerate(leaves)]


def _with_names(leaf: Leaf, names: dict[str, str]) -> Leaf:
    """The leaf with other digests of signed updates and evaluations."""
    body = leaf.body
    if isinstance(body, VerdictV1):
        body = replace(body, update_digest=names.get(body.update_digest, body.update_digest))
    elif isinstance(body, EvaluationRecordedV1 | TasksEvaluatedV1):
        body = replace(body, evidence_digest=names[body.evidence_digest])
    elif isinstance(body, RoundSealedV1):
        sealed = tuple(replace(update, update_digest=names[update.update_digest]) for update in body.updates)
        body = replace(body, updates=sealed)
    return replace(leaf, body=body)


def index_of(leaves: list[Leaf], kind: type, nth: int = 0, **values: object) -> int:
    """Index of the n-th leaf of a type with these values."""
    found = [
        number
        for number, leaf in enumerate(leaves)
        if isinstance(leaf.body, kind) and all(getattr(leaf.body, name) == value for name, value in values.items())
    ]
    return found[nth]


def blob_of(directory: Path, digest: str) -> Path:
    """A blob's file."""
    return directory / "blobs" / digest[:2] / digest


def put_blob(directory: Path, data: bytes) -> str:
    """Adds a blob, as only a dishonest coordinator would."""
    return BlobStore(RealFileSystem(directory)).put(data)


def bench_of(base: Path, num_fragments: int) -> Bench:
    """The directory of a run with this P, built once in a process; nobody changes it."""
    if num_fragments not in _built:
        _built[num_fragments] = build(base, num_fragments, "int4" if num_fragments == 1 else "bf16")
    return _built[num_fragments]


def audit(bench: Bench, directory: Path, *, anchored: bool = True) -> Report:
    """An audit with the root, and with the kept checkpoints if asked."""
    return verify_directory(directory, root=bench.root, checkpoints=bench.checkpoints if anchored else ())


def expect(report: Report, check: Check, what: str, leaf: int | None = None) -> None:
    """A FALSE verdict, with a difference of this check whose text holds `what`, at this leaf if one is given."""
    text = "\n".join(lines(report))
    assert report.verdict is Verdict.FALSE, text
    found = [d for d in report.findings.differences if d.check is check and what in str(d)]
    assert found, f"expected a difference of check {check.name} with {what!r} in\n{text}"
    if leaf is not None:
        assert leaf in {d.place.leaf for d in found}, text


def is_verdict(leaf: Leaf) -> bool:
    """Whether a leaf is a verdict."""
    return isinstance(leaf.body, VerdictV1)


def flip(path: Path, at: float = 0.5) -> None:
    """Changes one byte, by default the one in the middle."""
    data = bytearray(path.read_bytes())
    data[min(int(len(data) * at), len(data) - 1)] ^= 0x10
    path.write_bytes(data)
