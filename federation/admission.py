# SPDX-License-Identifier: Apache-2.0
"""Admission of an update: checks 3 to 8 of the numbered list, as pure functions.

1. size limits            before parsing, by whoever receives bytes (`federation.limits`)
2. sender and signature   by the roster (`federation.roster`, `federation.dsse`); callers MUST have done both
3. member, run, round, fragment, base                                         `check_update`
4. seen before: same digest, same answer; another digest is equivocation      `check_update`
5. payload digest                                                             `check_payload`
6. codec bounds                                                               `check_payload`
7. finite                                                                     `check_payload`
8. norm                                                                       `check_payload`

The coordinator runs them at receipt; `verify` runs them again on the ledger's evidence and must find the same.
"""

import math
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from federation.chunk_pool import in_order
from federation.chunks import ChunkGrid
from federation.codecs.api import Codec
from federation.codecs.payload import chunk_span, payload_bytes
from federation.codecs.registry import get_codec
from federation.errors import FederationError, MalformedPayloadError, NonFiniteUpdateError
from federation.ids import short
from federation.kernels.api import Lanes, fold_lanes, measure, new_lanes
from federation.leaves import Invitation, Outcome, Reason, VerdictV1
from federation.manifest import Manifest
from federation.merkle import BLOB_PIECE_BYTES, Frontier, leaf_hash
from federation.messages import Update
from federation.rounds import Federation, Round, RoundState, Run

ReadBytes: TypeAlias = Callable[[int, int], bytes]
"""(offset, length) -> bytes of the payload; fewer at its end."""

_MAX_SHOWN_CHARS: Final = 80
_ALLOCATION: Final = re.compile(r"a([1-9][0-9]{0,17})")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the checks found.

    Attributes:
        reason: Reason.NONE if they passed; of an update seen before, the reason of the verdict that stands.
        sentence: expected and found, for people; "" if they passed.
        norm: Euclidean norm of the decoded pseudo-gradient (0.0 where it was not measured).
        seen_before: this very update has its verdict already; the answer is that one, and no leaf follows.
    """

    reason: Reason = Reason.NONE
    sentence: str = ""
    norm: float = 0.0
    seen_before: bool = False

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the update."""
        return self.reason is Reason.NONE


def allocation_number(allocation: str) -> int:
    """The n of the allocation id "a<n>" (n from 1), or 0 if it is not one."""
    found = _ALLOCATION.fullmatch(allocation)
    return int(found[1]) if found else 0


def check_update(update: Update, federation: Federation, manifest: Manifest) -> Finding:
    """Checks 3 and 4, on the signed descriptor alone."""
    # 3. member, run, round, fragment, base
    run = federation.runs.get(update.run)
    if run is None or update.consortium != manifest.consortium:
        found = f"{update.consortium}/{update.run}"
        return _refused(Reason.WRONG_MANIFEST, "run", f"one of {manifest.consortium}", found)
    identity = _check_identity(update, run)
    if identity is not None:
        return identity
    round_ = run.rounds[update.round]

    # 4. seen before
    verdict = round_.verdicts.get(update.site)
    if verdict is not None:
        return _check_against(update, verdict)
    if round_.state is not RoundState.OPEN:
        return _refused(Reason.LATE, f"round {round_.number}", RoundState.OPEN.value, round_.state.value)

    # 3, continued: an update that is new has to fit its invitation and the manifest
    return _check_work(update, run, round_, manifest)


def check_payload(
    update: Update, manifest: Manifest, read_bytes: ReadBytes, num_threads: int = 1, *, intact_bytes: int | None = None
) -> Finding:
    """Checks 5 to 8 in one pass over the payload; `check_update` has passed. Memory: one chunk of payload a thread.

    The lowest number that fails is the reason, wherever in the payload it was found. `read_bytes` is called by several
    threads, where there are several.

    Args:
        intact_bytes: the payload's length, if the caller has hashed it and found its digest; else it is hashed here.
    """
    examination = _Examination(manifest, update.fragment, read_bytes, intact_bytes)
    pieces, square, problem = Frontier(), 0.0, Finding()
    with closing(in_order(examination.chunk, examination.grid.num_chunks, num_threads)) as chunks:
        for hashes, chunk_square, found in chunks:
            for piece in hashes:
                pieces.append(piece)
            square += chunk_square
            # 6 outranks 7
            if problem.reason is not Reason.MALFORMED_PAYLOAD:
                problem = found if found.reason is Reason.MALFORMED_PAYLOAD or problem.passed else problem

    # 5. payload digest: of the bytes in full and one beyond
    digest, end = pieces.root().hex(), examination.end
    if examination.hashing and digest != update.payload_digest:
        return _refused(Reason.PAYLOAD_DIGEST, "payload", short(update.payload_digest), short(digest))
    # 6. codec bounds, 7. finite
    if len(read_bytes(end, 1)):
        return _refused(Reason.MALFORMED_PAYLOAD, "payload bytes", end, f"more than {end}")
    if not problem.passed:
        return problem
    # 8. norm
    norm, bound = math.sqrt(square), manifest.max_update_norm
    if not norm <= bound:
        sentence = f"norm: expected at most {bound:.6g}, found {norm:.6g}"
        return Finding(reason=Reason.NORM_TOO_LARGE, sentence=sentence, norm=norm)
    return Finding(norm=norm)


class _Examination:
    """One payload, chunk by chunk: hashes of its pieces, codec bounds, and the square of the norm."""

    def __init__(self, manifest: Manifest, fragment: int, read_bytes: ReadBytes, intact_bytes: int | None) -> None:
        self.codec: Final = get_codec(manifest.codecs.up)
        self.grid: Final = ChunkGrid(manifest.fragments[fragment].num_elements)
        self.end: Final = payload_bytes(self.codec, self.grid.num_elements)
        # One of another length is hashed as far as check 5 looks, whatever is known of it.
        self.hashing: Final = intact_bytes != self.end
        self._read_bytes: Final = read_bytes
        self._free: list[Lanes] = []

    def chunk(self, index: int) -> tuple[list[bytes], float, Finding]:
        """Leaf hashes of the pieces that begin in this chunk; of its elements, the sum of squares and what is wrong.

        The last chunk's pieces reach one byte beyond the payload's proper end.
        """
        offset, length = chunk_span(self.codec, self.grid, index)
        first = -(-offset // BLOB_PIECE_BYTES) * BLOB_PIECE_BYTES
        stop = offset + length + (index == self.grid.num_chunks - 1)
        starts = range(first, stop, BLOB_PIECE_BYTES) if self.hashing else ()
        reach = max(stop, min(starts[-1] + BLOB_PIECE_BYTES, self.end + 1)) if starts else stop
        data = memoryview(self._read_bytes(offset, reach - offset))
        pieces = [data[start - offset : start - offset + BLOB_PIECE_BYTES] for start in starts]
        hashes = [leaf_hash(piece) for piece in pieces if len(piece)]
        return hashes, *self._measure(index, data[:length])

    def _measure(self, index: int, data: memoryview) -> tuple[float, Finding]:
        num_real = self.grid.num_real(index)
        try:
            return self._square(num_real, data), Finding()
        except FederationError:  # a strip's own words would count blocks from the strip's beginning
            reason, error = _reference_error(self.codec, data, num_real)
            return 0.0, Finding(reason=reason, sentence=f"chunk {index}: {error}")

    def _square(self, num_real: int, data: memoryview) -> float:
        raw = np.frombuffer(data, np.uint8)
        if raw.size != payload_bytes(self.codec, num_real):
            raise MalformedPayloadError("cut short")
        lanes = self._free.pop() if self._free else new_lanes()
        lanes.fill(0.0)
        try:
            measure(self.codec, raw, num_real, lanes)
            return fold_lanes(lanes)
        finally:
            self._free.append(lanes)


def _reference_error(codec: Codec, data: memoryview, num_real: int) -> tuple[Reason, FederationError]:
    """What the codec says of a whole chunk that has something wrong in it."""
    try:
        codec.decode(data, num_real)
    except MalformedPayloadError as error:
        return Reason.MALFORMED_PAYLOAD, error
    except NonFiniteUpdateError as error:
        return Reason.NON_FINITE, error
    raise AssertionError(f"{codec.name}: a strip of a chunk was refused, and the chunk is not")


def _check_identity(update: Update, run: Run) -> Finding | None:
    if update.manifest_digest != run.manifest_digest:
        return _refused(Reason.WRONG_MANIFEST, "manifest", short(run.manifest_digest), short(update.manifest_digest))
    if not run.is_member(update.site):
        return _refused(Reason.NOT_INVITED, "site", f"a member of run {run.id}", update.site)
    round_ = run.rounds.get(update.round)
    if round_ is None:
        return _refused(Reason.WRONG_ROUND, "round", f"one below {run.next_round}", update.round)
    if round_.invitation(update.site) is None:
        return _refused(Reason.NOT_INVITED, "site", f"one invited to round {round_.number}", update.site)
    if update.fragment != round_.fragment:
        return _refused(Reason.WRONG_FRAGMENT, "fragment", round_.fragment, update.fragment)
    if update.base_digest != round_.base_digest:
        return _refused(Reason.STALE_BASE, "base", short(round_.base_digest), short(update.base_digest))
    return None


def _check_against(update: Update, verdict: VerdictV1) -> Finding:
    if not verdict.payload_digest:
        # The round went on without this site; its update was never looked at.
        return _refused(Reason.LATE, f"round {update.round}", "no verdict yet", f"{verdict.outcome}, {verdict.reason}")
    if update.payload_digest != verdict.payload_digest:
        return _refused(Reason.SECOND_DIGEST, "payload", short(verdict.payload_digest), short(update.payload_digest))
    stands = (verdict.payload_bytes, verdict.weight_tokens, verdict.new_tokens, verdict.num_steps)
    claims = (update.payload_bytes, update.weight_tokens, update.new_tokens, update.num_steps)
    if verdict.outcome is Outcome.ADMITTED and claims != stands:
        what = "bytes, weight tokens, new tokens, steps beside the same payload"
        return _refused(Reason.SECOND_DIGEST, what, stands, claims)
    return Finding(reason=verdict.reason, sentence=verdict.sentence, norm=verdict.norm, seen_before=True)


def _check_work(update: Update, run: Run, round_: Round, manifest: Manifest) -> Finding:
    invitation = round_.invitation(update.site)
    assert invitation is not None  # _check_identity
    if not _is_successor(update.allocation, invitation):
        expected = f"{invitation.allocation} or a later one"
        return _refused(Reason.WRONG_ALLOCATION, "allocation", expected, update.allocation)
    if update.codec != manifest.codecs.up:
        return _refused(Reason.WRONG_CODEC, "codec", manifest.codecs.up, update.codec)
    if update.num_steps != invitation.num_steps:
        return _refused(Reason.WRONG_STEPS, "inner steps", invitation.num_steps, update.num_steps)
    expected_bytes = payload_bytes(get_codec(update.codec), manifest.fragments[update.fragment].num_elements)
    if update.payload_bytes != expected_bytes:
        return _refused(Reason.WRONG_LENGTH, "payload bytes", expected_bytes, update.payload_bytes)
    return _check_tokens(update, run, manifest)


def _check_tokens(update: Update, run: Run, manifest: Manifest) -> Finding:
    """Tokens decide weights and accounting, so none may be claimed that the window's steps cannot have trained on."""
    per_step = manifest.trainer.batch_size * manifest.trainer.sequence_length
    new_bound = update.num_steps * per_step
    if not 1 <= update.new_tokens <= new_bound:
        return _refused(Reason.WRONG_TOKENS, "new tokens", f"1 to {new_bound}", update.new_tokens)
    # Since its base: one H of steps, and what lay before it in the first window and between boundary and merge.
    schedule = run.schedule(update.site)
    steps = schedule.num_inner_steps + schedule.tau + schedule.first_window_steps
    if not 1 <= update.weight_tokens <= steps * per_step:
        return _refused(Reason.WRONG_TOKENS, "weight tokens", f"1 to {steps * per_step}", update.weight_tokens)
    return Finding()


def _is_successor(allocation: str, invitation: Invitation) -> bool:
    if allocation == invitation.allocation:
        return True
    invited = allocation_number(invitation.allocation)
    return 0 < invited < allocation_number(allocation)


def _refused(reason: Reason, what: str, expected: object, found: object) -> Finding:
    return Finding(reason=reason, sentence=f"{what}: expected {expected}, found {_shown(found)}")


def _shown(found: object) -> str:
    """A peer's value as a sentence may hold it: short, and without line breaks or control characters."""
    text = str(found)[:_MAX_SHOWN_CHARS]
    return text if text.isprintable() else repr(text)
