# SPDX-License-Identifier: Apache-2.0
"""A certificate that is renewed under a running dashboard."""

import ssl
from pathlib import Path

import pytest
from dashboard_process import DashboardProcess, small
from services import wait_for

from coordinator.dashboard.identity import _make
from coordinator.network_config import NETWORK_FILE
from federation.certificates import generate_tls_key, pem
from federation.tls_keys import key_pem

pytestmark = pytest.mark.processes


def placed(directory: Path, now: float) -> bytes:
    """Another key and its certificate; what a browser sees of it."""
    key = generate_tls_key()
    certificate = _make(key, ["127.0.0.1"], now)
    for name, data in (("web.key", key_pem(key)), ("web.crt", pem(certificate))):
        fresh = directory / f"{name}.new"
        fresh.write_bytes(data)
        fresh.rename(directory / name)
    return pem(certificate)


def test_a_renewed_certificate_is_served_without_a_restart(tmp_path: Path) -> None:
    directory = tmp_path / "coordinator"
    generated = small(directory, num_rounds=1, num_sites=2)
    generated.close()
    file = directory / NETWORK_FILE
    before, section, after = file.read_text().partition("[dashboard]")
    for key, name in (("certificate", "web.crt"), ("key", "web.key")):
        after = after.replace(f'\n{key} = ""', f'\n{key} = "{name}"', 1)
    file.write_text(before + section + after)
    first = placed(directory, 1_790_000_000.0)
    with DashboardProcess(directory=directory) as dashboard:
        host, _, port = dashboard.url.removeprefix("https://").rpartition(":")

        def served() -> bytes:
            return ssl.get_server_certificate((host, int(port))).encode()

        assert served() == first
        (directory / "web.crt").write_bytes(b"junk")
        assert served() == first
        second = placed(directory, 1_790_000_100.0)
        wait_for(lambda: served() == second, 30.0, "the renewed certificate", lambda: None, tmp_path)
