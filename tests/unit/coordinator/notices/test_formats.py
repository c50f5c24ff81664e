# SPDX-License-Identifier: Apache-2.0
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from notice_world import saying

from coordinator.notices.formats import PlatformKind, line, request
from coordinator.notices.memory import Event
from coordinator.notices.notice import Severity
from coordinator.notices.text import MAX_LINE_CHARS, listed, plain, sentences

URL = "https://hooks.example.org/services/T0/SECRET"
HOSTILE = (
    "<!channel> <@U123> @everyone @here @room <script>alert(1)</script> [click](https://evil.example) "
    "**bold** _it_ ~~no~~ `code` ||spoiler|| # head\n> quote\x1b[2J\u202etxt\u200b &amp; <https://evil.example|safe>"
)


def body(kind: PlatformKind, **texts: Any) -> dict[str, Any]:
    made = request(kind, URL, saying(**texts), token="tok", room="!room:example.org")
    found = json.loads(made.body)
    assert isinstance(found, dict)
    return found


def test_a_line_says_what_why_and_what_to_do() -> None:
    said = saying()
    assert line(said) == "CRITICAL: run demo: thing 0. because. Do it."
    assert line(replace(said, event=Event.REPEATS)).startswith("CRITICAL (still): ")
    assert line(replace(said, event=Event.WORSE)).startswith("CRITICAL (worse): ")
    assert line(replace(said, event=Event.ENDS)) == "RESOLVED after 90 seconds: run demo: thing 0"


@pytest.mark.parametrize("kind", PlatformKind)
def test_ten_megabytes_of_hostile_text_stay_one_bounded_line(kind: PlatformKind) -> None:
    said = saying(what=HOSTILE * 70_000, why=HOSTILE * 2, advice="y" * 10_000_000)
    text = line(said)
    assert len(text) <= MAX_LINE_CHARS
    assert text.isprintable()
    assert "://" not in text
    assert len(request(kind, URL, said).body) < 10_000


def test_slack_sees_neither_mentions_nor_links() -> None:
    found = body(PlatformKind.SLACK, what=HOSTILE)
    assert not re.search(r"[<>]|@(?!\u200b)|&(?!(amp|lt|gt);)", found["text"])
    assert "&lt;!channel&gt;" in found["text"]
    assert found["mrkdwn"] is found["link_names"] is found["unfurl_links"] is found["unfurl_media"] is False
    assert found["parse"] == "none"


def test_discord_sees_neither_mentions_nor_markdown() -> None:
    found = body(PlatformKind.DISCORD, what=HOSTILE)
    assert found["allowed_mentions"] == {"parse": []}
    assert not re.search(r"(?<!\\)(?:\\\\)*[*_~`|>\[\]()#<:]", found["content"])
    assert "@everyone" not in found["content"]
    assert len(body(PlatformKind.DISCORD, what="*" * 500, why="*" * 500, advice="*" * 500)["content"]) <= 2000


def test_matrix_gets_plain_text_that_mentions_nobody() -> None:
    found = body(PlatformKind.MATRIX, what=HOSTILE)
    assert found["m.mentions"] == {}
    assert set(found) == {"msgtype", "body", "m.mentions"}
    assert found["msgtype"] == "m.text"
    said = saying(severity=Severity.INFO)
    assert json.loads(request(PlatformKind.MATRIX, URL, said).body)["msgtype"] == "m.notice"


def test_matrix_is_asked_by_the_sayings_id_so_that_a_repetition_is_one() -> None:
    said = saying(7)
    first = request(PlatformKind.MATRIX, "https://m.example.org/", said, token="tok", room="!a/b:example.org")
    assert first.method == "PUT"
    path = "/_matrix/client/v3/rooms/%21a%2Fb%3Aexample.org/send/m.room.message/id-7"
    assert first.url == "https://m.example.org" + path
    assert first.headers["Authorization"] == "Bearer tok"
    assert request(PlatformKind.MATRIX, "https://m.example.org/", said, token="tok", room="!a/b:example.org") == first


def test_plain_json_has_every_field() -> None:
    found = body(PlatformKind.JSON, site="alpha")
    assert found | {"line": ""} == {
        "version": 1,
        "id": "id-0",
        "event": "begins",
        "at": "1970-01-01T00:16:40Z",
        "since": "1970-01-01T00:15:10Z",
        "key": "run-paused/demo/alpha",
        "kind": "run-paused",
        "severity": "critical",
        "what": "run demo: thing 0",
        "why": "because",
        "advice": "Do it.",
        "run": "demo",
        "site": "alpha",
        "line": "",
    }


def test_a_request_does_not_show_its_secrets() -> None:
    made = request(PlatformKind.JSON, URL, saying(), token="tok")
    assert "SECRET" not in repr(made)
    assert "tok" not in repr(made)
    assert "Authorization" not in request(PlatformKind.SLACK, URL, saying()).headers


@pytest.mark.parametrize(
    ("text", "max_chars", "found"),
    [
        ("a\r\nb\tc  d", 30, "a b c d"),
        ("\x1b[31mred\x07", 30, "[31mred"),
        ("a\u2028b\u202ec\u0000d\ud800e", 30, "a b c d e"),
        ("see https://x.example", 30, "see https[:]//x.example"),
        ("x" * 11, 10, "x" * 9 + "…"),
        ("x" * 10, 10, "x" * 10),
        ("", 10, ""),
        (" " * 1000 + "x", 10, "…"),
        ("Łódź – naïve 日本", 30, "Łódź – naïve 日本"),
    ],
)
def test_plain_text(text: str, max_chars: int, found: str) -> None:
    assert plain(text, max_chars) == found


def test_lists_and_sentences() -> None:
    assert listed([]) == "nobody"
    assert listed(["a", "b"]) == "a, b"
    assert listed("abcdefg") == "a, b, c, d, e and 2 more"
    assert sentences("a", "", "b.", "c…", "d!") == "a. b. c… d!"
