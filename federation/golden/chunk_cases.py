# SPDX-License-Identifier: Apache-2.0
"""Golden cases of what jobs and the coordinator do with a whole chunk: one compiled call where there is a compiler."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from federation.chunks import Float32Vector
from federation.codecs.api import ByteVector, Codec
from federation.codecs.payload import payload_bytes
from federation.codecs.registry import codec_names, get_codec
from federation.commit_pass import ChunkCommit
from federation.golden.case import KINDS, Case, Source, joined
from federation.kernels import api as kernels
from federation.pseudo_gradient import Lanes
from federation.state.api import StateChunk
from federation.weights import TOKENS, round_weights

ELEMENTS: Final = 12_345
"""A strip of compiled code (8,192) and a part of one; of every codec whole blocks and a part of one."""

BETA: Final = 0.95
ALPHA: Final = 0.3
LR: Final = 0.7

JOB_KINDS: Final = ("usual", "tiny", "halves", "few")
"""Every operation rounds; is subnormal; ends in ties and zeros; is done to zeros of either sign."""

COMMIT_KINDS: Final = ("usual", "tiny", "halves")


@dataclass(frozen=True, kw_only=True)
class CommitSetting:
    """One sort of commit.

    Attributes:
        up, down: names of the codecs.
        mu: the outer momentum.
        num_sites: whose payloads there are.
    """

    up: str
    down: str
    mu: float
    num_sites: int = 3


COMMITS: Final[Mapping[str, CommitSetting]] = {
    **{name: CommitSetting(up=name, down=name, mu=0.9) for name in ("fp32", "bf16", "int8", "int4")},
    "sparse": CommitSetting(up="sparse", down="sparse-down", mu=0.0),
    # More than are held decoded between the two passes over a strip.
    "many-sites": CommitSetting(up="int8", down="int4", mu=0.9, num_sites=17),
}


def chunk_cases() -> dict[str, Case]:
    """Every case by name."""
    cases: dict[str, Case] = {}
    for name in codec_names():
        for kind in JOB_KINDS:
            cases[f"kernel-job-{name}-{kind}"] = partial(_job, get_codec(name), KINDS[kind])
    for name, setting in COMMITS.items():
        for kind in COMMIT_KINDS:
            cases[f"kernel-commit-{name}-{kind}"] = partial(_commit, setting, KINDS[kind])
    return cases


def _room(codec: Codec) -> ByteVector:
    return np.zeros(payload_bytes(codec, ELEMENTS), np.uint8)


def job_inputs(source: Source) -> tuple[Float32Vector, Float32Vector, Float32Vector]:
    """theta, local parameters and error feedback of a job."""
    return source(1, ELEMENTS), source(2, ELEMENTS), source(3, ELEMENTS)


def _job(codec: Codec, source: Source) -> bytes:
    """A payload without and one with error feedback; the first one measured, applied, applied and merged in place."""
    theta, local, e = job_inputs(source)
    payload, with_feedback, lanes = _room(codec), _room(codec), kernels.new_lanes()
    e_new, applied, theta_new = np.zeros((3, ELEMENTS), np.float32)
    kernels.encode_difference(codec, theta, local, payload)
    kernels.encode_difference_with_feedback(codec, theta, local, e, BETA, with_feedback, e_new)
    kernels.measure(codec, payload, ELEMENTS, lanes)
    kernels.apply_to(codec, payload, theta, applied)
    kernels.apply_and_merge(codec, payload, theta, local, ALPHA, theta_new, local)
    vectors = joined(e_new, applied, theta_new, local)
    return payload.tobytes() + with_feedback.tobytes() + vectors + sums_bytes(lanes, kernels.fold_lanes(lanes))


def commit_inputs(setting: CommitSetting, source: Source) -> tuple[list[ByteVector], tuple[float, ...], StateChunk]:
    """Payloads, weights and the base of a commit."""
    payloads = [_room(get_codec(setting.up)) for _ in range(setting.num_sites)]
    for site, payload in enumerate(payloads):
        kernels.encode_into(get_codec(setting.up), source(10 + site, ELEMENTS), payload)
    weights = round_weights([(f"s{site:02}", 10 + 7 * site) for site in range(setting.num_sites)], TOKENS)
    return payloads, weights, StateChunk(*(source(seed, ELEMENTS) for seed in range(3)))


def _commit(setting: CommitSetting, source: Source) -> bytes:
    """Blob, new state, and sums for norms and cosines."""
    payloads, weights, base = commit_inputs(setting, source)
    up, down = get_codec(setting.up), get_codec(setting.down)
    new, blob = StateChunk(*np.zeros((3, ELEMENTS), np.float32)), _room(down)
    sums = kernels.CommitSums(setting.num_sites)
    arithmetic = ChunkCommit(up=up, down=down, weights=np.array(weights, np.float32), lr=LR, mu=setting.mu)
    arithmetic.compute(payloads, base, new, blob, sums)
    squares, dots, square = sums.folded()
    lanes = np.concatenate([*sums.squares_KL, *sums.dots_KL, sums.square])
    return blob.tobytes() + joined(*new) + sums_bytes(lanes, *squares, *dots, square)


def sums_bytes(lanes: Lanes, *sums: float) -> bytes:
    """Lanes, in which the order of additions shows, and sums of them, in which it may be rounded away."""
    return lanes.astype("<f8").tobytes() + struct.pack(f"<{len(sums)}d", *sums)
