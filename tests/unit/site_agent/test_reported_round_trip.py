# SPDX-License-Identifier: Apache-2.0
"""The courier's round trip in the status report: there, rounded up, and no reason to send one."""

from dataclasses import replace

from agent_situations import Situation

from federation.messages import SiteStatus
from site_agent.status import changed, status_of


def report(measured: float, declared: float = 0.0) -> SiteStatus:
    situation = Situation().started().see(round_trip_seconds=measured)
    settings = replace(situation.settings, round_trip_seconds=declared)
    return status_of(settings, situation.state, situation.federation, situation.seen)


def test_seconds_are_rounded_up() -> None:
    found = report(0.2, 1799.1)
    assert (found.measured_round_trip_seconds, found.declared_round_trip_seconds) == (1, 1800)
    nothing = report(0.0)
    assert (nothing.measured_round_trip_seconds, nothing.declared_round_trip_seconds) == (0, 0)


def test_another_measurement_waits_for_the_heartbeat_and_another_declaration_does_not() -> None:
    assert not changed(report(10.0), report(2000.0))
    assert changed(report(10.0), report(10.0, 1800.0))
