# SPDX-License-Identifier: Apache-2.0
"""The server's own certificate: of the issuer that the roster names, and renewed before it is old."""

from dataclasses import replace

import pytest
from network_bench import DAY, consortium_of, membership_of

from coordinator.rpc.tls import ServerIdentity, check_certified
from federation.certificates import generate_tls_key
from federation.errors import ConfigError

NOW = 1_800_000_000.0


def test_the_server_renews_its_certificate_when_less_than_10_days_are_left() -> None:
    consortium, now = consortium_of(), [NOW]
    identity = ServerIdentity("eu", consortium.tls_key("coordinator"), consortium.issuers(), clock=lambda: now[0])
    assert identity.not_after_us == int((NOW + 30 * DAY) * 1e6)
    now[0] += 19.9 * DAY
    assert identity.fetch() is None
    now[0] += 0.2 * DAY
    assert identity.fetch() is not None
    assert identity.not_after_us == int((NOW + 50.1 * DAY) * 1e6)
    assert identity.fetch() is None


def test_a_roster_that_names_other_keys_is_found_before_the_port_opens() -> None:
    consortium = consortium_of()
    roster, key, issuers = membership_of(consortium).roster, consortium.tls_key("coordinator"), consortium.issuers()
    check_certified(roster, key, issuers)
    assert roster.coordinator is not None
    nameless = replace(roster, coordinator=replace(roster.coordinator, tls_public=b""))
    for wrong, words in (
        ((replace(roster, tls_issuer=b""), key, issuers), "TLS issuer, found none"),
        ((roster, key, consortium_of("other").issuers()), "TLS issuer, found another"),
        ((roster, generate_tls_key(), issuers), "TLS key of the coordinator, found another"),
        ((nameless, key, issuers), "TLS key of the coordinator, found none"),
        ((replace(roster, coordinator=None), key, issuers), "TLS key of the coordinator, found none"),
    ):
        with pytest.raises(ConfigError, match=words):
            check_certified(*wrong)
