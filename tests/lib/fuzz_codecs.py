# SPDX-License-Identifier: Apache-2.0
"""Fuzz targets of payloads: both decoders of each codec against each other, and admission as a whole."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from fuzz_target import Target, check_refusal
from mutations import Sample

from federation.admission import Finding, check_payload
from federation.chunks import Float32Vector
from federation.codecs.api import Codec
from federation.codecs.payload import encode_vector
from federation.codecs.registry import codec_names, get_codec, uplink_names
from federation.codecs.scaled_int import BLOCK_ELEMENTS, ScaledIntCodec
from federation.errors import MalformedPayloadError, NonFinitePayloadError
from federation.golden import inputs
from federation.kernels.api import decode_into
from federation.leaves import Reason
from federation.merkle import blob_digest
from federation.messages import Update
from federation.testing.manifests import manifest_of, plan_of, table_of

KINDS = (inputs.usual, inputs.tiny, inputs.halves)
REASONS = {Reason.NONE, Reason.PAYLOAD_DIGEST, Reason.MALFORMED_PAYLOAD, Reason.NON_FINITE, Reason.NORM_TOO_LARGE}
MAX_SENTENCE = 500
_CHECKED_AGAIN = 16
"""Of what is accepted in blocks, one in so many is encoded again: this is slow."""


def sizes(codec: Codec) -> tuple[int, ...]:
    """Elements of one to three blocks, whole and not."""
    block = codec.block_elements
    return (1, 2, 3) if block == 1 else (block // 3, block, 2 * block + 45)


def codec_targets() -> Iterator[Target]:
    """The compiled decoder and its numpy reference of every codec, which must agree to the bit."""
    for name in codec_names():
        codec = get_codec(name)
        samples = [
            Sample(variant, encode_vector(codec, kind(seed, size)))
            for variant, size in enumerate(sizes(codec))
            for seed, kind in enumerate(KINDS)
        ]
        yield Target(
            name=f"codec-{name}",
            feed=_Decoders(codec).feed,
            samples=samples,
            allocated_bytes=lambda _, codec=codec: 32_768 + 4 * 4 * max(sizes(codec)),  # type: ignore[misc]
        )


class _Decoders:
    def __init__(self, codec: Codec) -> None:
        self._codec, self._accepted = codec, 0
        self._out = [np.empty(size, np.float32) for size in sizes(codec)]

    def feed(self, variant: int, data: bytes) -> bool:
        out, codec = self._out[variant], self._codec
        try:
            # Where the compiled decoder refuses, the reference must refuse too: it raises.
            decode_into(codec, np.frombuffer(data, np.uint8), out)
        except (MalformedPayloadError, NonFinitePayloadError) as error:
            check_refusal(error)
            return False
        reference = codec.decode(data, out.size)
        assert reference.tobytes() == out.tobytes(), "the compiled decoder differs from its reference"
        assert np.isfinite(out).all(), "not finite"
        self._accepted += 1
        if codec.block_elements == 1 or self._accepted % _CHECKED_AGAIN == 0:
            check_stable(codec, data, out)
        return True


def check_stable(codec: Codec, data: bytes, decoded: Float32Vector) -> None:
    """What encoding again must give, where that follows from the format."""
    if codec.block_elements == 1:
        assert codec.encode(decoded).tobytes() == data, "another encoding of the same values"
    elif isinstance(codec, ScaledIntCodec):
        again = codec.decode(_encoded_where_full(codec, data, decoded), decoded.size)
        assert again.tobytes() == decoded.tobytes(), "encoding again gives other values"


def _encoded_where_full(codec: ScaledIntCodec, data: bytes, decoded: Float32Vector) -> bytes:
    """Blocks with an integer of the largest magnitude under a normal scale have one encoding; others as they are."""
    encoded = bytearray(data)
    for block in range(codec.num_blocks(decoded.size)):
        span = slice(block * codec.bytes_per_block, (block + 1) * codec.bytes_per_block)
        x = decoded[block * BLOCK_ELEMENTS : (block + 1) * BLOCK_ELEMENTS]
        scale = np.frombuffer(bytes(2) + data[span][:2], "<f4")[0]
        if np.abs(x).max() == np.float32(codec.largest) * scale and 2.0**-100 < scale < 2.0**100:
            encoded[span] = codec.encode(x).tobytes()
    return bytes(encoded)


def admission_targets() -> Iterator[Target]:
    """`check_payload`: of updates whose digest is right, and of one whose bytes changed after it was signed."""
    admissions = [_Admission(name) for name in uplink_names()]
    samples = [Sample(2 * i, data) for i, admission in enumerate(admissions) for data in admission.payloads]
    samples += [Sample(2 * i + 1, admission.payloads[0]) for i, admission in enumerate(admissions)]
    yield Target(
        name="admission",
        feed=lambda variant, data: admissions[variant // 2].feed(data, resigned=variant % 2 == 0),
        samples=samples,
        allocated_bytes=lambda _: 512 * 1024,
    )


class _Admission:
    def __init__(self, name: str) -> None:
        codec = get_codec(name)
        size = max(sizes(codec))
        plan = plan_of({"alpha": 8}, theta_digests=["aa" * 32])
        self._manifest = manifest_of(plan, [table_of([("a", (size,))])], up=name)
        self.payloads = [encode_vector(codec, kind(seed, size)) for seed, kind in enumerate(KINDS)]
        self._update = _update(name, self.payloads[0])

    def feed(self, data: bytes, *, resigned: bool) -> bool:
        update = replace(self._update, payload_digest=blob_digest(data)) if resigned else self._update
        finding = check_payload(update, self._manifest, lambda offset, length: data[offset : offset + length])
        # Of bytes behind the payload only the first is read, so their digest cannot be right.
        right = resigned and len(data) <= len(self.payloads[0]) + 1
        self._check(finding, right or data == self.payloads[0])
        return finding.passed

    def _check(self, finding: Finding, digest_is_right: bool) -> None:
        assert finding.reason in REASONS
        assert (finding.reason is Reason.PAYLOAD_DIGEST) != digest_is_right
        assert finding.passed == (not finding.sentence)
        if not finding.passed:
            assert "expected" in finding.sentence, finding
            assert "found" in finding.sentence, finding
            assert len(finding.sentence) <= MAX_SENTENCE
        assert finding.norm <= self._manifest.max_update_norm or finding.reason is Reason.NORM_TOO_LARGE


def _update(codec: str, data: bytes) -> Update:
    return Update(
        consortium="test",
        run="run-1",
        manifest_digest="bb" * 32,
        round=0,
        fragment=0,
        base_digest="aa" * 32,
        site="alpha",
        allocation="a3",
        codec=codec,
        weight_tokens=60,
        new_tokens=64,
        num_steps=4,
        payload_digest=blob_digest(data),
        payload_bytes=len(data),
    )
