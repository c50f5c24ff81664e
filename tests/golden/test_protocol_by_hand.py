# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/protocol.md, computed from its text alone: nothing of this project is imported here.

What cannot be reproduced from the text is not specified. An implementer may start by translating this file.
"""

import base64
import hashlib
import re
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
BLOCKS: dict[str, str] = dict(re.findall(r"^```(?:hex|text) ([a-z0-9-]+)\n(.*?)^```$", TEXT, re.M | re.S))


def block(name: str) -> bytes:
    return bytes.fromhex("".join(BLOCKS[name].split()))


def row(name: str, label: str) -> str:
    """The value behind a label in a text block."""
    return next(line[len(label) :].strip() for line in BLOCKS[name].splitlines() if line.startswith(f"{label} "))


def key(holder: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sha(f"example/{holder}".encode()))


def public(holder: str) -> bytes:
    return key(holder).public_key().public_bytes_raw()


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


# --- 2.1 protobuf -----------------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | str | bytes) -> bytes:
    """One field of the proto3 encoding; zero and empty values are left out."""
    if not value:
        return b""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return message(number, value.encode() if isinstance(value, str) else value)


def message(number: int, data: bytes) -> bytes:
    """A message field, written even if it is empty."""
    return varint(number << 3 | 2) + varint(len(data)) + data


# --- 2.2 to 2.4 -------------------------------------------------------------------------------------------------------

MESSAGE, UPDATE, REQUEST = (
    f"application/vnd.hpc-federation.{kind}.v1+protobuf" for kind in ("message", "update", "request")
)


def pae(kind: str, payload: bytes) -> bytes:
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)


def envelope(kind: str, payload: bytes, *holders: str) -> bytes:
    entries = sorted((sha(public(h)).hex(), key(h).sign(pae(kind, payload))) for h in holders)
    signatures = b"".join(message(3, field(1, sig) + field(2, keyid)) for keyid, sig in entries)
    return field(1, payload) + field(2, kind) + signatures


def tree(hashes: Sequence[bytes]) -> bytes:
    if len(hashes) < 2:
        return hashes[0] if hashes else sha(b"")
    k = 1
    while 2 * k < len(hashes):
        k *= 2
    return sha(b"\x01" + tree(hashes[:k]) + tree(hashes[k:]))


def leaf(data: bytes) -> bytes:
    return sha(b"\x00" + data)


def blob_digest(data: bytes) -> str:
    return tree([leaf(data[i : i + 2**20]) for i in range(0, len(data), 2**20)]).hex()


def fragment_digest(values: Sequence[float]) -> str:
    data = floats(values)
    return tree([leaf(data[i : i + 2**22].ljust(2**22, b"\0")) for i in range(0, len(data), 2**22)]).hex()


def note_line(name: str, kind: bytes, holder: str, stamp: bytes, signed: bytes) -> str:
    key_hash = sha(name.encode() + b"\n" + kind + public(holder))[:4]
    return f"— {name} {base64.b64encode(key_hash + stamp + key(holder).sign(signed)).decode()}\n"


# --- 10 numerics: one rounded fp32 operation at a time ----------------------------------------------------------------


def f32(value: float) -> float:
    """Rounded to fp32; of +, -, *, / on fp32 values computed in fp64, this is the correctly rounded result."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def floats(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def vector(data: str) -> list[float]:
    return list(struct.unpack(f"<{len(data) // 8}f", bytes.fromhex(data)))


def bf16_bits(value: float) -> int:
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    return (int(bits) + 0x7FFF + (int(bits) >> 16 & 1)) >> 16


def bf16_value(bits: int) -> float:
    return float(struct.unpack("<f", struct.pack("<I", bits << 16))[0])


def scaled(values: Sequence[float], largest: int) -> tuple[int, list[int]]:
    """Scale bits and integers of one block of 128."""
    block_values = [*values, *[0.0] * (128 - len(values))]
    bits = bf16_bits(f32(max(map(abs, block_values)) / largest))
    scale = bf16_value(bits)
    q = [round(f32(x / scale)) if bits else 0 for x in block_values]
    return bits, [max(-largest, min(largest, n)) for n in q]


def int8(values: Sequence[float]) -> bytes:
    bits, q = scaled(values, 127)
    return struct.pack("<H128b", bits, *q)


def int4(values: Sequence[float]) -> bytes:
    bits, q = scaled(values, 7)
    return struct.pack("<H", bits) + bytes((q[i] & 15) | (q[i + 1] & 15) << 4 for i in range(0, 128, 2))


def bf16(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}H", *map(bf16_bits, values))


def decoded(values: Sequence[float], largest: int) -> list[float]:
    bits, q = scaled(values, largest)
    return [f32(n * bf16_value(bits)) for n in q[: len(values)]]


def each(operation: Callable[..., float], *vectors: Sequence[float]) -> list[float]:
    return [f32(operation(*values)) for values in zip(*vectors, strict=True)]


def minus(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return each(lambda x, y: x - y, a, b)


def plus(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return each(lambda x, y: x + y, a, b)


def times(factor: float, a: Sequence[float]) -> list[float]:
    return [f32(f32(factor) * x) for x in a]


THETA = [f32(x) for x in (1.0, -2.0, 0.5, 0.1)]

# --- the checks -------------------------------------------------------------------------------------------------------


def header(sequence: int) -> bytes:
    names = field(1, "example") + field(2, "alpha") + field(3, "coordinator")
    numbers = field(4, sequence) + field(5, 3) + field(6, 1) + field(8, 1)
    return message(1, names + numbers + field(13, 1) + field(14, "ed25519"))


def test_messages_and_envelopes() -> None:
    declined = header(7) + message(15, field(1, "first") + field(2, 2) + field(3, 22) + field(4, "two jobs failed"))
    assert declined == block("message")
    assert envelope(MESSAGE, declined, "alpha/update") == block("envelope")
    assert BLOCKS["message-name"].strip() == f"000000000007-{sha(block('envelope')).hex()[:16]}.msg"
    assert envelope(MESSAGE, header(0) + message(10, b""), "alpha/update") == block("acknowledgement")
    assert pae(UPDATE, b"hello") == block("pae")


def test_keys_requests_and_the_fingerprint() -> None:
    for holder in ("root", "ledger", "coordinator", "alpha/update", "alpha/witness"):
        assert public(holder).hex() in BLOCKS["keys"]
        assert sha(public(holder)).hex() in BLOCKS["keys"]
    spki = bytes.fromhex("".join(re.findall(r"spki +([0-9a-f]+)", BLOCKS["keys"])))
    uses = ((1, public("alpha/update")), (3, spki), (2, public("alpha/witness")))
    keys = b"".join(message(3, field(1, use) + field(2, data)) for use, data in uses)
    assert envelope(REQUEST, field(1, 1) + field(2, "alpha") + keys, "alpha/update", "alpha/witness") == block(
        "request"
    )
    lines = ["hpc-federation consortium root v1", "example", "1", public("root").hex()]
    assert sha("".join(f"{line}\n" for line in lines).encode()) == block("fingerprint")


def test_digests() -> None:
    assert row("digests", "blob of no bytes") == blob_digest(b"")
    assert row("digests", "blob of 5 bytes, hello") == blob_digest(b"hello")
    assert row("digests", "blob of 1048577 zero bytes") == blob_digest(bytes(2**20 + 1))
    assert row("digests", "fragment 1.0, -2.0, 0.5, 0.1") == fragment_digest(THETA)
    assert row("digests", "fragment of 1048577 zeros") == fragment_digest([0.0] * (2**20 + 1))


def test_the_ledger() -> None:
    at = field(1, 1_700_000_000_000_000)
    sites = field(1, 1) + field(2, bytes.fromhex("cd" * 32)) + field(3, "alpha") + field(3, "beta")
    bodies = [message(10, sites)]
    bodies += [message(n, field(1, "beta") + field(2, "olga") + field(3, c)) for n, c in ((20, "c1"), (21, "c2"))]
    leaves = [at + body for body in bodies]
    assert [found.hex() for found in leaves] == BLOCKS["leaves"].split()
    assert row("tree", "root") == tree([leaf(found) for found in leaves]).hex()
    text = f"example/ledger\n3\n{base64.b64encode(tree([leaf(found) for found in leaves])).decode()}\n"
    signed = f"{text}\n" + note_line("example/ledger", b"\x01", "ledger", b"", text.encode())
    assert signed == BLOCKS["checkpoint"]
    stamped = f"cosignature/v1\ntime 1700000060\n{text}".encode()
    stamp = struct.pack(">Q", 1_700_000_060)
    assert signed + note_line("example/site/alpha", b"\x04", "alpha/witness", stamp, stamped) == BLOCKS["cosigned"]


@pytest.mark.parametrize(("name", "encode"), [("fp32", floats), ("bf16", bf16), ("int8", int8), ("int4", int4)])
def test_codecs(name: str, encode: Callable[[Sequence[float]], bytes]) -> None:
    assert encode(THETA) == block(f"payload-{name}")


def test_a_round() -> None:
    deltas = {site: minus(THETA, vector(row("round", f"local {site}"))) for site in ("alpha", "beta")}
    g = [0.0] * 4
    for site, tokens in (("alpha", 300), ("beta", 100)):
        assert row("round", f"delta {site}") == floats(deltas[site]).hex()
        assert row("round", f"payload {site}") == bf16(deltas[site]).hex()
        weight = f32(tokens / 400)
        assert row("round", f"weight {site}") == floats([weight]).hex()
        g = plus(g, times(weight, [bf16_value(bf16_bits(x)) for x in deltas[site]]))
    m = plus(times(0.9, [0.0] * 4), g)
    u = plus(times(0.7, plus(g, times(0.9, m))), [0.0] * 4)
    step = decoded(u, 127)
    theta, local = minus(THETA, step), vector(row("round", "local alpha"))
    assert row("round", "g") == floats(g).hex()
    assert row("round", "m") == floats(m).hex()
    assert row("round", "u") == floats(u).hex()
    assert row("round", "blob digest") == blob_digest(int8(u))
    assert row("round", "decode(blob)") == floats(step).hex()
    assert row("round", "new theta") == floats(theta).hex()
    assert row("round", "new theta digest") == fragment_digest(theta)
    assert row("round", "r") == floats(minus(u, step)).hex()
    assert row("round", "merge at alpha") == floats(plus(theta, times(0.5, minus(local, theta)))).hex()
    e = [f32(x) for x in (0.01, 0.0, -0.02, 0.0)]
    x = plus(times(0.95, e), deltas["alpha"])
    assert row("feedback", "payload digest") == blob_digest(int4(x))
    assert row("feedback", "e_new") == floats(minus(x, decoded(x, 7))).hex()


def test_an_update() -> None:
    payload = bytes.fromhex(row("round", "payload alpha"))
    run = field(1, "example") + field(2, "first") + field(3, bytes.fromhex("ab" * 32))
    base = field(6, bytes.fromhex(fragment_digest(THETA)))
    who = field(7, "alpha") + field(8, "a1") + field(9, "bf16")
    counts = field(10, 300) + field(11, 300) + field(12, 10)
    descriptor = run + base + who + counts + field(13, bytes.fromhex(blob_digest(payload))) + field(14, 8)
    assert descriptor == block("update")
    assert envelope(UPDATE, descriptor, "alpha/update") == block("signed-update")
    assert blob_digest(block("signed-update")) == "".join(BLOCKS["update-digest"].split())
