# SPDX-License-Identifier: Apache-2.0
"""`[dashboard]` of coordinator.toml: what is wrong is said once, by its key, and nothing else is said."""

from pathlib import Path

import pytest

from coordinator.dashboard.public_fields import PUBLIC_FIELDS
from coordinator.dashboard.settings import DashboardSection
from coordinator.network_config import NETWORK_FILE, load_coordinator_config, network_text
from federation.config import ProblemsError
from federation.errors import ConfigError


def section(directory: Path, text: str) -> DashboardSection:
    (directory / NETWORK_FILE).write_text(f"[dashboard]\n{text}\n")
    return load_coordinator_config(directory).dashboard


def test_without_a_word_there_is_no_dashboard_and_nothing_public(tmp_path: Path) -> None:
    (tmp_path / NETWORK_FILE).write_text(network_text())
    for found in (load_coordinator_config(tmp_path).dashboard, section(tmp_path, "")):
        assert (found.listen, found.url, found.certificate, found.key, found.public) == ("", "", "", "", [])


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:8444", "127.0.0.1:0", "[::1]:8444", "[::]:1", "host.example.org:65535", ""]
)
def test_addresses_to_listen_on(tmp_path: Path, listen: str) -> None:
    assert section(tmp_path, f'listen = "{listen}"').listen == listen


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://dashboard.example.org", "dashboard.example.org"),
        ("https://Dashboard.Example.org:8444/", "dashboard.example.org"),
        ("https://10.0.0.7:8444", "10.0.0.7"),
        ("https://[2001:db8::7]", "2001:db8::7"),
        ("", ""),
    ],
)
def test_addresses_for_browsers(tmp_path: Path, url: str, host: str) -> None:
    assert section(tmp_path, f'url = "{url}"').host == host


WRONG = [
    ('listen = "8444"', "listen", "ADDRESS:PORT"),
    ('listen = ":8444"', "listen", "ADDRESS:PORT"),
    ('listen = "127.0.0.1:65536"', "listen", "ADDRESS:PORT"),
    ('listen = "127.0.0.1:-1"', "listen", "ADDRESS:PORT"),
    ('listen = "a b:1"', "listen", "ADDRESS:PORT"),
    ("listen = 8444", "listen", "text"),
    *((f'url = "{url}"', "url", "an address as https://") for url in (
        "dashboard.example.org", "http://dashboard.example.org", "https://", "https:///x", "https://a.example/x",
        "https://a.example?x=1", "https://a.example/#x", "https://[", "https://[::1", "https://a.example:99999",
        "https://a.example:0", "https://a.example:x", "https://user:word@a.example", "https://münchen.example",
        "https://a b.example", "javascript:alert(1)",
    )),
    ('certificate = "x.crt"', "dashboard", "certificate and key together, or neither"),
    ('key = "x.pem"', "dashboard", "certificate and key together, or neither"),
    ('public = ["state", "names"]', "public", "not names"),
    ('public = "state"', "public", "list"),
    ("colour = 1", "colour", "listen"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "key", "words"), WRONG, ids=[text for text, _, _ in WRONG])
def test_a_wrong_value_is_one_sentence(tmp_path: Path, text: str, key: str, words: str) -> None:
    with pytest.raises(ProblemsError) as caught:
        section(tmp_path, text)
    (problem,) = caught.value.problems
    said = str(caught.value)
    assert said.startswith(f"{NETWORK_FILE}: dashboard")
    assert key in problem.key
    assert words in said
    assert "expected" in said
    assert "\n" not in said


def test_all_wrong_values_are_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ProblemsError) as caught:
        section(tmp_path, 'listen = "x"\nurl = "y"\npublic = ["z"]')
    assert [problem.key for problem in caught.value.problems] == [f"dashboard.{k}" for k in ("listen", "url", "public")]
    assert [problem.line for problem in caught.value.problems] == [2, 3, 4]
    assert ", ".join(PUBLIC_FIELDS) in str(caught.value)


def test_the_command_line_may_name_another_address(tmp_path: Path) -> None:
    found = section(tmp_path, 'listen = "127.0.0.1:1"\nurl = "https://a.example"').with_listen("[::1]:0")
    assert (found.listen, found.url) == ("[::1]:0", "https://a.example")


@pytest.mark.parametrize("listen", ["nowhere", ":1", "127.0.0.1:70000", "x" * 1000])
def test_another_address_that_is_none_is_one_sentence(listen: str) -> None:
    with pytest.raises(ConfigError, match="--listen: expected ADDRESS:PORT, found") as caught:
        DashboardSection().with_listen(listen)
    assert len(str(caught.value)) < 150
