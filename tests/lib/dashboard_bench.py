# SPDX-License-Identifier: Apache-2.0
"""The dashboard's application over a generated directory, without a socket; its time is set by the test."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from secrets import token_hex
from typing import Any

from read_only import ReadOnly
from starlette.testclient import TestClient

from coordinator.bench.generated import Generated
from coordinator.bench.setting import RUN
from coordinator.dashboard.app import Dashboard
from coordinator.dashboard.doors import Doors
from coordinator.dashboard.events import Hub
from coordinator.dashboard.follower import Follower
from coordinator.dashboard.gallery import Gallery
from coordinator.dashboard.links import Grant, make_token
from coordinator.dashboard.liveness import Liveness
from coordinator.rpc.membership import Membership
from federation.certificates import der
from federation.durable.real import RealFileSystem
from federation.roster_document import Role

NOW_US = 1_790_000_000_000_000
NOW = NOW_US / 1e6
PAGES = ("/", f"/run/{RUN}", f"/run/{RUN}/rounds", f"/run/{RUN}/missing", f"/run/{RUN}/round/1", "/sites")
PAGES += ("/site/alps", "/languages", "/ledger", "/ledger/3")
AUDIT = ("/audit", "/audit/leaf/3.bin")
WORKS = Liveness(works=True, since=NOW, sentence="the coordinator works")


@dataclass
class Clock:
    """Seconds since 1970; goes on a little with every request."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """One dashboard. `reads` notes the files that pages are made from; nothing but a used link may be written."""

    found: Generated
    public: tuple[str, ...] = ()
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        fs = RealFileSystem(self.found.directory)
        reads: Any = ReadOnly(fs)
        self.reads = reads
        self.follower = Follower(reads, clock=self.clock)
        self.follower.refresh()
        self.gallery = Gallery(fs=reads, follower=self.follower, public=self.public, liveness=WORKS)
        self.doors = Doors(
            fs=fs,
            membership=self.membership(),
            tls_issuer=self.follower.view.rosters.current.tls_issuer,
            enrolment_issuer=der(self.found.consortium.enrolment_issuer().certificate),
            clock=self.clock,
            steady=self.clock,
        )
        self.hub = Hub(gallery=self.gallery, clock=self.clock)
        self.dashboard = Dashboard(doors=self.doors, gallery=self.gallery, hub=self.hub, clock=self.clock)
        self.client = TestClient(
            self.dashboard.application(),
            base_url="https://dashboard.example.org",
            raise_server_exceptions=False,
            follow_redirects=False,
        )

    def membership(self, **changes: Any) -> Membership:
        view = self.follower.view
        known = {"roster": view.rosters.current, "revoked": view.state.revoked, "ledger_size": view.state.size}
        return Membership(**{"consortium": view.consortium, "rosters": (), "invites": {}, **known, **changes})

    def token(self, role: Role = Role.VIEWER, operator: str = "alice", **changes: Any) -> str:
        grant = {"consortium": self.found.consortium.name, "operator": operator, "role": role}
        grant |= {"expires_at_us": int(self.clock.now * 1e6) + 60_000_000, "nonce": token_hex(8)}
        return make_token(Grant(**grant | changes), self.found.consortium.key(f"operator/{operator}"))

    def enter(self, role: Role = Role.VIEWER) -> None:
        self.clock.now += 10
        operator = "edda" if role is Role.AUDITOR else "alice"
        answer = self.client.post("/enter", data={"token": self.token(role, operator)})
        assert answer.status_code == 303, answer.text

    def get(self, path: str, **headers: str) -> Any:
        self.clock.now += 0.06
        return self.client.get(path, headers={"accept": "text/html", **headers})


class Markup(HTMLParser):
    """Elements and attributes of a document."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


KNOWN = frozenset(
    word
    for line in (
        "html head meta title link style script body a header p nav ul ol li div button form main h1 h2 footer input",
        "section dl dt dd small span table thead tbody tr th td details summary meter time label strong",
    )
    for word in line.split()
)
"""Elements of our own pages."""


def foreign(text: str) -> Iterator[str]:
    """What no page of ours has, and a browser would run, load or obey."""
    for tag, attributes in Markup(text).elements:
        if tag not in KNOWN or (tag == "meta" and "http-equiv" in attributes):
            yield f"<{tag}>"
        if tag == "script" and not (attributes.get("src") or "").startswith("/static/"):
            yield f"<script {attributes}>"
        for name, value in attributes.items():
            outside = name in ("href", "src", "action") and not (value or "").startswith(("/", "#", "?"))
            if name.startswith("on") or outside or (name in ("href", "src") and (value or "").startswith("//")):
                yield f"<{tag} {name}={value!r}>"
