# SPDX-License-Identifier: Apache-2.0
"""Who comes in, and what a person is told who stays outside."""

import re
import shlex
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from browser_tab import Tab, tab_in
from cryptography.hazmat.primitives.serialization import pkcs12
from dashboard_process import Shown
from playwright.sync_api import Browser

import coordinator
from coordinator.bench.setting import AUDITOR
from coordinator.dashboard.sessions import COOKIE
from federation.certificates import operator_subject, pem
from federation.durable.real import RealFileSystem
from federation.roster_document import Role
from federation.rpc import credentials
from federation.tls_keys import key_pem, save_tls_key

pytestmark = [pytest.mark.browser, pytest.mark.processes, pytest.mark.xdist_group("browser")]


DOCUMENT = Path(coordinator.__file__).parents[1] / "docs" / "operations" / "dashboard.md"


def refused(tab: Tab, token: str) -> str:
    """Tries a link that must not count; what the page says."""
    with tab.page.expect_response(lambda answer: answer.request.method == "POST") as found:
        tab.page.goto(f"{tab.url}/enter#{token}")
    assert found.value.status == 403
    tab.page.wait_for_load_state()
    tab.page.get_by_text("This link is refused").wait_for()
    assert "#" not in tab.page.url
    assert COOKIE not in {cookie["name"] for cookie in tab.page.context.cookies()}
    return tab.text


def test_links_that_do_not_count_are_refused_with_a_sentence(browser: Browser, consortium: Shown) -> None:
    with tab_in(browser, consortium.url) as tab:
        used = consortium.token()
        tab.enter(used)
        tab.page.context.clear_cookies()
        assert "used already" in refused(tab, used)
        assert "it has expired" in refused(tab, consortium.token(seconds=-1))
        whole = consortium.token()
        assert "not that of the operator" in refused(tab, f"{whole[:-8]}AAAAAAAA")
        assert "it is not whole" in refused(tab, whole[:40])
        assert "coordinator dashboard link" in tab.text


def test_an_auditors_page_is_closed_to_viewers(browser: Browser, consortium: Shown) -> None:
    with tab_in(browser, consortium.url, token=consortium.token()) as tab:
        assert tab.page.locator("header nav").inner_text().split() == ["Overview", "Sites", "Languages", "Ledger"]
        assert tab.open("/audit") == 403
        assert "for auditors" in tab.text
        status = tab.page.evaluate("fetch('/audit/leaf/1.bin').then(answer => answer.status)")
        assert status == 403
    with tab_in(browser, consortium.url, token=consortium.token(Role.AUDITOR)) as tab:
        tab.page.get_by_role("link", name="Audit").click()
        tab.page.wait_for_url("**/audit")
        assert tab.page.locator("h1").inner_text().startswith("Audit")


def test_a_client_certificate_opens_what_the_document_says(consortium: Shown, tmp_path: Path) -> None:
    made, fs, holder = consortium.generated.consortium, RealFileSystem(tmp_path), f"operator/{AUDITOR}"
    subject = operator_subject(made.name, AUDITOR, (Role.AUDITOR,))
    save_tls_key(fs, credentials.TLS_KEY, made.tls_key(holder))
    fs.write(credentials.CERTIFICATE, pem(made.certificate(subject, holder, time.time())))
    (command,) = re.findall(r"^openssl pkcs12 .*$", DOCUMENT.read_text(), re.MULTILINE)
    subprocess.run([*shlex.split(command), "-passout", "pass:x"], cwd=tmp_path, check=True, capture_output=True)
    key, certificate, _ = pkcs12.load_key_and_certificates((tmp_path / "browser.p12").read_bytes(), b"x")
    assert certificate is not None
    (tmp_path / "both.pem").write_bytes(key_pem(key) + pem(certificate))  # type: ignore[arg-type]
    context = ssl._create_unverified_context(certfile=str(tmp_path / "both.pem"))
    answer = urllib.request.urlopen(f"{consortium.url}/audit", context=context)
    assert answer.status == 200
    assert "<h1>Audit</h1>" in answer.read().decode()


def test_who_leaves_is_outside(browser: Browser, consortium: Shown) -> None:
    with tab_in(browser, consortium.url, token=consortium.token()) as tab:
        tab.page.get_by_role("button", name="Leave").click()
        tab.page.wait_for_url("**/enter")
        tab.open("/sites")
        assert tab.page.url.endswith("/enter")
