# SPDX-License-Identifier: Apache-2.0
"""Whether the coordinator of a directory works: told from its lock, without touching it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from coordinator.notices.heartbeat import Counter
from federation.directory_lock import newest_hold
from federation.durable import FileSystem
from federation.errors import FederationError
from federation.lock_owner import boot_seconds, certainly_gone, certainly_runs, this_process


@dataclass(frozen=True, kw_only=True)
class Liveness:
    """What the last look told. `since`: of which moment (unix seconds) that holds, 0 where it is not known."""

    works: bool
    since: float
    sentence: str


class LivenessWatch:
    """Looks at the lock. On another machine the counter tells: it rises several times in `stale_seconds`.

    `clock` says unix seconds, `steady` seconds that never go back.
    """

    def __init__(
        self, fs: FileSystem, clock: Callable[[], float] = time.time, steady: Callable[[], float] = boot_seconds
    ) -> None:
        self._fs, self._clock = fs, clock
        self._me = this_process()
        self._counter = Counter(steady)
        self._last = Liveness(works=False, since=0.0, sentence="the coordinator was never served")

    def look(self) -> Liveness:
        """One look; `since` stays while the answer is the same."""
        try:
            works, sentence = self._judge()
        except FederationError as error:
            works, sentence = False, f"its lock cannot be read: {error}"
        if (works, sentence) != (self._last.works, self._last.sentence):
            self._last = Liveness(works=works, since=self._clock(), sentence=sentence)
        return self._last

    def _judge(self) -> tuple[bool, str]:
        hold = newest_hold(self._fs)
        owner = hold.owner
        if owner is None:
            return False, "the coordinator was never served"
        if owner.released:
            return False, "the coordinator was stopped"
        if certainly_gone(owner, self._me):
            return False, "the coordinator's process has ended without a clean stop"
        quiet_seconds = self._counter.quiet_seconds(hold)
        if certainly_runs(owner, self._me) or quiet_seconds < owner.stale_seconds:
            return True, "the coordinator works"
        return False, f"the coordinator has shown no sign of life for {owner.stale_seconds:.0f} seconds"
