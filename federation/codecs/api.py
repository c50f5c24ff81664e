# SPDX-License-Identifier: Apache-2.0
"""What a codec is: a pure function between fp32 elements and blocks of bytes of fixed size.

A codec works on one chunk or less. Blocks never span chunks (2^20 is a multiple of every block), so the bytes of a
vector are those of its chunks one after the other, for any order of work and number of threads. The last block of a
fragment is filled with zeros; blocks without a real element are not stored.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from federation.chunks import CHUNK_ELEMENTS, Float32Vector, check_vector
from federation.errors import MalformedPayloadError

ByteVector: TypeAlias = npt.NDArray[np.uint8]
"""A one-dimensional array of bytes."""

BytesLike: TypeAlias = bytes | bytearray | memoryview | ByteVector
"""What can be decoded."""


class Codec(ABC):
    """One format of a payload.

    Attributes:
        name: as in a manifest.
        block_elements: elements that are encoded together.
        bytes_per_block: stored bytes of one block.
    """

    name: ClassVar[str]
    block_elements: ClassVar[int]
    bytes_per_block: ClassVar[int]

    def num_blocks(self, num_elements: int) -> int:
        """Blocks with at least one real element."""
        return -(-num_elements // self.block_elements)

    def encode(self, x: Float32Vector) -> ByteVector:
        """The bytes u8[num_blocks * bytes_per_block] of f32[n], 1 <= n <= 2^20.

        Raises:
            NonFiniteUpdateError: NaN, infinity or a magnitude that the format cannot hold.
        """
        _check_size(check_vector(x, "codec input").size)
        return self._encode(x)

    def decode(self, data: BytesLike, num_elements: int) -> Float32Vector:
        """The new vector f32[num_elements], 1 <= num_elements <= 2^20, that the bytes stand for. Trusts no byte.

        Raises:
            MalformedPayloadError: another length, or a value that `encode` never writes.
            NonFinitePayloadError: the bytes stand for NaN or infinity.
        """
        _check_size(num_elements)
        raw = np.frombuffer(data, np.uint8)
        expected = self.num_blocks(num_elements) * self.bytes_per_block
        if raw.size != expected:
            raise MalformedPayloadError(
                f"{self.name}: expected {expected} bytes for {num_elements} elements, found {raw.size}"
            )
        return self._decode(raw, num_elements)

    def whole_blocks(self, x: Float32Vector) -> npt.NDArray[np.float32]:
        """f32[n] as f32[num_blocks, block_elements], the last block filled with zeros; `x` itself where it is whole."""
        num_blocks = self.num_blocks(x.size)
        if x.size == num_blocks * self.block_elements:
            return x.reshape(num_blocks, self.block_elements)
        x_BE = np.zeros((num_blocks, self.block_elements), np.float32)
        x_BE.reshape(-1)[: x.size] = x
        return x_BE

    @abstractmethod
    def _encode(self, x: Float32Vector) -> ByteVector: ...

    @abstractmethod
    def _decode(self, raw: ByteVector, num_elements: int) -> Float32Vector: ...


def _check_size(num_elements: int) -> None:
    if not 1 <= num_elements <= CHUNK_ELEMENTS:
        raise ValueError(f"codec: expected 1 to {CHUNK_ELEMENTS} elements at a time, found {num_elements}")
