# SPDX-License-Identifier: Apache-2.0
"""What a site says of its budget counts only as far as it is a sensible number; an older agent says nothing."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from monitored_world import HOUR, facts

from coordinator.metrics.facts import MAX_BUDGETS, SiteFacts, facts_of
from federation.messages import LanguageTokens, SiteStatus


def told(**changes: Any) -> SiteFacts:
    return facts_of(SiteStatus(ledger_size=0, facts=facts(**changes)))


def test_an_agent_that_says_nothing_of_it() -> None:
    assert facts_of(SiteStatus(ledger_size=0)) == SiteFacts()
    assert facts_of(SiteStatus(ledger_size=0, facts=None)) == SiteFacts()
    assert facts_of(SiteStatus(ledger_size=0, facts=SimpleNamespace())) == SiteFacts()


def test_hours_become_seconds() -> None:
    found = told()
    (budget,) = found.budgets
    assert (found.certificate_expires_at, found.queue_wait_seconds) == (1_700_000_000.0, 90.0)
    assert (budget.effective_seconds, budget.limit_seconds) == (60 * HOUR, 100 * HOUR)


@pytest.mark.parametrize(
    ("changes", "ratio"),
    [
        ({}, 0.75),
        ({"native_spent": 900.0}, 0.9),
        ({"native_limit": None}, 0.75),
        ({"gpu_hours_limit": None}, 0.6),
        ({"gpu_hours_limit": None, "native_limit": None}, None),
        ({"gpu_hours_limit": 0.0, "native_limit": 0}, None),
        ({"gpu_hours_open": None}, 0.73),
        ({"gpu_hours_limit": None, "native_unit": ""}, None),
    ],
)
def test_the_tightest_limit_counts(changes: dict[str, Any], ratio: float | None) -> None:
    (budget,) = told(**changes).budgets
    assert budget.ratio == (None if ratio is None else pytest.approx(ratio))


@pytest.mark.parametrize("value", ["100", -1.0, float("nan"), float("inf"), True, (1,), None])
def test_what_is_no_amount_is_left_out(value: Any) -> None:
    (budget,) = told(gpu_hours_effective=value).budgets
    assert budget.effective_seconds is None
    assert budget.discarded_seconds == 10 * HOUR


def test_a_run_that_is_named_twice_counts_once() -> None:
    """Prometheus refuses two samples with the same labels."""
    budgets = (*facts(native_spent=1.0).budgets, *facts(native_spent=2.0).budgets)
    tokens = tuple(LanguageTokens(run="demo", language=code, tokens=n) for n, code in enumerate(("fi", "mt", "fi")))
    found = facts_of(SiteStatus(ledger_size=0, facts=replace(facts(), budgets=budgets, language_tokens=tokens)))
    assert [budget.native_spent for budget in found.budgets] == [1.0]
    assert [(entry.language, entry.tokens) for entry in found.language_tokens] == [("fi", 0), ("mt", 1)]


def test_there_is_an_end_to_what_is_read() -> None:
    many = SimpleNamespace(budgets=tuple(SimpleNamespace(run=f"r{n}") for n in range(2 * MAX_BUDGETS)))
    assert len(facts_of(SiteStatus(ledger_size=0, facts=many)).budgets) == MAX_BUDGETS
    no_list = SimpleNamespace(budgets="budgets")
    assert facts_of(SiteStatus(ledger_size=0, facts=no_list)).budgets == ()
