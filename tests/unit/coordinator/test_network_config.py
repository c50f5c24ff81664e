# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from coordinator.network_config import (
    NETWORK_FILE,
    CoordinatorConfig,
    check_dialable,
    load_coordinator_config,
    network_text,
)
from federation.errors import ConfigError


def _load(directory: Path, text: str) -> CoordinatorConfig:
    (directory / NETWORK_FILE).write_text(text)
    return load_coordinator_config(directory)


def test_a_directory_without_one_has_no_network(tmp_path: Path) -> None:
    assert load_coordinator_config(tmp_path) == CoordinatorConfig()
    assert CoordinatorConfig().network.listen == ""
    assert CoordinatorConfig().network.invited_to == ""


@pytest.mark.parametrize(
    ("listen", "endpoint", "invited_to"),
    [
        ("", "", ""),
        ("0.0.0.0:443", "", "0.0.0.0:443"),
        ("[::]:8443", "coordinator.example.org:443", "coordinator.example.org:443"),
        ("127.0.0.1:0", "", "127.0.0.1:0"),
    ],
)
def test_a_new_file_is_read_back(tmp_path: Path, listen: str, endpoint: str, invited_to: str) -> None:
    network = _load(tmp_path, network_text(listen=listen, endpoint=endpoint)).network
    assert (network.listen, network.endpoint, network.invited_to) == (listen, endpoint, invited_to)
    assert network.limits == CoordinatorConfig().network.limits


@pytest.mark.parametrize("endpoint", ["0.0.0.0:443", "[::]:8443", "[0:0:0:0:0:0:0:0]:1", "127.0.0.1:0", "a.org:0"])
def test_what_nobody_can_dial_is_no_endpoint(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="that others can dial") as caught:
        check_dialable(endpoint)
    assert "coordinator.toml" in caught.value.advice


@pytest.mark.parametrize("endpoint", ["a.example.org:443", "127.0.0.1:8443", "[2001:db8::1]:443", ""])
def test_what_somebody_can_dial_is_one(endpoint: str) -> None:
    check_dialable(endpoint)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[network]\nlisten = "x"\n', r"network.listen: expected ADDRESS:PORT, .* \(line 2\)"),
        ('[network]\nlisten = "a:70000"\n', "network.listen"),
        ('[network]\nlisten = "https://a:443"\n', "network.listen"),
        ('[network]\nendpoint = "a:0"\n', "network.endpoint: expected HOST:PORT"),
        ("[network]\nlisten = 443\n", "network.listen: expected a text in quotes"),
        ("[network.limits]\ncalls_per_second = 0\n", "calls_per_second: expected at least 1"),
        ("[network.limits]\nmax_pending_bytes = -1\n", "max_pending_bytes: expected at least"),
        ("[network.limits]\nmax_blob_bytes = 1e12\n", "max_blob_bytes"),
        ("[network.limits]\nmax_streams = 4\n", "did you mean max_streams_per_peer"),
        ("[net]\n", "expected one of the keys network"),
        ("network =", "expected TOML"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        _load(tmp_path, text)


def test_text_cannot_be_smuggled_in() -> None:
    with pytest.raises(ConfigError, match=r"network\.endpoint"):
        network_text(endpoint='a:1"\nlisten = "b:2')
