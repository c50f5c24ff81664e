# SPDX-License-Identifier: Apache-2.0
"""An exported model: the bytes that the safetensors library writes, in memory that does not grow with the model."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from federation.blobs.store import BlobStore
from federation.chunks import CHUNK_ELEMENTS, fragment_digest
from federation.codecs.payload import encode_vector
from federation.codecs.registry import codec_names, get_codec
from federation.durable.real import RealFileSystem
from federation.errors import CorruptObjectError, DigestMismatchError, MalformedPayloadError
from federation.fragments import build_fragments, flatten
from federation.golden import inputs
from federation.initial_model import model_bytes
from federation.manifest import Alias, Manifest
from federation.model_export import Commit, SafetensorsLayout, export_model
from federation.outer_optimizer import apply_downlink
from federation.testing.manifests import manifest_of, plan_of

SHAPES = {
    "embed": (1100, 1000),  # more than a chunk
    "layers.0.w": (3, 4),
    "layers.1.w": (2, 2, 2),
    'na"me.\u00fc\u2028': (6,),
    "scale": (),
}
ALIASES = (Alias(name="head", of="embed"), Alias(name="a.copy", of="layers.1.w"))
OUT = "model.safetensors"


class Scene:
    """A run of two fragments with a few commits, and what its model must be."""

    def __init__(self, root: Path, codec: str = "int4", num_commits: int = 2) -> None:
        self.fs, self.blobs = RealFileSystem(root / "out"), BlobStore(RealFileSystem(root))
        tensors = {n: inputs.usual(i, int(np.prod(s))).reshape(s) for i, (n, s) in enumerate(SHAPES.items())}
        tables = build_fragments(list(SHAPES.items()), 2)
        plan = plan_of({"alpha": 4}, num_fragments=2)
        manifest = manifest_of(plan, tables, down=codec)
        self.manifest: Manifest = replace(manifest, theta_blob=self.blobs.put(save(tensors)), aliases=ALIASES)
        self.vectors = [flatten(table, tensors.__getitem__) for table in tables]
        self.chains = [[Commit("", fragment_digest(vector))] for vector in self.vectors]
        for number in range(num_commits):
            self.commit(get_codec(codec), number % 2)
            self.commit(get_codec(codec), 0)

    def commit(self, codec, fragment: int) -> None:  # type: ignore[no-untyped-def]
        theta = self.vectors[fragment]
        blob = encode_vector(codec, inputs.usual(99, theta.size))
        self.vectors[fragment] = apply_downlink(codec, theta, blob)
        self.chains[fragment].append(Commit(self.blobs.put(blob), fragment_digest(self.vectors[fragment])))

    def export(self) -> bytes:
        export_model(self.blobs, self.manifest, self.chains, self.fs, OUT)
        return self.fs.read(OUT)


def in_order_of_names(data: bytes) -> bytes:
    """The library writes the metadata in an order that changes with each process."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    found, wanted = (json.dumps(m, separators=(",", ":")) for m in _both(header["__metadata__"]))
    return data[:8] + data[8:end].replace(found.encode(), wanted.encode()) + data[end:]


def _both(metadata: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    return metadata, dict(sorted(metadata.items()))


@pytest.mark.parametrize("codec", [name for name in codec_names() if name != "sparse"])
def test_the_file_is_the_one_that_the_library_writes(tmp_path: Path, codec: str) -> None:
    scene = Scene(tmp_path, codec)
    assert scene.export() == in_order_of_names(model_bytes(scene.manifest, scene.vectors))


def test_theta_0_can_be_exported(tmp_path: Path) -> None:
    scene = Scene(tmp_path, num_commits=0)
    found = load(scene.export())
    assert set(found) == {*SHAPES, "head", "a.copy"}
    assert found["head"].tobytes() == found["embed"].tobytes()
    assert {name: found[name].shape for name in SHAPES} == SHAPES


@pytest.mark.parametrize("name", ["x", "x" * 7, "\u00e9\x7f/\\"])
def test_the_header_is_aligned_and_escaped_as_the_library_does(name: str) -> None:
    tables = build_fragments([(name, (2, 3))], 1)
    layout = SafetensorsLayout.plan(tables, (), {"run": "r"})
    data = save({name: np.zeros((2, 3), np.float32)}, metadata={"run": "r"})
    assert data.startswith(layout.header)
    assert layout.num_bytes == len(data)


def test_what_has_another_digest_is_not_written(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.fs.write(OUT, b"before")
    scene.chains[0][-1] = scene.chains[0][-1]._replace(theta_digest="ab" * 32)
    with pytest.raises(DigestMismatchError, match="fragment 0: expected theta abab"):
        scene.export()
    assert scene.fs.read(OUT) == b"before"
    assert [path.name for path in scene.fs.root.iterdir()] == [OUT]


def test_a_damaged_blob_is_found(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    path = tmp_path / scene.blobs.path(scene.chains[0][1].blob)
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(CorruptObjectError):
        scene.export()
    assert not scene.fs.exists(OUT)


def test_a_blob_of_another_length_is_refused(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.chains[0][1] = scene.chains[0][1]._replace(blob=scene.blobs.put(b"short"))
    with pytest.raises(MalformedPayloadError, match=r"fragment 0: expected a commit of [0-9]+ bytes, found 5"):
        scene.export()


def peak_bytes(root: Path, num_chunks: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Most memory that an export of one tensor of so many chunks takes."""
    root.mkdir()
    monkeypatch.setattr("federation.model_export.num_threads_here", lambda: 1)
    fs, blobs = RealFileSystem(root), BlobStore(RealFileSystem(root))
    size, codec = num_chunks * CHUNK_ELEMENTS, get_codec("int8")
    theta, blob = np.ones(size, np.float32), encode_vector(codec, np.ones(size, np.float32))
    tables = build_fragments([("w", (size,))], 1)
    manifest = manifest_of(plan_of({"alpha": 4}), tables, down="int8")
    manifest = replace(manifest, theta_blob=blobs.put(save({"w": theta})))
    digest = fragment_digest(apply_downlink(codec, theta, blob))
    chain = [Commit("", fragment_digest(theta)), Commit(blobs.put(blob), digest)]
    del theta, blob
    tracemalloc.start()
    try:
        export_model(blobs, manifest, [chain], fs, OUT)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peak_bytes(tmp_path / "warm", 1, monkeypatch)
    small = peak_bytes(tmp_path / "small", 3, monkeypatch)
    large = peak_bytes(tmp_path / "large", 12, monkeypatch)
    chunk_bytes = 4 * CHUNK_ELEMENTS
    assert large < small + chunk_bytes // 4
    assert large < 6 * chunk_bytes
