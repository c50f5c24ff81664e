# SPDX-License-Identifier: Apache-2.0
"""One saying in the words and the escapes of each place where people read. Pure: requests are made, not sent.

Texts come from strangers. `plain` has taken out what does not print and has broken addresses; here every character
that a platform would read as a mention, a link or formatting is escaped, and mentions are switched off besides.
"""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from urllib.parse import quote

from coordinator.notices.memory import Event, Saying
from coordinator.notices.notice import Severity
from coordinator.notices.text import MAX_LINE_CHARS, plain, sentences
from federation.durations import in_words

USER_AGENT: Final = "federation-coordinator"
SUPPRESS_EMBEDS: Final = 1 << 2
"""Discord's message flag: no preview of what might be an address."""

_MARKDOWN: Final = re.compile(r"([\\*_~`|>\[\]()#<:-])")
_NOBODY: Final = "@\u200b"
"""An at sign and a zero-width space: shown alike, and nobody's name."""


class PlatformKind(StrEnum):
    """Where people read."""

    SLACK = "slack"
    DISCORD = "discord"
    MATRIX = "matrix"
    JSON = "json"


@dataclass(frozen=True, kw_only=True)
class WebRequest:
    """An HTTP request to be made. Address and headers may hold a secret, and are not shown."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"WebRequest(method={self.method!r}, {len(self.body)} bytes)"


def line(saying: Saying) -> str:
    """The one line: how bad, what, why, what to do."""
    notice = saying.notice
    if saying.event is Event.ENDS:
        return plain(f"RESOLVED after {in_words(saying.at - notice.since)}: {notice.what}", MAX_LINE_CHARS)
    again = {Event.REPEATS: " (still)", Event.WORSE: " (worse)"}.get(saying.event, "")
    head = f"{notice.severity.value.upper()}{again}: {notice.what}"
    return plain(sentences(head, notice.why, notice.advice), MAX_LINE_CHARS)


def request(kind: PlatformKind, url: str, saying: Saying, *, token: str = "", room: str = "") -> WebRequest:
    """What to send to one place.

    Args:
        url: of the webhook; of Matrix, its homeserver's.
        token: access token of Matrix; of plain JSON a bearer token, if there is one.
        room: id of a Matrix room.
    """
    headers = {"Content-Type": "application/json", "User-Agent": USER_AGENT}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    body = json.dumps(_DOCUMENTS[kind](saying), ensure_ascii=True).encode()
    if kind is not PlatformKind.MATRIX:
        return WebRequest(method="POST", url=url, headers=headers, body=body)
    path = f"/_matrix/client/v3/rooms/{quote(room, safe='')}/send/m.room.message/{quote(saying.id, safe='')}"
    return WebRequest(method="PUT", url=url.rstrip("/") + path, headers=headers, body=body)


def slack(saying: Saying) -> dict[str, Any]:
    """Of an incoming webhook: its three characters escaped, no formatting, no links, no previews."""
    text = line(saying).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", _NOBODY)
    return {
        "text": text,
        "mrkdwn": False,
        "parse": "none",
        "link_names": False,
        "unfurl_links": False,
        "unfurl_media": False,
    }


def discord(saying: Saying) -> dict[str, Any]:
    """Of a webhook: Markdown escaped, nobody mentioned, whatever the text says."""
    text = _MARKDOWN.sub(r"\\\1", line(saying)).replace("@", _NOBODY)
    return {"content": text, "allowed_mentions": {"parse": []}, "flags": SUPPRESS_EMBEDS}


def matrix(saying: Saying) -> dict[str, Any]:
    """An `m.room.message` event of plain text; an empty `m.mentions` keeps names in the text from calling anybody."""
    quiet = saying.severity is Severity.INFO or saying.event is Event.ENDS
    return {"msgtype": "m.notice" if quiet else "m.text", "body": line(saying), "m.mentions": {}}


def plain_json(saying: Saying) -> dict[str, Any]:
    """All fields, for programs; texts are as in the line, and for nobody to take for HTML."""
    notice = saying.notice
    return {
        "version": 1,
        "id": saying.id,
        "event": saying.event.value,
        "at": _utc(saying.at),
        "since": _utc(notice.since),
        "key": notice.key,
        "kind": notice.kind,
        "severity": saying.severity.value,
        "what": notice.what,
        "why": notice.why,
        "advice": notice.advice,
        "run": notice.subject_run,
        "site": notice.subject_site,
        "line": line(saying),
    }


_DOCUMENTS: Final = {
    PlatformKind.SLACK: slack,
    PlatformKind.DISCORD: discord,
    PlatformKind.MATRIX: matrix,
    PlatformKind.JSON: plain_json,
}


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
