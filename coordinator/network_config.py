# SPDX-License-Identifier: Apache-2.0
"""coordinator.toml of a coordinator's directory: where it listens, what a peer may use, its threads, whom it tells."""

import ipaddress
import json
import re
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from coordinator.dashboard.settings import DashboardSection
from coordinator.notices.config import AlertsSection, NotificationSection, notification_problems
from federation.config import Section, parse_toml, raise_if_any, read_config_text
from federation.errors import ConfigError
from federation.limits import DEFAULT_LIMITS
from federation.rpc.credentials import Endpoint

NETWORK_FILE: Final = "coordinator.toml"
_GIB: Final = 1024**3


def _endpoint(value: str) -> str:
    if value:
        try:
            Endpoint.parse(value)
        except ConfigError:
            raise ValueError("HOST:PORT, or an empty text") from None
    return value


def _listen(value: str) -> str:
    """Port 0 is allowed here: the operating system chooses one."""
    try:
        _endpoint(re.sub(r":0\Z", ":1", value))
    except ValueError:
        raise ValueError("ADDRESS:PORT, or an empty text for no network") from None
    return value


Bytes = Annotated[int, Field(ge=1, lt=2**62)]


class LimitsSection(Section):
    """`[network.limits]`: what one peer (site, operator, invite) may use.

    `calls_per_second`, `bytes_per_second`: on average; bytes are counted in both directions together.
    `max_streams_per_peer`: calls at the same time. `max_pending_bytes`, `max_pending_files`: what lies in the peer's
    mailbox here and was not acted upon yet; it MUST hold a site's payloads of all rounds that may be open.
    `max_blob_bytes`: one payload.
    """

    calls_per_second: Annotated[float, Field(ge=1, le=1e6)] = 50.0
    bytes_per_second: Annotated[float, Field(ge=1e6, le=1e15)] = 2.0 * _GIB
    max_streams_per_peer: Annotated[int, Field(ge=3, le=1000)] = 32
    max_pending_bytes: Bytes = 128 * _GIB
    max_pending_files: Annotated[int, Field(ge=100, le=10_000_000)] = 20_000
    max_blob_bytes: Annotated[int, Field(ge=1, le=DEFAULT_LIMITS.max_blob_bytes)] = 128 * _GIB


class NetworkSection(Section):
    """`[network]`: `listen` is the address and port that `coordinator serve` opens, "" for no network.

    `endpoint` is the HOST:PORT that invites name, where it is not `listen`: behind a forwarded port, or where `listen`
    names no host that others reach, as 0.0.0.0 does.
    """

    listen: Annotated[str, AfterValidator(_listen)] = ""
    endpoint: Annotated[str, AfterValidator(_endpoint)] = ""
    limits: LimitsSection = LimitsSection()

    @property
    def invited_to(self) -> str:
        """HOST:PORT for invites, "" if there is none."""
        return self.endpoint or self.listen


def check_dialable(endpoint: str) -> None:
    """Refuses what nobody else can dial: no port, or the address that means all of a machine's own.

    Raises:
        ConfigError: so it is.
    """
    host, _, port = endpoint.rpartition(":")
    try:
        unspecified = ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:  # a name
        unspecified = False
    if unspecified or port == "0":
        raise ConfigError(
            f"endpoint: expected a HOST:PORT that others can dial, found {endpoint}",
            advice="Give --endpoint HOST:PORT, or set `endpoint` in coordinator.toml and serve again.",
        )


class AggregationSection(Section):
    """`[aggregation]`: `num_threads` that examine payloads and compute commits, 0 for one per processor."""

    num_threads: Annotated[int, Field(ge=0, le=1024)] = 0


class CoordinatorConfig(Section):
    """A whole coordinator.toml."""

    network: NetworkSection = NetworkSection()
    aggregation: AggregationSection = AggregationSection()
    dashboard: DashboardSection = DashboardSection()
    alerts: AlertsSection = AlertsSection()
    notifications: Annotated[tuple[NotificationSection, ...], Field(strict=False)] = ()


def load_coordinator_config(directory: Path) -> CoordinatorConfig:
    """Reads DIRECTORY/coordinator.toml; all defaults if there is none, as in a directory of release 0.1.

    Raises:
        ConfigError: with one sentence for every problem: file, key, expected, found, line.
    """
    path = directory / NETWORK_FILE
    if not path.exists():
        return CoordinatorConfig()
    text = read_config_text(path)
    config = parse_toml(text, path.name, CoordinatorConfig)
    raise_if_any(path.name, notification_problems(config.notifications), text=text)
    return config


def network_text(*, listen: str = "", endpoint: str = "") -> str:
    """Text of a new coordinator.toml.

    Raises:
        ConfigError: a value that `load_coordinator_config` would refuse.
    """
    limits = LimitsSection()
    text = f"""\
# Where the coordinator listens, and how much of it one peer may use.

[network]
# ADDRESS:PORT, such as "0.0.0.0:443"; empty: no network.
listen = {_toml(listen)}
# HOST:PORT that invites name; empty: what `listen` says.
endpoint = {_toml(endpoint)}

# What one site, operator or invite may use.
[network.limits]
calls_per_second = {limits.calls_per_second:.0f}
# Both directions together.
bytes_per_second = {limits.bytes_per_second:.0f}
# Calls at the same time.
max_streams_per_peer = {limits.max_streams_per_peer}
# Received and not acted upon yet; a site's payloads of all open rounds must fit. Files are messages and payloads.
max_pending_bytes = {limits.max_pending_bytes}
max_pending_files = {limits.max_pending_files}
# One payload.
max_blob_bytes = {limits.max_blob_bytes}

# Threads that examine payloads and compute commits; 0: one per processor.
[aggregation]
num_threads = {AggregationSection().num_threads}

# The consortium's view in a browser: read-only, closed but for certificates and one-time links.
[dashboard]
# ADDRESS:PORT that `coordinator serve` opens it on, such as "0.0.0.0:8444"; empty: none.
listen = ""
# https://HOST as browsers reach it; empty: what `listen` says.
url = ""
# PEM files, relative to this directory; empty: it makes its own certificate and prints the fingerprint.
certificate = ""
key = ""
# Fields of the page for everybody; empty: no such page.
public = []
"""
    parse_toml(text, NETWORK_FILE, CoordinatorConfig)
    return text


def _toml(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
