# SPDX-License-Identifier: Apache-2.0
"""When sites of a generated run were first heard to answer, train and upload: the lines of `coordinator.phases`."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from coordinator.bench.fates import SECOND_US, Fate
from coordinator.bench.history import History
from coordinator.bench.scores import loss
from coordinator.bench.setting import RUN
from coordinator.observations import Progress
from coordinator.phases import PhaseLog
from federation.leaves import Outcome


@dataclass
class PhaseReports:
    """Writes what a coordinator would have heard since the last call; each phase of a round once."""

    log: PhaseLog
    _noted: dict[str, dict[str, Progress]] = field(default_factory=dict)

    def write(self, history: History, *, offset_us: int = 0, now_us: int = 0) -> None:
        """Takes open rounds and those in `history.finished`, so call it before somebody empties that.

        Args:
            offset_us: of the history's clock from 1970.
            now_us: the time of whatever is new, where leaves are not stamped by the history's clock; 0 where they are.
        """
        heard: dict[str, dict[str, Progress]] = defaultdict(dict)
        for fate in (*history.finished, *history.fates.values()):
            if fate.is_heard_of and fate.started_us <= history.clock_us:
                heard[fate.site][f"{RUN}/{fate.round}"] = _progress(fate, history.clock_us, offset_us, now_us)
        for site, progress in sorted(heard.items()):
            self.log.note(site, self._noted.get(site, {}), progress)
        self._noted = _still_open(history, heard)


def _progress(fate: Fate, clock_us: int, offset_us: int, now_us: int) -> Progress:
    uploads = fate.trained_us <= clock_us and fate.trained_us < fate.verdict_us
    uploads = uploads and fate.verdict.outcome is not Outcome.DECLINED
    started, trained = ((now_us or at + offset_us) / SECOND_US for at in (fate.started_us, fate.trained_us))
    return Progress(
        answered_at=started,
        training_at=started,
        uploading_at=trained if uploads else None,
        loss=round(loss(fate.round + 1), 6),
    )


def _still_open(history: History, heard: Mapping[str, dict[str, Progress]]) -> dict[str, dict[str, Progress]]:
    """What is said again with the next call."""
    keys = {(fate.site, f"{RUN}/{fate.round}") for fate in history.fates.values()}
    return {site: {k: v for k, v in progress.items() if (site, k) in keys} for site, progress in heard.items()}
