# SPDX-License-Identifier: Apache-2.0
"""Free space is checked before a round opens: a round that cannot be kept must not start."""

from federation.durable import FileSystem
from federation.rounds import Federation, RunState

RESERVE_BYTES = 64 * 1024 * 1024
"""What the ledger, mailboxes and logs may need meanwhile."""


def round_bytes(blob_bytes: int, num_members: int) -> int:
    """Bytes that one more round may write: payloads of all members and the commit blob, each linked, not copied.

    Args:
        blob_bytes: size of the newest commit blob, a measure for payloads of the same codec; 0 if unknown.
        num_members: sites of the run.
    """
    return RESERVE_BYTES + blob_bytes * (num_members + 1)


def short_of_disk(state: Federation, fs: FileSystem) -> dict[str, str]:
    """Per running run a sentence where free space would not hold another round."""
    running = [run for run in state.runs.values() if run.state is RunState.RUNNING]
    if not running:
        return {}
    free = fs.free_bytes()
    short: dict[str, str] = {}
    for run in running:
        blob_bytes = max((v.blob_bytes for chain in run.versions for v in chain), default=0)
        needed = round_bytes(blob_bytes, len(run.plan.members))
        if free < needed:
            short[run.id] = f"a round needs {needed} bytes of free space, found {free}"
    return short
