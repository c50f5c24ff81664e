# SPDX-License-Identifier: Apache-2.0
"""Free space is checked before a round opens: a round that cannot be kept must not start."""

from collections.abc import Callable

from federation.codecs.payload import payload_bytes
from federation.codecs.registry import get_codec
from federation.durable import FileSystem
from federation.manifest import Manifest
from federation.rounds import Federation, Run, RunState
from federation.state.api import StateStore

RESERVE_BYTES = 64 * 1024 * 1024
"""What the ledger, mailboxes and logs may need meanwhile."""


def round_bytes(run: Run, manifest: Manifest, states: StateStore) -> int:
    """Bytes that the next round may write, and those that are open, beyond what is on the disk.

    Per round: payloads of all members and the commit blob, each linked, not copied, and the next version of (theta, m,
    r): mapped, and its durable copy. What has arrived of an open round is counted once more.
    """
    schedule = run.schedule()
    fragments = {run.rounds[number].fragment for number in run.open_rounds} | {schedule.fragment_of(run.next_round)}
    return RESERVE_BYTES + sum(_fragment_bytes(run, manifest, states, fragment) for fragment in fragments)


def _fragment_bytes(run: Run, manifest: Manifest, states: StateStore, fragment: int) -> int:
    num_elements = manifest.fragments[fragment].num_elements
    up, down = (payload_bytes(get_codec(name), num_elements) for name in (manifest.codecs.up, manifest.codecs.down))
    return len(run.plan.members) * up + down + states.bytes_wanted(run.id, fragment, num_elements)


def short_of_disk(
    state: Federation, fs: FileSystem, states: StateStore, manifest_of: Callable[[str], Manifest]
) -> dict[str, str]:
    """Per running run a sentence where free space would not hold another round."""
    running = [run for run in state.runs.values() if run.state is RunState.RUNNING]
    if not running:
        return {}
    free = fs.free_bytes()
    short: dict[str, str] = {}
    for run in running:
        needed = round_bytes(run, manifest_of(run.id), states)
        if free < needed:
            short[run.id] = f"a round needs {needed} bytes of free space, found {free}"
    return short
