# SPDX-License-Identifier: Apache-2.0
"""Every metric of a coordinator, once. docs/operations/monitoring.md has the same table.

A figure that a rollback or a correction of accounts can lower is a gauge, also where it mostly grows. There is no label
for rounds: the number of series depends on sites, runs that are not long over, and languages.
"""

from typing import Final

from federation.exposition import counter, declared, gauge, info

RUN: Final = "run"
SITE: Final = "site"

# --- the consortium -------------------------------------------------------------------------------------------------

COORDINATOR_INFO: Final = info(
    "federation_coordinator_info", "The consortium, and the coordinator's release.", "consortium", "software"
)
COORDINATOR_LAST_SEEN: Final = gauge(
    "federation_coordinator_last_seen_timestamp_seconds", "Last sign of life of the process that decides."
)
ROSTER_VERSION: Final = gauge("federation_roster_version", "Version of the roster in force.")
ROSTER_EXPIRY: Final = gauge("federation_roster_expiry_timestamp_seconds", "When the newest roster expires.")
CERTIFICATE_EXPIRY: Final = gauge(
    "federation_certificate_expiry_timestamp_seconds",
    "When a certificate of the coordinator's own expires.",
    "certificate",
)
LEDGER_LEAVES: Final = gauge("federation_ledger_leaves", "Leaves of the ledger.")
COSIGNED_LEAVES: Final = gauge(
    "federation_ledger_cosigned_leaves", "Leaves under the largest checkpoint that a witness cosigned.", SITE
)

# --- sites ----------------------------------------------------------------------------------------------------------

SITE_STATE: Final = gauge(
    "federation_site_state", "1 for the state that a site is in: active, drained or revoked.", SITE, "state"
)
SITE_INFO: Final = info("federation_site_info", "What a site's agent calls its release.", SITE, "software")
SITE_RUNS: Final = gauge(
    "federation_site_runs", "Runs that are approved and not over, and have a site as a member.", SITE
)
SITE_LAST_SEEN: Final = gauge(
    "federation_site_last_seen_timestamp_seconds", "When a site's newest report was received.", SITE
)
SITE_REPORT_DELAY: Final = gauge(
    "federation_site_report_delay_seconds",
    "Receipt of the newest report minus the site's own time on it: transport, and what its clock is behind.",
    SITE,
)
SITE_ROUND_TRIP: Final = gauge(
    "federation_site_round_trip_seconds", "Longest known time of a message to a site and its answer.", SITE
)
SITE_LEDGER_LEAVES: Final = gauge("federation_site_ledger_leaves", "Leaves that a site has taken in.", SITE)
SITE_BLOBS_WANTED: Final = gauge("federation_site_blobs_wanted", "Blobs that a site waits for.", SITE)
SITE_WAITS_FOR_WITNESSES: Final = gauge(
    "federation_site_waits_for_witnesses", "1 while the witness rule holds a site's job back.", SITE
)
SITE_CERTIFICATE_EXPIRY: Final = gauge(
    "federation_site_certificate_expiry_timestamp_seconds", "When a site's channel certificate expires.", SITE
)
SITE_QUEUE_WAIT: Final = gauge(
    "federation_site_queue_wait_seconds", "How long the newest job that began at a site had waited.", SITE
)

# --- a site in a run ------------------------------------------------------------------------------------------------

ALLOCATION_STATE: Final = gauge(
    "federation_site_allocation_state", "1 for the state that a site's newest allocation is in.", RUN, SITE, "state"
)
ALLOCATION_LEFT: Final = gauge(
    "federation_site_allocation_left_seconds", "Wall time left to a ready allocation that has a limit.", RUN, SITE
)
EXPECTED_START: Final = gauge(
    "federation_site_expected_start_seconds", "Until a waiting job starts, as its batch system expects.", RUN, SITE
)
PARTICIPATION_PHASE: Final = gauge(
    "federation_site_participation_phase",
    "1 for what a site does in the newest round it has reported of: waiting, invited, training or uploading.",
    RUN,
    SITE,
    "phase",
)
SITE_STEP: Final = gauge("federation_site_window_step", "Inner steps done of the window in training.", RUN, SITE)
SITE_LOSS: Final = gauge(
    "federation_site_loss", "Training loss of the newest reported inner step; NaN if the site said so.", RUN, SITE
)
STEP_SECONDS: Final = gauge("federation_site_step_duration_seconds", "Time of an inner step.", RUN, SITE)
SITE_GPU_SECONDS: Final = gauge(
    "federation_site_gpu_seconds",
    "GPU time that a site reports, by use: effective, discarded, open (not decided) or idle.",
    RUN,
    SITE,
    "use",
)
SITE_GPU_LIMIT: Final = gauge("federation_site_gpu_limit_seconds", "GPU time that a site allows a run.", RUN, SITE)
SITE_GPU_FORECAST: Final = gauge(
    "federation_site_gpu_forecast_seconds", "GPU time that a run still needs at a site, by its forecast.", RUN, SITE
)
SITE_NATIVE: Final = gauge(
    "federation_site_native_units", "What a run spent in the centre's own unit.", RUN, SITE, "unit"
)
SITE_NATIVE_LIMIT: Final = gauge(
    "federation_site_native_limit_units", "What a site allows a run in the centre's own unit.", RUN, SITE, "unit"
)
SITE_BUDGET: Final = gauge(
    "federation_site_budget_ratio", "Spent part of the tightest limit that a site sets for a run; 1 is all.", RUN, SITE
)
LANGUAGE_TOKENS: Final = gauge(
    "federation_site_language_tokens",
    "Tokens of a language that a site's jobs have trained on, as they count them.",
    RUN,
    SITE,
    "language",
)

# --- updates --------------------------------------------------------------------------------------------------------

UPDATES: Final = counter(
    "federation_updates_total", "Verdicts on a site's part in a round.", RUN, SITE, "outcome", "reason"
)
UPLOADED: Final = counter("federation_site_uploaded_bytes_total", "Payload bytes of admitted updates.", RUN, SITE)
TOKENS: Final = counter("federation_site_trained_tokens_total", "New tokens of admitted updates.", RUN, SITE)
STEPS: Final = counter("federation_site_inner_steps_total", "Inner steps of admitted updates.", RUN, SITE)
NORM: Final = gauge("federation_site_update_norm", "Norm of a site's part in the newest commit.", RUN, SITE)
COSINE: Final = gauge(
    "federation_site_update_cosine", "Cosine of a site's part in the newest commit to the aggregate.", RUN, SITE
)
AGGREGATE_NORM: Final = gauge("federation_run_aggregate_norm", "Norm of the newest commit's aggregate.", RUN)

# --- runs and rounds ------------------------------------------------------------------------------------------------

RUN_INFO: Final = info("federation_run_info", "A run, and the digest of its manifest.", RUN, "manifest_digest")
RUN_STATE: Final = gauge("federation_run_state", "1 for the state that a run is in.", RUN, "state")
RUN_STATE_SINCE: Final = gauge("federation_run_state_since_timestamp_seconds", "When a run's state last changed.", RUN)
RUN_PAUSE: Final = info("federation_run_pause_info", "Why a paused run is paused.", RUN, "reason")
RUN_ROUND: Final = gauge("federation_run_round", "Number of the newest round that was opened.", RUN)
RUN_COMMITS: Final = gauge("federation_run_commits", "Commits in force.", RUN)
RUN_PLANNED: Final = gauge("federation_run_planned_rounds", "Rounds that a run is to commit.", RUN)
ROUNDS: Final = counter("federation_rounds_total", "Rounds that ended, by outcome.", RUN, "outcome")
REVERTED: Final = counter("federation_rounds_reverted_total", "Committed rounds that a rollback made void.", RUN)
DOWNLOADED: Final = counter("federation_run_downloaded_bytes_total", "Bytes of commits, one copy for each member.", RUN)
OPEN_ROUNDS: Final = gauge("federation_run_open_rounds", "Rounds that are open or sealed.", RUN)
ROUND_OPENED: Final = gauge(
    "federation_round_opened_timestamp_seconds", "When the oldest round that is not decided was opened.", RUN
)
ROUND_LIMIT: Final = gauge(
    "federation_round_limit_seconds", "The longest that a round may be open, with the slowest courier.", RUN
)
ROUND_INTERVAL: Final = gauge(
    "federation_round_interval_seconds",
    "Median time between openings of the newest 20 rounds; the longest that one may be open until 3 were opened.",
    RUN,
)
ROUND_WAITING: Final = gauge(
    "federation_round_waiting_sites", "Invited sites without a verdict in the oldest open round.", RUN
)
LAST_PROGRESS: Final = gauge(
    "federation_run_last_progress_timestamp_seconds",
    "When a round was last opened or decided, or the run's state changed.",
    RUN,
)
MEMBERS: Final = gauge("federation_run_member_sites", "Members that are not taken out and did not decline.", RUN)
QUORUM: Final = gauge("federation_run_quorum_sites", "Admitted sites that a commit needs.", RUN)
AVAILABLE: Final = gauge(
    "federation_run_available_sites", "Members that accepted, are not taken out, and were heard lately.", RUN
)
READY: Final = gauge("federation_run_ready_sites", "Members with a ready job that has time for its next windows.", RUN)
MARGIN_SITES: Final = gauge(
    "federation_run_quorum_margin_sites", "Available sites minus those that a commit needs.", RUN
)
MARGIN_RATIO: Final = gauge(
    "federation_run_quorum_margin_ratio", "Available share of planned tokens minus the share that is needed.", RUN
)
WITNESSES_MISSING: Final = gauge(
    "federation_run_missing_cosignatures",
    "Cosignatures that are missing before jobs may use the newest commit.",
    RUN,
)

# --- evaluations ----------------------------------------------------------------------------------------------------

SCORE: Final = gauge(
    "federation_evaluation_bits_per_byte", "Newest score of a language at a site.", RUN, SITE, "language"
)
SCORE_BEFORE: Final = gauge(
    "federation_evaluation_previous_bits_per_byte",
    "Its predecessor: the same site's score, on as many bytes, in its newest evaluation of a model with fewer commits.",
    RUN,
    SITE,
    "language",
)
SCORED_COMMITS: Final = gauge(
    "federation_evaluation_commits", "Commits in the model that the newest score is of.", RUN, SITE
)

ALL: Final = declared(globals())
