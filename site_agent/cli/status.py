# SPDX-License-Identifier: Apache-2.0
"""`site-agent status`: what the agent saw and did last, once or until Ctrl-C."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from federation.cli.reader import check_reader
from federation.durations import in_words
from federation.errors import FederationError
from federation.terminal_text import one_line
from site_agent.cli.setup import AS_JSON, SITE_DIR, echo
from site_agent.cli.status_facts import Status, StatusReader
from site_agent.cli.status_lines import attention, status_lines

if TYPE_CHECKING:
    from rich.text import Text

TICKING: Final = frozenset(
    {"seconds_left", "certificate_days", "last_contact_us", "heard_at_us", "updated_at", "gpu_hours"}
)
"""Fields of a document that change by themselves: no news for who watches."""

Look = Callable[[float], Status]


@click.command()
@click.argument("site_dir", type=SITE_DIR)
@click.option("--watch", "is_watched", is_flag=True, help="Go on until Ctrl-C; with --json a document for each change.")
@click.option(
    "--every",
    "every_seconds",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    help="With --watch: seconds between two looks.",
)
@AS_JSON
def status(site_dir: Path, is_watched: bool, every_seconds: float, as_json: bool) -> None:
    """Shows what the agent of SITE_DIR saw and did last, its courier, and what expires."""
    reader = StatusReader(site_dir)
    if is_watched:
        watch_status(reader.look, lambda: time.sleep(every_seconds), as_json)
        return
    found = reader.look(time.time())
    echo(found.document(), "\n".join(status_lines(found)), as_json)


@dataclass
class Watched:
    """The newest look that succeeded, and what hindered those since."""

    status: Status
    trouble: str = ""
    lost_at: float = 0.0

    def look(self, look: Look) -> None:
        """Looks once more; a file that is damaged or out of reach now may be whole again later."""
        now = time.time()
        try:
            self.status, self.trouble = look(now), ""
        except FederationError as error:
            self.lost_at = self.lost_at if self.trouble else now
            self.trouble = one_line(error.diagnostics())

    def document(self) -> dict[str, Any]:
        """For programs, with what waits for a person."""
        return {**self.status.document(), "attention": attention(self.status)}


def watch_status(look: Look, rest: Callable[[], None], as_json: bool) -> None:
    """Looks until interrupted: a picture on a terminal, else what is new, a document a line or in words.

    Raises:
        FederationError: the first look failed.
    """
    watched = Watched(look(time.time()))
    if as_json:
        _stream(watched, look, rest, _print_document)
        return
    from federation.cli.screen import can_redraw, shown, terminal

    console = terminal()
    if not can_redraw(console):
        _stream(watched, look, rest, _NewLines().print)
        return
    with shown(console, lambda width, height: draw(watched, width, height)):
        while True:
            rest()
            watched.look(look)


def _stream(watched: Watched, look: Look, rest: Callable[[], None], tell: Callable[[Watched], None]) -> None:
    """Tells what is there, then each change; what hinders, on standard error. Ends when nobody reads it any more."""
    before, trouble = None, ""
    while True:
        if (now := _lasting(watched)) != before and not watched.trouble:
            tell(watched)
            before = now
        if watched.trouble != trouble:
            print(watched.trouble or "it can be read again", file=sys.stderr, flush=True)
            trouble = watched.trouble
        rest()
        check_reader()
        watched.look(look)


def _print_document(watched: Watched) -> None:
    print(json.dumps(watched.document(), sort_keys=True), flush=True)


class _NewLines:
    """Prints lines that were not there at the last change."""

    def __init__(self) -> None:
        self._before: frozenset[str] = frozenset()

    def print(self, watched: Watched) -> None:
        """All lines the first time."""
        lines = [*(f"! {text}" for text in attention(watched.status)), *status_lines(watched.status)]
        clock = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(watched.status.at))
        print(clock, *(line for line in lines if line not in self._before), sep="\n", flush=True)
        self._before = frozenset(lines)


def _lasting(watched: Watched) -> Any:
    """The document without what ticks; of the lock's counter only what it says of the agent."""
    agent = watched.status.agent
    return _without_ticking({**watched.document(), "agent": (agent.runs, agent.died)})


def _without_ticking(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_ticking(item) for name, item in value.items() if name not in TICKING}
    return [_without_ticking(item) for item in value] if isinstance(value, list | tuple) else value


def draw(watched: Watched, width: int, height: int | None) -> "list[Text]":
    """The picture: what waits for a person, then everything, as far as there are lines."""
    from rich.text import Text

    from federation.cli.lines import wrapped

    lines: list[Text] = []
    if watched.trouble:
        since = in_words(time.time() - watched.lost_at)
        lines += wrapped(f"CANNOT BE READ for {since}: {watched.trouble}", width, style="bold reverse")
    for sentence in attention(watched.status):
        lines += wrapped(f"! {sentence}", width, indent=2, style="bold red", limit=600)
    if lines:
        lines.append(Text(""))
    for line in status_lines(watched.status):
        indent = len(line) - len(line.lstrip())
        found = wrapped(line, width - indent, indent=2, limit=600)
        lines += [Text(" " * indent).append_text(part) for part in found]
    if height is None or len(lines) <= height:
        return lines
    return [*lines[: height - 1], Text(f"… {len(lines) - height + 1} more lines: `site-agent status`", style="dim")]
