# SPDX-License-Identifier: Apache-2.0
"""Which kernels exist here: compiled when first asked for, so that whoever never encodes never loads a compiler.

Without numba (or with `NUMBA_DISABLE_JIT` set) and on big-endian machines there are none, and numpy does all work: more
slowly, to the same bits.
"""

import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType, ModuleType
from typing import Final, Protocol, cast

from federation.chunks import Float32Vector
from federation.codecs.api import ByteVector
from federation.kernels.plain import PLAIN, Elementwise


class CodecKernels(Protocol):
    """A codec's two functions on contiguous vectors of matching sizes; the status 0 means done, others refused."""

    def encode(self, x: Float32Vector, out: ByteVector) -> int:
        """f32[n] into u8[num_blocks * bytes_per_block]."""

    def decode(self, raw: ByteVector, out: Float32Vector) -> int:
        """u8[num_blocks * bytes_per_block] into f32[n], which holds anything where the bytes are refused."""


_KERNELS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "fp32": ("fp32", "FP32"),
        "bf16": ("bf16", "BF16"),
        "int8": ("scaled_int", "INT8"),
        "int4": ("scaled_int", "INT4"),
        "sparse-down": ("sparse", "SPARSE_DOWN"),
        "sparse": ("sparse", "SPARSE"),
    }
)
"""Module and name of each codec's kernels."""


@cache
def compiler() -> str:
    """What compiles here, such as "numba 0.68.1"; empty where numpy does all work."""
    try:
        numba = import_module("numba")
    except ImportError:
        return ""
    usable = sys.byteorder == "little" and not numba.config.DISABLE_JIT
    return f"numba {numba.__version__}" if usable else ""


@cache
def codec_kernels(name: str) -> CodecKernels | None:
    """The kernels of the codec of that name; None where numpy does its work."""
    if name not in _KERNELS or not compiler():
        return None
    module, attribute = _KERNELS[name]
    return cast(CodecKernels, getattr(import_module(f"federation.kernels.{module}"), attribute))


@cache
def span_kernels() -> ModuleType | None:
    """`federation.kernels.spans`; None where nothing is compiled."""
    return import_module("federation.kernels.spans") if compiler() else None


@cache
def codec_numbers(name: str) -> tuple[int, int, int, int] | None:
    """A codec as `federation.kernels.spans` takes it; None where numpy does its work."""
    kernels, spans = codec_kernels(name), span_kernels()
    if kernels is None or spans is None:
        return None
    return cast(tuple[int, int, int, int], spans.numbers_of(kernels))


@cache
def elementwise() -> Elementwise:
    """The arithmetic between vectors."""
    if not compiler():
        return PLAIN
    return cast(Elementwise, import_module("federation.kernels.elementwise").COMPILED)
