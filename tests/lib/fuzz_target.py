# SPDX-License-Identifier: Apache-2.0
"""What a fuzz test needs to know of one decoder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mutations import Repair, Sample

from federation.errors import FederationError


@dataclass(frozen=True, kw_only=True)
class Target:
    """One decoder, or one that is compared with its reference.

    Attributes:
        feed: gives bytes to the decoder under a variant; whether they were accepted. Raises on a defect of ours only.
        samples: valid bytes, every one accepted under its variant.
        repair: makes checksums right after damage.
        allocated_bytes: what one call may allocate at most, for so many bytes of input.
    """

    name: str
    feed: Callable[[int, bytes], bool]
    samples: Sequence[Sample]
    repair: Repair | None = None
    allocated_bytes: Callable[[int], int]

    @property
    def num_variants(self) -> int:
        """Variants are numbered from 0."""
        return 1 + max(sample.variant for sample in self.samples)


def check_refusal(error: FederationError) -> None:
    """A refusal says in a few words what was expected and what was found."""
    sentence = str(error)
    assert "expected" in sentence, sentence
    assert "found" in sentence, sentence
    assert len(sentence) <= 1000, f"{len(sentence)} characters: {sentence[:200]}"
