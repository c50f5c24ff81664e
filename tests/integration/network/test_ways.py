# SPDX-License-Identifier: Apache-2.0
"""The network as centres have it: real proxies, forwards by real ssh, names that do not resolve for a long time."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import courier_world
import pytest
from connect_proxy import ConnectProxy
from courier_world import QUICK, CourierWorld
from mishap_world import SERVER, KillableService, MishapWorld
from network_bench import consortium_of
from network_programs import SshServer, socks_forward, ssh_forward, tinyproxy
from ports import free_port
from services import command_line
from travelling_blob import noise

from federation.errors import ConfigError, FederationError, PeerUnavailableError
from federation.rpc import once

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("ways")]

MIB = 1024 * 1024
LOGIN = "lumi pass-word.1"


@pytest.fixture
def met(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CourierWorld]:
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    with courier_world.world(tmp_path) as found:
        yield found


def port_of(met: CourierWorld) -> int:
    return int(met.bench.server.address.rpartition(":")[2])


# --- HTTP CONNECT -----------------------------------------------------------------------------------------------------


def test_through_a_real_proxy_with_a_password(met: CourierWorld, tmp_path: Path) -> None:
    data = noise(3 * MIB)
    met.ours.post("q1", data)
    with tinyproxy(tmp_path, port_of(met), LOGIN) as proxy:
        way = f"http://{LOGIN.replace(' ', ':')}@127.0.0.1:{proxy.port}"
        once.sync(met.station(http_proxy=way), 60.0)
        assert met.theirs.listen() == ["q1"]
        for wrong in (f"http://127.0.0.1:{proxy.port}", f"http://lumi:wrong@127.0.0.1:{proxy.port}"):
            with pytest.raises(PeerUnavailableError, match="through proxy") as found:
                once.sync(met.station(http_proxy=wrong), 60.0)
            assert "wrong" not in str(found.value)  # a password is nothing for a log
            assert "the proxy did not open the way" in str(found.value)


def test_a_real_proxy_that_dies_and_returns(met: CourierWorld, tmp_path: Path) -> None:
    with (
        tinyproxy(tmp_path, port_of(met)) as proxy,
        met.courier(QUICK, http_proxy=f"http://127.0.0.1:{proxy.port}") as courier,
    ):
        met.ours.post("before")
        courier.wake()
        met.settle([], ["before"])
        proxy.stop()
        courier_world.wait_until(lambda: not courier.status.connected and courier.status.failures >= 2, "a lost line")
        assert f"through proxy 127.0.0.1:{proxy.port}" in courier.status.sentence
        met.ours.post("meanwhile")
        proxy.start()
        met.settle([], ["before", "meanwhile"], 60.0)


def test_a_proxy_that_cuts_every_connection_after_a_while(met: CourierWorld) -> None:
    """A blob that takes several of its lifetimes arrives all the same: what was carried is not carried again."""
    data = noise(24 * MIB)
    met.ours.post("large", data)
    with ConnectProxy(cut_after_bytes=7 * MIB) as proxy, met.courier(QUICK, http_proxy=proxy.url):
        met.settle([], ["large"], 90.0)
        assert len(proxy.asked) >= 3
        assert proxy.num_cut >= 3
        assert len(proxy.relayed) < 3 * len(data)


def test_a_proxy_that_cuts_every_long_poll(met: CourierWorld) -> None:
    """Nothing travels between two messages, and each connection lives for a moment: all of them arrive, once."""
    with ConnectProxy(cut_after_seconds=0.4) as proxy, met.courier(replace(QUICK, pull=50.0), http_proxy=proxy.url):
        for number in range(1, 5):
            cuts = proxy.num_cut
            courier_world.wait_until(partial(has_cut, proxy, cuts), "a cut")
            met.theirs.post(f"message {number}")
            met.settle([f"message {n}" for n in range(1, number + 1)], [])
        assert len(proxy.asked) <= MOST_ATTEMPTS * 2  # it reconnects, and does not hammer


def has_cut(proxy: ConnectProxy, before: int) -> bool:
    return proxy.num_cut > before


# --- forwards ---------------------------------------------------------------------------------------------------------


def test_through_a_local_forward_of_ssh(met: CourierWorld, tmp_path: Path) -> None:
    met.ours.post("q1", noise(3 * MIB))
    with ssh_forward(tmp_path, met.bench.server.address) as forward:
        once.sync(met.station(connect_to=f"127.0.0.1:{forward.port}"), 60.0)
        assert met.theirs.listen() == ["q1"]
        forward.stop()
        with pytest.raises(PeerUnavailableError, match="through the forward at"):
            once.sync(met.station(connect_to=f"127.0.0.1:{forward.port}"), 60.0)


def test_through_socks_by_ssh_and_socat(met: CourierWorld, tmp_path: Path) -> None:
    met.theirs.post("for the site", noise(MIB))
    with socks_forward(tmp_path, met.bench.server.address) as forward:
        once.sync(met.station(connect_to=f"127.0.0.1:{forward.port}"), 60.0)
    assert met.ours.listen() == ["for the site"]


def test_what_lies_behind_a_forward_must_be_this_consortiums_coordinator(met: CourierWorld, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with courier_world.world(tmp_path / "other", consortium=consortium_of("another")) as other:
        with pytest.raises(FederationError, match=r"certificate|cut off|not this consortium"):
            once.sync(met.station(connect_to=other.bench.server.address), 60.0)
        assert other.theirs.listen() == []


def test_a_forward_and_a_proxy_are_one_too_many(met: CourierWorld) -> None:
    with pytest.raises(ConfigError, match="no http_proxy beside it"):
        once.sync(met.station(http_proxy="http://127.0.0.1:1", connect_to="127.0.0.1:2"), 60.0)


def test_a_server_of_ssh_can_be_left(tmp_path: Path) -> None:
    """The library's own server ends with its block."""
    server = SshServer.below(tmp_path)
    with server.sshd:
        assert server.sshd._listens()
    assert not server.sshd._listens()


# --- names ------------------------------------------------------------------------------------------------------------

NAME = "coordinator.federation.test"
MOST_ATTEMPTS = 30
"""In the time that a test looks at: 0.2 s, 0.4 s, 0.8 s … between them, less jitter."""


@dataclass(kw_only=True)
class NamelessWorld(MishapWorld):
    """A site whose machine has a table of names of its own, in a mount namespace."""

    def start_with_names(self) -> Path:
        """Starts alpha's agent; returns its table of names."""
        hosts, resolver = self.base / "hosts", self.base / "resolv.conf"
        hosts.write_text("127.0.0.1 localhost\n")
        resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        script = f'mount --bind {hosts} /etc/hosts && mount --bind {resolver} /etc/resolv.conf && exec "$@"'
        argv = [*mounts(), "sh", "-c", script, "sh", *command_line("site-agent", "serve", self.base / "alpha")]
        self.services["alpha"] = KillableService(name="alpha", argv=argv, log=self.base / "alpha.log")
        self.services["alpha"].start()
        return hosts


def mounts() -> list[str]:
    """argv that lets a command mount files over others, for itself alone."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("needs unshare of util-linux")
    argv = [unshare, "--user", "--map-root-user", "--mount", "--"]
    if subprocess.run([*argv, "mount", "--bind", "/etc/hosts", "/etc/hosts"], capture_output=True).returncode:
        pytest.skip("needs a kernel that lets this user make mount namespaces")
    return argv


def test_a_name_that_does_not_resolve_is_asked_for_again_and_again_and_not_too_often(tmp_path: Path) -> None:
    with NamelessWorld(base=tmp_path, port=free_port()) as world:
        world.dial("alpha", f"{NAME}:{world.port}")
        world.start(SERVER)
        hosts = world.start_with_names()
        began = time.monotonic()
        world.wait_for(lambda: world.courier("alpha").failures >= 4, "attempts")
        status = world.courier("alpha")
        assert not status.connected
        assert "this name has no address" in status.sentence
        assert "name service" in status.advice
        assert status.failures <= MOST_ATTEMPTS
        silent = time.monotonic() - began
        hosts.write_text(f"127.0.0.1 localhost {NAME}\n")
        world.wait_for(partial(connected, world), "a connection", 30.0 + 2 * silent)
        world.kill("alpha")


def connected(world: MishapWorld) -> bool:
    return world.courier("alpha").connected
