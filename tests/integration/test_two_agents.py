# SPDX-License-Identifier: Apache-2.0
"""Two agents on one directory, as real processes: who is refused, who takes over, what an older one may still sign."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from mishap_world import CONSORTIUM, SERVER, KillableService, MishapWorld
from services import command_line, tail

from federation import dsse
from federation.ids import COORDINATOR
from federation.leaves import Reason
from federation.mailbox.layout import message_name
from federation.mailbox.state import MailboxState, read_state
from federation.messages import Header, Message, RoundDeclined
from federation.wire import message_to_bytes
from site_agent import layout
from site_agent.identity import load_identity
from site_agent.site_config import SITE_FILE

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("two agents")]

STALE_SECONDS = 2
SECOND = "alpha-on-login2"
TAKEN_OVER = 1


@dataclass(kw_only=True)
class TwoAgents(MishapWorld):
    """A world whose site loses patience soon."""

    def __enter__(self) -> "TwoAgents":
        super().__enter__()
        path = self.base / "alpha" / SITE_FILE
        path.write_text(path.read_text().replace("[agent]\n", f"[agent]\nlock_stale_seconds = {STALE_SECONDS}\n"))
        return self

    def start_second(self, *prefix: str) -> KillableService:
        """Another agent on the same directory."""
        argv = [*prefix, *command_line("site-agent", "serve", self.base / "alpha", "--poll-seconds", "0.03")]
        service = KillableService(name=SECOND, argv=argv, log=self.base / f"{SECOND}.log")
        self.services[SECOND] = service
        service.start()
        return service

    def said(self, name: str) -> str:
        """Everything that a service wrote."""
        return tail(self.services[name].log)

    def end_of(self, name: str) -> int:
        """The exit code of a service that ends by itself."""
        process = self.services.pop(name)._process
        assert process is not None
        return process.wait(60.0)

    def stop_process(self, name: str) -> int:
        """SIGSTOP; returns when the process stands."""
        pid = self.services[name].pid
        os.kill(pid, signal.SIGSTOP)
        self.wait_for(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "a stop")
        return pid


def containers() -> list[str]:
    """argv that gives a command process ids of its own, as a container or another host does."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("needs unshare of util-linux")
    argv = [unshare, "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
    if subprocess.run([*argv, sys.executable, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip("needs a kernel that lets this user make namespaces")
    return argv


def test_a_second_agent_on_the_same_machine_is_refused_at_once(tmp_path: Path) -> None:
    with TwoAgents(base=tmp_path) as world:
        world.start("alpha")
        world.wait_for(lambda: "epoch 1" in world.said("alpha"), "a first agent")
        began = time.monotonic()
        log = world.start_second().log
        assert world.end_of(SECOND) == TAKEN_OVER
        assert time.monotonic() - began < 30
        said = tail(log)
        assert f"found process {world.services['alpha'].pid} on " in said
        assert "it runs on this machine" in said
        assert "Traceback" not in said
        world.stop("alpha")


def test_an_agent_whose_processes_cannot_be_seen_watches_the_counter(tmp_path: Path) -> None:
    elsewhere = containers()
    with TwoAgents(base=tmp_path) as world:
        world.start("alpha")
        world.wait_for(lambda: "epoch 1" in world.said("alpha"), "a first agent")
        log = world.start_second(*elsewhere).log
        assert world.end_of(SECOND) == TAKEN_OVER
        said = tail(log)
        assert "watching it" in said
        assert "its counter is rising" in said
        world.kill("alpha")
        log.unlink()
        world.start_second(*elsewhere)
        world.wait_for(lambda: "epoch 2" in world.said(SECOND), "a takeover")
        assert f"for up to {STALE_SECONDS} s" in world.said(SECOND)
        world.kill(SECOND)


def test_an_agent_that_was_suspended_signs_nothing_after_a_takeover(tmp_path: Path) -> None:
    with TwoAgents(base=tmp_path) as world:
        world.start(SERVER, "alpha")
        world.wait_for(lambda: world.courier("alpha").connected, "a connection")
        pid = world.stop_process("alpha")
        world.start_second()
        world.wait_for(lambda: "epoch 2" in world.said(SECOND), "a takeover")
        world.wait_for(lambda: peer_epoch(world) == 2, "a word of the new agent")
        os.kill(pid, signal.SIGCONT)
        assert world.end_of("alpha") == TAKEN_OVER
        said = tail(tmp_path / "alpha.log")
        assert "expected no other process at work in it" in said
        assert "Traceback" not in said
        world.services[SECOND].supervise()  # it never noticed
        world.stop(SECOND)

        # What the old one would have signed, had it woken up in the middle of a pass, reaches the coordinator anyway.
        state = coordinators_state(world)
        sequence = state.peer_previous_last + 50
        raw = signed_by_epoch(world, 1, sequence)
        world.coordinator.write(f"mailbox/alpha/in/{message_name(sequence, raw)}", raw)
        log = tmp_path / SERVER / "security.log"
        words = f"epoch 1: expected to end at {state.peer_previous_last}, found message {sequence}"
        world.wait_for(lambda: log.exists() and words in log.read_text(), "a refusal")
        world.stop(SERVER)


def coordinators_state(world: MishapWorld) -> MailboxState:
    """What the coordinator knows of its mailbox with alpha."""
    return read_state(world.coordinator, "mailbox/alpha/state.json")


def peer_epoch(world: MishapWorld) -> int:
    return coordinators_state(world).peer_epoch


def signed_by_epoch(world: MishapWorld, epoch: int, sequence: int) -> bytes:
    """A message of the site in a given epoch."""
    header = Header(
        consortium=CONSORTIUM,
        sender="alpha",
        recipient=COORDINATOR,
        sequence=sequence,
        received_through=0,
        epoch=epoch,
    )
    body = RoundDeclined(run="tiny", round=1, reason=Reason.LATE, sentence="")
    key = load_identity(world.site("alpha"), "alpha").update
    return dsse.sign_envelope(dsse.MESSAGE_TYPE, message_to_bytes(Message(header=header, body=body)), key)


# --- one pass at a time -----------------------------------------------------------------------------------------------


def test_passes_from_cron_watch_together(tmp_path: Path) -> None:
    """Nothing runs between two of them; the clock that they share is the machine's."""
    elsewhere = containers()
    with TwoAgents(base=tmp_path) as world:
        world.start("alpha")
        world.wait_for(lambda: "epoch 1" in world.said("alpha"), "a first agent")
        world.kill("alpha")

        def tick() -> tuple[int, str]:
            argv = [*elsewhere, *command_line("site-agent", "tick", world.base / "alpha")]
            done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
            return done.returncode, done.stdout + done.stderr

        code, said = tick()
        assert code == TAKEN_OVER
        assert "not known yet" in said
        began = time.monotonic()
        world.wait_for(partial(ticked, tick), "a takeover")
        assert time.monotonic() - began > STALE_SECONDS / 2
        assert world.agent_state("alpha").epoch == 2
        assert [name for name in world.site("alpha").list(layout.LOCK) if name.endswith(".seen")] == []


def ticked(tick: Callable[[], tuple[int, str]]) -> bool:
    return tick()[0] == 0
