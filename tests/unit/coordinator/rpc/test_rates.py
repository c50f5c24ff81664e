# SPDX-License-Identifier: Apache-2.0
"""Token buckets against a model, and a security log that a flood cannot fill."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.rpc import rates
from coordinator.rpc.rates import Complaints, TokenBucket
from federation.errors import AccessDeniedError


def test_a_full_bucket_gives_its_burst_then_says_how_long_to_wait() -> None:
    bucket = TokenBucket(per_second=2.0, burst=3.0)
    assert [bucket.take(1.0, 10.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert bucket.take(1.0, 10.0) == pytest.approx(0.5)
    assert bucket.take(1.0, 10.5) == 0.0
    assert bucket.take(1.0, 10.5) == pytest.approx(0.5)


def test_a_debt_is_paid_at_the_buckets_rate() -> None:
    bucket = TokenBucket(per_second=100.0, burst=100.0)
    assert bucket.owe(100.0, 0.0) == 0.0
    assert bucket.owe(50.0, 0.0) == pytest.approx(0.5)
    assert bucket.debt_seconds(0.25) == pytest.approx(0.25)
    assert bucket.debt_seconds(1.0) == 0.0


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 4)), max_size=60))
def test_no_more_is_taken_than_burst_and_rate_allow(steps: list[tuple[float, float]]) -> None:
    bucket, now, taken = TokenBucket(per_second=1.5, burst=4.0), 0.0, 0.0
    for pause, amount in steps:
        now += pause
        if bucket.take(amount, now) == 0.0:
            taken += amount
        assert taken <= 4.0 + 1.5 * now + 1e-6


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(per_second=1.0, burst=1.0)
    assert bucket.take(1.0, 100.0) == 0.0
    assert bucket.take(1.0, 50.0) > 0
    assert bucket.take(1.0, 100.5) > 0
    assert bucket.take(1.0, 101.0) == 0.0


def test_a_flood_writes_few_lines_and_the_next_one_counts_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("test.complaints")
    complaints = Complaints(logger)
    with caplog.at_level(logging.WARNING, logger.name):
        for _ in range(1000):
            complaints.report("site/lumi", "/x/Y", AccessDeniedError("no\nnewline"), 0.0)
        complaints.report("site/jupiter", "/x/Y", AccessDeniedError("no"), 0.0)
        assert len(caplog.records) == rates.LINE_BURST + 1
        complaints.report("site/lumi", "/x/Y", AccessDeniedError("no"), 60.0)
    assert "more_before=990" in caplog.messages[-1]
    assert "AccessDeniedError" in caplog.messages[-1]
    assert "\n" not in caplog.messages[0]


def test_the_log_remembers_a_bounded_number_of_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MAX_PEERS", 8)
    complaints = Complaints(logging.getLogger("test.complaints"))
    for number in range(100):
        for _ in range(12):
            complaints.report(f"site/s{number}", "/x/Y", AccessDeniedError("no"), 0.0)
    assert len(complaints._buckets) == 8
    assert len(complaints._silenced) <= 8
