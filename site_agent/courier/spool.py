# SPDX-License-Identifier: Apache-2.0
"""The spool courier: nothing runs here. Somebody else copies the mailbox directory, and this says where it is."""

from federation.durable.real import RealFileSystem
from federation.mailbox.layout import OUT, parse_message_name
from federation.rpc.status import CourierStatus
from site_agent import layout
from site_agent.courier.choice import CourierKind


def status(now_us: int) -> CourierStatus:
    """All that can be said of a courier that somebody else runs; how long the coordinator is silent shows the rest."""
    return CourierStatus(courier=CourierKind.SPOOL.value, since_us=now_us)


def where(fs: RealFileSystem, site: str) -> str:
    """What has to be carried, both ways, for a person."""
    here, there = fs.real_path(layout.MAILBOX), f"COORDINATOR_DIR/mailbox/{site}"
    return f"{here}/out to {there}/in, and {there}/out to {here}/in"


def waiting(fs: RealFileSystem) -> int:
    """Messages in out/ that the coordinator has not acknowledged yet."""
    return sum(parse_message_name(name) is not None for name in fs.list(f"{layout.MAILBOX}/{OUT}"))
