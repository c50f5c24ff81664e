# SPDX-License-Identifier: Apache-2.0
"""`run watch`: a coordinator that goes away and comes back, documents for programs, terminals, a reader that left."""

import io
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console
from run_documents import HOSTILE, NOW, run_document

from coordinator.cli import watch
from coordinator.cli.watch import Sight, sentence, watch_run
from federation.cli import screen
from federation.errors import DeadlineExceededError, DirectoryBusyError, PeerUnavailableError, RevokedError

Found = dict[str, Any] | Exception
LOST = PeerUnavailableError("nothing listens at host:443", advice="Is it running?")


class Coordinator:
    """Answers as it is told, one look after the other; each rest takes ten seconds."""

    def __init__(self, *answers: Found) -> None:
        self.answers, self.now = list(answers), NOW

    def look(self) -> dict[str, Any]:
        found = self.answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def rest(self) -> None:
        self.now += 10

    def watch(self, as_json: bool = False) -> None:
        watch_run(self.look, self.rest, as_json, clock=lambda: self.now)


def ended(**changes: Any) -> dict[str, Any]:
    return run_document(state="aborted", **changes)


# --- away and back ----------------------------------------------------------------------------------------------------


def test_in_lines_it_says_so_once_and_for_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    Coordinator(run_document(), LOST, LOST, LOST, run_document(), ended()).watch()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "nothing listens at host:443 Is it running?"
    assert lines[2].startswith("demo  RUNNING")
    assert lines[3] == "the coordinator answers again, after 30 seconds without"
    assert lines[4].startswith("demo  ABORTED")


def test_documents_go_on_and_the_outage_is_told_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    Coordinator(run_document(), LOST, LOST, run_document(), ended()).watch(as_json=True)
    found = capsys.readouterr()
    assert [json.loads(line)["state"] for line in found.out.splitlines()] == ["running", "running", "aborted"]
    assert found.err.splitlines() == [
        "nothing listens at host:443 Is it running?",
        "the coordinator answers again, after 20 seconds without",
    ]


@pytest.mark.parametrize(
    "error", [DeadlineExceededError("no reply within 30 s"), DirectoryBusyError("another command")]
)
def test_what_passes_by_itself_ends_nothing(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    Coordinator(run_document(), error, ended()).watch(as_json=True)
    assert str(error) in capsys.readouterr().err


@pytest.mark.parametrize("as_json", [False, True])
def test_what_no_patience_mends_ends_it(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RevokedError):
        Coordinator(run_document(), RevokedError("operator olga: revoked")).watch(as_json)


def test_a_first_look_that_fails_ends_it() -> None:
    with pytest.raises(PeerUnavailableError):
        Coordinator(LOST).watch()


def test_another_command_does_not_hide_that_the_coordinator_is_away() -> None:
    sight = Sight(run_document(), lambda: NOW)
    there = Coordinator(LOST, DirectoryBusyError("another command"))
    for _ in range(2):
        sight.look(there.look)
    assert sight.contact().trouble.startswith("nothing listens")


def test_the_picture_counts_from_the_last_word() -> None:
    there = Coordinator(run_document(), LOST, LOST)
    sight = Sight(there.look(), lambda: there.now)
    for _ in range(2):
        there.rest()
        sight.look(there.look)
    there.rest()
    contact = sight.contact()
    assert (contact.lost_for, contact.seen_at) == (20.0, NOW)
    assert contact.trouble.startswith("nothing listens")


# --- readers ----------------------------------------------------------------------------------------------------------


def test_each_document_is_one_line_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    Coordinator(run_document(reason=HOSTILE), ended()).watch(as_json=True)
    lines = capsys.readouterr().out.split("\n")
    assert len(lines) == 3
    assert json.loads(lines[0])["reason"] == HOSTILE


@pytest.mark.parametrize("as_json", [False, True])
def test_a_reader_that_left_ends_it_as_a_broken_pipe(as_json: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the command line turns into an exit code, without a traceback."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        with pytest.raises(BrokenPipeError):
            Coordinator(*[run_document()] * 3).watch(as_json)
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)


def test_a_sentence_is_one_line_whatever_is_in_it() -> None:
    document = run_document([HOSTILE, "beta"], run=HOSTILE, reason=HOSTILE, state="paused")
    found = sentence(document)
    assert found.isprintable()
    assert len(found) < 2000


# --- a terminal -------------------------------------------------------------------------------------------------------


class Terminal:
    """A console that thinks it is one, and what was written to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **environment: str) -> None:
        self.file = io.StringIO()
        environ = {"TERM": "xterm-256color", **environment}
        self.console = Console(
            file=self.file, width=80, height=24, force_terminal=True, _environ=environ, markup=False, highlight=False
        )
        monkeypatch.setattr(watch, "terminal", lambda: self.console)
        monkeypatch.setattr("coordinator.cli.show.terminal", lambda: self.console)

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 30
        while text not in self.file.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert text in self.file.getvalue()


def _interrupted_after(until: Callable[[], None]) -> Callable[[], None]:
    def rest() -> None:
        until()
        raise KeyboardInterrupt

    return rest


def test_ctrl_c_leaves_the_picture_and_the_terminal_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch)
    there = Coordinator(run_document())
    with pytest.raises(KeyboardInterrupt):
        watch_run(there.look, _interrupted_after(lambda: terminal.wait_for("RUNNING")), False)
    written = terminal.file.getvalue()
    entered, left = written.index("\x1b[?1049h"), written.index("\x1b[?1049l")
    assert entered < left
    assert "\x1b[?25h" in written[entered:]
    assert "18/100 rounds committed" in written[left:]


def test_nothing_hostile_reaches_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch)
    there = Coordinator(run_document(["alpha", HOSTILE], reason=HOSTILE, problems=[HOSTILE] * 50))
    with pytest.raises(KeyboardInterrupt):
        watch_run(there.look, _interrupted_after(lambda: terminal.wait_for("RUNNING")), False)
    written = terminal.file.getvalue()
    assert "\x1b]0;" not in written
    assert "\x07" not in written
    assert "\u202e" not in written
    assert "[red]evil[/red]" in written


def test_without_colours_it_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch, NO_COLOR="1")
    there = Coordinator(run_document(problems=["site beta is revoked"]))
    with pytest.raises(KeyboardInterrupt):
        watch_run(there.look, _interrupted_after(lambda: terminal.wait_for("RUNNING")), False)
    written = terminal.file.getvalue()
    assert "! site beta is revoked" in written
    assert not any(f"\x1b[{colour}m" in written or f";{colour}m" in written for colour in range(30, 38))


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch, TERM="dumb")
    assert not screen.can_redraw(terminal.console)


def test_a_document_that_cannot_be_drawn_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch)
    broken = run_document()
    broken["round_log"] = [{"round": 1}]
    with pytest.raises(KeyboardInterrupt):
        watch_run(Coordinator(broken).look, _interrupted_after(lambda: terminal.wait_for("cannot be drawn")), False)
    assert "Traceback" not in terminal.file.getvalue()
