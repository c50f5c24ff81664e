# SPDX-License-Identifier: Apache-2.0
"""Limits on what a peer may send, each with its unit. A value above one is refused before it is allocated."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on untrusted input."""

    max_envelope_bytes: int = 8 * 1024 * 1024
    """One signed message without its blobs."""

    max_leaf_bytes: int = 1024 * 1024
    """One ledger leaf."""

    max_blob_bytes: int = 256 * 1024**3
    """One content-addressed blob."""

    max_manifest_bytes: int = 4 * 1024 * 1024
    """A run manifest with its fragment table."""

    max_text_chars: int = 500
    """One human sentence in a message."""

    max_verdicts_per_site_and_round: int = 4
    """Leaves that one site can cause in one round; what comes beyond goes to the security log."""

    max_num_inner_steps: int = 100_000
    """H, and every other count of inner steps in a manifest."""

    max_num_rounds: int = 1_000_000
    """Rounds of one run."""

    max_num_sites: int = 1_000
    """Members of one run."""

    max_num_parameters: int = 2_000_000_000_000
    """Trainable parameters of one model."""

    max_update_norm: float = 1e6
    """Euclidean norm of a decoded pseudo-gradient; a run's manifest may ask for less."""


DEFAULT_LIMITS = Limits()
