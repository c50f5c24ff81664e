# SPDX-License-Identifier: Apache-2.0
"""Which courier a site uses: the operator's choice, kept in one small file that a serving agent looks at each time.

Without the file it is the spool: nothing dials out before somebody said so.
"""

from dataclasses import dataclass
from enum import StrEnum

from federation.durable.api import FileSystem
from federation.errors import ProtocolError
from federation.rpc.status import CourierStatus
from site_agent import layout
from site_agent.json_records import read_record, write_record


class CourierKind(StrEnum):
    """The couriers that there are."""

    SPOOL = "spool"
    """Somebody else copies the mailbox directory: `site-agent carrier`, rsync, a person with a disk."""

    GRPC = "grpc"
    """The agent dials the coordinator."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The file."""

    courier: CourierKind = CourierKind.SPOOL


def read_choice(fs: FileSystem) -> CourierKind:
    """The chosen courier.

    Raises:
        ProtocolError: the file holds something else.
    """
    return (read_record(fs, layout.COURIER, Choice) or Choice()).courier


def write_choice(fs: FileSystem, courier: CourierKind) -> None:
    """Chooses; a serving agent changes over within one pass."""
    write_record(fs, layout.COURIER, Choice(courier=courier))


def read_status(fs: FileSystem) -> CourierStatus | None:
    """What the agent's courier last said of itself, None if it never ran."""
    try:
        return read_record(fs, layout.COURIER_STATUS, CourierStatus)
    except ProtocolError:  # another release's: it is written anew by the next pass
        return None


def write_status(fs: FileSystem, status: CourierStatus) -> None:
    """For commands that look at this directory."""
    write_record(fs, layout.COURIER_STATUS, status)
