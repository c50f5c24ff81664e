# SPDX-License-Identifier: Apache-2.0
"""Codecs by the name that a manifest gives."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from federation.codecs.api import Codec
from federation.codecs.bf16 import Bf16Codec
from federation.codecs.fp32 import Fp32Codec
from federation.codecs.int4 import Int4Codec
from federation.codecs.int8 import Int8Codec
from federation.codecs.sparse import SparseCodec
from federation.codecs.sparse_down import SparseDownCodec
from federation.errors import UnsupportedCodecError

_CODECS: Final[Mapping[str, Codec]] = MappingProxyType(
    {
        codec.name: codec
        for codec in (Fp32Codec(), Bf16Codec(), Int8Codec(), Int4Codec(), SparseDownCodec(), SparseCodec())
    }
)


SPARSE: Final = ("sparse", "sparse-down")
"""What drops elements, for updates and for commits. Momentum would go on moving by what a commit sent once."""


def uplink_names() -> tuple[str, ...]:
    """Codecs that a manifest may name for updates."""
    return tuple(name for name in _CODECS if name != SPARSE[1])


def downlink_names() -> tuple[str, ...]:
    """Codecs that a manifest may name for commits."""
    return tuple(name for name in _CODECS if name != SPARSE[0])


def codec_names() -> tuple[str, ...]:
    """Names that this release knows, most bytes first."""
    return tuple(_CODECS)


def get_codec(name: str) -> Codec:
    """The codec of that name.

    Raises:
        UnsupportedCodecError: this release knows none.
    """
    codec = _CODECS.get(name)
    if codec is None:
        raise UnsupportedCodecError(f"codec: expected one of {', '.join(_CODECS)}, found {name!r:.40}")
    return codec
