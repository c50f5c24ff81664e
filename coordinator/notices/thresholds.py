# SPDX-License-Identifier: Apache-2.0
"""From where on something is worth a notice. The one place for it: alert rules elsewhere are compared with these."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Where conditions begin.

    Attributes:
        round_pace_factor: an open round is stalled after so many times the median of the run's newest rounds.
        round_pace_rounds: how many of them count.
        round_pace_least_rounds: with fewer of them only the run's bounds count.
        round_floor_seconds: by the run's own pace no round is called stalled before.
        round_limit_share: of `max_round_seconds`, after which a round is stalled whatever its pace.
        round_overdue_seconds: beyond `max_round_seconds`, where the coordinator should have ended it: critical.
        no_open_seconds: no round could open for so long, or for `no_open_share` of `max_open_wait_seconds` if that is
            shorter: hours in a queue are normal.
        no_open_critical_share: of `max_open_wait_seconds`, after which the run pauses: critical.
        silent_seconds: without a word from a site, whose agent reports every 30 s, and `silent_round_trips` of its
            courier beside that.
        budget_percent, budget_critical_percent: of a site's budget for a run, spent.
        certificate_days, certificate_critical_days: until a certificate expires.
        roster_days, roster_critical_days: until the roster does; those who sign a new one have to be assembled.
        cosignature_seconds: the newest commit waits so long for its witnesses, beside their couriers' round trips, and
            the run is as far ahead of them as it may be.
        loss_spike_ratio: newest loss of a site to the median of its own earlier ones.
        loss_history: how many of them count.
        loss_least: with fewer of them nothing is said.
        language_regression_percent: how much worse bits per byte get from one evaluation to the next one.
        recent_rounds: an update that was not admitted is told of while it is among the site's newest so many.
        away_seconds: without a sign of life from the coordinator; that of `federation.directory_lock`.
        event_seconds: how long something that happened once counts as news.
    """

    round_pace_factor: float = 3.0
    round_pace_rounds: int = 20
    round_pace_least_rounds: int = 3
    round_floor_seconds: float = 1800.0
    round_limit_share: float = 0.8
    round_overdue_seconds: float = 300.0
    no_open_seconds: float = 6 * 3600.0
    no_open_share: float = 0.25
    no_open_critical_share: float = 0.8
    silent_seconds: float = 900.0
    silent_round_trips: float = 2.0
    budget_percent: float = 80.0
    budget_critical_percent: float = 100.0
    certificate_days: float = 7.0
    certificate_critical_days: float = 1.0
    roster_days: float = 30.0
    roster_critical_days: float = 7.0
    cosignature_seconds: float = 900.0
    loss_spike_ratio: float = 1.3
    loss_history: int = 64
    loss_least: int = 8
    language_regression_percent: float = 2.0
    recent_rounds: int = 3
    away_seconds: float = 120.0
    event_seconds: float = 86_400.0


DEFAULTS: Final = Thresholds()
