# SPDX-License-Identifier: Apache-2.0
"""Tensors of a training checkpoint by place, not by rank: what any number of ranks wrote, any other number can read.

One process writes whole vectors: file `theta.safetensors` with tensors `0`, `1`, ... Several ranks write what each of
them owns: files `pieces-<n>.safetensors` and `trainer-<n>.safetensors` with flat tensors `<kind>.<name>.<first
element>`; which rank wrote which file does not matter to anybody.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch

from federation.durable.api import FileSystem
from federation.errors import CorruptObjectError

if TYPE_CHECKING:
    from site_agent.inner_loop.seam import TrainerState

PIECES: Final = "pieces-"
"""Begin of the name of a file with what one rank owned."""

TRAINER_PARTS: Final = "trainer-"
"""Begin of the name of a file with one rank's part of the trainer's state."""

TRAINER: Final = "trainer"

GENERATOR: Final = "generator."
"""Begin of the names of generators' states: each rank has its own."""

RANK: Final = "rank-"
"""Begin of the names of what belongs to a rank other than 0."""

KINDS: Final = ("local", "theta", "feedback", "candidates", "payloads", TRAINER)
"""What a training checkpoint of an inner loop is made of."""

_DTYPES: Final[dict[str, torch.dtype]] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def piece_name(kind: str, name: str, start: int) -> str:
    """The name of a flat tensor that begins at an element (of a payload: a byte) of what it is a piece of."""
    return f"{kind}.{name}.{start}"


def trainer_pieces(state: "TrainerState", rank: int = 0) -> dict[str, torch.Tensor]:
    """One rank's parts of the trainer's state, and of a rank other than 0 its generators."""
    found = {piece_name(TRAINER, name, part.start): part.tensor for name, part in state.parts.items()}
    if rank:
        own = {name: tensor for name, tensor in state.tensors.items() if name.startswith(GENERATOR)}
        found |= {piece_name(TRAINER, f"{RANK}{rank}.{name}", 0): tensor for name, tensor in own.items()}
    return found


def is_of_ranks(part: str) -> bool:
    """Whether a file of this name (without suffix) holds pieces."""
    return part.startswith((PIECES, TRAINER_PARTS))


class Span(NamedTuple):
    """Where a piece lies.

    Attributes:
        start: first element in the whole.
        shape: of the stored tensor.
        offset: first byte in the file.
    """

    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    path: str
    offset: int

    @property
    def num_elements(self) -> int:
        """Of the piece."""
        return int(torch.Size(self.shape).numel())


class StoredTensors(Mapping[str, torch.Tensor]):
    """Tensors of one kind that stay on the disk until they are asked for, whole or a range of their elements."""

    def __init__(self, fs: FileSystem, spans: Mapping[str, list[Span]]) -> None:
        self._fs = fs
        self._spans = {name: sorted(found, key=lambda span: span.start) for name, found in spans.items()}

    def __getitem__(self, name: str) -> torch.Tensor:
        """A whole tensor: in its shape if it was stored whole, flat if it was stored in pieces."""
        spans = self._spans[name]
        whole = self.part(name, 0, spans[-1].start + spans[-1].num_elements)
        return whole.reshape(spans[0].shape) if len(spans) == 1 else whole

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)

    def of_rank(self, rank: int) -> "StoredTensors":
        """Without what belongs to other ranks; of a rank that had nothing of its own, the program keeps what it has."""
        own = f"{RANK}{rank}."
        found = {name: spans for name, spans in self._spans.items() if not name.startswith(RANK)}
        if rank:
            found = {name: spans for name, spans in found.items() if not name.startswith(GENERATOR)}
        found |= {name.removeprefix(own): spans for name, spans in self._spans.items() if name.startswith(own)}
        return StoredTensors(self._fs, found)

    def part(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Elements start to stop of the flattened tensor, a new one.

        Raises:
            CorruptObjectError: some of them are in no file.
        """
        spans = self._spans[name]
        found, at = torch.empty(stop - start, dtype=spans[0].dtype), start
        for span in spans:
            end = min(stop, span.start + span.num_elements)
            if span.start <= at < end:
                found[at - start : end - start] = self._elements(span, at - span.start, end - span.start)
                at = end
        if at < stop:
            raise CorruptObjectError(f"training checkpoint: {name}: expected elements to {stop}, found none from {at}")
        return found

    def _elements(self, span: Span, start: int, stop: int) -> torch.Tensor:
        size = span.dtype.itemsize
        data = self._fs.read_range(span.path, span.offset + start * size, (stop - start) * size)
        if len(data) != (stop - start) * size:
            raise CorruptObjectError(f"{span.path}: expected {(stop - start) * size} bytes, found {len(data)}")
        return torch.frombuffer(bytearray(data), dtype=span.dtype)


def range_of(tensors: Mapping[str, torch.Tensor], name: str, start: int, stop: int) -> torch.Tensor:
    """Elements of a tensor, flattened; of a stored one no others are read."""
    if isinstance(tensors, StoredTensors):
        return tensors.part(name, start, stop)
    return tensors[name].reshape(-1)[start:stop]


def open_tensors(fs: FileSystem, base: str, parts: Iterable[str], suffix: str) -> dict[str, StoredTensors]:
    """Everything that a training checkpoint's files hold, by kind; only their headers are read.

    Args:
        parts: names of the files without their suffix.
    """
    spans: dict[str, dict[str, list[Span]]] = {kind: {} for kind in KINDS}
    for part in parts:
        path = f"{base}/{part}{suffix}"
        for stored, entry, offset in _entries(fs, path):
            kind, name, start = _place(part, stored)
            span = Span(start, tuple(entry["shape"]), _DTYPES[entry["dtype"]], path, offset)
            spans.setdefault(kind, {}).setdefault(name, []).append(span)
    return {kind: StoredTensors(fs, found) for kind, found in spans.items()}


def whole_parts(parts: dict[str, dict[str, torch.Tensor]]) -> dict[str, dict[str, torch.Tensor]]:
    """The parts of a training checkpoint as one process would have written them; takes the pieces out of `parts`."""
    if not any(is_of_ranks(part) for part in parts):
        return parts
    pieces: dict[str, dict[str, dict[int, torch.Tensor]]] = {}
    for part in [part for part in parts if is_of_ranks(part)]:
        for stored, tensor in parts.pop(part).items():
            kind, name, start = _place(part, stored)
            pieces.setdefault(kind, {}).setdefault(name, {})[start] = tensor
    for kind in KINDS:
        whole = parts.setdefault(kind, {})
        for name, found in pieces.pop(kind, {}).items():
            whole[name] = torch.cat([found[start] for start in sorted(found)])
    return parts


def _place(part: str, stored: str) -> tuple[str, str, int]:
    """Kind, name and first element of a tensor by its file and its name there."""
    if not is_of_ranks(part):
        return part, stored, 0
    kind, _, rest = stored.partition(".")
    name, _, start = rest.rpartition(".")
    return kind, name, int(start)


def _entries(fs: FileSystem, path: str) -> Iterator[tuple[str, Any, int]]:
    """Name, header entry and first byte of each tensor of a safetensors file whose digest was checked."""
    length = int.from_bytes(fs.read_range(path, 0, 8), "little")
    for name, entry in json.loads(fs.read_range(path, 8, length)).items():
        if name != "__metadata__":
            yield name, entry, 8 + length + entry["data_offsets"][0]
