# SPDX-License-Identifier: Apache-2.0
"""Pauses between attempts to connect: they grow, and stay below their bound for as long as anything is missing."""

import pytest

from federation.errors import OverloadedError, PeerUnavailableError
from federation.rpc.mirror import DEFAULT_PACE
from federation.rpc.thread import pause_seconds

AWAY = PeerUnavailableError("this name has no address")


def test_pauses_double_up_to_a_minute() -> None:
    pauses = [pause_seconds(AWAY, failures, DEFAULT_PACE) for failures in range(12)]
    assert pauses[:4] == pytest.approx([0.2, 0.4, 0.8, 1.6])
    assert pauses[-1] == DEFAULT_PACE.max_backoff == 60.0


@pytest.mark.parametrize("failures", [100, 10_000, 10**9])
def test_days_without_a_name_change_nothing(failures: int) -> None:
    assert pause_seconds(AWAY, failures, DEFAULT_PACE) == 60.0


def test_a_server_that_has_too_much_to_do_is_left_alone_for_longer_but_not_for_ever() -> None:
    assert pause_seconds(OverloadedError("", retry_after_seconds=90.0), 0, DEFAULT_PACE) == 90.0
    assert pause_seconds(OverloadedError("", retry_after_seconds=1e9), 0, DEFAULT_PACE) == 600.0
