# SPDX-License-Identifier: Apache-2.0
"""A serving agent's courier follows its files: each is read when it has changed, and only then."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from federation.durable.real import RealFileSystem
from federation.errors import ConfigError
from federation.rpc import credentials
from federation.rpc.credentials import Endpoint
from site_agent import layout
from site_agent.courier import grpc, switch
from site_agent.courier.choice import CourierKind, read_choice, write_choice
from site_agent.courier.switch import CourierSwitch
from site_agent.site_config import SITE_FILE, SiteConfig, load_courier_section, load_site_config
from site_agent.site_text import site_config_text

MANY = 20


class Starts:
    """Stands where the network would begin: remembers with which configuration a courier was to start."""

    def __init__(self) -> None:
        self.proxies: list[str] = []

    def start(self, _: Any, config: SiteConfig, *__: Any) -> Any:
        self.proxies.append(config.courier.http_proxy)
        raise ConfigError("no network in this test")


class Site:
    """A site's directory with a switch, and how often each of its files was read."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fs, self.reads, self.starts = RealFileSystem(directory), Counter[str](), Starts()
        (directory / "data").mkdir()
        self.configure("")
        self.config = load_site_config(directory)
        monkeypatch.setattr(grpc, "start", self.starts.start)
        monkeypatch.setattr(switch, "load_courier_section", self.counted(SITE_FILE, load_courier_section))
        monkeypatch.setattr(switch, "read_choice", self.counted(layout.COURIER, read_choice))
        text = credentials.read_text
        monkeypatch.setattr(credentials, "read_text", self.counted(credentials.ENDPOINT, text))
        self.switch = CourierSwitch(self.fs, self.config, threading.Event())

    def counted(self, name: str, read: Callable[..., Any]) -> Callable[..., Any]:
        def reads(*arguments: Any) -> Any:
            self.reads[name] += 1
            return read(*arguments)

        return reads

    def configure(self, courier: str) -> None:
        text = site_config_text(site="lumi", profile="lumi", data_dir="data", languages=["de"])
        head, _, tail = text.partition("[courier]")
        rest = tail.partition("\n[")[2]
        self.fs.write(SITE_FILE, f"{head}[courier]\n{courier}\n{'[' if rest else ''}{rest}".encode())

    def follow(self, times: int = MANY) -> Counter[str]:
        """Reads during so many passes."""
        self.reads.clear()
        for _ in range(times):
            self.switch.follow()
        return +self.reads


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    found = Site(tmp_path, monkeypatch)
    with closing(found.switch):
        yield found


def test_nothing_is_read_while_nothing_changes(site: Site) -> None:
    site.follow(1)
    assert site.follow() == {}
    site.fs.write(credentials.ENDPOINT, b"127.0.0.1:1\n")
    write_choice(site.fs, CourierKind.SPOOL)
    assert site.follow() == {credentials.ENDPOINT: 1, layout.COURIER: 1}
    assert site.follow() == {}


def test_a_changed_site_toml_is_read_once_and_acted_upon(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "RESTART_SECONDS", 3600.0)
    write_choice(site.fs, CourierKind.GRPC)
    site.follow()
    assert site.starts.proxies == [""]
    site.configure('http_proxy = "http://proxy.lumi:3128"')
    assert site.follow() == {SITE_FILE: 1}
    assert site.starts.proxies == ["", "http://proxy.lumi:3128"]
    site.configure("")
    assert site.follow() == {SITE_FILE: 1}
    assert site.starts.proxies[2:] == [""]


def test_a_site_toml_that_is_written_anew_with_the_same_text_restarts_nothing(site: Site) -> None:
    write_choice(site.fs, CourierKind.GRPC)
    site.follow()
    site.configure("")
    assert site.follow() == {SITE_FILE: 1}
    assert site.starts.proxies == [""]


def test_a_mistake_is_told_once_and_changes_nothing(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    write_choice(site.fs, CourierKind.GRPC)
    site.follow()
    caplog.clear()
    site.configure('http_proxy = "socks5://proxy:1080"')
    assert site.follow() == {SITE_FILE: 1}
    assert caplog.text.count("http_proxy") == 1
    assert site.starts.proxies == [""]
    site.configure('http_proxy = "http://proxy:1080"')
    site.follow()
    assert site.starts.proxies == ["", "http://proxy:1080"]


def test_a_choice_that_cannot_be_read_leaves_the_one_before(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    write_choice(site.fs, CourierKind.GRPC)
    site.follow()
    caplog.clear()
    site.fs.write(layout.COURIER, b'{"courier": "pigeon"}')
    assert site.follow() == {layout.COURIER: 1}
    assert site.starts.proxies == [""]
    assert caplog.text.count("WARNING") == 1
    site.fs.remove(layout.COURIER)  # as before anybody chose
    assert site.follow() == {layout.COURIER: 1}
    assert site.switch._chosen == (CourierKind.SPOOL, "")


def test_another_endpoint_restarts_the_courier(site: Site) -> None:
    write_choice(site.fs, CourierKind.GRPC)
    site.follow()
    credentials.write_endpoint(site.fs, Endpoint.parse("127.0.0.1:1"))
    assert site.follow() == {credentials.ENDPOINT: 1}
    assert len(site.starts.proxies) == 2
