# SPDX-License-Identifier: Apache-2.0
"""What sites of a generated run tell beside the ledger: a status each, and the step metrics of their windows.

The last site was last heard of two hours ago and has cosigned nothing since; the clock of the second one is a minute
and a half behind; the first one runs an older release.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from typing import Final

from coordinator import observation_store
from coordinator.bench import hostile
from coordinator.bench.fates import SECOND_US, WINDOW_SECONDS, Fate
from coordinator.bench.history import History
from coordinator.bench.scores import loss
from coordinator.bench.setting import RUN, TOKENS_PER_STEP, Setting
from coordinator.observations import Progress, SiteSeen
from coordinator.telemetry import TelemetryStore
from federation.durable import FileSystem
from federation.leaves import Outcome, Reason
from federation.messages import (
    AllocationReport,
    AllocationState,
    ParticipationReport,
    Phase,
    SiteStatus,
    Telemetry,
)

MAX_LINES: Final = 256
"""Of one message."""

_SILENT_SECONDS: Final = 2 * 3600
_SKEW_US: Final = 95 * SECOND_US


def write_statuses(fs: FileSystem, history: History, now_us: int) -> None:
    """Writes what every site would report now."""
    for site in history.setting.sites:
        observation_store.save(fs, site, seen_of(history, site, now_us))
    if history.setting.hostile:
        for name, data in hostile.status_files().items():
            fs.place(f"{observation_store.STATUS}/{name}", data)


def write_telemetry(history: History, store: TelemetryStore) -> None:
    """Writes the metrics of all windows that ended since the last call, then forgets them."""
    by_site: dict[str, list[Fate]] = defaultdict(list)
    for fate in history.finished:
        by_site[fate.site].append(fate)
    history.finished.clear()
    for site, fates in sorted(by_site.items()):
        for allocation, group in groupby(fates, key=lambda fate: fate.allocation):
            some = list(group)
            lines = [line for fate in some for line in metric_lines(history.setting, fate)]
            _add(store, site, allocation, lines, (history.origin_us + some[-1].trained_us) / SECOND_US)


def write_hostile_telemetry(setting: Setting, store: TelemetryStore, now_s: float) -> None:
    """Lines that break every expectation, signed by the first site."""
    store.add(setting.sites[0], Telemetry(run=RUN, allocation="a1", lines=hostile.telemetry_lines()), now_s)


def _add(store: TelemetryStore, site: str, allocation: str, lines: list[str], at_s: float) -> None:
    for start in range(0, len(lines), MAX_LINES):
        some = tuple(lines[start : start + MAX_LINES])
        store.add(site, Telemetry(run=RUN, allocation=allocation, lines=some), at_s)


def metric_lines(setting: Setting, fate: Fate) -> Iterator[str]:
    """One line an inner step, as `federation.egress_words.metric_line` lets it out of a site."""
    random = setting.random("metrics", fate.round, fate.site)
    offset = setting.random("loss", fate.site).uniform(-0.04, 0.06)
    declined, seconds = fate.verdict.reason, (fate.trained_us - fate.started_us) / SECOND_US / fate.num_steps
    if not fate.is_heard_of:
        return
    num_steps = fate.num_steps
    if fate.verdict.outcome is Outcome.DECLINED:  # it ended early
        seconds = WINDOW_SECONDS / fate.num_steps
        num_steps = min(num_steps, int((fate.trained_us - fate.started_us) / SECOND_US / seconds))
    for step in range(num_steps):
        found = loss(fate.round + step / fate.num_steps) + offset + random.gauss(0, 0.015)
        if declined is Reason.LOSS_SPIKE and step >= num_steps - 2:
            found *= 3
        yield (
            f'{{"fencing": 1, "loss": {round(found, 6)!r}, "num_steps": {fate.round * fate.num_steps + step + 1}, '
            f'"round": {fate.round}, "seconds": {round(seconds * random.uniform(0.96, 1.04), 6)!r}, '
            f'"step": {step + 1}, "tokens": {TOKENS_PER_STEP}}}'
        )


def seen_of(history: History, site: str, now_us: int) -> SiteSeen:
    """The newest report of one site, and when the coordinator had it."""
    setting = history.setting
    fates = [fate for _, fate in sorted(history.fates.items()) if fate.site == site]
    fates = [fate for fate in fates if fate.is_heard_of and fate.started_us - 10 * SECOND_US <= history.clock_us]
    is_silent = setting.is_silent(site, history.run.next_round)
    silence = _SILENT_SECONDS if is_silent else setting.random("heard", site).uniform(0.2, 25)
    skew_us = _SKEW_US if site == setting.sites[min(1, setting.num_sites - 1)] else 300_000
    received_us = now_us - int(silence * SECOND_US)
    status = SiteStatus(
        ledger_size=history.state.size,
        allocations=(_allocation(history, site),),
        participations=tuple(_participation(history, fate) for fate in fates),
        applied=(f"{RUN}:{','.join(str(version.number) for version in history.run.heads())}",),
        software=_software(setting, site),
        sent_at_us=received_us - skew_us,
        measured_round_trip_seconds=setting.random("round-trip", site).choice((1, 2, 2, 3, 240)),
    )
    offset_us = now_us - history.clock_us
    progress = {f"{RUN}/{fate.round}": _progress(history, fate, offset_us) for fate in fates}
    return SiteSeen(received_at=received_us / SECOND_US, status=status, progress=progress)


def _software(setting: Setting, site: str) -> str:
    if site != setting.sites[0]:
        return "hpc-federation 0.1.0"
    return hostile.TEXTS[0] if setting.hostile else "hpc-federation 0.0.9"


def _allocation(history: History, site: str) -> AllocationReport:
    span, clock_us = history.calendars[site].at(history.clock_us), history.clock_us
    waits = clock_us < span.ready_us
    steps = history.run.schedule(site).window_steps
    return AllocationReport(
        run=RUN,
        allocation=span.id,
        state=AllocationState.QUEUED if waits else AllocationState.READY,
        seconds_left=0 if waits else (span.ended_us - clock_us) // SECOND_US,
        seconds_per_step=0.0 if waits else round(WINDOW_SECONDS * history.calendars[site].speed / steps, 3),
        start_in_seconds=(span.ready_us - clock_us) // SECOND_US if waits else 0,
    )


def _phase(history: History, fate: Fate) -> Phase:
    if history.clock_us < fate.started_us:
        return Phase.INVITED
    return Phase.TRAINING if history.clock_us < fate.trained_us else Phase.UPLOADING


def _steps_done(history: History, fate: Fate) -> int:
    share = (history.clock_us - fate.started_us) / max(1, fate.trained_us - fate.started_us)
    return int(min(1.0, max(0.0, share)) * fate.num_steps)


def _participation(history: History, fate: Fate) -> ParticipationReport:
    step = _steps_done(history, fate)
    return ParticipationReport(
        run=RUN,
        round=fate.round,
        phase=_phase(history, fate),
        step=step,
        loss=round(loss(fate.round + step / fate.num_steps), 6) if step else 0.0,
    )


def _progress(history: History, fate: Fate, offset_us: int) -> Progress:
    """When the coordinator heard of each phase, in unix seconds."""
    report = _participation(history, fate)
    times = [(instant + offset_us) / SECOND_US for instant in (fate.started_us, fate.trained_us)]
    return Progress(
        answered_at=times[0] - 1.0,
        training_at=None if report.phase is Phase.INVITED else times[0],
        uploading_at=times[1] if report.phase is Phase.UPLOADING else None,
        step=report.step,
        loss=report.loss,
    )
