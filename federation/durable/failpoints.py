# SPDX-License-Identifier: Apache-2.0
"""Named places where a test may end the process, so that every window between two durable operations can be visited.

Without the environment variable and without a callback, a failpoint does nothing. Real processes are steered by
`FEDERATION_FAILPOINTS="agent.after-sign=kill,coordinator.after-seal=kill@3"`: `kill` sends SIGKILL to the own process,
`raise` raises `InjectedFailureError`, `@3` waits for the third hit in this process. Simulators install a callback.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from federation.errors import ConfigError

ENVIRONMENT_VARIABLE: Final = "FEDERATION_FAILPOINTS"

FAILPOINTS: Final[dict[str, str]] = {
    "coordinator.before-verdict": "an update is checked, its verdict is in no leaf yet",
    "coordinator.after-verdict": "a verdict leaf is durable, nobody was told",
    "coordinator.after-seal": "the frozen list of a round is durable, aggregation has not begun",
    "coordinator.mid-aggregation": "some chunks of a new version are written",
    "coordinator.before-commit-leaf": "new state and blob are durable, the commit leaf is not",
    "coordinator.after-commit-leaf": "the commit leaf is durable, nobody was told",
    "coordinator.before-tail": "new leaves are durable, no site has been sent them",
    "coordinator.after-state-recorded": "the digests of momentum and residual are in the ledger",
    "agent.after-intent": "the intent to submit is in the journal, no job was submitted",
    "agent.after-submit": "a job was submitted, its handle is not in the journal",
    "agent.before-sign": "an update's digest is in the journal, it is not signed",
    "agent.after-sign": "an update is signed, it is not in the mailbox",
    "agent.before-outcome": "a round has ended, the job was not told",
    "agent.after-outcome": "a round's outcome is on disk for the job",
    "agent.before-cosign": "a checkpoint is verified and durable, it is not cosigned",
    "job.after-claim": "an allocation is claimed, no training was done",
    "job.mid-window": "some inner steps of a window are done",
    "job.before-command": "a window's files lie ready for a site's executable, which has not been started",
    "job.after-command": "a window of a site's executable is taken over, no training checkpoint has it",
    "job.rank-mid-window": "a rank other than 0 has taken an inner step and said nothing of it",
    "job.after-training-checkpoint": "the training checkpoint of a boundary is durable, nothing of its payload is",
    "job.after-encode": "a payload is written, its update file is not",
    "job.after-publish": "an update file is durable",
    "job.before-merge": "an outcome was read, the parameters are unchanged",
    "job.after-merge": "the parameters are merged, no training checkpoint has them",
}
"""Every failpoint with what is true when it is reached. An unregistered name is a bug."""


class InjectedFailureError(RuntimeError):
    """What `name=raise` raises: an unexpected error, as our own bug would be."""


@dataclass(kw_only=True)
class _Armed:
    """One failpoint that will act: how, and after how many more hits."""

    action: str
    hits_left: int


_callback: Callable[[str], None] | None = None
_armed: dict[str, _Armed] | None = None


def failpoint(name: str) -> None:
    """Marks a place that crash tests can visit.

    Raises:
        KeyError: the name is not in `FAILPOINTS`.
        InjectedFailureError: the environment says `name=raise`.
        ConfigError: the environment variable cannot be read.
    """
    if name not in FAILPOINTS:
        raise KeyError(f"failpoint {name!r} is not registered in federation.durable.failpoints.FAILPOINTS")
    if _callback is not None:
        _callback(name)
    armed = _from_environment()
    if name in armed:
        _hit(name, armed[name])


def install(callback: Callable[[str], None]) -> None:
    """Calls `callback(name)` at every failpoint of this process, until `uninstall`."""
    global _callback
    _callback = callback


def uninstall() -> None:
    """Removes the callback and forgets hits counted so far; the environment is read again at the next failpoint."""
    global _callback, _armed
    _callback = None
    _armed = None


def parse(text: str) -> dict[str, tuple[str, int]]:
    """Reads `name=kill,name2=kill@3,name3=raise` into {name: (action, hit number from 1)}.

    Raises:
        ConfigError: a name is unknown, an action is neither kill nor raise, or a hit number is not 1 or more.
    """
    found: dict[str, tuple[str, int]] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, what = item.partition("=")
        action, _, count = what.partition("@")
        if name not in FAILPOINTS:
            raise ConfigError(f"{ENVIRONMENT_VARIABLE}: expected a registered failpoint, found {name!r:.80}")
        if action not in ("kill", "raise"):
            raise ConfigError(f"{ENVIRONMENT_VARIABLE}: {name}: expected kill or raise, found {action!r:.80}")
        if count and not (count.isascii() and count.isdigit() and int(count) >= 1):
            raise ConfigError(f"{ENVIRONMENT_VARIABLE}: {name}: expected a hit number from 1, found {count!r:.80}")
        found[name] = (action, int(count or 1))
    return found


def _from_environment() -> dict[str, _Armed]:
    global _armed
    if _armed is None:
        spec = parse(os.environ.get(ENVIRONMENT_VARIABLE, ""))
        _armed = {name: _Armed(action=action, hits_left=count) for name, (action, count) in spec.items()}
    return _armed


def _hit(name: str, armed: _Armed) -> None:
    armed.hits_left -= 1
    if armed.hits_left != 0:
        return
    if armed.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise InjectedFailureError(f"failpoint {name}: {FAILPOINTS[name]}")
