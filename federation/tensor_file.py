# SPDX-License-Identifier: Apache-2.0
"""A safetensors file of fp32 tensors, read a range at a time: the header once, elements where they are asked for.

Format: u64 little-endian length of the header; the header, JSON, per tensor its dtype, shape and the span of its bytes
behind the header; the bytes. As the safetensors library does, a file is refused whose spans overlap or leave holes.
"""

import json
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import numpy as np

from federation.chunks import Float32Vector
from federation.errors import ConfigError
from federation.manifest import FragmentTable, Manifest

ReadRange: TypeAlias = Callable[[int, int], bytes]
"""(offset, length) -> bytes of the file; fewer at its end."""

MAX_HEADER_BYTES: Final = 32 * 1024 * 1024
_LENGTH_BYTES: Final = 8
_ITEM_BYTES: Final = 4
_METADATA: Final = "__metadata__"


class Blobs(Protocol):
    """The part of a `BlobStore` that reads theta_0."""

    def size(self, digest: str) -> int:
        """Bytes of a blob."""

    def verify(self, digest: str) -> None:
        """Raises CorruptObjectError if the stored bytes have another digest."""

    def read_range(self, digest: str, offset: int, length: int) -> bytes:
        """Some bytes of a blob."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """Where a tensor's bytes lie in the file."""

    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class TensorFile:
    """An open file.

    Attributes:
        what: the file's name in errors.
    """

    what: str
    read_range: ReadRange
    tensors: Mapping[str, Tensor]

    @classmethod
    def open(cls, read_range: ReadRange, num_bytes: int, what: str) -> "TensorFile":
        """Reads the header of a file of `num_bytes`.

        Raises:
            ConfigError: it is no safetensors file, or holds another dtype than float32.
        """
        header_bytes = int.from_bytes(read_range(0, _LENGTH_BYTES), "little")
        if not 2 <= header_bytes <= min(MAX_HEADER_BYTES, num_bytes - _LENGTH_BYTES):
            raise ConfigError(f"{what}: expected safetensors with a header of 2 bytes to 32 MiB, found {header_bytes}")
        header, begin = read_range(_LENGTH_BYTES, header_bytes), _LENGTH_BYTES + header_bytes
        try:
            entries = json.loads(header, object_pairs_hook=_unique)
            tensors = {name: _tensor(entry, name, begin) for name, entry in entries.items() if name != _METADATA}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ConfigError(f"{what}: expected safetensors of float32 tensors, found {error}") from error
        _check_spans(tensors, begin, num_bytes, what)
        return cls(what=what, read_range=read_range, tensors=tensors)

    def elements(self, name: str, start: int, stop: int) -> Float32Vector:
        """f32[stop - start] of a tensor, flattened in row-major order."""
        tensor, length = self.tensors[name], (stop - start) * _ITEM_BYTES
        data = self.read_range(tensor.start + start * _ITEM_BYTES, length)
        if len(data) != length:
            raise ConfigError(f"{self.what}: {name}: expected {length} bytes, found {len(data)}")
        return np.frombuffer(data, "<f4").astype(np.float32, copy=False)

    def check_table(self, tables: Sequence[FragmentTable]) -> None:
        """Raises ConfigError where a parameter of the tables is missing or has another shape."""
        for table in tables:
            for entry in table.entries:
                found = self.tensors.get(entry.name)
                if found is None or found.shape != entry.shape:
                    shape = "nothing" if found is None else str(found.shape)
                    raise ConfigError(f"{self.what}: {entry.name}: expected shape {entry.shape}, found {shape}")


@dataclass(frozen=True)
class FileFragment:
    """A fragment's elements, read from the file where they are asked for."""

    file: TensorFile
    table: FragmentTable

    def __getitem__(self, part: slice) -> Float32Vector:
        """f32[n], a new array of the elements from start to stop."""
        elements = np.empty(part.stop - part.start, np.float32)
        entries, position = self.table.entries, part.start
        number = bisect_right(entries, position, key=lambda entry: entry.offset) - 1
        while position < part.stop:
            entry = entries[number]
            stop = min(part.stop, entry.offset + math.prod(entry.shape))
            found = self.file.elements(entry.name, position - entry.offset, stop - entry.offset)
            elements[position - part.start : stop - part.start] = found
            position, number = stop, number + 1
        return elements


@dataclass(frozen=True)
class ThetaFile(Mapping[int, FileFragment]):
    """theta_0 by fragment, from its blob; nothing is held of it but the header."""

    file: TensorFile
    tables: Sequence[FragmentTable]

    def __getitem__(self, fragment: int) -> FileFragment:
        return FileFragment(self.file, self.tables[fragment])

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.tables)))

    def __len__(self) -> int:
        return len(self.tables)


def open_theta(blobs: Blobs, manifest: Manifest) -> ThetaFile:
    """theta_0 of a run from its blob, which is verified first.

    Raises:
        ConfigError: the blob is not the model that the manifest describes.
        ObjectNotFoundError, CorruptObjectError: the blob is missing or damaged.
    """
    digest = manifest.theta_blob
    blobs.verify(digest)
    file = TensorFile.open(
        lambda offset, length: blobs.read_range(digest, offset, length),
        blobs.size(digest),
        f"run {manifest.run}: theta_0",
    )
    file.check_table(manifest.fragments)
    return ThetaFile(file, manifest.fragments)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _tensor(entry: Mapping[str, Any], name: str, begin: int) -> Tensor:
    if entry["dtype"] != "F32":
        raise ValueError(f"{name} of dtype {entry['dtype']}"[:200])
    shape, (start, stop) = tuple(entry["shape"]), entry["data_offsets"]
    if any(type(number) is not int or number < 0 for number in (*shape, start, stop)):
        raise ValueError(f"{name} with sizes that are not whole numbers from 0"[:200])
    if stop - start != _ITEM_BYTES * math.prod(shape):
        raise ValueError(f"{name} of shape {list(shape)} in {stop - start} bytes"[:200])
    return Tensor(shape=shape, start=begin + start, stop=begin + stop)


def _check_spans(tensors: Mapping[str, Tensor], begin: int, end: int, what: str) -> None:
    position = begin
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.start, tensor.stop)):
        if tensor.start != position:
            raise ConfigError(f"{what}: expected the next tensor at byte {position}, found it at {tensor.start}")
        position = tensor.stop
    if position != end:
        raise ConfigError(f"{what}: expected tensors up to byte {end}, found the last one to end at {position}")
