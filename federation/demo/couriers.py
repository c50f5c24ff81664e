# SPDX-License-Identifier: Apache-2.0
"""How the demo's sites reach the coordinator: over gRPC on loopback, the last one without any network by the spool.

Half-way through the run the first site changes from gRPC to the spool, as an operator would do it.
"""

from collections.abc import Callable
from typing import Any, Final

from federation.demo.children import Child, command_line
from federation.demo.settings import DemoSettings
from federation.demo.stages import Demo
from federation.no_network import NO_NETWORK_VARIABLE, network_namespace_prefix

GRPC: Final = "grpc"
SPOOL: Final = "spool"
LISTEN: Final = "127.0.0.1:0"


def couriers_at_start(settings: DemoSettings) -> dict[str, str]:
    """Courier per site: the last of several sites has no network."""
    *connected, last = settings.sites
    return {**dict.fromkeys(connected, GRPC), last: SPOOL if connected else GRPC}


def start_coordinator(demo: Demo) -> Child:
    """Serves the coordinator on loopback, on whatever port is free."""
    argv = command_line("coordinator", "serve", demo.paths.coordinator, "--listen", LISTEN)
    return demo.children.start("coordinator", argv)


def enrol(demo: Demo) -> None:
    """Sites on gRPC enrol with an invite each; the others get the roster by hand."""
    run, paths = demo.children.run, demo.paths
    for site, courier in couriers_at_start(demo.settings).items():
        if courier == SPOOL:
            run("site-agent", "roster", "install", paths.site(site), paths.roster, "--root", demo.fingerprint)
            continue
        invite = paths.base / f"{site}.invite"
        run("coordinator", "site", "invite", site, "--out", invite, *demo.as_operator)
        run("site-agent", "enroll", paths.site(site), "--invite", invite, "--root", demo.fingerprint)
        run("site-agent", "courier", "set", paths.site(site), GRPC)


def start_agents(demo: Demo) -> list[Child]:
    """Site agents; what goes by the spool can open no socket, and a carrier copies its mailbox.

    Under Slurm its commands have to reach the controller, so there the guard stands alone, without the namespace.
    """
    prefix = [] if demo.settings.slurm else network_namespace_prefix()
    started = []
    for site, courier in couriers_at_start(demo.settings).items():
        serve = command_line("site-agent", "serve", demo.paths.site(site), "--poll-seconds", "0.2")
        if courier == SPOOL:
            started.append(start_carrier(demo, site))
            argv, guard = [*prefix, *serve], {NO_NETWORK_VARIABLE: "1"}
            started.append(demo.children.start(site, argv, **guard))
        else:
            started.append(demo.children.start(site, serve))
    return started


def start_carrier(demo: Demo, site: str) -> Child:
    """Copies one site's mailbox to the coordinator and back."""
    argv = command_line("site-agent", "carrier", demo.paths.site(site), demo.paths.coordinator)
    return demo.children.start(f"carrier-{site}", argv)


class MidRunSwitch:
    """Moves the first site from gRPC to the spool once half of the rounds are committed."""

    def __init__(self, demo: Demo, say: Callable[[str], None], parties: list[Child]) -> None:
        self._demo, self._say, self._parties = demo, say, parties
        self.after_round: int | None = None

    @property
    def site(self) -> str:
        """The site that changes its courier."""
        return self._demo.settings.sites[0]

    def look(self, document: dict[str, Any]) -> None:
        """Does it when it is time, once."""
        due = max(1, self._demo.settings.num_rounds // 2)
        if self.after_round is not None or document["commits"] < due:
            return
        self.after_round = document["commits"]
        self._demo.children.run("site-agent", "courier", "set", self._demo.paths.site(self.site), SPOOL)
        self._parties.append(start_carrier(self._demo, self.site))
        self._say(f"  {self.site} changes its courier from gRPC to the spool")

    def couriers(self) -> dict[str, list[str]]:
        """Couriers that each site used, in their order."""
        used = {site: [courier] for site, courier in couriers_at_start(self._demo.settings).items()}
        if self.after_round is not None:
            used[self.site].append(SPOOL)
        return used
