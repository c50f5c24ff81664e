# SPDX-License-Identifier: Apache-2.0
"""What a courier says of itself, for people. Without gRPC, so that commands can show it at no cost."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CourierStatus:
    """A courier, as it stands.

    Attributes:
        courier: "grpc" or "spool".
        since_us: connected, or not, since; microseconds since 1970.
        last_contact_us: when the coordinator last answered; 0 for never.
        failures: attempts in a row that failed.
        sentence, advice, error: of the newest failure, and its class; "" while connected.
        clock_ahead_seconds: the coordinator's clock minus this machine's.
        certificate_days: left; None without a certificate.
        renewal_failed: why the certificate could not be renewed yet.
        bytes_up, bytes_down: of blobs, over the newest connection.
        max_upload_bytes_per_second: the limit in force; 0 for none.
        held_up: while connected, what the coordinator takes no more of for now, in its words; "" if nothing.
    """

    courier: str
    connected: bool = False
    endpoint: str = ""
    since_us: int = 0
    last_contact_us: int = 0
    failures: int = 0
    sentence: str = ""
    advice: str = ""
    error: str = ""
    clock_ahead_seconds: float = 0.0
    round_trip_seconds: float = 0.0
    protocol_version: int = 0
    certificate_days: float | None = None
    renewal_failed: str = ""
    bytes_up: int = 0
    bytes_down: int = 0
    max_upload_bytes_per_second: int = 0
    held_up: str = ""


@dataclass(frozen=True, kw_only=True)
class Greeting:
    """What the coordinator said first. `clock_ahead_seconds`: its clock minus ours, half the round trip allowed for."""

    protocol_version: int
    software: str
    roster_version: int
    ledger_size: int
    clock_ahead_seconds: float
    round_trip_seconds: float
