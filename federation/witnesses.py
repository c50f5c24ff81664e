# SPDX-License-Identifier: Apache-2.0
"""The witness rule: how far ahead of its cosignatures a run may be (stdlib only).

A base made by the n-th commit may be used only if the (n - L)-th commit's leaf (n <= L: the leaf that approved the
run) lies under checkpoints cosigned by at least `witness_quorum` members. A member's cosignature of a larger
checkpoint of the same tree counts, since it extends the smaller one; every holder of the leaves checks that.
"""

from collections.abc import Mapping

from federation.rounds import Run


def needed_leaf(run: Run, num_commits: int) -> int:
    """Ledger index of the leaf that must be witnessed before a base made by that many commits is used."""
    lagged = num_commits - run.plan.witness_lag
    return run.approved_leaf if lagged < 1 else run.commit_leaves[lagged - 1]


def witnessed_by(run: Run, leaf_index: int, witnessed: Mapping[str, int]) -> tuple[str, ...]:
    """Members whose cosigned checkpoint covers the leaf, ascending."""
    return tuple(m.site for m in run.plan.members if witnessed.get(m.site, 0) > leaf_index)


def may_use(run: Run, num_commits: int, witnessed: Mapping[str, int]) -> bool:
    """Whether the witness rule lets a job use the base made by the n-th commit in force.

    Args:
        run: the run.
        num_commits: n, commits in force up to and including the one that made the base.
        witnessed: per site the largest checkpoint size that it cosigned and that was verified.
    """
    covering = witnessed_by(run, needed_leaf(run, num_commits), witnessed)
    return run.approved_leaf >= 0 and len(covering) >= run.plan.witness_quorum


def unwitnessed_since(run: Run, witnessed: Mapping[str, int]) -> tuple[str, ...]:
    """Members whose cosignature the newest commit waits for; () where the rule is met or the run is not approved."""
    if run.approved_leaf < 0 or may_use(run, run.num_commits(), witnessed):
        return ()
    covering = witnessed_by(run, needed_leaf(run, run.num_commits()), witnessed)
    return tuple(m.site for m in run.plan.members if m.site not in covering)
