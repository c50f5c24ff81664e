# SPDX-License-Identifier: Apache-2.0
"""theta as every holder has it: the base minus the decoded commit blob, checked by digest."""

from federation.chunks import Float32Vector, fragment_digest
from federation.codecs.registry import get_codec
from federation.errors import DigestMismatchError
from federation.ids import short
from federation.manifest import Manifest
from federation.outer_optimizer import apply_downlink


def apply_commit(manifest: Manifest, fragment: int, theta: Float32Vector, blob: bytes, expected: str) -> Float32Vector:
    """theta <- theta - decode(blob), fp32[num_elements], one rounding per element.

    Args:
        expected: digest of the new theta, as the commit leaf records it.

    Raises:
        MalformedPayloadError: the blob breaks its format.
        DigestMismatchError: the result has another digest.
    """
    result = apply_downlink(get_codec(manifest.codecs.down), theta, blob)
    found = fragment_digest(result)
    if found != expected:
        raise DigestMismatchError(f"fragment {fragment}: expected theta {short(expected)}, found {short(found)}")
    return result
