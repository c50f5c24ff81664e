# SPDX-License-Identifier: Apache-2.0
"""The dashboard's web application: every request passes the doors, then one table says what it shows. GET only, but
for coming in and leaving."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from coordinator.dashboard.assets import asset
from coordinator.dashboard.doors import Doors, refused_sentence
from coordinator.dashboard.events import Hub, Viewer
from coordinator.dashboard.gallery import Gallery, canonical
from coordinator.dashboard.headers import SecurityHeaders
from coordinator.dashboard.links import MAX_CHARS, Visitor
from coordinator.dashboard.pages.audit import update_document
from coordinator.dashboard.pages.ledger import leaf_bytes, proof_document
from coordinator.dashboard.render import render_message, render_page
from coordinator.dashboard.sessions import COOKIE, LONGEST_SECONDS
from federation.errors import AccessDeniedError, FederationError, LimitExceededError, ObjectNotFoundError, UsageError
from federation.exposition import Exposition
from federation.roster_document import Role

LOG: Final = logging.getLogger("coordinator.dashboard")
SECURITY: Final = logging.getLogger("federation.security")

MAX_FORM_BYTES: Final = 3 * MAX_CHARS
_BYTES: Final = "application/octet-stream"
_ASSET_SECONDS: Final = 3600
_PIECE_BYTES: Final = 64 * 1024
FORM_SECONDS: Final = 10.0
EXPORT_REQUESTS: Final = 10.0
"""An export makes its page anew, with all rows: it counts for so many requests."""


@dataclass
class Dashboard:
    """What requests are answered with."""

    doors: Doors
    gallery: Gallery
    hub: Hub
    clock: Callable[[], float]
    metrics: Callable[[str], Exposition] | None = None

    def application(self) -> ASGIApp:
        """The ASGI application. The headers are outermost, beyond what answers for our own bugs."""
        routes = [
            Route("/enter", self.enter, methods=["GET", "POST"]),
            Route("/leave", self.leave, methods=["POST"]),
            Route("/static/{name}", self.static),
            Route("/health", self.health),
            Route("/metrics", self.scraped),
            Route("/events", self.events),
            Route("/ledger/checkpoint", self.checkpoint),
            Route("/ledger/{index}/proof.json", self.proof),
            Route("/audit/leaf/{index}.bin", self.leaf),
            Route("/audit/update/{digest}", self.update),
            Route("/{path:path}", self.page),
        ]
        handlers: dict[Any, Any] = {FederationError: self.refused, Exception: self.broken, 405: self.not_here}
        return SecurityHeaders(Starlette(routes=routes, exception_handlers=handlers))

    # --- coming in ----------------------------------------------------------------------------------------------------

    def visitor(self, request: Request) -> Visitor:
        """Who asks.

        Raises:
            AccessDeniedError: nobody whom we know.
            FederationError: a certificate that does not count.
        """
        found = self.doors.visitor(*_credentials(request), _peer(request))
        if found is None:
            raise _StrangerError("This dashboard is closed.", advice="Open a one-time link, or use a certificate.")
        return found

    async def enter(self, request: Request) -> Response:
        """The door: a form, and what it sends."""
        self.doors.check_peer(_peer(request))
        if request.method in ("GET", "HEAD"):
            return _door(200)
        if _comes_from_elsewhere(request):
            return _door(403, "A link is only taken from this page.")
        try:
            secret = self.doors.by_link(await _token(request), _peer(request))
        except LimitExceededError as error:  # not into the security log: it would push out what others did
            return _door(429, refused_sentence(error))
        except FederationError as error:
            SECURITY.warning("dashboard: %s: %s", _peer(request), error)
            return _door(403, refused_sentence(error))
        self.doors.sessions.end(request.cookies.get(COOKIE, ""))
        answer = RedirectResponse("/", status_code=303)
        limit = int(LONGEST_SECONDS)
        answer.set_cookie(COOKIE, secret, max_age=limit, secure=True, httponly=True, samesite="lax", path="/")
        return answer

    async def leave(self, request: Request) -> Response:
        """Ends the session."""
        self.doors.check_peer(_peer(request))
        if _comes_from_elsewhere(request):
            raise AccessDeniedError("A session is only ended from its own pages.")
        self.doors.sessions.end(request.cookies.get(COOKIE, ""))
        answer = RedirectResponse("/enter", status_code=303)
        answer.delete_cookie(COOKIE, secure=True, httponly=True, samesite="lax", path="/")
        return answer

    # --- pages --------------------------------------------------------------------------------------------------------

    async def page(self, request: Request) -> Response:
        """Any page of the site map, a table of it as CSV or JSON, or a chart's figures."""
        address = _address(request)
        is_public = request.url.path == "/public"
        visitor = None if is_public else self.visitor(request)
        if is_public:
            self.doors.check_peer(_peer(request))
        auditor = visitor is not None and visitor.is_auditor
        if "table" in request.query_params:
            self.doors.check_rate(self._share(request), EXPORT_REQUESTS)
        if "chart" in request.query_params or "table" in request.query_params:
            return self._part(request, address, auditor)
        shown = self.gallery.show(address, auditor, self.clock())
        html = render_page(
            shown.page,
            shown.main,
            visitor=visitor,
            consortium=self.gallery.follower.view.consortium,
            number=shown.number,
            public=is_public,
        )
        return _html(html)

    def _part(self, request: Request, address: str, auditor: bool) -> Response:
        if "chart" in request.query_params:
            figures = self.gallery.figures(address, auditor, self.clock())
            if figures is not None:
                data, headers = _packed(request, figures.data, figures.packed)
                return Response(data, media_type="application/json", headers=headers)
        page = self.gallery.page(address, auditor, self.clock(), whole=True)
        table = page.table(request.query_params.get("table", ""))
        if table is None:
            raise UsageError("This page has no table or chart of that name.")
        if request.query_params.get("format") == "csv":
            return _file(table.as_csv().encode(), "text/csv; charset=utf-8", f"{table.id}.csv")
        return _file(table.as_json().encode(), "application/json", f"{table.id}.json")

    async def events(self, request: Request) -> Response:
        """The stream of changes of one page."""
        address = request.query_params.get("page", "/")
        is_public = address.partition("?")[0] == "/public"
        visitor = None if is_public else self.visitor(request)
        auditor = visitor is not None and visitor.is_auditor
        if is_public:
            self.doors.check_peer(_peer(request))
        self.gallery.show(address, auditor, self.clock())  # refused before the stream begins, if at all
        who = (lambda: _EVERYBODY) if is_public else (lambda: self._still(request))
        share = "" if is_public else self._share(request)
        viewer = Viewer(address=canonical(address), auditor=auditor, who=who, share=share)
        self.hub.check_room(share)
        return StreamingResponse(self.hub.stream(viewer), media_type="text/event-stream")

    def _still(self, request: Request) -> Visitor | None:
        try:
            return self.doors.known(*_credentials(request))
        except FederationError:
            return None

    def _share(self, request: Request) -> str:
        return self.doors.share_of(*_credentials(request), _peer(request))

    # --- evidence -----------------------------------------------------------------------------------------------------

    async def checkpoint(self, request: Request) -> Response:
        """The newest signed checkpoint that agrees with the leaves."""
        self.visitor(request)
        note = self.gallery.follower.view.log.note
        if not note:
            raise UsageError("The ledger has no signed checkpoint yet.")
        return _file(note, "text/plain; charset=utf-8", "checkpoint.txt")

    async def proof(self, request: Request) -> Response:
        """An inclusion proof."""
        auditor = self.visitor(request).is_auditor
        index = str(request.path_params["index"])
        document = proof_document(self.gallery.asked({}, auditor, self.clock()), index)
        return _file(document.encode(), "application/json", f"leaf-{index}-proof.json")

    async def leaf(self, request: Request) -> Response:
        """The exact bytes of a leaf."""
        asked = self.gallery.asked({}, self._auditor(request), self.clock())
        index = str(request.path_params["index"])
        return _file(leaf_bytes(asked, index), _BYTES, f"leaf-{index}.bin")

    async def update(self, request: Request) -> Response:
        """The exact bytes of a signed update."""
        asked = self.gallery.asked({}, self._auditor(request), self.clock())
        digest = str(request.path_params["digest"])
        return _file(update_document(asked, digest), _BYTES, f"update-{digest[:12]}.dsse")

    def _auditor(self, request: Request) -> bool:
        if not self.visitor(request).is_auditor:
            raise AccessDeniedError("This page is for auditors of the consortium.")
        return True

    # --- the rest -----------------------------------------------------------------------------------------------------

    async def static(self, request: Request) -> Response:
        """Scripts and styles: the same for everybody."""
        found = asset(request.path_params["name"])
        if found is None:
            raise UsageError("There is no file of that name.")
        headers = {"cache-control": f"public, max-age={_ASSET_SECONDS}", "etag": found.tag, "vary": "accept-encoding"}
        if request.headers.get("if-none-match") == found.tag:
            return Response(status_code=304, headers=headers)
        data, encoding = _packed(request, found.data, found.packed)
        headers |= {**encoding, "content-length": str(len(data))}
        return StreamingResponse(_pieces(data), media_type=found.media_type, headers=headers)

    async def health(self, request: Request) -> Response:
        """Whether this process answers; says nothing about the consortium."""
        return PlainTextResponse("ok\n")

    async def scraped(self, request: Request) -> Response:
        """What Prometheus asks for, with a viewer's certificate."""
        self.visitor(request)
        if self.metrics is None:
            raise UsageError("There are no metrics here.")
        found = self.metrics(request.headers.get("accept", ""))
        return Response(found.body, headers={"content-type": found.content_type})

    async def refused(self, request: Request, error: Exception) -> Response:
        """What a person is told whose request is refused."""
        if isinstance(error, _StrangerError):
            return RedirectResponse("/enter", status_code=303) if _wants_page(request) else _said(401, error)
        if isinstance(error, LimitExceededError):
            return _said(429, error)
        if isinstance(error, UsageError | ObjectNotFoundError):
            return _said(404, error)
        return _said(403, error)

    async def broken(self, request: Request, error: Exception) -> Response:
        """Our own bug: into the log, never onto the page."""
        LOG.error("%s could not be shown", request.url.path, exc_info=error)
        words = ["This page could not be made. That is a fault of the dashboard; the coordinator's log has it."]
        return _html(render_message("door.html", title="Not shown", sentences=words, form=False, back="/"), 500)

    async def not_here(self, request: Request, error: Exception) -> Response:
        """Another method than GET."""
        return _said(405, UsageError("Nothing can be changed here."))


class _StrangerError(AccessDeniedError):
    """Nobody whom we know; they are shown the door."""


_EVERYBODY: Final = Visitor(name="public", role=Role.VIEWER)


def _credentials(request: Request) -> tuple[bytes, str]:
    """The certificate of the connection and the secret of the cookie, empty where there is none."""
    return getattr(request.state, "certificate", b""), request.cookies.get(COOKIE, "")


def _comes_from_elsewhere(request: Request) -> bool:
    return request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")


def _packed(request: Request, data: bytes, packed: bytes) -> tuple[bytes, dict[str, str]]:
    """What is sent to this browser, and the headers that say so."""
    if "gzip" in request.headers.get("accept-encoding", ""):
        return packed, {"vary": "accept-encoding", "content-encoding": "gzip"}
    return data, {"vary": "accept-encoding"}


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    """In parts: who reads slowly, and needs no session for it, must not make us hold megabytes for each connection."""
    for start in range(0, len(data), _PIECE_BYTES):
        yield data[start : start + _PIECE_BYTES]


def _peer(request: Request) -> str:
    return request.client.host if request.client else ""


def _address(request: Request) -> str:
    return f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "") and request.headers.get("sec-fetch-dest", "") != "empty"


def _said(status: int, error: Exception) -> Response:
    text = refused_sentence(error) if isinstance(error, FederationError) else ""
    title = {401: "Closed", 404: "Not found", 405: "Not allowed", 429: "Too many requests"}.get(status, "Refused")
    document = render_message("door.html", title=title, sentences=text.split("\n"), form=False, back="/")
    return _html(document, status)


def _door(status: int, *sentences: str) -> Response:
    words = sentences or ("This dashboard is closed. A one-time link opens it: coordinator dashboard link --as DIR.",)
    return _html(render_message("door.html", title="Come in", sentences=words, form=True, back=""), status)


def _html(text: str, status: int = 200) -> Response:
    return Response(text, status_code=status, media_type="text/html; charset=utf-8")


def _file(data: bytes, media_type: str, name: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(data, media_type=media_type, headers=headers)


async def _token(request: Request) -> str:
    """The field of the form, read with a limit; of a whole link what stands behind its #.

    Raises:
        UsageError: no such form.
    """
    try:
        async with asyncio.timeout(FORM_SECONDS):
            data = await _read(request)
    except (ClientDisconnect, TimeoutError):
        raise UsageError("form: expected all of it at once") from None
    try:
        found = parse_qs(data.decode(), max_num_fields=5).get("token", [""])[0]
    except ValueError:
        raise UsageError("form: expected one with a link") from None
    return found.rpartition("#")[2].strip()


async def _read(request: Request) -> bytes:
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > MAX_FORM_BYTES:
            raise UsageError(f"form: expected at most {MAX_FORM_BYTES} bytes")
    return data
