# SPDX-License-Identifier: Apache-2.0
"""The dashboard's own certificate: people compare its fingerprint, so it changes only when it has to."""

from pathlib import Path

import pytest

from coordinator.dashboard.identity import LIFETIME_DAYS, own_identity
from federation.durable.real import RealFileSystem

NOW = 1_790_000_000.0


@pytest.mark.parametrize("name", ["0.0.0.0", "2001:DB8:0:0::1", "dashboard.example.org"])
def test_the_fingerprint_stays_until_the_certificate_is_old_or_for_others(tmp_path: Path, name: str) -> None:
    fs = RealFileSystem(tmp_path)
    *_, first = own_identity(fs, {name}, lambda: NOW)
    assert own_identity(fs, {name}, lambda: NOW + 86_400)[2] == first
    assert own_identity(fs, {name}, lambda: NOW + (LIFETIME_DAYS - 10) * 86_400)[2] != first
    *_, second = own_identity(fs, {"other.example.org"}, lambda: NOW)
    assert second != first
