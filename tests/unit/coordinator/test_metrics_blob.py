# SPDX-License-Identifier: Apache-2.0
"""The blob that metrics travel in: what was put in comes out, and nothing else is believed."""

import struct
import zlib
from collections.abc import Callable

import pytest

from coordinator import metrics_blob
from coordinator.metrics_blob import END, HEADER, LEAF, MAX_RECORD_BYTES, TELEMETRY, Record, read_blob, write_blob
from federation.errors import LimitExceededError, MalformedPayloadError


class Buffer:
    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        self.data += data


def reading(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: bytes(data[offset : offset + length])


def packed(*records: tuple[bytes, bytes]) -> bytes:
    return zlib.compress(b"".join(struct.pack(">cI", kind, len(data)) + data for kind, data in records))


HEAD = (HEADER, b'{"format": "hpc-federation metrics 1"}')


def blob() -> bytes:
    buffer = Buffer()
    leaves = [bytes([n % 251]) * (n % 3000) for n in range(2000)]
    write_blob(buffer, {"run": "demo"}, leaves, [("alpha", b"{}\n"), ("beta", b"x" * 2**20)])
    return bytes(buffer.data)


def test_what_was_put_in_comes_out() -> None:
    head, *records = read_blob(reading(blob()))
    assert head.data == b'{"format": "hpc-federation metrics 1", "run": "demo"}'
    assert [r.data for r in records if r.kind == LEAF] == [bytes([n % 251]) * (n % 3000) for n in range(2000)]
    assert [metrics_blob.site_and_lines(r) for r in records if r.kind == TELEMETRY] == [
        ("alpha", b"{}\n"),
        ("beta", b"x" * 2**20),
    ]


@pytest.mark.parametrize("cut", [0, 1, 100, 5000])
def test_a_blob_that_ends_too_early_is_refused(cut: int) -> None:
    with pytest.raises(MalformedPayloadError):
        list(read_blob(reading(blob()[:cut])))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not zlib",
        packed(),
        packed((LEAF, b"x")),
        packed((HEADER, b"[]"), (END, b"")),
        packed((HEADER, b"{"), (END, b"")),
        packed((HEADER, b'{"format": "hpc-federation metrics 2"}'), (END, b"")),
        packed(HEAD, (LEAF, b"x")),
        packed(HEAD, (LEAF, b"x"))[:-1],
    ],
)
def test_what_is_no_blob_of_this_format_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedPayloadError, match="export: expected"):
        list(read_blob(reading(data)))


@pytest.mark.parametrize("head", [struct.pack(">cI", LEAF, MAX_RECORD_BYTES + 1), struct.pack(">cI", b"Z", 1)])
def test_a_record_that_cannot_be_is_refused_before_it_is_read(head: bytes) -> None:
    data = zlib.compress(struct.pack(">cI", HEADER, len(HEAD[1])) + HEAD[1] + head)
    with pytest.raises(LimitExceededError, match="expected records"):
        list(read_blob(reading(data)))


def test_a_blob_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_blob, "MAX_BYTES", 3 * 2**20)
    bomb = packed(HEAD, *[(LEAF, bytes(2**20))] * 8, (END, b""))
    assert len(bomb) < 20_000
    records = read_blob(reading(bomb))
    assert [next(records).kind for _ in range(3)] == [HEADER, LEAF, LEAF]
    with pytest.raises(LimitExceededError, match="at most 3145728 bytes"):
        list(records)


@pytest.mark.parametrize("data", [b"", b"../up\n{}", b"<b>\n"])
def test_telemetry_of_no_site_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedPayloadError, match="telemetry of a site"):
        metrics_blob.site_and_lines(Record(kind=TELEMETRY, data=data))
