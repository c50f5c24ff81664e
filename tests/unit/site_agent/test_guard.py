# SPDX-License-Identifier: Apache-2.0
"""An agent that was suspended in the middle of a pass does nothing more once another one has its directory."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from federation.directory_lock import DirectoryLock, Owner
from federation.durable.simulated import SimulatedFileSystem
from federation.errors import DirectoryBusyError, PeerUnavailableError
from site_agent.executor import Executor

HERE = Owner(host="login1", boot="b1", pid=1, start_ticks=1)


def test_instructions_stop_at_a_takeover_and_a_failed_one_does_not_hide_it() -> None:
    fs, done = SimulatedFileSystem(), []
    lock = DirectoryLock(fs, HERE)

    def carry_out(instruction: Any, now_us: int) -> bool:
        done.append(instruction)
        if instruction == "second":
            DirectoryLock(fs, HERE, force=True)  # as another host does while this one stands still
        raise PeerUnavailableError("a failure that is tried again later")

    hands = SimpleNamespace(guard=lock.check, _carry_out=carry_out, _complain=lambda *_: None)
    with pytest.raises(DirectoryBusyError):
        Executor.carry_out(cast(Executor, hands), cast(Any, ["first", "second", "third"]), 0)
    assert done == ["first", "second"]
