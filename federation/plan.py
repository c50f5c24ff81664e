# SPDX-License-Identifier: Apache-2.0
"""A run's plan: who takes part, how often, how long the coordinator waits for what. Part of the run's first leaf."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Member:
    """One site's part in a run.

    Attributes:
        site: its id.
        num_inner_steps: H_i of this site.
        planned_tokens: tokens it means to train per nominal H, for the quorum's share and the weights' plan.
        courier_round_trip_seconds: lengthens every bound of this site.
    """

    site: str
    num_inner_steps: int
    planned_tokens: int
    courier_round_trip_seconds: int = 0


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How long the coordinator waits, in seconds of its own clock from its own receipt.

    Attributes:
        answer_seconds: from the opening of a round to a site's first word about it.
        training_seconds: from the job's start on the round to the end of its window.
        upload_seconds: from the end of its window to the update's receipt.
        max_round_seconds: from opening to seal, whatever happens.
        open_grace_seconds: how long ready sites wait for the members that are not.
        max_open_wait_seconds: how long no round may be able to open before the run pauses.
        seal_grace_seconds: once the quorum holds, how long to wait for the rest; 0 waits for every other bound.
        witness_seconds: how long a commit may wait for its cosignatures before the run pauses.
        max_abandoned: abandoned rounds in a row after which the run pauses.
    """

    answer_seconds: int
    training_seconds: int
    upload_seconds: int
    max_round_seconds: int
    open_grace_seconds: int
    max_open_wait_seconds: int
    seal_grace_seconds: int
    witness_seconds: int
    max_abandoned: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What deciders need of a run's manifest; the manifest repeats it, and `verify` compares the two.

    Attributes:
        members: the sites, ascending by id.
        num_rounds: rounds to commit.
        num_fragments: P.
        num_inner_steps: nominal H.
        tau: inner steps from boundary to merge.
        first_window_steps: inner steps of window 0; 0 means H/P.
        max_rounds_in_flight: rounds that may be open at once, 1 + ceil(tau P / H) to P.
        quorum_sites: admitted sites that a commit needs.
        quorum_token_percent: share of planned tokens among members not drained or declined, 0 to 100.
        weighting: "uniform" or "tokens".
        approvals_required: operators that must approve before the start.
        evaluate_every: commits between two evaluations; 0 evaluates only version 0 and the end.
        witness_quorum: cosigning members under a commit, at least floor(n/2) + 1.
        witness_lag: L, commits that a base may be ahead of its witnesses.
        bounds: how long to wait for what.
        theta_digests: digest of theta_0 per fragment.
    """

    members: tuple[Member, ...]
    num_rounds: int
    num_fragments: int
    num_inner_steps: int
    tau: int
    first_window_steps: int
    max_rounds_in_flight: int
    quorum_sites: int
    quorum_token_percent: int
    weighting: str
    approvals_required: int
    evaluate_every: int
    witness_quorum: int
    witness_lag: int
    bounds: Bounds
    theta_digests: tuple[str, ...]
