# SPDX-License-Identifier: Apache-2.0
"""theta_0 read by ranges: the same elements as the safetensors library gives, and the same files refused."""

import json
import re
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from federation.blobs.store import BlobStore
from federation.chunks import fragment_digest
from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, CorruptObjectError
from federation.fragments import build_fragments, flatten
from federation.golden import inputs
from federation.initial_model import parse_tensors, read_fragments
from federation.manifest import Manifest
from federation.tensor_file import MAX_HEADER_BYTES, TensorFile, open_theta
from federation.testing.manifests import manifest_of, plan_of

SHAPES = {"embed": (7, 5), "layers.0.w": (3, 4), "layers.1.w": (2, 2, 2), "norm": (6,), "scale": ()}


def tensors() -> dict[str, np.ndarray]:
    return {name: inputs.usual(i, int(np.prod(shape))).reshape(shape) for i, (name, shape) in enumerate(SHAPES.items())}


def opened(data: bytes) -> TensorFile:
    return TensorFile.open(lambda offset, length: data[offset : offset + length], len(data), "theta_0")


def agreed(blob: str) -> Manifest:
    tables = build_fragments(list(SHAPES.items()), 2)
    digests = [fragment_digest(flatten(table, tensors().__getitem__)) for table in tables]
    plan = plan_of({"alpha": 4}, num_fragments=2, theta_digests=digests)
    return replace(manifest_of(plan, tables), theta_blob=blob)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(RealFileSystem(tmp_path))


def test_every_slice_of_a_fragment_is_what_the_library_reads(blobs: BlobStore) -> None:
    manifest = agreed(blobs.put(save(tensors())))
    theta = open_theta(blobs, manifest)
    for fragment, table in enumerate(manifest.fragments):
        whole = flatten(table, tensors().__getitem__)
        for start in range(table.num_elements):
            for stop in range(start + 1, table.num_elements + 1):
                assert theta[fragment][start:stop].tobytes() == whole[start:stop].tobytes()
    assert [v.tobytes() for v in read_fragments(blobs, manifest)] == [
        flatten(table, tensors().__getitem__).tobytes() for table in manifest.fragments
    ]


def test_a_damaged_blob_is_noticed_before_anything_is_read(blobs: BlobStore, tmp_path: Path) -> None:
    manifest = agreed(blobs.put(save(tensors())))
    path = tmp_path / blobs.path(manifest.theta_blob)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptObjectError):
        open_theta(blobs, manifest)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("norm"), "norm: expected shape (6,), found nothing"),
        (lambda t: t.update(norm=np.zeros((2, 3), np.float32)), "norm: expected shape (6,), found (2, 3)"),
        (lambda t: t.update(more=np.zeros(3, np.float16)), "more of dtype F16"),
    ],
)
def test_another_model_is_refused(blobs: BlobStore, change: Callable[[Any], object], message: str) -> None:
    found = tensors()
    change(found)
    with pytest.raises(ConfigError, match=re.escape(message)):
        open_theta(blobs, agreed(blobs.put(save(found))))


def file_of(header: Mapping[str, Any] | bytes, num_bytes: int) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(num_bytes)


def entry(start: int, stop: int, **other: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [(stop - start) // 4], "data_offsets": [start, stop], **other}


DEFECTS: dict[str, bytes] = {
    "empty": b"",
    "no header": b"\x05\0\0",
    "a header longer than the file": (1000).to_bytes(8, "little") + b"{}",
    "a huge header": (MAX_HEADER_BYTES + 1).to_bytes(8, "little") + bytes(MAX_HEADER_BYTES + 1),
    "no JSON": file_of(b"{nonsense", 0),
    "no object": file_of(b"[1, 2]", 0),
    "deep JSON": file_of(b"[" * 100_000, 0),
    "no UTF-8": file_of(b'{"\xff": 1}', 0),
    "a tensor that is no object": file_of({"a": 3}, 0),
    "no dtype": file_of({"a": {"shape": [1], "data_offsets": [0, 4]}}, 4),
    "another dtype": file_of({"a": entry(0, 4, dtype="I32")}, 4),
    "one offset": file_of({"a": entry(0, 4, data_offsets=[0])}, 4),
    "offsets backwards": file_of({"a": entry(0, 4, data_offsets=[4, 0])}, 4),
    "a fraction": file_of({"a": entry(0, 4, shape=[1.0])}, 4),
    "a truth value": file_of({"a": entry(0, 4, shape=[True])}, 4),
    "a negative size": file_of({"a": entry(0, 4, shape=[-1, -1])}, 4),
    "another length than the shape's": file_of({"a": entry(0, 4, shape=[2])}, 4),
    "beyond the file": file_of({"a": entry(0, 8)}, 4),
    "less than the file": file_of({"a": entry(0, 4)}, 8),
    "a hole": file_of({"a": entry(0, 4), "b": entry(8, 12)}, 12),
    "an overlap": file_of({"a": entry(0, 8), "b": entry(4, 12)}, 12),
    "a name twice": file_of(b'{"a": %s, "a": %s}' % ((json.dumps(entry(0, 4)).encode(),) * 2), 4),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defective_file_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="theta_0"):
        opened(DEFECTS[name])


@pytest.mark.parametrize("name", sorted(set(DEFECTS) - {"a name twice"}))
def test_the_library_refuses_these_too(name: str) -> None:
    with pytest.raises(ConfigError):
        parse_tensors(DEFECTS[name], "theta_0")


def test_a_file_that_shrinks_is_noticed() -> None:
    data = save({"a": np.ones(10, np.float32)})
    file = TensorFile.open(lambda offset, length: data[offset : min(offset + length, 94)], len(data), "theta_0")
    with pytest.raises(ConfigError, match="expected 40 bytes, found 30"):
        file.elements("a", 0, 10)


def test_memory_does_not_grow_with_the_model(blobs: BlobStore) -> None:
    size = 2**22
    with blobs.writer() as sink:
        sink.write(file_of({"w": entry(0, 4 * size)}, 0))
        for _ in range(16):
            sink.write(bytes(size // 4))
        blob = sink.finish()
    tables = build_fragments([("w", (size,))], 1)
    manifest = replace(manifest_of(plan_of({"alpha": 4}, theta_digests=["aa" * 32]), tables), theta_blob=blob)
    tracemalloc.start()
    try:
        theta = open_theta(blobs, manifest)
        for start in range(0, size, 2**16):
            assert not theta[0][start : start + 2**16].any()
        assert tracemalloc.get_traced_memory()[1] < 4 * size / 4
    finally:
        tracemalloc.stop()
