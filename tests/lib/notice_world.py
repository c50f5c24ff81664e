# SPDX-License-Identifier: Apache-2.0
"""A run in memory (`decider_world`) as the notices see it, and webhooks on loopback that answer as they are told."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from decider_world import SITES, World

from coordinator.notices.conditions import conditions
from coordinator.notices.memory import Event, Saying
from coordinator.notices.notice import Kind, Notice, Severity, notice
from coordinator.notices.snapshot import Snapshot
from coordinator.notices.thresholds import DEFAULTS, Thresholds
from federation import leaves as lv
from federation.messages import AllocationReport, AllocationState, ParticipationReport, Phase, SiteStatus
from federation.rounds import apply


def snapshot(world: World, **changes: Any) -> Snapshot:
    """The world as it is, seen by another process."""
    values = {"state": world.state, "observations": world.seen, "witnessed": world.seen.witnessed}
    return Snapshot(**(values | changes))


def found(world: World, kind: Kind, thresholds: Thresholds = DEFAULTS, **changes: Any) -> list[Notice]:
    """Notices of one kind, now."""
    return [n for n in conditions(snapshot(world, **changes), world.now, thresholds) if n.kind == kind]


def leaf(world: World, body: lv.Body) -> None:
    """Folds a leaf that the decider is not asked for."""
    world.state = apply(world.state, lv.Leaf(at_us=int(world.now * 1e6), body=body))


def report(world: World, site: str, **changes: Any) -> None:
    """A ready site's report with other fields."""
    allocation = AllocationReport(run="demo", allocation="a1", state=AllocationState.READY, seconds_left=-1)
    status = replace(SiteStatus(ledger_size=0, allocations=(allocation,)), **changes)
    world.seen = world.seen.seen(site, status, world.now)


def loss_report(round_number: int, step: int, loss: float) -> ParticipationReport:
    return ParticipationReport(run="demo", round=round_number, phase=Phase.TRAINING, step=step, loss=loss)


def committed_rounds(world: World, number: int, seconds: float) -> None:
    """So many rounds that take so long each, and the next one open."""
    world.ready()
    world.tick()
    for round_number in range(number):
        world.now += seconds
        for site in SITES:
            world.update(site, round_number)
        world.tick()
        world.commit(round_number)
        world.ready()
        world.tick()


def saying(number: int = 0, severity: Severity = Severity.CRITICAL, at: float = 1_000.0, **texts: Any) -> Saying:
    """Something to say; `texts` are fields of its notice."""
    fields = {
        "what": f"run demo: thing {number}",
        "why": "because",
        "advice": "Do it.",
        "run": "demo",
    }
    made = notice(Kind.RUN_PAUSED, severity, since=at - 90, **(fields | texts))
    return Saying(id=f"id-{number}", event=Event.BEGINS, at=at, severity=severity, notice=made)


# -- webhooks ----------------------------------------------------------------------------------------------------------


@dataclass
class Webhook:
    """A webhook that answers one after the other of `answers`, and 200 when there are none left.

    An answer is a status, (status, headers), "hang" (no answer until the test ends), "trickle" (a header that never
    ends, byte by byte) or "cut" (the connection ends).
    """

    answers: list[Any] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    taken: list[bytes] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    over: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        with self.changed:
            self.asked.append((method, path, headers, body))
            said = self.answers.pop(0) if self.answers else 200
            if said == 200:
                self.taken.append(body)
            self.changed.notify_all()
        return said

    def wait_for(self, holds: Callable[["Webhook"], bool], seconds: float = 20.0) -> None:
        """Until it holds, or fails."""
        with self.changed:
            assert self.changed.wait_for(lambda: holds(self), seconds), (len(self.asked), len(self.taken))


@contextmanager
def webhook(*answers: Any, tls: ssl.SSLContext | None = None) -> Iterator[Webhook]:
    """A real HTTP server on loopback, with TLS if it is given a certificate."""
    hook = Webhook(answers=list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            said = hook.answer(self.command, self.path, dict(self.headers), body)
            if said == "hang":
                hook.over.wait(60)
            if said == "trickle":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
                with suppress(OSError):
                    while not hook.over.wait(0.02):
                        self.wfile.write(b"y")
            if said in ("hang", "trickle", "cut"):
                self.close_connection = True
                return
            status, headers = said if isinstance(said, tuple) else (said, {})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_PUT = do_POST
        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hook.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}/hook"
    try:
        yield hook
    finally:
        hook.over.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Waits for what another thread does."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "still not so"
        threading.Event().wait(0.01)
