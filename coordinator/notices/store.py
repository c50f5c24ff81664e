# SPDX-License-Identifier: Apache-2.0
"""`dashboard/notices.json`: what was said, and what is still to be said where. So a restart says nothing twice.

It is no evidence and is not fsynced: after a power loss something may be said once more.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

from pydantic import TypeAdapter, ValidationError

from coordinator.notices.memory import Memory, Saying, Told
from federation.durable import FileSystem
from federation.errors import LimitExceededError, ObjectNotFoundError

LOG: Final = logging.getLogger("coordinator.notices")

NOTICES: Final = "dashboard/notices.json"
MAX_BYTES: Final = 64 * 1024 * 1024
VERSION: Final = 1


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What the file holds: what was said and is not over, and per target what it was not told yet, oldest first."""

    version: int = VERSION
    told: tuple[Told, ...] = ()
    unsent: Mapping[str, tuple[Saying, ...]] = field(default_factory=dict)

    def memory(self) -> Memory:
        """The memory to go on with. What was about to end or get worse begins to wait anew."""
        return Memory(
            told={t.notice.key: Told(notice=t.notice, worst=t.worst, told_at=t.told_at) for t in self.told},
        )


_KEPT: Final[TypeAdapter[Kept]] = TypeAdapter(Kept)


def load(fs: FileSystem) -> Kept:
    """What was kept; nothing where there is no file, or none of this release's that can be read."""
    try:
        data = fs.read(NOTICES, max_bytes=MAX_BYTES)
        kept = _KEPT.validate_json(data)
    except ObjectNotFoundError:
        return Kept()
    except (ValidationError, LimitExceededError):
        kept = Kept(version=0)
    if kept.version != VERSION:
        LOG.warning("%s cannot be read: what is the case now is told again", NOTICES)
        return Kept()
    return kept


def save(fs: FileSystem, memory: Memory, unsent: Mapping[str, Sequence[Saying]]) -> None:
    """Replaces the file. Raises StorageError."""
    document = {
        "version": VERSION,
        "told": [asdict(entry) for entry in memory.told.values()],
        "unsent": {name: [asdict(saying) for saying in sayings] for name, sayings in unsent.items() if sayings},
    }
    fs.place(NOTICES, json.dumps(document, separators=(",", ":")).encode())
