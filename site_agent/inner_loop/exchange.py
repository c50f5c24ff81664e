# SPDX-License-Identifier: Apache-2.0
"""The arithmetic at boundaries and merges, on the vectors that a job holds. No files, no waiting (DESIGN section 3).

All operations are explicit fp32 numpy on whole fragments, so the bits depend neither on threads nor on the device.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch

from federation.chunks import Float32Vector
from federation.codecs.payload import encode_vector
from federation.codecs.registry import get_codec
from federation.error_feedback import encode_with_feedback
from federation.errors import DigestMismatchError, NonFiniteUpdateError
from federation.manifest import Manifest
from federation.merkle import blob_digest
from federation.pseudo_gradient import merge, pseudo_gradient
from site_agent.inner_loop.global_model import GlobalModel
from site_agent.inner_loop.parameters import LocalParameters
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
        payloads: what was sent in each round in flight, so that a successor can send it again.
    """

    def __init__(self, manifest: Manifest, model: GlobalModel, local: LocalParameters) -> None:
        self.model = model
        self.feedback: list[Float32Vector] = []
        self.candidates: dict[int, Float32Vector] = {}
        self.payloads: dict[int, bytes] = {}
        self._manifest = manifest
        self._codec = get_codec(manifest.codecs.up)
        self._local = local
        self._forget_feedback()

    def begin(self) -> None:
        """Sets the local model to the committed one."""
        for fragment, theta in enumerate(self.model.theta):
            self._local.write(fragment, theta)

    def encode(self, round_number: int, fragment: int) -> tuple[bytes, str]:
        """The payload of theta - local, with error feedback where the run uses it, and its digest.

        A pure function of what a training checkpoint holds.

        Raises:
            NonFiniteUpdateError: a local parameter is NaN or infinite, or the codec cannot hold a value.
        """
        delta = pseudo_gradient(self.model.theta[fragment], self._local.read(fragment))
        if not np.isfinite(delta).all():
            raise NonFiniteUpdateError(
                f"round {round_number}: expected a finite pseudo-gradient, found "
                f"{int(np.count_nonzero(~np.isfinite(delta)))} NaN or infinite elements in fragment {fragment}"
            )
        if not self._manifest.codecs.error_feedback:
            payload = encode_vector(self._codec, delta)
        else:
            beta = self._manifest.codecs.error_feedback_beta
            payload, candidate = encode_with_feedback(self._codec, delta, self.feedback[fragment], beta)
            self.candidates[round_number] = candidate
        self.payloads[round_number] = payload
        return payload, blob_digest(payload)

    def merge(self, entry: InFlight, outcome: OutcomeFile, chain: Callable[[], Sequence[ChainLink]]) -> None:
        """local <- theta + alpha (local - theta) after a commit; local <- theta after any other end.

        Args:
            chain: every commit of this fragment up to this one; asked for only if the copy at hand has diverged, which
                is then rebuilt from theta_0.

        Raises:
            DigestMismatchError: the commits do not give what they say.
        """
        self.adopt(entry, outcome)
        fragment = outcome.fragment
        if outcome.kind is OutcomeKind.COMMITTED:
            self._advance(fragment, link_of(outcome), chain)
            theta = self.model.theta[fragment]
            self._local.write(fragment, merge(theta, self._local.read(fragment), self._manifest.alpha))
        else:
            self._local.write(fragment, self.model.theta[fragment])

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
        candidate = self.candidates.pop(entry.round, None)
        self.payloads.pop(entry.round, None)
        listed = outcome.kind is OutcomeKind.COMMITTED and outcome.listed_payload_digest == entry.payload_digest
        if candidate is not None and listed:
            self.feedback[outcome.fragment] = candidate

    def reload(self, chains: Sequence[Sequence[ChainLink]], *, forget_feedback: bool) -> None:
        """Sets committed and local model to the ends of these chains, each from theta_0 or from a snapshot.

        Raises:
            DigestMismatchError: a chain does not give what its commits say.
        """
        for fragment, chain in enumerate(chains):
            self.model.move_to(fragment, chain)
        self.begin()
        if forget_feedback:
            self._forget_feedback()
            self.payloads = {}

    def parts(self) -> Parts:
        """What a training checkpoint must hold of this, as tensors by file and name."""
        local = [self._local.read(fragment) for fragment in range(len(self.model.theta))]
        return {
            "local": _numbered(dict(enumerate(local))),
            "theta": _numbered(dict(enumerate(self.model.theta))),
            "feedback": _numbered(dict(enumerate(self.feedback))),
            "candidates": _numbered(self.candidates),
            "payloads": {
                str(n): torch.frombuffer(bytearray(data), dtype=torch.uint8) for n, data in self.payloads.items()
            },
        }

    def restore(
        self, parts: Mapping[str, Mapping[str, torch.Tensor]], versions: Sequence[int], digests: Sequence[str]
    ) -> None:
        """Puts back what `parts` returned, with the versions and digests of the committed model."""
        theta, local = _vectors(parts["theta"]), _vectors(parts["local"])
        self.model.restore([theta[p] for p in range(len(theta))], versions, digests)
        for fragment in range(len(local)):
            self._local.write(fragment, local[fragment])
        feedback = _vectors(parts["feedback"])
        self.feedback = [feedback[p] for p in range(len(feedback))]
        self.candidates = _vectors(parts["candidates"])
        self.payloads = {int(number): tensor.numpy().tobytes() for number, tensor in parts["payloads"].items()}

    def _forget_feedback(self) -> None:
        self.candidates = {}
        if self._manifest.codecs.error_feedback:
            self.feedback = [np.zeros_like(theta) for theta in self.model.theta]


def _numbered(vectors: Mapping[int, Float32Vector]) -> dict[str, torch.Tensor]:
    return {str(number): torch.from_numpy(vector) for number, vector in vectors.items()}


def _vectors(tensors: Mapping[str, torch.Tensor]) -> dict[int, Float32Vector]:
    return {int(number): tensor.numpy() for number, tensor in tensors.items()}
