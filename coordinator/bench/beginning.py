# SPDX-License-Identifier: Apache-2.0
"""The leaves of a generated consortium before its first round: roster, run, answers, approvals, start."""

from collections.abc import Iterator
from typing import Final

from coordinator.bench.setting import OPERATORS, RUN, Setting
from federation import leaves as lv
from federation import wire
from federation.leaves import Reason
from federation.merkle import blob_digest

MINUTE_US: Final = 60_000_000


def beginning(setting: Setting, roster: lv.RosterInstalledV1) -> Iterator[lv.Leaf]:
    """One after the other, the first one at 0."""
    manifest = blob_digest(wire.manifest_to_bytes(setting.manifest))
    first, second = OPERATORS
    yield lv.Leaf(at_us=0, body=roster)
    created = lv.RunCreatedV1(run=RUN, manifest_digest=manifest, plan=setting.plan, operator=first, command="create-1")
    yield lv.Leaf(at_us=5 * MINUTE_US, body=created)
    for index, site in enumerate(setting.sites):
        answer = lv.SiteAnsweredV1(run=RUN, site=site, manifest_digest=manifest, accepted=True, reason=Reason.NONE)
        yield lv.Leaf(at_us=6 * MINUTE_US + index * 7_300_000, body=answer)
    yield lv.Leaf(at_us=180 * MINUTE_US, body=lv.RunApprovedV1(run=RUN, operator=first, command="approve-1"))
    yield lv.Leaf(at_us=200 * MINUTE_US, body=lv.RunApprovedV1(run=RUN, operator=second, command="approve-2"))
    yield lv.Leaf(at_us=201 * MINUTE_US, body=lv.RunStartedV1(run=RUN, operator=second, command="start-1"))
