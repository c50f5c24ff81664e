# SPDX-License-Identifier: Apache-2.0
"""The arithmetic at boundaries and merges, on the vectors that a job holds. No files, no waiting (DESIGN section 3).

All operations are explicit fp32, element by element or in a codec's blocks, so the bits depend neither on threads nor
on the device.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
import torch

from federation.chunk_pool import on_chunks
from federation.chunks import Float32Vector
from federation.codecs.api import ByteVector
from federation.codecs.payload import bytes_of, payload_bytes
from federation.codecs.registry import get_codec
from federation.errors import DigestMismatchError, NonFiniteUpdateError
from federation.kernels import api as kernels
from federation.manifest import Manifest
from site_agent.inner_loop.committed_model import CommittedModel
from site_agent.inner_loop.encoding import Feedback, Sink, encode_fragment
from site_agent.inner_loop.encoding_on_device import DeviceEncoding
from site_agent.inner_loop.parameters import LocalFragment, LocalParameters
from site_agent.inner_loop.progress import InFlight
from site_agent.inner_loop.spool import link_of
from site_agent.jobs import ChainLink, OutcomeFile, OutcomeKind

Parts: TypeAlias = dict[str, dict[str, torch.Tensor]]

_log = logging.getLogger(__name__)


class Exchange:
    """Local parameters, committed theta and error feedback of one job.

    Attributes:
        model: last committed theta of every fragment.
        feedback: adopted error feedback per fragment, empty if the run uses none.
        candidates: per round in flight the feedback to adopt if its commit lists our payload.
        payloads: what was sent in each round in flight, u8, so that a successor can send it again.
    """

    def __init__(self, manifest: Manifest, model: CommittedModel, local: LocalParameters) -> None:
        self.model = model
        self.feedback: list[Float32Vector] = []
        self.candidates: dict[int, Float32Vector] = {}
        self.payloads: dict[int, ByteVector] = {}
        self._manifest = manifest
        self._codec, self._down = get_codec(manifest.codecs.up), get_codec(manifest.codecs.down)
        self._local, self._on_device = local, DeviceEncoding(self._codec)
        self._snapshot: list[Float32Vector] = []
        # Rounds whose payloads lie in memory that a training checkpoint gave; payloads that only a writer may read.
        self._restored: set[int] = set()
        self._left: list[ByteVector] = []
        self._forget_feedback()

    def begin(self) -> None:
        """Sets the local model to the committed one."""
        self._begin()

    def _begin(self) -> None:
        for theta, local in zip(self.model.theta, self._local.fragments(), strict=True):
            self._set_local(local, theta)

    def encode(self, round_number: int, fragment: int, sink: Sink = lambda part: None) -> tuple[ByteVector, str]:
        """The payload of theta - local, with error feedback where the run uses it, and its digest.

        A pure function of what a training checkpoint holds.

        Args:
            sink: gets the payload as it grows.

        Raises:
            NonFiniteUpdateError: a local parameter is NaN or infinite, or the codec cannot hold a value.
        """
        feedback = self._feedback_for(fragment)
        payload = self.model.spares.take_payload(payload_bytes(self._codec, self.model.theta[fragment].size))
        try:
            digest = self._encode(fragment, payload, feedback, sink)
        except NonFiniteUpdateError as error:
            raise self._not_finite(round_number, fragment) or error from None
        if feedback is not None:
            self.candidates[round_number] = feedback.candidate
        self.payloads[round_number] = payload
        self._restored.discard(round_number)
        return payload, digest

    def resend(self, round_number: int, sink: Sink) -> None:
        """Gives the payload of a round in flight once more."""
        sink(self.payloads[round_number].data)

    def _encode(self, fragment: int, payload: ByteVector, feedback: Feedback | None, sink: Sink) -> str:
        """Where the local parameters lie if that is possible, else here: the same bytes."""
        theta, there = self.model.theta[fragment], self._local.on_device(fragment)
        if there is not None and self._on_device.is_ready(there[0].device):
            return self._on_device.encode(theta, there, payload, feedback=feedback, sink=sink)
        local, num_threads = self._local.fragment(fragment), self.model.num_threads
        return encode_fragment(
            self._codec, theta, local, payload, feedback=feedback, num_threads=num_threads, sink=sink
        )

    def _feedback_for(self, fragment: int) -> Feedback | None:
        codecs = self._manifest.codecs
        if not codecs.error_feedback:
            return None
        candidate = self.model.spares.take(self.model.theta[fragment].size)
        return Feedback(self.feedback[fragment], codecs.error_feedback_beta, candidate)

    def _not_finite(self, round_number: int, fragment: int) -> NonFiniteUpdateError | None:
        """The error that says how many elements are not finite; None if they are, and only the codec is too narrow."""
        delta = self.model.theta[fragment] - self._local.read(fragment)
        num_bad = int(np.count_nonzero(~np.isfinite(delta)))
        if not num_bad:
            return None
        return NonFiniteUpdateError(
            f"round {round_number}: expected a finite pseudo-gradient, found "
            f"{num_bad} NaN or infinite elements in fragment {fragment}"
        )

    def merge(self, entry: InFlight, outcome: OutcomeFile, chain: Callable[[], Sequence[ChainLink]]) -> None:
        """local <- theta + alpha (local - theta) after a commit; local <- theta after any other end.

        Args:
            chain: every commit of this fragment up to this one; asked for only if the copy at hand has diverged, which
                is then rebuilt from theta_0.

        Raises:
            DigestMismatchError: the commits do not give what they say.
        """
        self._adopt(entry, outcome)
        fragment, local = outcome.fragment, self._local.fragment(outcome.fragment)
        if outcome.kind is not OutcomeKind.COMMITTED:
            self._set_local(local, self.model.theta[fragment])
            return
        link = link_of(outcome)
        if not link.snapshot_path and not self.model.is_check_due(fragment):
            self.model.advance_unchecked(fragment, link, partial(self._apply_and_merge, local))
        else:
            self._advance(fragment, link, chain)
            theta = self.model.theta[fragment]
            on_chunks(theta.size, self.model.num_threads, partial(self._merge_chunk, local, theta))
        local.finish()

    def _apply_and_merge(
        self, local: LocalFragment, chunk: slice, raw: ByteVector, theta: Float32Vector, new: Float32Vector
    ) -> None:
        """theta <- theta - decode(raw) and local <- theta + alpha (local - theta) for the elements of a chunk."""
        codec, alpha = self._down, self._manifest.alpha
        for where, values, is_in_place in local.runs(chunk, codec.block_elements):
            part = raw[bytes_of(codec, slice(where.start - chunk.start, where.stop - chunk.start))]
            kernels.apply_and_merge(codec, part, theta[where], values, alpha, new[where], values)
            if not is_in_place:
                local.store(where, values)

    def _merge_chunk(self, local: LocalFragment, theta: Float32Vector, chunk: slice) -> None:
        for where, values, is_in_place in local.runs(chunk):
            kernels.merge_into(theta[where], values, self._manifest.alpha, values)
            if not is_in_place:
                local.store(where, values)

    def _set_local(self, local: LocalFragment, theta: Float32Vector) -> None:
        on_chunks(theta.size, self.model.num_threads, lambda chunk: local.store(chunk, theta[chunk]))
        local.finish()

    def _advance(self, fragment: int, link: ChainLink, chain: Callable[[], Sequence[ChainLink]]) -> None:
        if link.snapshot_path:
            self.model.move_to(fragment, [link])
            return
        try:
            self.model.advance(fragment, link)
        except DigestMismatchError as error:
            _log.warning("%s; rebuilding from theta_0", error)
            self.model.move_to(fragment, chain())

    def adopt(self, entry: InFlight, outcome: OutcomeFile) -> None:
        """Takes over the feedback of a round if its commit lists the payload it belongs to; else it is dropped."""
        self._adopt(entry, outcome)

    def _adopt(self, entry: InFlight, outcome: OutcomeFile) -> None:
        candidate, payload = self.candidates.pop(entry.round, None), self.payloads.pop(entry.round, None)
        if payload is not None and entry.round not in self._restored:
            self._left.append(payload)
        listed = outcome.kind is OutcomeKind.COMMITTED and outcome.listed_payload_digest == entry.payload_digest
        if candidate is None:
            return
        unused = candidate
        if listed:
            unused, self.feedback[outcome.fragment] = self.feedback[outcome.fragment], candidate
        self.model.spares.give(unused)

    def reload(self, chains: Sequence[Sequence[ChainLink]], *, forget_feedback: bool) -> None:
        """Sets committed and local model to the ends of these chains, each from theta_0 or from a snapshot.

        Raises:
            DigestMismatchError: a chain does not give what its commits say.
        """
        for fragment, chain in enumerate(chains):
            self.model.move_to(fragment, chain)
        self._begin()
        if forget_feedback:
            self._forget_feedback()
            self.payloads = {}

    def lend(self, without: int = -1) -> Parts:
        """What a training checkpoint must hold of this, as tensors by file and name, at this moment.

        Nothing of it changes until `returned`, whatever is trained meanwhile; before that it cannot be lent again.

        Args:
            without: the round that was just encoded: whoever resumes from here encodes it again.
        """
        assert not self.model.spares.is_lent, "one training checkpoint at a time"
        self.model.spares.is_lent = True
        return {
            "local": _numbered(dict(enumerate(self._copy_local()))),
            "theta": _numbered(dict(enumerate(self.model.theta))),
            "feedback": _numbered(dict(enumerate(self.feedback))),
            "candidates": _numbered({n: e for n, e in self.candidates.items() if n != without}),
            "payloads": {str(n): torch.from_numpy(u8) for n, u8 in self.payloads.items() if n != without},
        }

    def returned(self) -> None:
        """What was lent is no longer read. May be called by any thread."""
        self.model.spares.is_lent = False

    def all_is_written(self) -> None:
        """No file is being written: payloads of rounds that have ended are no longer read either."""
        while self._left:
            self.model.spares.give_payload(self._left.pop())

    def _copy_local(self) -> list[Float32Vector]:
        """The local model in memory that is used for this alone."""
        if not self._snapshot:
            self._snapshot = [np.empty_like(theta) for theta in self.model.theta]
        for copy, local in zip(self._snapshot, self._local.fragments(), strict=True):
            on_chunks(copy.size, self.model.num_threads, partial(_copy_chunk, local, copy))
        return self._snapshot

    def restore(
        self, parts: Mapping[str, Mapping[str, torch.Tensor]], versions: Sequence[int], digests: Sequence[str]
    ) -> None:
        """Puts back what `lend` returned, with the versions and digests of the committed model."""
        theta, local = _vectors(parts["theta"]), _vectors(parts["local"])
        self.model.restore([theta[p] for p in range(len(theta))], versions, digests)
        for fragment in range(len(local)):
            self._local.write(fragment, local[fragment])
        feedback = _vectors(parts["feedback"])
        self.feedback = [feedback[p] for p in range(len(feedback))]
        self.candidates = _vectors(parts["candidates"])
        self.payloads = {int(number): tensor.numpy() for number, tensor in parts["payloads"].items()}
        self._restored = set(self.payloads)

    def _forget_feedback(self) -> None:
        self.candidates = {}
        if self._manifest.codecs.error_feedback:
            self.feedback = [np.zeros_like(theta) for theta in self.model.theta]


def _copy_chunk(local: LocalFragment, copy: Float32Vector, chunk: slice) -> None:
    local.load(chunk, copy[chunk])


def _numbered(vectors: Mapping[int, Float32Vector]) -> dict[str, torch.Tensor]:
    return {str(number): torch.from_numpy(vector) for number, vector in vectors.items()}


def _vectors(tensors: Mapping[str, torch.Tensor]) -> dict[int, Float32Vector]:
    return {int(number): tensor.numpy() for number, tensor in tensors.items()}
