# SPDX-License-Identifier: Apache-2.0
"""Records in append-only files: what a crash may spoil, and what is damage."""

import pytest

from federation.durable.simulated import SimulatedFileSystem
from federation.errors import CorruptObjectError, DiskFullError, LimitExceededError
from federation.ledger.frames import HEADER_BYTES, FramedFile, encode_record, scan_records

PATH = "a/file.seg"


def test_scan_stops_at_the_first_spoilt_record() -> None:
    content = encode_record(b"one") + encode_record(b"two")
    assert scan_records(content).records == (b"one", b"two")
    assert scan_records(content).intact
    for cut in range(len(encode_record(b"one")) + 1, len(content)):
        scan = scan_records(content[:cut])
        assert (scan.records, scan.intact) == ((b"one",), False)
        assert scan.num_bytes == len(encode_record(b"one"))


def test_zeros_are_no_record() -> None:
    assert scan_records(bytes(64)).records == ()


def test_every_flipped_bit_is_noticed() -> None:
    content = encode_record(b"some bytes")
    for bit in range(8 * len(content)):
        spoilt = bytearray(content)
        spoilt[bit // 8] ^= 1 << bit % 8
        assert scan_records(bytes(spoilt)).records != (b"some bytes",)


def test_an_empty_record_is_refused() -> None:
    with pytest.raises(LimitExceededError):
        encode_record(b"")


def test_batches_are_read_again() -> None:
    fs = SimulatedFileSystem()
    file = FramedFile(fs, PATH)
    file.append(b"one")
    file.extend([b"two", b"three"])
    file.extend([])
    assert file.records == [b"one", b"two", b"three"]
    assert FramedFile(fs.crash(), PATH).records == [b"one", b"two", b"three"]


@pytest.mark.parametrize("kept", [0, 3, HEADER_BYTES, HEADER_BYTES + 4])
def test_a_torn_batch_is_cut_as_a_whole(kept: int) -> None:
    fs = SimulatedFileSystem()
    FramedFile(fs, PATH).append(b"one")
    whole = fs.read(PATH)
    FramedFile(fs, PATH).extend([b"two", b"three"])
    fs.truncate(PATH, len(whole) + kept)
    file = FramedFile(fs, PATH)
    assert file.records == [b"one"]
    file.append(b"four")
    assert FramedFile(fs, PATH).records == [b"one", b"four"]


def test_reading_cuts_nothing() -> None:
    fs = SimulatedFileSystem()
    FramedFile(fs, PATH).append(b"one")
    spoilt = fs.read(PATH) + b"\x00\x00"
    fs.write(PATH, spoilt)
    file = FramedFile(fs, PATH, writable=False)
    assert file.records == [b"one"]
    assert fs.read(PATH) == spoilt
    with pytest.raises(ValueError, match="reading"):
        file.append(b"two")


def test_damage_in_front_of_a_batch_is_refused() -> None:
    fs = SimulatedFileSystem()
    file = FramedFile(fs, PATH)
    file.append(b"one")
    file.append(b"two")
    content = bytearray(fs.read(PATH))
    content[2 * HEADER_BYTES] ^= 1
    fs.write(PATH, bytes(content))
    with pytest.raises(CorruptObjectError, match=PATH):
        FramedFile(fs, PATH)


def test_a_full_disk_leaves_the_file_as_it_was() -> None:
    fs = SimulatedFileSystem()
    file = FramedFile(fs, PATH)
    file.append(b"one")
    fs.fail_writes_after(4)
    with pytest.raises(DiskFullError):
        file.append(b"two")
    fs.fail_writes_after(None)
    file.append(b"three")
    assert FramedFile(fs.crash(), PATH).records == [b"one", b"three"]
