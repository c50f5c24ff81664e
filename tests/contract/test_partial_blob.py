# SPDX-License-Identifier: Apache-2.0
"""Unfinished blobs on both file systems: pieces in any order, lies, kills at every piece, power loss at every step."""

import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from federation.blobs import partial as partial_module
from federation.blobs.partial import PartialBlob, discard_partial, num_pieces_of, partial_digests
from federation.blobs.piece_log import begin_record, checkpoint_record, piece_record, read_log
from federation.durable.api import FileSystem
from federation.durable.real import RealFileSystem
from federation.durable.simulated import SimulatedCrash, SimulatedFileSystem
from federation.errors import DigestMismatchError, DiskFullError, ObjectNotFoundError, ProtocolError
from federation.merkle import BLOB_PIECE_BYTES, EMPTY_ROOT, PieceHasher, blob_digest

SMALL = 8
"""Bytes of a piece where the number of steps matters more than their size."""
DATA = bytes(range(4 * SMALL + 3))
NUM_PIECES = 5
TARGET = "in/blobs/complete"


def digest_of(data: bytes) -> str:
    hasher = PieceHasher(SMALL)
    hasher.update(data)
    return hasher.hexdigest()


DIGEST = digest_of(DATA)


def piece_of(index: int, data: bytes = DATA) -> bytes:
    return data[index * SMALL : (index + 1) * SMALL]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial_module, "BLOB_PIECE_BYTES", SMALL)


@pytest.fixture(params=["real", "simulated"])
def fs(request: pytest.FixtureRequest, tmp_path: Path) -> FileSystem:
    return RealFileSystem(tmp_path) if request.param == "real" else SimulatedFileSystem()


def opened(fs: FileSystem, digest: str = DIGEST, num_bytes: int = len(DATA)) -> PartialBlob:
    return PartialBlob(fs, "partial", digest, num_bytes)


def put_all(blob: PartialBlob, pieces: list[int] | None = None, data: bytes = DATA) -> None:
    for piece in range(blob.num_pieces) if pieces is None else pieces:
        blob.put(piece, piece_of(piece, data))


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 2, 0, 1, 0, 3]])
def test_pieces_in_any_order_make_the_blob(fs: FileSystem, order: list[int]) -> None:
    blob = opened(fs)
    assert blob.missing() == [(0, 4)]
    put_all(blob, order)
    blob.publish(TARGET)
    blob.publish(TARGET)
    assert fs.read(TARGET) == DATA
    assert fs.list("partial") == []
    assert (blob.missing(), blob.ended) == ([], True)


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("here", [[], [0], [1, 3], [4], [0, 1, 2, 3]])
def test_several_pieces_at_once_make_the_blob(fs: FileSystem, size: int, here: list[int]) -> None:
    blob = opened(fs)
    put_all(blob, here)
    for first in range(0, NUM_PIECES, size):
        blob.put(first, DATA[first * SMALL : (first + size) * SMALL])
    assert blob.arrived
    blob.publish(TARGET)
    assert fs.read(TARGET) == DATA


def test_several_pieces_at_once_survive_a_kill(fs: FileSystem) -> None:
    opened(fs).put(1, DATA[SMALL:])
    again = opened(fs)
    assert again.missing() == [(0, 0)]
    put_all(again, [0])
    again.publish(TARGET)
    assert fs.read(TARGET) == DATA


def test_pieces_that_are_here_stay_when_others_come_with_them(fs: FileSystem) -> None:
    blob = opened(fs)
    put_all(blob, [1, 3])
    blob.put(0, bytes(len(DATA)))
    blob.checkpoint()
    assert fs.read_range(f"partial/{DIGEST}.part", 0, len(DATA)) == (
        bytes(SMALL) + piece_of(1) + bytes(SMALL) + piece_of(3) + bytes(3)
    )
    with pytest.raises(DigestMismatchError):
        blob.publish(TARGET)


def test_missing_are_ranges_of_what_is_not_durable(fs: FileSystem) -> None:
    blob = opened(fs)
    put_all(blob, [1, 4])
    assert blob.missing() == [(0, 4)]
    blob.checkpoint()
    assert blob.missing() == [(0, 0), (2, 3)]


@pytest.mark.parametrize("killed_after", range(NUM_PIECES + 1))
@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_kill_at_each_piece_resumes_there(fs: FileSystem, killed_after: int, checkpointed: bool) -> None:
    blob = opened(fs)
    put_all(blob, list(range(killed_after)))
    if checkpointed:
        blob.checkpoint()
    again = opened(fs)
    assert again.missing() == ([(killed_after, 4)] if killed_after < NUM_PIECES else [])
    put_all(again, list(range(killed_after, NUM_PIECES)))
    again.publish(TARGET)
    assert fs.read(TARGET) == DATA


def test_many_kills_and_restarts_in_a_row(fs: FileSystem) -> None:
    for index in Random(3).sample(range(NUM_PIECES), NUM_PIECES):
        blob = opened(fs)
        before = blob.missing()
        blob.put(index, piece_of(index))
        assert blob.missing() == before
    last = opened(fs)
    assert last.arrived
    last.publish(TARGET)
    assert fs.read(TARGET) == DATA


def test_pieces_under_a_checkpoint_are_never_read_again(fs: FileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = opened(fs)
    put_all(blob, [0, 1, 2])
    blob.checkpoint()
    put_all(blob, [3])
    hashed: list[bytes] = []
    original = partial_module.leaf_hash
    monkeypatch.setattr(partial_module, "leaf_hash", lambda data: (hashed.append(bytes(data)), original(data))[1])
    again = opened(fs)
    assert hashed == [piece_of(3)]
    put_all(again, [4])
    again.publish(TARGET)
    assert hashed == [piece_of(3), piece_of(4)]


def test_a_checkpoint_comes_by_itself(fs: FileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial_module, "CHECKPOINT_BYTES", 2 * SMALL)
    blob = opened(fs)
    blob.put(0, piece_of(0))
    assert blob.missing() == [(0, 4)]
    blob.put(1, piece_of(1))
    assert blob.missing() == [(2, 4)]


def test_a_wrong_piece_length_or_number_is_refused_and_loses_nothing(fs: FileSystem) -> None:
    blob = opened(fs)
    put_all(blob, [0, 1, 3])
    wrong = ((2, b""), (2, DATA[:7]), (2, DATA[:9]), (4, DATA[:8]), (5, DATA[:8]), (-1, DATA[:3]))
    for piece, data in (*wrong, (0, DATA[:-1]), (0, DATA + b"x"), (1, DATA), (-1, DATA), (3, DATA[: 2 * SMALL])):
        with pytest.raises(ProtocolError, match="expected"):
            blob.put(piece, data)
    with pytest.raises(ProtocolError, match="3 of 5"):
        blob.publish(TARGET)
    put_all(blob, [2, 4])
    blob.publish(TARGET)
    assert fs.read(TARGET) == DATA


@pytest.mark.parametrize("num_bytes", [0, len(DATA) - 1, len(DATA) + 1, 100 * len(DATA)])
def test_another_length_is_refused_and_loses_nothing(fs: FileSystem, num_bytes: int) -> None:
    blob = opened(fs)
    put_all(blob, [0, 1])
    blob.checkpoint()
    with pytest.raises(ProtocolError, match=f"expected {len(DATA)} bytes as when it was begun, found {num_bytes}"):
        opened(fs, num_bytes=num_bytes)
    assert opened(fs).missing() == [(2, 4)]


@pytest.mark.parametrize(("digest", "num_bytes"), [("../../etc", 1), ("AB" * 32, 1), (DIGEST, -1)])
def test_what_is_no_blob_is_refused(fs: FileSystem, digest: str, num_bytes: int) -> None:
    with pytest.raises(ProtocolError, match="a digest and a length"):
        opened(fs, digest, num_bytes)


def test_other_bytes_than_the_digest_are_thrown_away_and_come_anew(fs: FileSystem) -> None:
    blob = opened(fs)
    put_all(blob, [0, 1, 3, 4])
    blob.put(2, b"a lie!!!")
    with pytest.raises(DigestMismatchError, match=f"expected digest {DIGEST}"):
        blob.publish(TARGET)
    assert (fs.list("partial"), fs.exists(TARGET)) == ([], False)
    with pytest.raises(ObjectNotFoundError, match="thrown away"):
        blob.publish(TARGET)
    again = opened(fs)
    assert again.missing() == [(0, 4)]
    put_all(again)
    again.publish(TARGET)
    assert fs.read(TARGET) == DATA


def test_the_first_of_two_contents_of_a_piece_stays(fs: FileSystem) -> None:
    blob = opened(fs)
    put_all(blob, [0])
    blob.put(0, b"a lie!!!")
    put_all(blob, [1, 2, 3, 4])
    blob.publish(TARGET)
    assert fs.read(TARGET) == DATA


def test_the_empty_blob(fs: FileSystem) -> None:
    blob = opened(fs, EMPTY_ROOT.hex(), 0)
    assert (blob.arrived, blob.missing()) == (True, [])
    blob.publish(TARGET)
    assert fs.read(TARGET) == b""
    with pytest.raises(DigestMismatchError):
        opened(fs, DIGEST, 0).publish(TARGET)


def test_discard_and_a_list_of_what_is_unfinished(fs: FileSystem) -> None:
    other = digest_of(b"other")
    blob = opened(fs)
    opened(fs, other, 5).close()
    assert partial_digests(fs, "partial") == sorted([DIGEST, other])
    blob.discard()
    blob.discard()
    with pytest.raises(ObjectNotFoundError, match="thrown away"):
        blob.put(0, piece_of(0))
    discard_partial(fs, "partial", other)
    discard_partial(fs, "partial", other)
    assert fs.list("partial") == []


def test_a_closed_one_goes_on_in_a_new_object(fs: FileSystem) -> None:
    blob = opened(fs)
    put_all(blob, [0, 1])
    blob.close()
    blob.checkpoint()
    with pytest.raises(ObjectNotFoundError, match="closed"):
        blob.put(2, piece_of(2))
    assert opened(fs).missing() == [(2, 4)]


SPOILS: dict[str, Callable[[FileSystem, str, str], None]] = {
    "part gone": lambda fs, part, sidecar: fs.remove(part),
    "part cut": lambda fs, part, sidecar: fs.truncate(part, 3),
    "sidecar gone": lambda fs, part, sidecar: fs.remove(sidecar),
    "sidecar empty": lambda fs, part, sidecar: fs.write(sidecar, b""),
    "sidecar of another": lambda fs, part, sidecar: fs.write(
        sidecar, fs.read(sidecar)[:3] + b"\1" + fs.read(sidecar)[4:]
    ),
    "sidecar endless": lambda fs, part, sidecar: fs.write(sidecar, fs.read(sidecar) * 9),
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS.keys())
def test_what_others_spoiled_begins_anew(fs: FileSystem, spoil: Callable[[FileSystem, str, str], None]) -> None:
    blob = opened(fs)
    put_all(blob, [0, 1, 2])
    blob.checkpoint()
    blob.close()
    spoil(fs, f"partial/{DIGEST}.part", f"partial/{DIGEST}.pieces")
    again = opened(fs)
    assert again.missing() == [(0, 4)]
    put_all(again)
    again.publish(TARGET)
    assert fs.read(TARGET) == DATA


@pytest.mark.parametrize("cut", range(1, 46))
def test_a_torn_sidecar_counts_up_to_the_tear(fs: FileSystem, cut: int) -> None:
    blob = opened(fs)
    put_all(blob, [0, 1])
    blob.close()
    sidecar = f"partial/{DIGEST}.pieces"
    whole = fs.read(sidecar)
    fs.write(sidecar, whole[:-cut] + bytes(cut // 2))
    again = opened(fs)
    assert again.missing() == [(1, 4)]
    put_all(again, [1, 2, 3, 4])
    again.publish(TARGET)
    assert fs.read(TARGET) == DATA


def test_a_full_disk_keeps_what_arrived() -> None:
    fs = SimulatedFileSystem()
    for room in range(0, 1000, 5):
        fs.fail_writes_after(room)
        try:
            blob = opened(fs)
            put_all(blob)
            blob.publish(TARGET)
        except DiskFullError:
            fs.fail_writes_after(None)
            assert not fs.exists(TARGET)
            continue
        break
    assert fs.read(TARGET) == DATA


def test_after_a_full_disk_the_same_object_goes_on() -> None:
    fs = SimulatedFileSystem()
    blob = opened(fs)
    put_all(blob, [0, 1])
    fs.fail_writes_after(0)
    with pytest.raises(DiskFullError):
        blob.put(2, piece_of(2))
    with pytest.raises(DiskFullError):
        blob.checkpoint()
    assert blob.missing() == [(0, 4)]
    fs.fail_writes_after(None)
    blob.checkpoint()
    assert blob.missing() == [(2, 4)]
    put_all(blob, [2, 3, 4])
    blob.publish(TARGET)
    assert fs.read(TARGET) == DATA


def transfer(fs: SimulatedFileSystem, told: list[tuple[int, int]], rng: Random) -> None:
    """One process: goes on, brings what is missing in some order, says now and then what is durable, publishes."""
    if fs.exists(TARGET):
        return
    blob = opened(fs)
    missing = [piece for first, last in blob.missing() for piece in range(first, last + 1)]
    for piece in rng.sample(missing, len(missing)):
        blob.put(piece, piece_of(piece))
        if rng.random() < 0.4:
            blob.checkpoint()
            told[:] = blob.missing()
    blob.publish(TARGET)


def steps_of_a_transfer(seed: int) -> int:
    fs = SimulatedFileSystem(seed)
    transfer(fs, [], Random(seed))
    return fs.operations


def crash_points() -> Iterator[tuple[int, int]]:
    for seed in range(12):
        yield from ((seed, stop) for stop in range(steps_of_a_transfer(seed)))


@pytest.mark.parametrize("power", [False, True], ids=["kill", "power loss"])
def test_a_stop_at_every_step_loses_nothing_that_was_told(power: bool) -> None:
    for seed, stop in crash_points():
        fs, rng, told = SimulatedFileSystem(seed), Random(seed), [(0, NUM_PIECES - 1)]
        left = stop

        def hook(step: str, path: str) -> None:
            nonlocal left
            if left == 0:
                raise SimulatedCrash(step)
            left -= 1

        fs.hook = hook
        with pytest.raises(SimulatedCrash):
            transfer(fs, told, rng)
        fs.hook = None
        fs = fs.crash() if power else fs.kill()
        if not fs.exists(TARGET):
            blob = opened(fs)
            durable = set(range(NUM_PIECES)) - {p for a, b in told for p in range(a, b + 1)}
            lacking = {p for a, b in blob.missing() for p in range(a, b + 1)}
            assert not durable & lacking, (seed, stop)
            blob.close()
            fs = fs.crash()  # what a restart believes must survive, too
            assert {p for a, b in opened(fs).missing() for p in range(a, b + 1)} <= lacking
        seen_before = fs.exists(TARGET)  # renamed just before the kill: nobody was told yet
        transfer(fs, [], rng)
        assert fs.read(TARGET) == DATA, (seed, stop)
        if not seen_before:
            fs = fs.crash()
            assert fs.read(TARGET) == DATA, (seed, stop)


def test_a_published_blob_withdrawn_and_brought_again_after_a_power_loss() -> None:
    for seed in range(40):
        fs = SimulatedFileSystem(seed)
        transfer(fs, [], Random(seed))
        fs.link(TARGET, "store/kept")
        fs.remove(TARGET)
        fs = fs.crash()
        if not fs.exists(TARGET):
            lie = opened(fs)
            for piece in range(NUM_PIECES):
                lie.put(piece, bytes(len(piece_of(piece))))
            with pytest.raises(DigestMismatchError):
                lie.publish(TARGET)
        assert fs.read("store/kept") == DATA


def test_a_power_loss_while_it_is_thrown_away_and_begun_anew_vouches_for_nothing() -> None:
    for seed in range(30):
        for stop in range(12):
            fs = SimulatedFileSystem(seed)
            blob = opened(fs)
            put_all(blob, [0, 1, 2])
            blob.checkpoint()
            left = stop

            def hook(step: str, path: str) -> None:
                nonlocal left
                if left == 0:
                    raise SimulatedCrash(step)
                left -= 1

            fs.hook = hook
            with suppress(SimulatedCrash):
                blob.discard()
                opened(fs)
            fs.hook = None
            fs = fs.crash()
            transfer(fs, [], Random(seed))
            assert fs.read(TARGET) == DATA, (seed, stop)


def test_a_part_that_is_a_published_blobs_second_name_is_never_written_into(fs: FileSystem) -> None:
    fs.write(TARGET, DATA)
    fs.link(TARGET, f"partial/{DIGEST}.part")
    blob = opened(fs)
    assert blob.missing() == [(0, 4)]
    blob.put(0, b"a lie!!!")
    assert fs.read(TARGET) == DATA


def test_a_checkpoint_covers_what_had_arrived_when_it_began() -> None:
    leaves = {piece: bytes([piece]) * 32 for piece in range(3)}
    data = begin_record(DIGEST, len(DATA)) + b"".join(piece_record(*item) for item in leaves.items())
    log = read_log(data + checkpoint_record(2))
    assert log is not None
    assert (log.digest, log.num_bytes, log.num_pieces_logged, log.whole) == (DIGEST, len(DATA), 3, True)
    assert (log.durable, log.doubtful) == ({0: leaves[0], 1: leaves[1]}, {2: leaves[2]})
    assert (read_log(b""), read_log(data[1:])) == (None, None)


def test_threads_share_one_blob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial_module, "BLOB_PIECE_BYTES", BLOB_PIECE_BYTES)
    monkeypatch.setattr(partial_module, "CHECKPOINT_BYTES", 2 * BLOB_PIECE_BYTES)
    data = Random(1).randbytes(12 * BLOB_PIECE_BYTES + 17)
    fs = RealFileSystem(tmp_path)
    blob = opened(fs, blob_digest(data), len(data))
    failures: list[BaseException] = []

    def bring(order: list[int]) -> None:
        try:
            for piece in order:
                blob.put(piece, data[piece * BLOB_PIECE_BYTES : (piece + 1) * BLOB_PIECE_BYTES])
        except BaseException as error:
            failures.append(error)

    pieces = list(range(num_pieces_of(len(data))))
    threads = [threading.Thread(target=bring, args=(Random(n).sample(pieces, len(pieces)),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    blob.publish(TARGET)
    assert fs.read(TARGET) == data


def test_others_put_while_one_fsyncs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = opened(RealFileSystem(tmp_path))
    blob.put(0, piece_of(0))
    syncing, go_on = threading.Event(), threading.Event()
    sync = blob._writer.sync

    def slow_sync() -> None:
        syncing.set()
        assert go_on.wait(30)
        sync()

    monkeypatch.setattr(blob._writer, "sync", slow_sync)
    thread = threading.Thread(target=blob.checkpoint)
    thread.start()
    assert syncing.wait(30)
    blob.put(1, piece_of(1))
    assert blob.missing() == [(0, 4)]
    go_on.set()
    thread.join()
    assert blob.missing() == [(1, 4)]


def test_memory_holds_hashes_and_no_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial_module, "BLOB_PIECE_BYTES", BLOB_PIECE_BYTES)
    fs = RealFileSystem(tmp_path)
    piece = bytes(BLOB_PIECE_BYTES)
    tracemalloc.start()
    try:
        blob = opened(fs, DIGEST, 256 * 1024 * BLOB_PIECE_BYTES)  # 256 GiB announced
        for index in range(0, 400, 10):
            blob.put(index, piece)
        blob.checkpoint()
        assert len(blob.missing()) == 40
        assert tracemalloc.get_traced_memory()[1] < 12 * 1024 * 1024
    finally:
        tracemalloc.stop()
