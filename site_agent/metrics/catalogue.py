# SPDX-License-Identifier: Apache-2.0
"""Every metric of an agent, once. docs/operations/monitoring.md has the same table.

All begin with `federation_agent_`, so that nothing is counted twice where one Prometheus scrapes the coordinator too,
and all name the site: the textfiles of several sites may pass through one node_exporter. For that reason there is
nothing here of the process as such (`process_…`), which node_exporter says of itself.
"""

from typing import Final

from federation.exposition import counter, declared, gauge, info

SITE: Final = "site"
RUN: Final = "run"

# --- the agent ------------------------------------------------------------------------------------------------------

INFO: Final = info("federation_agent_info", "The agent's release.", SITE, "software")
PASS: Final = gauge(
    "federation_agent_pass_timestamp_seconds", "When the agent made the pass that these figures are of.", SITE
)
EPOCH: Final = gauge("federation_agent_epoch", "The agent's epoch: it grows when one did not end cleanly.", SITE)
HEARD: Final = gauge("federation_agent_heard_timestamp_seconds", "When the coordinator was last heard.", SITE)
MAX_SILENCE: Final = gauge(
    "federation_agent_max_silence_seconds", "Without a word for so long, no new work starts.", SITE
)
FAULT: Final = gauge("federation_agent_ledger_fault", "1 when the ledger cannot be followed any further.", SITE)
LEDGER_LEAVES: Final = gauge("federation_agent_ledger_leaves", "Leaves of the ledger's copy.", SITE)
COSIGNED: Final = gauge(
    "federation_agent_cosigned_leaves", "Leaves under the largest checkpoint that this site cosigned.", SITE
)
CONNECTED: Final = gauge(
    "federation_agent_courier_connected", "1 while the gRPC courier is connected; a spool says nothing.", SITE
)
COURIER_FAILURES: Final = gauge(
    "federation_agent_courier_failures_in_a_row", "Attempts to connect in a row that failed.", SITE
)
OUTSTANDING: Final = gauge(
    "federation_agent_outstanding_messages", "Messages that the coordinator has not acknowledged.", SITE
)
ROUND_TRIP: Final = gauge("federation_agent_round_trip_seconds", "Measured time of a message and its answer.", SITE)
SPOOL: Final = gauge("federation_agent_spool_bytes", "What lies in the spool, as of the last look at all of it.", SITE)
FREE: Final = gauge("federation_agent_free_bytes", "What this user may still write in the site's directory.", SITE)
CREDENTIAL_EXPIRY: Final = gauge(
    "federation_agent_credential_expiry_timestamp_seconds",
    "When the channel certificate, the roster, or one of [[credentials]] expires.",
    SITE,
    "credential",
)

# --- the day's budget -----------------------------------------------------------------------------------------------

DAY_GPU: Final = gauge(
    "federation_agent_day_gpu_seconds", "GPU time within 24 hours, live jobs in full, as the policy counts.", SITE
)
DAY_GPU_LIMIT: Final = gauge("federation_agent_day_gpu_limit_seconds", "GPU time that 24 hours may hold.", SITE)
DAY_SENT: Final = gauge("federation_agent_day_sent_bytes", "Payload bytes sent within 24 hours.", SITE)
DAY_SENT_LIMIT: Final = gauge("federation_agent_day_sent_limit_bytes", "Payload bytes that 24 hours may hold.", SITE)

# --- one run --------------------------------------------------------------------------------------------------------

RUN_STATE: Final = gauge(
    "federation_agent_run_state", "1 for the state that a run is in, by this site's copy.", SITE, RUN, "state"
)
ALLOCATIONS: Final = gauge(
    "federation_agent_allocations", "Allocations by state; the newest may live, earlier ones ended.", SITE, RUN, "state"
)
FAILED: Final = counter(
    "federation_agent_allocations_failed_total", "Allocations that ended and count as failed.", SITE, RUN
)
FAILURES: Final = gauge("federation_agent_failures_in_a_row", "Failed allocations in a row.", SITE, RUN)
MAX_FAILURES: Final = gauge(
    "federation_agent_max_failures", "Failed allocations in a row after which rounds are declined.", SITE
)
QUEUE_WAIT: Final = gauge(
    "federation_agent_queue_wait_seconds", "Since submission of the job that waits now.", SITE, RUN
)
EXPECTED_START: Final = gauge(
    "federation_agent_expected_start_seconds", "Until the waiting job starts, as the batch system expects.", SITE, RUN
)
LEFT: Final = gauge("federation_agent_allocation_left_seconds", "Wall time left to the running job.", SITE, RUN)
PHASE: Final = gauge(
    "federation_agent_participation_phase",
    "1 for what the site does in its newest open round: waiting, invited, training or uploading.",
    SITE,
    RUN,
    "phase",
)
STEP: Final = gauge("federation_agent_window_step", "Inner steps done of the job's newest window.", SITE, RUN)
LOSS: Final = gauge("federation_agent_loss", "Training loss of the job's newest reported inner step.", SITE, RUN)
STEP_SECONDS: Final = gauge("federation_agent_step_duration_seconds", "Time of an inner step.", SITE, RUN)
GPU: Final = gauge(
    "federation_agent_gpu_seconds",
    "GPU time by standing: spent by jobs that ended, committed to jobs that live.",
    SITE,
    RUN,
    "standing",
)
GPU_LIMIT: Final = gauge("federation_agent_gpu_limit_seconds", "GPU time that the policy allows the run.", SITE, RUN)
NATIVE: Final = gauge(
    "federation_agent_native_units", "Spent and committed in the centre's own unit.", SITE, RUN, "unit"
)
NATIVE_LIMIT: Final = gauge(
    "federation_agent_native_limit_units", "What the policy allows the run in that unit.", SITE, RUN, "unit"
)
BUDGET: Final = gauge(
    "federation_agent_budget_ratio",
    "Spent and committed part of the tightest limit that the policy sets for the run; 1 is all.",
    SITE,
    RUN,
)

ALL: Final = declared(globals())
