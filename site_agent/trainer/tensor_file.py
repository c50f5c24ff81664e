# SPDX-License-Identifier: Apache-2.0
"""safetensors files written piece by piece: the library's own `save` needs the whole file in memory.

Format: length of the header as u64, the header as JSON (name -> dtype, shape, first and last byte), then the tensors'
bytes, little-endian like every machine that torch runs on. They are read with the library.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

import torch

from federation.durable.api import FileSystem

Tensors: TypeAlias = Mapping[str, torch.Tensor]

PIECE_BYTES: Final = 4 * 1024 * 1024
"""Hashed and written at a time: it stays in a cache between the two."""

_ALIGNMENT: Final = 8
_NAMES: Final[dict[torch.dtype, str]] = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_tensors(
    fs: FileSystem, path: str, tensors: Tensors, metadata: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Writes a file whose name nobody trusts before a manifest lists it; durable when this returns.

    Args:
        metadata: for the header's own entry of that name; some readers ask for `format`.

    Returns:
        Its size in bytes and its SHA-256 in hexadecimal.
    """
    header = _header(tensors, metadata)
    num_bytes = len(header) + sum(tensor.nbytes for tensor in tensors.values())
    file, digest, offset = fs.random_writer(path, num_bytes), hashlib.sha256(), 0
    try:
        for piece in _pieces(header, tensors):
            digest.update(piece)
            file.write_at(offset, piece)
            offset += len(piece)
        file.sync()
    finally:
        file.close()
    return num_bytes, digest.hexdigest()


def _header(tensors: Tensors, metadata: Mapping[str, str] | None) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, tensor in tensors.items():
        shape, end = list(tensor.shape), offset + tensor.nbytes
        entries[name] = {"dtype": _NAMES[tensor.dtype], "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _pieces(header: bytes, tensors: Tensors) -> Iterator[memoryview]:
    yield memoryview(header)
    for tensor in tensors.values():
        flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        data: memoryview = flat.numpy().data
        for start in range(0, len(data), PIECE_BYTES):
            yield data[start : start + PIECE_BYTES]
