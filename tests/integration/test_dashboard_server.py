# SPDX-License-Identifier: Apache-2.0
"""The dashboard's process: it opens no private key but its own, and ends with the process that started it."""

import http.client
import os
import ssl
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from dashboard_process import DashboardProcess, small, token_of
from services import run_command
from watched_directory import WatchedDirectory

from coordinator.bench.setting import RUN
from coordinator.dashboard.links import ADDRESS
from federation.roster_document import Role

pytestmark = pytest.mark.processes

PRIVATE = {"coordinator.pem", "ledger.pem", "tls.pem", "tls-issuer.pem", "enrolment-issuer.pem"}
CERTIFICATES = {"tls-issuer.crt", "enrolment-issuer.crt"}
"""Who issues the consortium's certificates is no secret; it lies beside the keys."""

PAGES = ("/", f"/run/{RUN}", f"/run/{RUN}/rounds", f"/run/{RUN}/missing", f"/run/{RUN}/round/1", "/sites", "/site/alps")
PAGES += ("/languages", "/ledger", "/ledger/3", "/ledger/checkpoint", "/ledger/3/proof.json", "/metrics")
PAGES += ("/audit", "/audit/leaf/3.bin", f"/run/{RUN}?table=sites&format=csv", f"/run/{RUN}?chart=loss")


class Auditor:
    """Looks at a dashboard, over one connection."""

    def __init__(self, url: str, token: str) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        parts = urlsplit(url)
        self._connection = http.client.HTTPSConnection(str(parts.hostname), parts.port, timeout=30, context=context)
        form = {"content-type": "application/x-www-form-urlencoded"}
        entered = self._answer("POST", "/enter", urlencode({"token": token}), form)
        self._cookie = {"cookie": entered.getheader("set-cookie", "").partition(";")[0]}

    def status(self, path: str) -> int:
        """Of a page that is read whole."""
        return self._answer("GET", path, None, self._cookie).status

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()

    def _answer(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> http.client.HTTPResponse:
        self._connection.request(method, path, body, headers)
        found = self._connection.getresponse()
        found.read()
        return found


def test_no_private_key_of_the_coordinator_is_opened(tmp_path: Path) -> None:
    directory = tmp_path / "coordinator"
    found = small(directory)
    keys = directory / "keys"
    assert {path.name for path in keys.iterdir()} == PRIVATE | CERTIFICATES
    with WatchedDirectory(keys) as watched:
        with DashboardProcess(directory=directory) as dashboard:
            auditor = Auditor(dashboard.url, token_of(found, Role.AUDITOR))
            assert {path: auditor.status(path) for path in PAGES} == dict.fromkeys(PAGES, 200)
            auditor.close()
        assert watched.opened() == CERTIFICATES
        (keys / "ledger.pem").read_bytes()
        assert watched.opened() == {"ledger.pem"}, "whoever opens a key is noticed"
    found.close()


def test_it_ends_when_the_process_that_started_it_is_gone(tmp_path: Path) -> None:
    directory = tmp_path / "coordinator"
    small(directory, num_rounds=1, num_sites=1).close()
    somebody = str(os.getpid())  # not its parent: commands are forked from another process
    said = run_command("coordinator", "dashboard", "serve", directory, "--listen", "127.0.0.1:0", "--parent", somebody)
    assert "dashboard of eu: https://127.0.0.1:" in said
    assert not (directory / ADDRESS).exists()


def test_a_second_one_says_that_it_is_the_second(tmp_path: Path) -> None:
    """New links lead to it; where it ends first, the address of the first is not lost with it."""
    directory = tmp_path / "coordinator"
    small(directory, num_rounds=1, num_sites=1).close()
    with DashboardProcess(directory=directory) as first:
        said = run_command("coordinator", "dashboard", "serve", directory, "--listen", "127.0.0.1:0", "--parent", "1")
        assert f"another dashboard of this directory answers at {first.url}" in said
    (directory / ADDRESS).write_text("https://127.0.0.1:1")  # of one that was killed
    said = run_command("coordinator", "dashboard", "serve", directory, "--listen", "127.0.0.1:0", "--parent", "1")
    assert "another dashboard" not in said
