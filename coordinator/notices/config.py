# SPDX-License-Identifier: Apache-2.0
"""`[alerts]` and `[[notifications]]` of coordinator.toml, and the rules between their keys.

Where a value may be a secret, no sentence repeats it.
"""

import ipaddress
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Final, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import Field

from federation.config import Problem, Section, Slug
from federation.ids import is_slug

MAX_TARGETS: Final = 20
MAX_URL_CHARS: Final = 2_000

Text = Annotated[str, Field(max_length=MAX_URL_CHARS)]


class AlertsSection(Section):
    """`[alerts]`: how patient notices are, and how insistent.

    `hold_seconds`: what is the case is told after it has held for so long, and its end after it has been gone for so
    long. `repeat_hours`: what goes on is told again. `language_regression_percent`: bits per byte of a language worse
    by more than this from one evaluation to the next one are told.
    """

    hold_seconds: Annotated[int, Field(ge=0, le=86_400)] = 60
    repeat_hours: Annotated[float, Field(ge=0.1, le=8_784)] = 24.0
    language_regression_percent: Annotated[float, Field(ge=0, le=1_000)] = 2.0


class NotificationSection(Section):
    """`[[notifications]]`: one place where people, or programs, read.

    `url`, or a file that holds it: of Slack and Discord it is a secret. `token_file`: a Matrix access token, or a
    bearer token of plain JSON. Files are relative to the coordinator's directory.
    """

    kind: Literal["slack", "discord", "matrix", "json"]
    name: str = ""
    url: Text = ""
    url_file: Text = ""
    token_file: Text = ""
    room: Text = ""
    min_severity: Literal["info", "warning", "critical"] = "warning"
    runs: Annotated[tuple[Slug, ...], Field(strict=False)] = ()
    proxy: Text = ""
    ca_file: Text = ""


def names_of(sections: Sequence[NotificationSection]) -> list[str]:
    """What each is called in logs: its own name, else its kind and place."""
    return [section.name or f"{section.kind}-{place}" for place, section in enumerate(sections, start=1)]


def notification_problems(sections: Sequence[NotificationSection]) -> Iterator[Problem]:
    """Every broken rule between keys."""
    if len(sections) > MAX_TARGETS:
        yield Problem(key="notifications", expected=f"at most {MAX_TARGETS}", found=str(len(sections)))
    counts = Counter(names_of(sections))
    for place, (section, name) in enumerate(zip(sections, names_of(sections), strict=True), start=1):
        key = f"notifications[{place}]"
        if not is_slug(name):
            yield Problem(
                key=f"{key}.name",
                expected="lower-case letters, digits and hyphens, 1 to 40 of them",
                found="another text",
            )
        elif counts[name] > 1:
            yield Problem(key=f"{key}.name", expected="a name of its own", found=f"{name} more than once")
        yield from _address_problems(section, key)
        yield from _platform_problems(section, key)


def _address_problems(section: NotificationSection, key: str) -> Iterator[Problem]:
    if bool(section.url) == bool(section.url_file):
        found = "both" if section.url else "neither"
        yield Problem(key=key, expected="either url or url_file", found=found)
    elif section.url and (fault := url_fault(section.url, is_base=section.kind == "matrix")):
        yield Problem(key=f"{key}.url", expected=EXPECTED_URL, found=fault)
    if section.proxy and not _is_proxy(section.proxy):
        yield Problem(key=f"{key}.proxy", expected="http://HOST:PORT", found="another text")


def _platform_problems(section: NotificationSection, key: str) -> Iterator[Problem]:
    if section.kind == "matrix":
        if not section.token_file:
            yield Problem(key=f"{key}.token_file", expected="a file with an access token", found="nothing")
        if not section.room.startswith("!"):
            found = "an alias" if section.room.startswith("#") else "another text" if section.room else "nothing"
            yield Problem(key=f"{key}.room", expected="the id of a room, which begins with !", found=found)
        return
    if section.room:
        yield Problem(key=f"{key}.room", expected="nothing where kind is not matrix", found="a text")
    if section.token_file and section.kind != "json":
        yield Problem(key=f"{key}.token_file", expected=f"nothing where kind is {section.kind}", found="a text")


EXPECTED_URL: Final = "https://HOST/… (http:// only to this machine itself)"


def url_fault(url: str, *, is_base: bool = False) -> str:
    """What is wrong with a webhook's address, in words that do not repeat it; "" if nothing is.

    Args:
        is_base: something is put behind it, so it has no query.
    """
    parts = _split(url)
    if parts is None or not parts.hostname or len(url) > MAX_URL_CHARS:
        return "no address"
    if parts.username is not None or parts.password is not None:
        return "an address with a user or password in it"
    if parts.fragment or (is_base and parts.query):
        return "an address with a part behind # or ?"
    if parts.scheme == "http":
        return "" if _is_loopback(parts.hostname) else "http:// to another machine"
    return "" if parts.scheme == "https" else "another scheme"


def host_of(url: str) -> str:
    """The host of an address: what of it may be shown."""
    parts = _split(url)
    return (parts.hostname or "") if parts is not None else ""


def _split(url: str) -> SplitResult | None:
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_proxy(url: str) -> bool:
    parts = _split(url)
    return parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname) and parts.path in ("", "/")
