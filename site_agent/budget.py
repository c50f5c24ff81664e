# SPDX-License-Identifier: Apache-2.0
"""What this site's jobs used within the last 24 hours, from its own journal. Pure."""

from typing import Final

from site_agent.agent_state import AgentState, Allocation

DAY_US: Final = 24 * 3600 * 1_000_000
_HOUR_US: Final = 3600 * 1_000_000


def gpu_hours_spent(state: AgentState, now_us: int, num_gpus: int, gpu_hours_per_job: float) -> float:
    """GPU-hours of jobs that ended within the last 24 hours, and in full of those that live."""
    allocations = [a for found in state.allocations.values() for a in found]
    live = sum(gpu_hours_per_job for a in allocations if a.live)
    return live + num_gpus * sum(_hours_within_a_day(a, now_us) for a in allocations)


def _hours_within_a_day(allocation: Allocation, now_us: int) -> float:
    if allocation.end is None or not allocation.submitted_at_us:
        return 0.0
    start = max(allocation.submitted_at_us, now_us - DAY_US)
    return max(0, allocation.end.at_us - start) / _HOUR_US


def bytes_spent(state: AgentState, now_us: int) -> int:
    """Bytes of payloads signed, and so sent, within the last 24 hours."""
    recent = (key for key, at_us in state.signed_at_us.items() if at_us > now_us - DAY_US)
    return sum(state.signed[key].payload_bytes for key in recent)
