# SPDX-License-Identifier: Apache-2.0
"""One-time links: each check, in its order."""

import base64
import json
from collections.abc import Callable

import pytest

from coordinator.dashboard.links import CONTEXT, MAX_CHARS, MAX_SECONDS, USED, Grant, LinkDesk, make_token, may_give
from federation import signing
from federation.durable.simulated import SimulatedFileSystem
from federation.errors import AccessDeniedError
from federation.roster_document import Role, Roster
from federation.testing.rosters import MemoryConsortium

EU = MemoryConsortium(operators=("alice",))
NOW_US = 1_790_000_000_000_000
MINUTE_US = 60_000_000


def roster() -> Roster:
    found = EU.roster(now_us=NOW_US)
    auditor = EU.operator_entry("edda", (Role.AUDITOR,))
    return Roster(**{**vars(found), "operators": (*found.operators, auditor)})


def grant(**changes: object) -> Grant:
    usual = {"consortium": "eu", "operator": "alice", "role": Role.VIEWER, "nonce": "n"}
    return Grant(**usual | {"expires_at_us": NOW_US + MINUTE_US} | changes)  # type: ignore[arg-type]


def token(holder: str = "operator/alice", **changes: object) -> str:
    return make_token(grant(**changes), EU.key(holder))


def signed(document: object) -> str:
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    parts = (payload, signing.sign(EU.key("operator/alice"), CONTEXT + payload))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def refusal(found: str, fs: SimulatedFileSystem | None = None, now_us: int = NOW_US) -> str:
    with pytest.raises(AccessDeniedError) as caught:
        LinkDesk(fs or SimulatedFileSystem()).accept(found, roster(), now_us)
    assert "coordinator dashboard link" in caught.value.diagnostics()
    str(caught.value).encode()  # half characters would not
    return str(caught.value)


def test_a_link_says_who_gave_it_and_what_it_opens() -> None:
    visitor = LinkDesk(SimulatedFileSystem()).accept(token(), roster(), NOW_US)
    assert (visitor.name, visitor.role, visitor.is_auditor) == ("alice", Role.VIEWER, False)
    found = LinkDesk(SimulatedFileSystem()).accept(
        token("operator/edda", operator="edda", role=Role.AUDITOR), roster(), NOW_US
    )
    assert found.is_auditor


@pytest.mark.parametrize(
    "found",
    ["", ".", "a", "a.b.c", "ä.ö", "!.!", "AAAA." + "A" * MAX_CHARS, "\x00.\x00", token()[: len(token()) // 2]],
)
def test_1_its_form(found: str) -> None:
    assert "not whole" in refusal(found) or "says nothing" in refusal(found)


DOCUMENT = {"consortium": "eu", "operator": "alice", "role": "viewer", "expires_at_us": NOW_US + 1, "nonce": "n"}


@pytest.mark.parametrize(
    "document",
    [
        [],
        "text",
        None,
        {},
        b"\xff",
        b"[" * 1000,
        b'{"expires_at_us": Infinity, ' + json.dumps(DOCUMENT).encode()[1:].replace(str(NOW_US + 1).encode(), b"1e999"),
        DOCUMENT | {"role": "owner"},
        DOCUMENT | {"role": []},
        DOCUMENT | {"expires_at_us": "soon"},
        DOCUMENT | {"expires_at_us": None},
    ],
)
def test_1_what_it_says(document: object) -> None:
    assert "says nothing that this release understands" in refusal(signed(document))


@pytest.mark.parametrize("operator", ["mallory", "", "site/alps", "\ud800", "<script>", "x" * 1000])
def test_2_who_signed_it_is_in_the_roster(operator: str) -> None:
    assert "is not in roster version 1" in refusal(signed(DOCUMENT | {"operator": operator}))


def test_3_its_signature() -> None:
    for found in (token("operator/edda"), token()[:-4] + "AAAA", token().replace(".", ".AAAA")):
        assert "not that of the operator" in refusal(found)


def test_3_a_signature_over_something_else_is_none() -> None:
    payload = json.dumps(DOCUMENT).encode()
    parts = (payload, signing.sign(EU.key("operator/alice"), payload))  # without our context
    found = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
    assert "not that of the operator" in refusal(found)


def test_4_its_consortium() -> None:
    assert "another consortium than eu" in refusal(token(consortium="us"))


def test_5_it_expires_to_the_microsecond() -> None:
    assert "expired" in refusal(token(expires_at_us=NOW_US))
    assert "expired" in refusal(token(expires_at_us=-(10**15)))
    LinkDesk(SimulatedFileSystem()).accept(token(expires_at_us=NOW_US + 1), roster(), NOW_US)


def test_5_it_lives_no_longer_than_a_link_may() -> None:
    longest = NOW_US + MAX_SECONDS * 1_000_000 + MINUTE_US
    assert "live longer" in refusal(token(expires_at_us=longest + 1))
    assert "live longer" in refusal(token(expires_at_us=10**30))
    LinkDesk(SimulatedFileSystem()).accept(token(expires_at_us=longest), roster(), NOW_US)


@pytest.mark.parametrize("role", [Role.AUDITOR, Role.OPERATOR])
def test_6_the_role_is_theirs_to_give(role: Role) -> None:
    assert f"alice may not give the role {role.value}" in refusal(token(role=role))


def test_6_whom_the_roster_gives_a_role_may_let_others_view() -> None:
    for roles in ((Role.OPERATOR,), (Role.AUDITOR,), (Role.VIEWER,)):
        assert may_give(EU.operator_entry("x", roles), Role.VIEWER)
    assert not may_give(EU.operator_entry("x", ()), Role.VIEWER)


def again(fs: SimulatedFileSystem) -> SimulatedFileSystem:
    return fs


def rebooted(fs: SimulatedFileSystem) -> SimulatedFileSystem:
    return fs.crash()


@pytest.mark.parametrize("then", [again, rebooted])
def test_7_it_is_used_once_on_every_desk(then: Callable[[SimulatedFileSystem], SimulatedFileSystem]) -> None:
    fs = SimulatedFileSystem()
    LinkDesk(fs).accept(token(), roster(), NOW_US)
    assert "used already" in refusal(token(), then(fs))


def test_7_another_spelling_of_a_used_link_is_the_same_link() -> None:
    fs, found = SimulatedFileSystem(), token()
    LinkDesk(fs).accept(found, roster(), NOW_US)
    payload, signature = found.split(".")
    for spelt in (f"{payload}.{signature}==", f"{payload}=.{signature}"):
        assert "refused" in refusal(spelt, fs)


def test_a_refused_link_is_not_used_up() -> None:
    fs = SimulatedFileSystem()
    found = token(expires_at_us=NOW_US + MAX_SECONDS * 2_000_000)
    refusal(found, fs)
    assert fs.list(USED) == []
    LinkDesk(fs).accept(found, roster(), NOW_US + MAX_SECONDS * 1_000_000)


def test_used_links_are_forgotten_when_they_could_not_be_used_any_more() -> None:
    fs = SimulatedFileSystem()
    for number in range(3):
        LinkDesk(fs).accept(token(nonce=str(number)), roster(), NOW_US)
    assert len(fs.list(USED)) == 3
    later = NOW_US + 2 * MINUTE_US
    LinkDesk(fs).accept(token(expires_at_us=later + 1), roster(), later)
    assert len(fs.list(USED)) == 1
    assert "expired" in refusal(token(nonce="0"), fs, later)
