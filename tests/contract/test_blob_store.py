# SPDX-License-Identifier: Apache-2.0
"""The blob store on both file systems, and after every possible power loss."""

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from federation.blobs.store import BlobStore
from federation.durable.real import RealFileSystem
from federation.durable.sequences import SequencedFileSystem
from federation.durable.simulated import SimulatedCrash, SimulatedFileSystem
from federation.errors import (
    CorruptObjectError,
    DigestMismatchError,
    DiskFullError,
    LimitExceededError,
    ObjectNotFoundError,
)
from federation.merkle import BLOB_PIECE_BYTES, EMPTY_ROOT, blob_digest

DATA = b"pseudo-gradient"
DIGEST = blob_digest(DATA)
OTHER = blob_digest(b"something else")


@pytest.fixture(params=["real", "simulated"])
def fs(request: pytest.FixtureRequest, tmp_path: Path) -> SequencedFileSystem:
    return RealFileSystem(tmp_path) if request.param == "real" else SimulatedFileSystem()


@pytest.fixture
def blobs(fs: SequencedFileSystem) -> BlobStore:
    return BlobStore(fs)


def leftovers(fs: SequencedFileSystem) -> list[str]:
    return [name for name, _ in fs._disk.scan("") if name.startswith(".tmp-")]


def write_all(blobs: BlobStore, *pieces: bytes, expected: str | None = None, max_bytes: int | None = None) -> str:
    with blobs.writer(max_bytes=max_bytes) as sink:
        for piece in pieces:
            sink.write(piece)
        return sink.finish(expected)


def test_put_names_bytes_by_their_digest(fs: SequencedFileSystem, blobs: BlobStore) -> None:
    assert not blobs.has(DIGEST)
    assert blobs.put(DATA) == DIGEST == blobs.put(DATA)
    assert blobs.has(DIGEST)
    assert (blobs.read(DIGEST), blobs.size(DIGEST)) == (DATA, len(DATA))
    assert blobs.path(DIGEST) == f"blobs/{DIGEST[:2]}/{DIGEST}"
    assert fs.read(blobs.path(DIGEST)) == DATA
    assert leftovers(fs) == []


def test_the_empty_blob(blobs: BlobStore) -> None:
    assert blobs.put(b"") == EMPTY_ROOT.hex()
    blobs.verify(EMPTY_ROOT.hex())
    assert blobs.read(EMPTY_ROOT.hex()) == b""


def test_sink_streams_and_checks(fs: SequencedFileSystem, blobs: BlobStore) -> None:
    assert write_all(blobs, DATA[:5], DATA[5:]) == DIGEST
    assert write_all(blobs, DATA, expected=DIGEST) == DIGEST
    with pytest.raises(DigestMismatchError, match=f"expected digest {OTHER}, found {DIGEST}"):
        write_all(blobs, DATA, expected=OTHER)
    assert list(blobs.digests()) == [DIGEST]
    assert leftovers(fs) == []


def test_sink_has_a_limit(fs: SequencedFileSystem, blobs: BlobStore) -> None:
    assert write_all(blobs, DATA, max_bytes=len(DATA)) == DIGEST
    with pytest.raises(LimitExceededError, match="at most 14 bytes"):
        write_all(blobs, DATA[:10], DATA[10:], max_bytes=14)
    assert leftovers(fs) == []


def test_sink_left_early_stores_nothing(fs: SequencedFileSystem, blobs: BlobStore) -> None:
    with blobs.writer() as sink:
        sink.write(DATA)
    assert (list(blobs.digests()), leftovers(fs)) == ([], [])


def test_a_sink_without_a_with_block_leaves_nothing_either(fs: SequencedFileSystem, blobs: BlobStore) -> None:
    wrong = blobs.writer()
    wrong.write(DATA)
    with pytest.raises(DigestMismatchError):
        wrong.finish(OTHER)
    assert leftovers(fs) == []
    blobs.put(DATA)
    again = blobs.writer()
    again.write(DATA)
    assert again.finish() == DIGEST
    assert leftovers(fs) == []


def test_import_verifies_then_links(fs: SequencedFileSystem, blobs: BlobStore) -> None:
    fs.write("in/blobs/x", DATA)
    with pytest.raises(DigestMismatchError, match="in/blobs/x: expected digest"):
        blobs.import_file("in/blobs/x", OTHER)
    assert not blobs.has(OTHER)
    blobs.import_file("in/blobs/x", DIGEST)
    blobs.import_file("in/blobs/x", DIGEST)
    fs.remove("in/blobs/x")
    assert blobs.read(DIGEST) == DATA
    blobs.import_file("in/blobs/x", DIGEST)  # already here, whatever became of the file
    with pytest.raises(ObjectNotFoundError):
        blobs.import_file("in/blobs/x", OTHER)


def test_import_refuses_a_partial_or_oversize_file(fs: SequencedFileSystem, blobs: BlobStore) -> None:
    fs.write("in/x", DATA[:-1])
    with pytest.raises(DigestMismatchError):
        blobs.import_file("in/x", DIGEST)
    fs.write("in/x", DATA)
    with pytest.raises(LimitExceededError, match="at most 14 bytes, found 15"):
        blobs.import_file("in/x", DIGEST, max_bytes=14)
    assert list(blobs.digests()) == []


def test_import_stops_at_a_file_that_grows(
    fs: SequencedFileSystem, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs.write("in/x", DATA)
    monkeypatch.setattr(fs, "size", lambda path: 1)  # what it was when it was asked for
    with pytest.raises(LimitExceededError, match="at most 14 bytes, found more"):
        blobs.import_file("in/x", DIGEST, max_bytes=14)


def test_read_is_verified_and_limited(fs: SequencedFileSystem, blobs: BlobStore) -> None:
    blobs.put(DATA)
    with pytest.raises(LimitExceededError):
        blobs.read(DIGEST, max_bytes=14)
    blobs.verify(DIGEST)
    fs.write(blobs.path(DIGEST), b"X" + DATA[1:])
    for call in (blobs.read, blobs.verify):
        with pytest.raises(CorruptObjectError, match=f"expected digest {DIGEST}") as caught:
            call(DIGEST)
        assert "Delete this blob" in caught.value.diagnostics()
    blobs.delete(DIGEST)
    blobs.put(DATA)
    blobs.verify(DIGEST)


def test_ranges(blobs: BlobStore) -> None:
    blobs.put(DATA)
    assert blobs.read_range(DIGEST, 7, 8) == b"gradient"
    assert blobs.read_range(DIGEST, 7, 800) == b"gradient"


def test_what_is_missing(blobs: BlobStore) -> None:
    calls: list[Callable[[], object]] = [
        lambda: blobs.read(DIGEST),
        lambda: blobs.size(DIGEST),
        lambda: blobs.verify(DIGEST),
        lambda: blobs.read_range(DIGEST, 0, 1),
        lambda: blobs.link_to(DIGEST, "out/x"),
    ]
    for call in calls:
        with pytest.raises(ObjectNotFoundError):
            call()
    blobs.delete(DIGEST)


@pytest.mark.parametrize("digest", ["", "abc", DIGEST.upper(), DIGEST[:-1] + "/", "../" + DIGEST, DIGEST + "\n"])
def test_a_digest_is_checked_before_it_is_a_path(blobs: BlobStore, digest: str) -> None:
    with pytest.raises(DigestMismatchError, match="64 lower-case hexadecimal"):
        blobs.has(digest)


def test_delete_link_and_list(fs: SequencedFileSystem, blobs: BlobStore) -> None:
    digests = sorted(blobs.put(b"%d" % number) for number in range(20))
    fs.write("blobs/zz/README", b"not a blob")
    assert list(blobs.digests()) == digests
    blobs.link_to(digests[3], "out/blobs/copy")
    blobs.delete(digests[3])
    assert not blobs.has(digests[3])
    assert fs.exists("out/blobs/copy")
    assert list(blobs.digests()) == digests[:3] + digests[4:]
    assert list(BlobStore(fs, "elsewhere").digests()) == []


def test_a_blob_that_others_removed_is_gone(fs: SequencedFileSystem, blobs: BlobStore) -> None:
    blobs.put(DATA)
    BlobStore(fs).delete(DIGEST)
    assert not blobs.has(DIGEST)
    blobs.put(DATA)
    assert blobs.read(DIGEST) == DATA


def test_memory_stays_small(tmp_path: Path) -> None:
    fs = RealFileSystem(tmp_path)
    blobs = BlobStore(fs)
    piece = bytes(BLOB_PIECE_BYTES)
    tracemalloc.start()
    with blobs.writer() as sink:
        for _ in range(32):
            sink.write(piece)
        digest = sink.finish()
    blobs.verify(digest)
    blobs.link_to(digest, "in/x")
    blobs.delete(digest)
    blobs.import_file("in/x", digest)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert blobs.size(digest) == 32 * BLOB_PIECE_BYTES
    assert peak < 4 * BLOB_PIECE_BYTES


def test_a_full_disk_stores_nothing() -> None:
    fs = SimulatedFileSystem()
    blobs = BlobStore(fs)
    fs.fail_writes_after(10)
    with pytest.raises(DiskFullError):
        blobs.put(DATA)
    with pytest.raises(DiskFullError):
        write_all(blobs, DATA[:8], DATA[8:])
    fs.fail_writes_after(None)
    assert (list(blobs.digests()), leftovers(fs)) == ([], [])
    blobs.put(DATA)


def ways_in() -> dict[str, Callable[[SimulatedFileSystem], object]]:
    return {
        "put": lambda fs: BlobStore(fs).put(DATA),
        "sink": lambda fs: write_all(BlobStore(fs), DATA[:4], DATA[4:], expected=DIGEST),
        "import": import_careless_file,
    }


def import_careless_file(fs: SimulatedFileSystem) -> None:
    fs.write_unsynced("in/x", DATA)
    BlobStore(fs).import_file("in/x", DIGEST)


def is_stored_whole_or_not_at_all(fs: SimulatedFileSystem) -> bool:
    blobs = BlobStore(fs)
    if not blobs.has(DIGEST):
        return False
    blobs.verify(DIGEST)
    return True


@pytest.mark.parametrize("way", ways_in())
def test_power_loss_at_any_step_leaves_a_whole_blob_or_none(way: str) -> None:
    store = ways_in()[way]
    fs = SimulatedFileSystem()
    store(fs)
    num_steps = fs.operations
    for crash_at in range(1, num_steps + 2):
        for seed in range(20):
            fs = SimulatedFileSystem(seed)
            fs.hook = stop_at(crash_at)
            if crash_at <= num_steps:
                with pytest.raises(SimulatedCrash):
                    store(fs)
                is_stored_whole_or_not_at_all(fs.crash())
            else:
                store(fs)
                assert is_stored_whole_or_not_at_all(fs.crash())


@pytest.mark.parametrize("way", ways_in())
def test_a_blob_found_after_a_kill_is_durable_once_seen(way: str) -> None:
    store = ways_in()[way]
    fs = SimulatedFileSystem()
    store(fs)
    for killed_at in range(1, fs.operations + 1):
        for seed in range(20):
            fs = SimulatedFileSystem(seed)
            fs.hook = stop_at(killed_at)
            with pytest.raises(SimulatedCrash):
                store(fs)
            again = fs.kill()
            if BlobStore(again).has(DIGEST):
                assert is_stored_whole_or_not_at_all(again.crash())


def store_by_import(fs: SimulatedFileSystem, blobs: BlobStore) -> None:
    fs.write("in/x", DATA)
    blobs.import_file("in/x", DIGEST)


def test_a_sighting_costs_an_fsync_only_once() -> None:
    stores: list[Callable[[SimulatedFileSystem, BlobStore], object]] = [
        lambda fs, blobs: blobs.put(DATA),
        lambda fs, blobs: write_all(blobs, DATA),
        store_by_import,
        lambda fs, blobs: (BlobStore(fs).put(DATA), blobs.has(DIGEST)),
    ]
    for store in stores:
        fs = SimulatedFileSystem()
        blobs = BlobStore(fs)
        store(fs, blobs)
        before = fs.operations
        assert blobs.has(DIGEST)
        assert fs.operations == before


@pytest.mark.parametrize("gone_by", ["own delete", "somebody else"])
def test_a_blob_that_came_back_is_made_durable_again(gone_by: str) -> None:
    for seed in range(20):
        fs = SimulatedFileSystem(seed)
        blobs = BlobStore(fs)
        blobs.put(DATA)
        if gone_by == "own delete":
            blobs.delete(DIGEST)
        else:
            BlobStore(fs).delete(DIGEST)
            assert not blobs.has(DIGEST)
        fs.write_unsynced(blobs.path(DIGEST), DATA)
        assert blobs.has(DIGEST)
        assert is_stored_whole_or_not_at_all(fs.crash())


def stop_at(number: int) -> Callable[[str, str], None]:
    left = [number]

    def hook(step: str, path: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise SimulatedCrash(f"before {step} of {path}")

    return hook


def vouched(fs: RealFileSystem, blobs: BlobStore) -> list[str]:
    """A file that this process vouches for, and then the paths that are read for its digest."""
    fs.write("in/x", DATA)
    written = fs.fingerprint("in/x")
    assert written is not None
    blobs.vouch("in/x", DIGEST, written)
    read: list[str] = []
    inner = fs._disk.read_range

    def read_range(path: str, offset: int, length: int) -> bytes:
        read.append(path)
        return inner(path, offset, length)

    fs._disk.read_range = read_range  # type: ignore[method-assign]
    return read


def test_what_this_process_hashed_is_not_read_again(tmp_path: Path) -> None:
    fs = RealFileSystem(tmp_path)
    blobs = BlobStore(fs)
    read = vouched(fs, blobs)
    blobs.import_file("in/x", DIGEST)
    assert (read, blobs.read(DIGEST)) == ([], DATA)
    blobs.delete(DIGEST)
    blobs.import_file("in/x", DIGEST)
    assert read, "expected a word that counts once"


@pytest.mark.parametrize("how", ["replaced", "overwritten", "longer", "digest"])
def test_a_word_for_one_file_counts_for_no_other(tmp_path: Path, how: str) -> None:
    fs = RealFileSystem(tmp_path)
    blobs = BlobStore(fs)
    vouched(fs, blobs)
    match how:
        case "replaced":
            fs.write("in/x", DATA[::-1])
        case "overwritten":
            (tmp_path / "in/x").write_bytes(DATA[::-1])
            os.utime(tmp_path / "in/x")
        case "longer":
            fs.appender("in/x").append(b"x")
    with pytest.raises(DigestMismatchError):
        blobs.import_file("in/x", OTHER if how == "digest" else DIGEST)


@pytest.mark.parametrize("way", ["put", "writer", "import", "vouched"])
def test_a_blob_that_this_process_hashed_is_known_to_be_intact(tmp_path: Path, way: str) -> None:
    fs = RealFileSystem(tmp_path)
    blobs = BlobStore(fs)
    match way:
        case "put":
            blobs.put(DATA)
        case "writer":
            with blobs.writer() as sink:
                sink.write(DATA)
                sink.finish()
        case "import":
            fs.write("in/x", DATA)
            blobs.import_file("in/x", DIGEST)
        case "vouched":
            vouched(fs, blobs)
            blobs.import_file("in/x", DIGEST)
    assert blobs.is_known_intact(DIGEST)
    assert not BlobStore(fs).is_known_intact(DIGEST), "expected a new process to know nothing"


@pytest.mark.parametrize("how", ["overwritten", "longer", "replaced", "deleted"])
def test_a_blob_that_was_touched_is_not_known_to_be_intact(tmp_path: Path, how: str) -> None:
    fs = RealFileSystem(tmp_path)
    blobs = BlobStore(fs)
    blobs.put(DATA)
    path = tmp_path / blobs.path(DIGEST)
    match how:
        case "overwritten":
            path.write_bytes(DATA[::-1])
            os.utime(path)
        case "longer":
            path.write_bytes(DATA + b"x")
        case "replaced":
            fs.write(blobs.path(DIGEST), DATA)
        case "deleted":
            blobs.delete(DIGEST)
    assert not blobs.is_known_intact(DIGEST)


def test_a_blob_whose_pages_were_forgotten_is_still_there(fs: SequencedFileSystem, blobs: BlobStore) -> None:
    blobs.put(DATA)
    blobs.forget_pages(DIGEST)
    blobs.forget_pages(OTHER)  # nothing to forget
    assert blobs.read(DIGEST) == DATA
