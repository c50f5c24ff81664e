# SPDX-License-Identifier: Apache-2.0
"""Says one line at each target, to see whether it arrives."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from coordinator.notices.config import NotificationSection
from coordinator.notices.delivery import Delivery, NotTakenError, RefusedError
from coordinator.notices.memory import Event, Saying
from coordinator.notices.notice import Kind, Severity, notice
from coordinator.notices.targets import load_targets


def try_all(directory: Path, sections: Sequence[NotificationSection], now: float) -> Iterator[tuple[str, str]]:
    """Tries every target once, whatever its filters; yields what it is called and what went wrong, "" if nothing.

    Raises:
        ConfigError: a file that a section names is not what it should be; nothing was sent then.
    """
    targets = load_targets(directory, sections)
    said = notice(
        Kind.TEST,
        Severity.INFO,
        what="this is a test",
        why="coordinator notify test sent it",
        advice="Nothing is to be done.",
        since=now,
    )
    saying = Saying(id=f"test-{now:.6f}", event=Event.BEGINS, at=now, severity=Severity.INFO, notice=said)
    for target in targets:
        try:
            Delivery(target).send(saying, now)
        except (NotTakenError, RefusedError) as error:
            yield target.label, str(error)
        else:
            yield target.label, ""
