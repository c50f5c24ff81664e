# SPDX-License-Identifier: Apache-2.0
"""A commit on threads: the same bits whatever their number and the store, digests later, and bounded memory."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from federation import admission
from federation.admission import check_payload
from federation.aggregate import CommitResult, commit_round, initial_state, is_intact, state_digests
from federation.blobs.store import BlobStore
from federation.chunks import CHUNK_ELEMENTS, ChunkGrid, fragment_digest
from federation.codecs.payload import chunk_span, encode_vector
from federation.codecs.registry import codec_names, get_codec
from federation.durable.real import RealFileSystem
from federation.durable.simulated import SimulatedFileSystem
from federation.errors import CorruptObjectError, MalformedPayloadError, NonFiniteUpdateError
from federation.golden import inputs
from federation.kernels import chunks, strips
from federation.leaves import Reason, SealedUpdate
from federation.manifest import Manifest
from federation.merkle import blob_digest
from federation.messages import Update
from federation.state.api import StateStore
from federation.state.mapped_store import MappedStateStore
from federation.state.memory_store import MemoryStateStore
from federation.state.tiered_store import TieredStateStore
from federation.state.zarr_store import ZarrStateStore
from federation.testing.manifests import manifest_of, plan_of, table_of

SIZE = 3 * CHUNK_ELEMENTS + 70_001
THETA = inputs.usual(1, SIZE)
SITES = ("alpha", "beta", "gamma")
STORES: dict[str, Callable[[RealFileSystem], StateStore]] = {
    "memory": lambda fs: MemoryStateStore(),
    "zarr": ZarrStateStore,
    "mapped": MappedStateStore,
    "tiered": TieredStateStore,
}


@pytest.fixture(scope="module")
def fs(tmp_path_factory: pytest.TempPathFactory) -> RealFileSystem:
    return RealFileSystem(tmp_path_factory.mktemp("commit"))


@pytest.fixture(scope="module")
def blobs(fs: RealFileSystem) -> BlobStore:
    return BlobStore(fs)


def agreed(codec: str = "int4") -> Manifest:
    plan = plan_of(dict.fromkeys(SITES, 4), theta_digests=[fragment_digest(THETA)])
    momentum = 0.0 if codec.startswith("sparse") else 0.9
    return manifest_of(plan, [table_of([("w", (SIZE,))])], momentum=momentum, up=codec, down=codec)


def payloads(blobs: BlobStore, codec: str) -> tuple[SealedUpdate, ...]:
    return tuple(
        SealedUpdate(
            site=site,
            weight=1 / 3,
            update_digest="",
            payload_digest=blobs.put(encode_vector(get_codec(codec), inputs.usual(7 + index, SIZE))),
        )
        for index, site in enumerate(SITES)
    )


def two_commits(blobs: BlobStore, store: StateStore, codec: str, num_threads: int) -> list[CommitResult]:
    manifest = agreed(codec)
    initial_state(store, "run-1", manifest, [THETA])
    sealed, results = payloads(blobs, codec), []
    for number in range(2):
        results.append(
            commit_round(blobs, store, "run-1", manifest, number, 0, number, sealed, num_threads=num_threads)
        )
        assert is_intact(store, "run-1", 0, number + 1, SIZE, results[-1].state_digests, num_threads)
    store.close()
    return results


@pytest.fixture(scope="module")
def inline(blobs: BlobStore) -> dict[str, list[CommitResult]]:
    """One thread, in memory."""
    return {codec: two_commits(blobs, MemoryStateStore(), codec, 1) for codec in codec_names()}


@pytest.mark.parametrize("codec", codec_names())
def test_any_number_of_threads_gives_the_same_bits(
    blobs: BlobStore, inline: dict[str, list[CommitResult]], codec: str
) -> None:
    assert two_commits(blobs, MemoryStateStore(), codec, 3) == inline[codec]


@pytest.mark.parametrize("name", STORES)
def test_any_store_gives_the_same_bits(
    blobs: BlobStore, inline: dict[str, list[CommitResult]], tmp_path: Path, name: str
) -> None:
    assert two_commits(blobs, STORES[name](RealFileSystem(tmp_path)), "int4", 2) == inline["int4"]


@pytest.mark.parametrize("strip", [4096, 12_288, 2**20])
def test_any_strip_gives_the_same_bits(
    blobs: BlobStore, inline: dict[str, list[CommitResult]], monkeypatch: pytest.MonkeyPatch, strip: int
) -> None:
    monkeypatch.setattr(strips, "STRIP_ELEMENTS", strip)
    monkeypatch.setattr(chunks, "codec_numbers", lambda name: None)
    assert two_commits(blobs, MemoryStateStore(), "int4", 2) == inline["int4"]


def test_without_mapped_payloads_the_bits_are_the_same(inline: dict[str, list[CommitResult]]) -> None:
    blobs = BlobStore(SimulatedFileSystem())
    assert two_commits(blobs, MemoryStateStore(), "int8", 1) == inline["int8"]


def test_digests_of_momentum_and_residual_may_come_later(blobs: BlobStore) -> None:
    manifest, store = agreed(), MemoryStateStore()
    initial_state(store, "run-1", manifest, [THETA])
    sealed = payloads(blobs, "int4")
    whole = commit_round(blobs, store, "run-1", manifest, 0, 0, 0, sealed)
    first = commit_round(blobs, store, "run-1", manifest, 0, 0, 0, sealed, digest_state=False, num_threads=2)
    assert first == replace(whole, momentum_digest="", residual_digest="")
    assert state_digests(store, "run-1", 0, 1, 2) == whole.state_digests


@pytest.mark.parametrize("position", [0.1, 0.9])
def test_a_payload_that_rotted_is_found_on_threads(
    fs: RealFileSystem, blobs: BlobStore, tmp_path: Path, position: float
) -> None:
    own = BlobStore(RealFileSystem(tmp_path))
    manifest, store, sealed = agreed(), MemoryStateStore(), payloads(own, "int4")
    initial_state(store, "run-1", manifest, [THETA])
    path = tmp_path / own.path(sealed[1].payload_digest)
    data = bytearray(path.read_bytes())
    data[int(len(data) * position)] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptObjectError):
        commit_round(own, store, "run-1", manifest, 0, 0, 0, sealed, num_threads=2)
    assert store.versions("run-1", 0) == [0]


def test_a_malformed_chunk_ends_a_commit_on_threads(blobs: BlobStore, tmp_path: Path) -> None:
    """Admission lets none pass; nothing is left of the attempt, and its files are used again."""
    manifest, store = agreed(), TieredStateStore(RealFileSystem(tmp_path))
    initial_state(store, "run-1", manifest, [THETA])
    good = payloads(blobs, "int4")
    data = bytearray(blobs.read(good[1].payload_digest))
    data[chunk_span(get_codec("int4"), ChunkGrid(SIZE), 2)[0] + 1] = 0xFF
    bad = (good[0], replace(good[1], payload_digest=blobs.put(bytes(data))), good[2])
    with pytest.raises((MalformedPayloadError, NonFiniteUpdateError)):
        commit_round(blobs, store, "run-1", manifest, 0, 0, 0, bad, num_threads=2)
    assert store.versions("run-1", 0) == [0]
    commit_round(blobs, store, "run-1", manifest, 0, 0, 0, good, num_threads=2)
    store.close()


def update(digest: str) -> Update:
    fields = {"consortium": "test", "run": "run-1", "manifest_digest": "", "round": 0, "fragment": 0}
    fields |= {"base_digest": "", "site": "alpha", "allocation": "a1", "codec": "int4", "weight_tokens": 1}
    return Update(**fields, new_tokens=1, num_steps=1, payload_digest=digest, payload_bytes=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("codec", codec_names())
def test_admission_finds_the_same_on_any_number_of_threads(blobs: BlobStore, codec: str) -> None:
    data = blobs.read(payloads(blobs, codec)[0].payload_digest)
    digest = payloads(blobs, codec)[0].payload_digest
    read = lambda offset, length: data[offset : offset + length]  # noqa: E731
    found = [check_payload(update(digest), agreed(codec), read, threads) for threads in (1, 2, 5)]
    assert found[0].passed
    assert found[0].norm > 0
    assert found == [found[0]] * 3


@pytest.mark.parametrize("cut", [0, 1, 540_672, 600_000, -1])
def test_admission_of_a_payload_that_was_cut(blobs: BlobStore, cut: int) -> None:
    """By its own digest: so that check 6 finds it, on every number of threads."""
    data = blobs.read(payloads(blobs, "int4")[0].payload_digest)[:cut]
    read = lambda offset, length: data[offset : offset + length]  # noqa: E731
    found = [check_payload(update(blobs.put(data)), agreed(), read, threads) for threads in (1, 3)]
    assert found[0].reason is Reason.MALFORMED_PAYLOAD
    assert found[1] == found[0]


@pytest.mark.parametrize("codec", codec_names())
@pytest.mark.parametrize("defect", ["none", "cut", "one more", "many more", "bits"])
def test_admission_of_a_payload_that_was_hashed_before(blobs: BlobStore, codec: str, defect: str) -> None:
    """The same verdict as an auditor's, who hashes it, whatever is wrong with it."""
    data = bytearray(blobs.read(payloads(blobs, codec)[0].payload_digest))
    match defect:
        case "cut":
            del data[-5:]
        case "one more":
            data += b"x"
        case "many more":
            data += b"x" * 3_000_000
        case "bits":
            data[:400] = b"\xff" * 400
    read = lambda offset, length: bytes(data[offset : offset + length])  # noqa: E731
    offered = update(blob_digest(data))
    hashed = check_payload(offered, agreed(codec), read, 2)
    assert hashed.passed == (defect == "none")
    assert check_payload(offered, agreed(codec), read, 2, intact_bytes=len(data)) == hashed


def test_admission_hashes_what_nobody_has_hashed(blobs: BlobStore) -> None:
    data = blobs.read(payloads(blobs, "int4")[0].payload_digest)
    read = lambda offset, length: data[offset : offset + length]  # noqa: E731
    offered = update(blob_digest(b"something else"))
    assert check_payload(offered, agreed(), read).reason is Reason.PAYLOAD_DIGEST
    assert check_payload(offered, agreed(), read, intact_bytes=len(data) + 1).reason is Reason.PAYLOAD_DIGEST


def test_admission_names_the_block_as_the_codec_does(blobs: BlobStore) -> None:
    """A strip would count blocks from its own beginning."""
    codec, data = get_codec("int4"), bytearray(blobs.read(payloads(blobs, "int4")[0].payload_digest))
    offset, length = chunk_span(codec, ChunkGrid(SIZE), 1)
    data[offset + 5000 * codec.bytes_per_block + 1] = 0xFF
    with pytest.raises(Exception, match="found") as caught:
        codec.decode(bytes(data[offset : offset + length]), CHUNK_ELEMENTS)
    read = lambda at, size: bytes(data[at : at + size])  # noqa: E731
    finding = check_payload(update(blobs.put(bytes(data))), agreed(), read, 2)
    assert finding.sentence == f"chunk 1: {caught.value}"


def test_a_strip_refused_without_reason_is_our_bug(monkeypatch: pytest.MonkeyPatch, blobs: BlobStore) -> None:
    def refuse(*arguments: object) -> None:
        raise MalformedPayloadError("nothing")

    sealed = payloads(blobs, "int4")[0]
    monkeypatch.setattr(admission, "measure", refuse)
    read = lambda offset, length: blobs.read_range(sealed.payload_digest, offset, length)  # noqa: E731
    with pytest.raises(AssertionError, match="a strip of a chunk was refused"):
        check_payload(update(sealed.payload_digest), agreed(), read)


MEMORY_SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from federation.aggregate import commit_round, initial_state
from federation.blobs.store import BlobStore
from federation.chunks import FragmentHasher, ChunkGrid
from federation.codecs.payload import payload_bytes
from federation.codecs.registry import get_codec
from federation.durable.real import RealFileSystem
from federation.leaves import SealedUpdate
from federation.state.mapped_store import MappedStateStore
from federation.testing.manifests import manifest_of, plan_of, table_of

chunks, sites = int(sys.argv[2]), int(sys.argv[3])
size = chunks * 2**20
fs = RealFileSystem(Path(sys.argv[1]))
blobs, store, codec = BlobStore(fs), MappedStateStore(fs), get_codec("int4")
class Half:
    def __getitem__(self, part):
        return np.full(part.stop - part.start, 0.5, np.float32)
hasher = FragmentHasher()
for _ in range(chunks):
    hasher.update(Half()[0:2**20])
names = [f"s{i:02}" for i in range(sites)]
plan = plan_of(dict.fromkeys(names, 4), theta_digests=[hasher.hexdigest()])
manifest = manifest_of(plan, [table_of([("w", (size,))])], momentum=0.9, up="int4", down="int4")
initial_state(store, "run-1", manifest, {0: Half()})
sealed = []
for site in range(sites):
    part = codec.encode(np.full(2**20, 0.001 * (site + 1), np.float32)).tobytes()
    with blobs.writer() as sink:
        for _ in range(chunks):
            sink.write(part)
        digest = sink.finish()
    sealed.append(SealedUpdate(site=names[site], weight=1 / sites, update_digest="", payload_digest=digest))
def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))
before, most = anonymous(), 0
from federation.durable import failpoints
def watch(name):
    global most
    most = max(most, anonymous())
failpoints.install(watch)
commit_round(blobs, store, "run-1", manifest, 0, 0, 0, sealed, num_threads=2)
print(most - before)
"""


def anonymous_kib(tmp_path: Path, chunks: int, sites: int) -> int:
    """Anonymous memory that a commit adds, at its chunks' ends, in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(MEMORY_SCRIPT), str(tmp_path / f"{chunks}-{sites}")]
    done = subprocess.run(
        [*command, str(chunks), str(sites)], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    return int(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="anonymous memory is read from /proc")
def test_memory_grows_neither_with_the_model_nor_with_the_sites(tmp_path: Path) -> None:
    small, longer, wider = (anonymous_kib(tmp_path, *case) for case in ((4, 2), (24, 2), (4, 16)))
    state_kib = 20 * 12 * 1024  # of the 20 chunks more
    assert longer - small < state_kib / 6
    assert wider - small < 16 * 1024
    assert longer < 200 * 1024
