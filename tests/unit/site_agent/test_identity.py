# SPDX-License-Identifier: Apache-2.0
import pytest

from federation import signing
from federation.certificates import load_tls_key, spki
from federation.durable.simulated import SimulatedFileSystem
from federation.errors import ConfigError
from federation.key_requests import open_request
from federation.roster import KeyUse
from site_agent import layout
from site_agent.identity import make_identity, request_of


@pytest.fixture
def fs() -> SimulatedFileSystem:
    return SimulatedFileSystem()


def test_the_same_keys_give_the_same_request(fs: SimulatedFileSystem) -> None:
    made = make_identity(fs, "lumi")
    assert request_of(fs, "lumi") == made
    assert open_request(made).key(KeyUse.TLS) == spki(load_tls_key(fs, layout.TLS_KEY))


def test_a_site_of_release_0_1_gets_a_tls_key_that_channels_can_use(fs: SimulatedFileSystem) -> None:
    make_identity(fs, "lumi")
    update = fs.read(layout.UPDATE_KEY)
    fs.remove(layout.TLS_KEY)
    signing.save_private_key(fs, layout.TLS_KEY, signing.generate_key())
    request = request_of(fs, "lumi")
    assert open_request(request).key(KeyUse.TLS) == spki(load_tls_key(fs, layout.TLS_KEY))
    assert request_of(fs, "lumi") == request
    assert fs.read(layout.UPDATE_KEY) == update


def test_a_missing_tls_key_is_made(fs: SimulatedFileSystem) -> None:
    make_identity(fs, "lumi")
    fs.remove(layout.TLS_KEY)
    assert open_request(request_of(fs, "lumi")).key(KeyUse.TLS) == spki(load_tls_key(fs, layout.TLS_KEY))


def test_a_damaged_key_is_not_replaced(fs: SimulatedFileSystem) -> None:
    make_identity(fs, "lumi")
    fs.write(layout.TLS_KEY, b"junk")
    with pytest.raises(ConfigError, match=r"keys/tls.pem"):
        request_of(fs, "lumi")
    assert fs.read(layout.TLS_KEY) == b"junk"
    fs.remove(layout.UPDATE_KEY)
    with pytest.raises(ConfigError, match=r"keys/update.pem"):
        request_of(fs, "lumi")
