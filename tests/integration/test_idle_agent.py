# SPDX-License-Identifier: Apache-2.0
"""What an agent costs a login node while nothing happens: memory, processor, and that it stops by itself when told."""

import os
import time
from pathlib import Path

import pytest
from mishap_world import SERVER, KillableService, MishapWorld
from services import command_line, memory_of, tail

from site_agent import layout

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("idle agent")]

LOOK_SECONDS = float(os.environ.get("IDLE_LOOK_SECONDS", "4"))
MAX_BYTES = 512 * 1024 * 1024
"""Half of what an agent may have."""

MAX_SHARE = 0.15
"""Of one processor, on a busy machine; DESIGN's word is near zero."""


def cpu_seconds(pid: int) -> float:
    """User and system time so far (fields 14 and 15 of proc_pid_stat(5))."""
    parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def start(world: MishapWorld, *options: str) -> KillableService:
    """Alpha's agent, as an operator starts it: with the pauses that are the default."""
    argv = command_line("site-agent", "serve", world.base / "alpha", *options)
    service = KillableService(name="alpha", argv=argv, log=world.base / "alpha.log")
    world.services["alpha"] = service
    service.start()
    return service


def test_an_idle_agent_costs_next_to_nothing(tmp_path: Path) -> None:
    with MishapWorld(base=tmp_path) as world:
        world.start(SERVER)
        pid = start(world).pid
        world.wait_for(lambda: world.courier("alpha").connected, "a connection")
        world.wait_for(lambda: (view := world.site_view("alpha")) and view.heard_at_us, "a first word")
        world.wait_for(lambda: not world.outgoing("alpha"), "nothing more to say")
        begin, before = time.monotonic(), cpu_seconds(pid)
        world.wait_for(lambda: time.monotonic() - begin >= LOOK_SECONDS, "the time to pass", LOOK_SECONDS + 60)
        share = (cpu_seconds(pid) - before) / (time.monotonic() - begin)
        memory = memory_of(pid)
        print(f"idle agent: {share:.2%} of a processor over {LOOK_SECONDS:.0f} s, {memory / 1e6:.0f} MB at most")
        assert share < MAX_SHARE
        assert memory < MAX_BYTES
        assert 'federation_agent_info{site="alpha"' in (tmp_path / "alpha" / layout.METRICS).read_text()
        world.stop("alpha")


def test_an_agent_that_is_given_a_time_ends_well_then(tmp_path: Path) -> None:
    with MishapWorld(base=tmp_path) as world:
        process = start(world, "--for-seconds", "2")._process
        assert process is not None
        begin = time.monotonic()
        assert process.wait(60) == 0
        assert time.monotonic() - begin >= 1
        world.services.clear()
        assert "epoch 1" in tail(tmp_path / "alpha.log")
        start(world, "--for-seconds", "0.5")._process.wait(60)  # type: ignore[union-attr]
        world.services.clear()
        assert world.agent_state("alpha").epoch == 1  # it had ended well
