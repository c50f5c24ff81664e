# SPDX-License-Identifier: Apache-2.0
"""Every decoder of bytes from a peer or a disk, with valid samples, and what must hold for whatever it is fed.

A target's `feed` returns whether the bytes were accepted. Anything it raises is a defect of ours.
"""

from fuzz_codecs import admission_targets, codec_targets
from fuzz_documents import document_targets
from fuzz_records import record_targets
from fuzz_target import Target

__all__ = ["Target", "all_targets"]


def all_targets() -> dict[str, Target]:
    """Targets by name."""
    targets = [*codec_targets(), *admission_targets(), *document_targets(), *record_targets()]
    return {target.name: target for target in targets}
