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
from federation.errors import UnsupportedCodecError

_CODECS: Final[Mapping[str, Codec]] = MappingProxyType(
    {codec.name: codec for codec in (Fp32Codec(), Bf16Codec(), Int8Codec(), Int4Codec())}
)


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
