# SPDX-License-Identifier: Apache-2.0
"""Whole fragments whose local parameters live on a device, while theta and error feedback live on the host.

Chunk after chunk is copied up through two sets of staging memory, so that the copies of one chunk run beside the work
on the other. Memory on the device: a few chunks, whatever the size of the fragment.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch

from federation.chunks import CHUNK_ELEMENTS, ChunkGrid, Float32Vector
from federation.codecs.api import ByteVector, Codec
from federation.codecs.payload import chunk_span, payload_bytes
from federation.codecs_device import launch

_NUM_SLOTS: Final = 2
_SLOT_SIZE: Final = CHUNK_ELEMENTS + CHUNK_ELEMENTS // 64
"""Elements or bytes: a chunk in fp32, or its payload in int8 with the scales of its blocks."""
_STATUS: Final = "status"


class DeviceVector(Protocol):
    """One fragment of the local model, f32[num_elements], wherever its pieces lie on a device."""

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Elements start to stop, contiguous: a view where they lie together, else a copy."""

    def write(self, start: int, stop: int, values: torch.Tensor) -> None:
        """Sets elements start to stop; `values` may be what `read` returned."""


class Pieces:
    """A `DeviceVector` of contiguous tensors, one after the other, as the fragment table orders them."""

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self._flat = [tensor.detach().view(-1) for tensor in tensors]
        self._starts = np.cumsum([0, *(flat.numel() for flat in self._flat)]).tolist()

    def read(self, start: int, stop: int) -> torch.Tensor:
        views = [view for view, _ in self._views(start, stop)]
        return views[0] if len(views) == 1 else torch.cat(views)

    def write(self, start: int, stop: int, values: torch.Tensor) -> None:
        for view, offset in self._views(start, stop):
            part = values[offset : offset + view.numel()]
            if part.data_ptr() != view.data_ptr():
                view.copy_(part)

    def _views(self, start: int, stop: int) -> Iterator[tuple[torch.Tensor, int]]:
        for first, flat in zip(self._starts, self._flat, strict=False):
            low, high = max(start, first), min(stop, first + flat.numel())
            if low < high:
                yield flat[low - first : high - first], low - start


def encode_fragment_on_device(
    codec: Codec,
    theta: Float32Vector,
    local: DeviceVector,
    payload: ByteVector,
    *,
    device: torch.device,
    feedback: Float32Vector | None = None,
    beta: float = 0.0,
    feedback_out: Float32Vector | None = None,
    filled: Callable[[int, int], None] = lambda start, stop: None,
) -> None:
    """The payload of a fragment, and with error feedback its candidate, exactly as the CPU computes them.

    The caller has asked `federation.codecs_device.check.check_device` once, and encodes on the CPU if that raised.

    Args:
        codec: one that `launch.has_kernels`.
        theta, feedback: f32[n] on the host.
        local: f32[n] on the device.
        payload: u8[payload_bytes(codec, n)] on the host, written.
        feedback_out: f32[n] on the host, written.
        filled: called in ascending order as soon as bytes start to stop of the payload are there, while the device
            works on those that follow.

    Raises:
        NonFiniteUpdateError: from the numpy reference, on the chunk that holds such a value.
    """
    _check_payload(codec, theta, payload)
    work = _Encoding(codec, theta, local, payload, feedback, beta, feedback_out, filled)
    _pipeline(work, ChunkGrid(theta.size), device)


def apply_fragment_on_device(
    codec: Codec,
    payload: ByteVector,
    theta: Float32Vector,
    theta_out: Float32Vector,
    local: DeviceVector,
    alpha: float,
    *,
    device: torch.device,
) -> None:
    """theta_out = theta - decode(payload) on the host, local = theta_out + alpha (local - theta_out) on the device.

    The payload is a commit's, and its digest was checked before: an error leaves the local model partly merged.

    Args:
        codec: one that `launch.has_kernels`.
        payload: u8[payload_bytes(codec, n)] on the host.
        theta, theta_out: f32[n] on the host; may be the same.
        local: f32[n] on the device.

    Raises:
        MalformedPayloadError: from the numpy reference, on the chunk that breaks a bound.
    """
    _check_payload(codec, theta, payload)
    _pipeline(_Applying(codec, payload, theta, theta_out, local, alpha), ChunkGrid(theta.size), device)


class _Slot:
    """Memory for one chunk on the device, and its counterparts on the host, pinned where there is a real device."""

    def __init__(self, device: torch.device) -> None:
        self._where = device
        self._host: dict[str, torch.Tensor] = {}
        self._device: dict[str, torch.Tensor] = {}
        self._done = torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def up(self, name: str, source: Float32Vector | ByteVector) -> torch.Tensor:
        """A host array on the device; the copy may still be under way, in the stream's order."""
        device = self.result(name, source)
        host = self._host[name][: source.size]
        host.numpy()[:] = source
        return device.copy_(host, non_blocking=True)

    def result(self, name: str, like: Float32Vector | ByteVector) -> torch.Tensor:
        """Memory on the device with the size and type of a host array."""
        if name not in self._host:
            kind = torch.float32 if like.dtype == np.float32 else torch.uint8
            self._host[name] = torch.empty(_SLOT_SIZE, dtype=kind, pin_memory=self._done is not None)
            self._device[name] = torch.empty(_SLOT_SIZE, dtype=kind, device=self._where)
        return self._device[name][: like.size]

    def status(self) -> torch.Tensor:
        """i32[1] on the device, set to 0."""
        if _STATUS not in self._host:
            self._host[_STATUS] = torch.empty(1, dtype=torch.int32, pin_memory=self._done is not None)
            self._device[_STATUS] = launch.new_status(self._where)
        return self._device[_STATUS].zero_()

    def send_down(self, *names: str) -> None:
        """Starts to copy the status and these results to the host."""
        for name in (_STATUS, *names):
            self._host[name].copy_(self._device[name], non_blocking=True)
        if self._done is not None:
            self._done.record()

    def wait(self) -> bool:
        """Waits for what was sent down; whether the status is good."""
        if self._done is not None:
            self._done.synchronize()
        return not self._host[_STATUS].item()

    def take(self, name: str, target: Float32Vector | ByteVector) -> None:
        """Copies a result that was waited for."""
        target[:] = self._host[name][: target.size].numpy()


class _Work(Protocol):
    def submit(self, slot: _Slot, grid: ChunkGrid, index: int) -> None: ...
    def collect(self, slot: _Slot, grid: ChunkGrid, index: int) -> None: ...


def _pipeline(work: _Work, grid: ChunkGrid, device: torch.device) -> None:
    """Chunk i + 1 is on its way up while the results of chunk i are fetched."""
    with launch.on(device):
        slots = [_Slot(device) for _ in range(_NUM_SLOTS)]
        for index in range(grid.num_chunks + 1):
            if index < grid.num_chunks:
                work.submit(slots[index % _NUM_SLOTS], grid, index)
            if index:
                work.collect(slots[(index - 1) % _NUM_SLOTS], grid, index - 1)


@dataclass(frozen=True)
class _Encoding:
    codec: Codec
    theta: Float32Vector
    local: DeviceVector
    payload: ByteVector
    feedback: Float32Vector | None
    beta: float
    feedback_out: Float32Vector | None
    filled: Callable[[int, int], None]

    def submit(self, slot: _Slot, grid: ChunkGrid, index: int) -> None:
        part = slice(*grid.bounds(index))
        launch.encode(
            self.codec,
            slot.up("theta", self.theta[part]),
            self.local.read(part.start, part.stop),
            slot.result("payload", self._bytes(grid, index)),
            slot.status(),
            feedback=None if self.feedback is None else slot.up("feedback", self.feedback[part]),
            beta=self.beta,
            feedback_out=None if self.feedback_out is None else slot.result("candidate", self.feedback_out[part]),
        )
        slot.send_down("payload", *(() if self.feedback_out is None else ("candidate",)))

    def collect(self, slot: _Slot, grid: ChunkGrid, index: int) -> None:
        part = slice(*grid.bounds(index))
        if not slot.wait():
            self._raise(part)
        slot.take("payload", self._bytes(grid, index))
        if self.feedback_out is not None:
            slot.take("candidate", self.feedback_out[part])
        offset, length = chunk_span(self.codec, grid, index)
        self.filled(offset, offset + length)

    def _bytes(self, grid: ChunkGrid, index: int) -> ByteVector:
        offset, length = chunk_span(self.codec, grid, index)
        return self.payload[offset : offset + length]

    def _raise(self, part: slice) -> None:
        x = np.subtract(self.theta[part], self.local.read(part.start, part.stop).cpu().numpy())
        if self.feedback is not None:
            np.add(np.multiply(np.float32(self.beta), self.feedback[part]), x, out=x)
        self.codec.encode(x)
        raise AssertionError(f"{self.codec.name}: the device refused what the reference encodes")


@dataclass(frozen=True)
class _Applying:
    codec: Codec
    payload: ByteVector
    theta: Float32Vector
    theta_out: Float32Vector
    local: DeviceVector
    alpha: float

    def submit(self, slot: _Slot, grid: ChunkGrid, index: int) -> None:
        part = slice(*grid.bounds(index))
        theta, local = slot.up("theta", self.theta[part]), self.local.read(part.start, part.stop)
        payload = slot.up("payload", self._bytes(grid, index))
        launch.apply(self.codec, payload, theta, theta, slot.status(), local=local, alpha=self.alpha)
        self.local.write(part.start, part.stop, local)
        slot.send_down("theta")

    def collect(self, slot: _Slot, grid: ChunkGrid, index: int) -> None:
        if not slot.wait():
            start, stop = grid.bounds(index)
            self.codec.decode(self._bytes(grid, index), stop - start)
            raise AssertionError(f"{self.codec.name}: the device refused what the reference decodes")
        slot.take("theta", self.theta_out[slice(*grid.bounds(index))])

    def _bytes(self, grid: ChunkGrid, index: int) -> ByteVector:
        offset, length = chunk_span(self.codec, grid, index)
        return self.payload[offset : offset + length]


def _check_payload(codec: Codec, theta: Float32Vector, payload: ByteVector) -> None:
    if payload.size != payload_bytes(codec, theta.size):
        raise ValueError(f"payload: expected {payload_bytes(codec, theta.size)} bytes, found {payload.size}")
