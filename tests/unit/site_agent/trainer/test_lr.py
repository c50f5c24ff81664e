# SPDX-License-Identifier: Apache-2.0
"""The learning rate by position."""

from dataclasses import replace

import pytest

from federation.reference import inner_lr
from federation.testing.manifests import inner_settings, manifest_of, plan_of, table_of
from site_agent.trainer.lr import learning_rate

INNER = inner_settings(lr=1.0, total_steps=110, warmup_steps=10)


@pytest.mark.parametrize(
    ("position", "rate"), [(0, 0.0), (5, 0.5), (10, 1.0), (60, 0.55), (110, 0.1), (500, 0.1), (2.5, 0.25)]
)
def test_warm_up_then_cosine_then_the_floor(position: float, rate: float) -> None:
    assert learning_rate(INNER, position) == pytest.approx(rate)


def test_it_is_the_oracles_to_the_bit() -> None:
    manifest = manifest_of(plan_of({"a": 2}), [table_of([("w", (2,))])], inner=INNER)
    for position in range(0, 240):
        assert learning_rate(INNER, position / 2) == inner_lr(manifest, position / 2)


def test_a_joiner_ramps_up_from_where_it_joined() -> None:
    inner = replace(INNER, joiner_warmup_steps=4)
    full = [learning_rate(inner, position) for position in (50, 51, 52, 54, 60)]
    ramped = [learning_rate(inner, position, joined_at=50.0) for position in (50, 51, 52, 54, 60)]
    assert ramped == [0.0, full[1] / 4, full[2] / 2, full[3], full[4]]
