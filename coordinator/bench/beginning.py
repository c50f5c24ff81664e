# SPDX-License-Identifier: Apache-2.0
"""The leaves of a generated consortium before its first round: roster, invite, run, answers, approvals, start."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from coordinator.bench.setting import OPERATORS, RUN, Setting
from federation import leaves as lv
from federation import wire
from federation.ids import short
from federation.leaves import Reason
from federation.merkle import blob_digest

MINUTE_US: Final = 60_000_000


def beginning(setting: Setting, roster: lv.RosterInstalledV1) -> Iterator[lv.Leaf]:
    """One after the other, the first one at 0."""
    manifest = blob_digest(wire.manifest_to_bytes(setting.manifest))
    first, second = OPERATORS
    yield lv.Leaf(at_us=0, body=roster)
    yield lv.Leaf(at_us=MINUTE_US, body=_invite(setting))
    created = lv.RunCreatedV1(run=RUN, manifest_digest=manifest, plan=setting.plan, operator=first, command="create-1")
    yield lv.Leaf(at_us=5 * MINUTE_US, body=created)
    for index, site in enumerate(setting.sites):
        answer = lv.SiteAnsweredV1(run=RUN, site=site, manifest_digest=manifest, accepted=True, reason=Reason.NONE)
        yield lv.Leaf(at_us=6 * MINUTE_US + index * 7_300_000, body=answer)
    yield lv.Leaf(at_us=180 * MINUTE_US, body=lv.RunApprovedV1(run=RUN, operator=first, command="approve-1"))
    yield lv.Leaf(at_us=200 * MINUTE_US, body=lv.RunApprovedV1(run=RUN, operator=second, command="approve-2"))
    yield lv.Leaf(at_us=201 * MINUTE_US, body=lv.RunStartedV1(run=RUN, operator=second, command="start-1"))


def moved(leaf: lv.Leaf, origin_us: int) -> lv.Leaf:
    """The leaf as it is if the history begins at `origin_us`."""
    body = leaf.body
    if isinstance(body, lv.InviteIssuedV1):
        body = replace(body, expires_at_us=body.expires_at_us + origin_us)
    return lv.Leaf(at_us=leaf.at_us + origin_us, body=body)


def _invite(setting: Setting) -> lv.InviteIssuedV1:
    """Of somebody who never comes."""
    return lv.InviteIssuedV1(
        kind=lv.PartyKind.SITE,
        party=f"guest-{short(setting.digest('guest'))}",
        token_digest=setting.digest("token"),
        expires_at_us=7 * 24 * 60 * MINUTE_US,
        operator=OPERATORS[0],
        command="invite-1",
    )
