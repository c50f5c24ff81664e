# SPDX-License-Identifier: Apache-2.0
"""The exchange of a job of several ranks: each rank computes on the chunks that it owns, with the same arithmetic.

Blocks of a codec never span chunks, and an owner's chunks follow each other: its bytes are a part of the payload as a
single process would encode it, its vectors a part of that process's. Every public method is collective.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch

from federation.chunks import Float32Vector
from federation.codecs.api import ByteVector
from federation.errors import FederationError, NonFiniteUpdateError
from federation.manifest import Manifest
from federation.merkle import PieceHasher
from site_agent.inner_loop.commands import ChainAnswer
from site_agent.inner_loop.encoding import Feedback, Sink, encode_fragment
from site_agent.inner_loop.exchange import Exchange, Parts
from site_agent.inner_loop.owned_model import OwnedModel, bytes_of_part
from site_agent.inner_loop.owned_parameters import OwnedParameters
from site_agent.inner_loop.ownership import owners_in_order
from site_agent.inner_loop.parameters import LocalFragment
from site_agent.inner_loop.progress import InFlight
from site_agent.inner_loop.team import Team
from site_agent.jobs import ChainLink, OutcomeFile
from site_agent.json_records import decode, encode
from site_agent.trainer.pieces import PIECES, StoredTensors, piece_name


class _Given:
    """A sink that may fail, on rank 0: the others have sent what they have before anybody hears of it."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._failure: FederationError | None = None

    def take(self, piece: memoryview) -> None:
        """Passes a piece on, if none has failed before."""
        try:
            if self._failure is None:
                self._sink(piece)
        except FederationError as error:
            self._failure = error

    def check(self) -> None:
        """Raises what went wrong."""
        if self._failure is not None:
            raise self._failure


class OwnedExchange(Exchange):
    """What a rank holds: of every fragment the chunks that it owns."""

    def __init__(self, manifest: Manifest, model: OwnedModel, local: OwnedParameters, team: Team) -> None:
        super().__init__(manifest, model, local)
        self._team, self._parts = team, local

    def encode(self, round_number: int, fragment: int, sink: Sink = lambda part: None) -> tuple[ByteVector, str]:
        """Encodes what this rank owns; rank 0 gets all of it.

        Returns:
            This rank's part of the payload; on rank 0 the digest of all of it, "" elsewhere.

        Raises:
            NonFiniteUpdateError: on every rank, as `Exchange.encode` on one.
        """
        values = self._parts.read(fragment)
        feedback, payload = self._feedback_for(fragment), self._room(fragment)
        self._team.agree(lambda: self._encode_part(round_number, fragment, values, payload, feedback))
        if feedback is not None:
            self.candidates[round_number] = feedback.candidate
        self.payloads[round_number] = payload
        self._restored.discard(round_number)
        return payload, self._collect(fragment, payload, sink)

    def resend(self, round_number: int, sink: Sink) -> None:
        """Gives the payload of a round in flight once more, to rank 0."""
        fragment = round_number % len(self._manifest.fragments)
        self._collect(fragment, self.payloads[round_number], sink)

    def _room(self, fragment: int) -> ByteVector:
        where = bytes_of_part(self._codec, self._parts.part(fragment))
        return self.model.spares.take_payload(where.stop - where.start)

    def _encode_part(
        self, number: int, fragment: int, values: Float32Vector, payload: ByteVector, feedback: Feedback | None
    ) -> None:
        if not values.size:
            return
        try:
            encode_fragment(
                self._codec,
                self.model.theta[fragment],
                LocalFragment([(0, values)], ()),
                payload,
                feedback=feedback,
                num_threads=self.model.num_threads,
                sink=lambda part: None,
            )
        except NonFiniteUpdateError as error:
            num_bad = int(np.count_nonzero(~np.isfinite(self.model.theta[fragment] - values)))
            if not num_bad:
                raise error from None
            raise NonFiniteUpdateError(
                f"round {number}: expected a finite pseudo-gradient, found {num_bad} NaN or infinite elements in "
                f"rank {self._team.rank}'s part of fragment {fragment}"
            ) from None

    def _collect(self, fragment: int, payload: ByteVector, sink: Sink) -> str:
        size, team, hasher = self._manifest.fragments[fragment].num_elements, self._team, PieceHasher()
        parts = [bytes_of_part(self._codec, self._parts.part_of(fragment, rank)) for rank in range(team.size)]
        lengths = [part.stop - part.start for part in parts]
        given = _Given(sink)
        for piece in team.collect(payload, lengths, owners_in_order(size, fragment, team.size)):
            hasher.update(piece)
            given.take(piece)
        team.agree(given.check)
        return hasher.hexdigest() if team.leads else ""

    def merge(self, entry: InFlight, outcome: OutcomeFile, chain: Callable[[], Sequence[ChainLink]]) -> None:
        """As `Exchange.merge`; only rank 0 is asked for the chain."""
        super().merge(entry, outcome, lambda: self._chain_of_leader(chain))

    def _chain_of_leader(self, chain: Callable[[], Sequence[ChainLink]]) -> Sequence[ChainLink]:
        data = self._team.agree(lambda: encode(ChainAnswer(links=tuple(chain()))) if self._team.leads else b"")
        return decode(ChainAnswer, self._team.from_leader(data)).links

    def _begin(self) -> None:
        for fragment, theta in enumerate(self.model.theta):
            self._parts.write(fragment, theta)

    def lend(self, without: int = -1) -> Parts:
        """What this rank owns, as one file of a training checkpoint: names say fragment or round, and place."""
        found = super().lend(without)
        pieces: dict[str, torch.Tensor] = {}
        for kind, tensors in found.items():
            for number, tensor in tensors.items():
                if tensor.numel():
                    pieces[piece_name(kind, number, self._first(kind, int(number)))] = tensor
        return {f"{PIECES}{self._team.rank}": pieces}

    def _copy_local(self) -> list[Float32Vector]:
        return [self._parts.read(p) for p in range(len(self._manifest.fragments))]

    def _first(self, kind: str, number: int) -> int:
        """Of what this rank owns, the first element; of a payload, the first byte."""
        part = self._parts.part(number % len(self._manifest.fragments))
        return int(bytes_of_part(self._codec, part).start if kind == "payloads" else part.start)

    def restore(
        self, parts: Mapping[str, Mapping[str, torch.Tensor]], versions: Sequence[int], digests: Sequence[str]
    ) -> None:
        """Puts back what any number of ranks lent: each rank reads what it owns now."""
        stored = cast("Mapping[str, StoredTensors]", parts)
        fragments = range(len(self._manifest.fragments))
        theta = self._team.agree(lambda: [self._read(stored["theta"], p, p) for p in fragments])
        self.model.restore(theta, versions, digests)
        for p in fragments:
            self._parts.write(p, self._team.agree(lambda p=p: self._read(stored["local"], p, p)))  # type: ignore[misc]
        self._team.agree(lambda: self._restore_sent(stored))

    def _restore_sent(self, stored: Mapping[str, StoredTensors]) -> None:
        num_fragments = len(self._manifest.fragments)
        if stored["feedback"]:
            self.feedback = [self._read(stored["feedback"], p, p) for p in range(num_fragments)]
        found = stored["candidates"]
        self.candidates = {int(n): self._read(found, int(n), int(n) % num_fragments) for n in found}
        sent = stored["payloads"]
        self.payloads = {int(n): self._read_payload(sent, int(n)) for n in sent}
        self._restored = set(self.payloads)

    def _read(self, stored: StoredTensors, number: int, fragment: int) -> Float32Vector:
        part = self._parts.part(fragment)
        vector: Float32Vector = stored.part(str(number), part.start, part.stop).numpy()
        return vector

    def _read_payload(self, stored: StoredTensors, number: int) -> ByteVector:
        where = bytes_of_part(self._codec, self._parts.part(number % len(self._manifest.fragments)))
        payload: Any = stored.part(str(number), where.start, where.stop).numpy()
        return cast(ByteVector, payload)
