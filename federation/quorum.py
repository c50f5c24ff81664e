# SPDX-License-Identifier: Apache-2.0
"""Quorum: whether enough of a run takes part, with a sentence that shows the arithmetic."""

from collections.abc import Collection
from dataclasses import dataclass

from federation.leaves import Plan


@dataclass(frozen=True, kw_only=True)
class QuorumDecision:
    """Whether a set of sites suffices, and why, for operators to read."""

    reached: bool
    sentence: str
    missing: tuple[str, ...]


def quorum(plan: Plan, present: Collection[str], excluded: Collection[str]) -> QuorumDecision:
    """Decides whether `present` sites suffice: enough sites AND enough share of planned tokens.

    Args:
        plan: the run's plan.
        present: sites that are ready (opening) or admitted (sealing).
        excluded: members drained or revoked by an operator, or declined by their own policy; they do not count in the
            share.
    """
    counted = [m for m in plan.members if m.site not in excluded]
    here = [m for m in counted if m.site in present]
    missing = tuple(m.site for m in counted if m.site not in present)
    total = sum(m.planned_tokens for m in counted)
    share = sum(m.planned_tokens for m in here)
    enough_sites = len(here) >= plan.quorum_sites
    # Integers only: 100 * share >= percent * total has no rounding to argue about.
    enough_tokens = bool(counted) and 100 * share >= plan.quorum_token_percent * total
    percent = 100 * share / total if total else 0.0
    sentence = (
        f"{len(here)} of {len(counted)} sites ({', '.join(m.site for m in here) or 'none'}), "
        f"{plan.quorum_sites} needed; {percent:.1f}% of planned tokens, {plan.quorum_token_percent}% needed"
        + (f"; missing: {', '.join(missing)}" if missing else "")
    )
    return QuorumDecision(reached=enough_sites and enough_tokens, sentence=sentence, missing=missing)
