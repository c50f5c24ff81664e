# SPDX-License-Identifier: Apache-2.0
"""A model written as safetensors from theta_0 and published commit blobs, in memory of a few chunks.

Each chunk is read from theta_0's blob, taken through all commits of its fragment, and written where its tensors lie in
the file; the file appears under its name when the digest of every fragment is the ledger's. The bytes are those of
`initial_model.model_bytes`.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from federation.chunk_pool import in_order, num_threads_here
from federation.chunks import ChunkGrid, Float32Vector, chunk_hash, little_endian_bytes
from federation.codecs.payload import chunk_span, payload_bytes
from federation.codecs.registry import get_codec
from federation.durable.api import RandomWriter
from federation.durable.real import RealFileSystem
from federation.errors import DigestMismatchError, MalformedPayloadError
from federation.ids import short
from federation.kernels import api as kernels
from federation.manifest import Alias, FragmentTable, Manifest
from federation.merkle import root_of
from federation.tensor_file import Blobs, FileFragment, open_theta

_ITEM_BYTES: Final = 4
_ALIGNMENT: Final = 8


class Commit(NamedTuple):
    """One version of a fragment: the blob that leads to it ("" for theta_0), and the digest of its theta."""

    blob: str
    theta_digest: str


class Chunk(NamedTuple):
    """A finished chunk: where it begins in its fragment, its real elements, and their leaf hash."""

    start: int
    theta: Float32Vector
    leaf: bytes


@dataclass(frozen=True, kw_only=True)
class SafetensorsLayout:
    """Where everything lies in a safetensors file, as the library orders it: by name, tied names included.

    Attributes:
        header: length and text of the header.
        offsets: per name the first byte of its tensor in the file.
        names: per fragment and entry of its table all names of that tensor.
        num_bytes: of the whole file.
    """

    tables: Sequence[FragmentTable]
    header: bytes
    offsets: Mapping[str, int]
    names: Sequence[Sequence[Sequence[str]]]
    num_bytes: int

    @classmethod
    def plan(
        cls, tables: Sequence[FragmentTable], aliases: Sequence[Alias], metadata: Mapping[str, str]
    ) -> "SafetensorsLayout":
        """The layout of a model. The metadata's order is by name; the library's own changes with each process."""
        shapes = {entry.name: entry.shape for table in tables for entry in table.entries}
        shapes |= {alias.name: shapes[alias.of] for alias in aliases}
        entries: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
        offsets, at = {}, 0
        for name in sorted(shapes):
            offsets[name], at = at, at + _ITEM_BYTES * math.prod(shapes[name])
            entries[name] = {"dtype": "F32", "shape": list(shapes[name]), "data_offsets": [offsets[name], at]}
        text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        header = len(text).to_bytes(8, "little") + text
        tied: dict[str, list[str]] = {}
        for alias in aliases:
            tied.setdefault(alias.of, []).append(alias.name)
        return cls(
            tables=tables,
            header=header,
            offsets={name: len(header) + offset for name, offset in offsets.items()},
            names=[[[entry.name, *tied.get(entry.name, ())] for entry in table.entries] for table in tables],
            num_bytes=len(header) + at,
        )

    def places(self, fragment: int, start: int, stop: int) -> Iterator[tuple[int, slice]]:
        """Offset in the file, and which of the elements from start to stop lie there without a gap."""
        for entry, names in zip(self.tables[fragment].entries, self.names[fragment], strict=True):
            first, last = max(start, entry.offset), min(stop, entry.offset + math.prod(entry.shape))
            if first < last:
                for name in names:
                    offset = self.offsets[name] + _ITEM_BYTES * (first - entry.offset)
                    yield offset, slice(first - start, last - start)


def export_model(
    blobs: Blobs, manifest: Manifest, chains: Sequence[Sequence[Commit]], fs: RealFileSystem, path: str
) -> None:
    """Writes the model that the chains of commits, one per fragment, lead to.

    The digest of a fragment's last version stands for those before it: each follows from the one before and a blob.

    Raises:
        DigestMismatchError: the blobs do not lead to the digest that the ledger records; nothing appears at `path`.
        ConfigError: the blob of theta_0 is not the model that the manifest describes.
        ObjectNotFoundError, CorruptObjectError: a blob is missing or damaged.
        MalformedPayloadError, NonFiniteUpdateError: a commit's blob breaks its format.
        DiskFullError: too little space.
    """
    theta = open_theta(blobs, manifest)
    metadata = {"run": manifest.run, "consortium": manifest.consortium}
    layout = SafetensorsLayout.plan(manifest.fragments, manifest.aliases, metadata)
    unfinished = fs.scratch_name()
    with ExitStack() as failed:
        failed.callback(fs.remove, unfinished)
        writer = fs.random_writer(unfinished, layout.num_bytes)
        try:
            writer.write_at(0, layout.header)
            for fragment, chain in enumerate(chains):
                _write_fragment(writer, layout, fragment, theta[fragment], _Steps(blobs, manifest, fragment, chain))
            writer.sync()
        finally:
            writer.close()
        fs.rename(unfinished, path)
        failed.pop_all()


class _Steps:
    """What leads from a chunk of theta_0 to one of the newest version."""

    def __init__(self, blobs: Blobs, manifest: Manifest, fragment: int, chain: Sequence[Commit]) -> None:
        self.codec = get_codec(manifest.codecs.down)
        self.grid = ChunkGrid(manifest.fragments[fragment].num_elements)
        self.newest = chain[-1].theta_digest
        self._blobs = blobs
        self._digests = [commit.blob for commit in chain if commit.blob]
        for digest in self._digests:
            self._check(fragment, digest)

    def _check(self, fragment: int, digest: str) -> None:
        self._blobs.verify(digest)
        expected, found = payload_bytes(self.codec, self.grid.num_elements), self._blobs.size(digest)
        if found != expected:
            raise MalformedPayloadError(f"fragment {fragment}: expected a commit of {expected} bytes, found {found}")

    def finish(self, theta: FileFragment, index: int) -> Chunk:
        """A chunk of the newest version."""
        start, stop = self.grid.bounds(index)
        chunk = theta[start:stop]
        for digest in self._digests:
            raw = self._blobs.read_range(digest, *chunk_span(self.codec, self.grid, index))
            kernels.apply_to(self.codec, np.frombuffer(raw, np.uint8), chunk, chunk)
        return Chunk(start, chunk, chunk_hash(chunk))


def _write_fragment(
    writer: RandomWriter, layout: SafetensorsLayout, fragment: int, theta: FileFragment, steps: _Steps
) -> None:
    leaves, num_chunks = [], steps.grid.num_chunks
    for start, chunk, leaf in in_order(partial(steps.finish, theta), num_chunks, min(num_threads_here(), num_chunks)):
        leaves.append(leaf)
        for offset, part in layout.places(fragment, start, start + chunk.size):
            writer.write_at(offset, little_endian_bytes(chunk[part]))
    found = root_of(leaves).hex()
    if found != steps.newest:
        raise DigestMismatchError(f"fragment {fragment}: expected theta {short(steps.newest)}, found {short(found)}")
