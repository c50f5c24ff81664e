# SPDX-License-Identifier: Apache-2.0
"""Slurm's words for how a job stands."""

from typing import Final

ENDED_STATES: Final = frozenset(
    {
        "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
        "PREEMPTED", "RECONFIG_FAIL", "REVOKED", "TIMEOUT",
    }
)  # fmt: skip
"""States after which nothing of a job runs, unless the queue shows it waiting again."""

WAITING_STATES: Final = frozenset(
    {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
)  # fmt: skip
"""States in which nothing of a job runs yet, or for now."""

REQUEUED: Final = "REQUEUED"
"""In the accounting: an execution that ended because the job went back into the queue."""
