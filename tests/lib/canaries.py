# SPDX-License-Identifier: Apache-2.0
"""Words that must not leave a site, and a search for them in bytes: plain, encoded, packed."""

import base64
import gzip
import urllib.parse
import zlib
from collections.abc import Iterable, Iterator

import zstandard

_MAGICS = {
    b"\x1f\x8b\x08": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x78\x01": "zlib",
    b"\x78\x9c": "zlib",
    b"\x78\xda": "zlib",
}
_MAX_DEPTH = 3


def forms(canary: str) -> Iterator[tuple[str, bytes]]:
    """How a canary may look in a message; its base64 depends on where it begins among three bytes."""
    raw = canary.encode()
    yield "plain", raw
    yield "UTF-16", canary.encode("utf-16-le")
    yield "hexadecimal", raw.hex().encode()
    yield "hexadecimal", raw.hex().upper().encode()
    yield "reversed", raw[::-1]
    yield "percent-encoded", "".join(f"%{byte:02X}" for byte in raw).encode()
    yield "quoted", urllib.parse.quote(canary).encode()
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + raw)
        core = encoded[(0, 2, 3)[shift] : (shift + len(raw)) * 8 // 6]
        yield f"base64 at {shift}", core
        yield f"base64 at {shift}", core.replace(b"+", b"-").replace(b"/", b"_")


def find(canaries: Iterable[str], data: bytes, depth: int = 0) -> list[str]:
    """Which canaries are in the bytes, and how, also inside of what can be unpacked."""
    canaries, lower = tuple(canaries), data.lower()
    found = [f"{canary} ({form})" for canary in canaries for form, raw in forms(canary) if raw.lower() in lower]
    if depth < _MAX_DEPTH:
        for name, unpacked in _unpacked(data):
            found += [f"{one} in {name}" for one in find(canaries, unpacked, depth + 1)]
    return list(dict.fromkeys(found))


def _unpacked(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Whatever begins like a packed stream anywhere and can be unpacked for a while."""
    for magic, name in _MAGICS.items():
        position = data.find(magic)
        while position >= 0:
            unpacked = _unpack(name, data[position:])
            if unpacked:
                yield name, unpacked
            position = data.find(magic, position + 1)


def _unpack(name: str, data: bytes) -> bytes:
    try:
        if name == "zstd":
            return zstandard.ZstdDecompressor().decompressobj().decompress(data)
        return zlib.decompressobj(31 if name == "gzip" else 15).decompress(data)
    except (zlib.error, zstandard.ZstdError, EOFError, gzip.BadGzipFile):
        return b""
