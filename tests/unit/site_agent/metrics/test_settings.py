# SPDX-License-Identifier: Apache-2.0
"""`[metrics]` of site.toml."""

import pytest
from pydantic import ValidationError

from site_agent.metrics.settings import MetricsSection


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("", None),
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:9464", ("::1", 9464)),
        ("node-1.example.org:80", ("node-1.example.org", 80)),
    ],
)
def test_addresses(listen: str, address: tuple[str, int] | None) -> None:
    assert MetricsSection(listen=listen).address() == address


@pytest.mark.parametrize("listen", ["9464", ":9464", "localhost", "127.0.0.1:65536", "::1:9464", "a b:1", "a:1\n"])
def test_what_is_none_is_refused(listen: str) -> None:
    with pytest.raises(ValidationError, match="ADDRESS:PORT"):
        MetricsSection(listen=listen)
