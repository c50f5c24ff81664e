# SPDX-License-Identifier: Apache-2.0
"""The application: what is closed, what every answer carries, and that nothing asked of it is a fault of ours."""

import asyncio
import csv
import io
import json
import logging
from base64 import b64decode
from typing import Any

import pytest
from dashboard_bench import AUDIT, NOW, PAGES, Bench

from coordinator.bench.generated import Generated
from coordinator.bench.setting import RUN
from coordinator.dashboard import site_map
from coordinator.dashboard.events import MAX_EACH, MAX_PUBLIC, Viewer
from coordinator.dashboard.headers import HEADERS
from coordinator.dashboard.pages import sites
from coordinator.dashboard.server import web_config
from coordinator.dashboard.sessions import COOKIE, IDLE_SECONDS, LONGEST_SECONDS
from federation import notes
from federation.certificates import der, operator_subject
from federation.errors import LimitExceededError
from federation.merkle import leaf_hash, verify_inclusion
from federation.roster_document import Role

EVIDENCE = ("/ledger/checkpoint", "/ledger/3/proof.json", f"/audit/update/{'0' * 64}")
CLOSED = (*PAGES, *AUDIT, *EVIDENCE, "/events", "/nowhere", f"/run/{RUN}?table=sites&format=csv", "/?chart=bits")


# --- closed by default ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CLOSED)
def test_without_a_session_everything_is_closed(bench: Bench, path: str) -> None:
    page = bench.get(path)
    assert (page.status_code, page.headers["location"]) == (303, "/enter")
    data = bench.client.get(path, headers={"accept": "application/json"})
    assert data.status_code == 401
    assert RUN not in data.text


@pytest.mark.parametrize("secret", ["", "x", "x" * 100_000, "ä"])
def test_another_cookie_opens_nothing(bench: Bench, secret: str) -> None:
    answer = bench.client.get("/", headers={"cookie": f"{COOKIE}={secret}".encode()})
    assert answer.status_code == 401


def test_a_link_opens_once_and_its_session_ends(bench: Bench) -> None:
    token = bench.token()
    answer = bench.client.post("/enter", data={"token": f"https://dashboard.example.org/enter#{token}"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert bench.get("/").status_code == 200
    assert bench.client.post("/leave").headers["location"] == "/enter"
    assert bench.get("/").status_code == 303
    again = bench.client.post("/enter", data={"token": token})
    assert again.status_code == 403
    assert "used already" in again.text
    assert COOKIE not in again.headers.get("set-cookie", "")


def test_the_cookie_stays_in_the_browser_on_this_host(bench: Bench) -> None:
    answer = bench.client.post("/enter", data={"token": bench.token()})
    first, *attributes = [part.strip() for part in answer.headers["set-cookie"].split(";")]
    assert first.startswith("__Host-")
    assert {"secure", "httponly", "path=/", "samesite=lax", f"max-age={int(LONGEST_SECONDS)}"} == {
        attribute.lower() for attribute in attributes
    }


def test_an_idle_session_ends(viewer: Bench) -> None:
    viewer.clock.now += IDLE_SECONDS
    assert viewer.get("/").status_code == 303


@pytest.mark.parametrize(
    "data",
    [b"", b"token=", b"token=a.b", b"\xff\xfe", b"token=" + b"x" * 7000, b"a=1&" * 100, b"token=%00%FF.%00"],
)
def test_a_form_that_is_none_stays_outside(bench: Bench, data: bytes) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = bench.client.post("/enter", content=data, headers=headers)
    assert answer.status_code == 403
    assert "Traceback" not in answer.text


def test_another_page_cannot_use_a_link_up(bench: Bench) -> None:
    token = bench.token()
    answer = bench.client.post("/enter", data={"token": token}, headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
    assert bench.client.post("/enter", data={"token": token}).status_code == 303


def test_a_certificate_opens_what_its_roles_open(bench: Bench, made: Generated) -> None:
    def status(operator: str, role: Role, path: str) -> int:
        subject, holder = operator_subject("eu", operator, (role,)), f"operator/{operator}"
        bench.client.app_state["certificate"] = der(made.consortium.certificate(subject, holder, NOW))
        return int(bench.get(path).status_code)

    assert status("vito", Role.VIEWER, "/") == 200
    assert status("vito", Role.VIEWER, "/audit") == 403
    assert status("edda", Role.AUDITOR, "/audit") == 200
    assert status("vito", Role.AUDITOR, "/") == 403


# --- what every answer carries ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", [*PAGES, "/enter", "/health", "/static/dashboard.css", "/nowhere", "/audit", "/public"]
)
def test_every_answer_has_the_headers(viewer: Bench, path: str) -> None:
    answer = viewer.get(path)
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert "'unsafe" not in answer.headers["content-security-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    if not path.startswith("/static"):
        assert answer.headers["cache-control"] == "no-store"


def test_our_own_bug_is_told_without_its_trace_and_with_the_headers(
    viewer: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(*_: object) -> None:
        raise RuntimeError("the secret of the trace")

    monkeypatch.setattr(site_map, "entry_of", bug)
    with caplog.at_level(logging.ERROR):
        answer = viewer.get("/sites")
    assert answer.status_code == 500
    assert "fault of the dashboard" in answer.text
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert "the secret of the trace" in caplog.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/audit", "/ledger/3/proof.json", "/static/dashboard.js", "/events"])
def test_nothing_can_be_changed(auditor: Bench, method: str, path: str) -> None:
    answer = auditor.client.request(method, path)
    assert answer.status_code == 405
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS


# --- pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, "/audit"])
def test_an_auditor_sees_every_page(auditor: Bench, path: str) -> None:
    answer = auditor.get(path)
    assert answer.status_code == 200
    assert "<h1>" in answer.text
    assert 'href="/audit"' in answer.text


@pytest.mark.parametrize("path", [*AUDIT, f"/audit/update/{'0' * 64}", "/audit?table=updates&format=csv"])
def test_a_viewer_gets_nothing_of_an_auditors(viewer: Bench, path: str) -> None:
    assert viewer.get(path).status_code == 403
    assert 'href="/audit"' not in viewer.get("/").text
    assert viewer.get("/events?page=/audit").status_code == 403


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/nowhere", "no page of this address"),
        ("/run/none", "no run of that name"),
        ("/run/none/round/1", "no run of that name"),
        (f"/run/{RUN}/round/99999", "has opened"),
        (f"/run/{RUN}/round/-1", "has opened"),
        (f"/run/{RUN}/round/{'9' * 90}", "has opened"),
        ("/site/none", "not in roster version"),
        ("/site/%00", "not in roster version"),
        ("/ledger/99999999", "expected a number from 0 to"),
        ("/ledger/99999999/proof.json", "expected a number from 0 to"),
        (f"/ledger/{'9' * 5000}/proof.json", "expected a number from 0 to"),
        ("/ledger/%C2%B2/proof.json", "expected a number from 0 to"),
        ("/languages?run=none", "no run of that name"),
        ("/?table=none", "no table or chart"),
        ("/public", "no public page"),
        ("/static/none.js", "no file of that name"),
    ],
)
def test_what_is_not_there_is_said(auditor: Bench, path: str, words: str) -> None:
    answer = auditor.get(path)
    assert answer.status_code == 404
    assert words in answer.text


@pytest.mark.parametrize("index", ["9" * 5000, "99999999", "x"])
def test_a_leaf_that_is_not_there_has_no_bytes(auditor: Bench, index: str) -> None:
    assert auditor.get(f"/audit/leaf/{index}.bin").status_code == 404


JUNK = (
    "page=-1",
    "page=9999999999999",
    "page=%C2%B2",
    "page=99",
    "sort=nonsense.x",
    "sort=runs",
    "sort=.&order=ascending",
    "q=" + "x%20" * 3000,
    "q=%00",
    "q=%FF%FE",
    "page=1&page=2&sort=a.b&sort=c.d",
    "order=%0d%0aset-cookie:x",
    "run=",
    "=",
    "&&&",
    "%",
    ";",
)


@pytest.mark.parametrize("query", JUNK)
@pytest.mark.parametrize("path", ["/", "/ledger", f"/run/{RUN}/rounds", "/languages"])
def test_junk_in_a_query_gives_a_page(viewer: Bench, path: str, query: str) -> None:
    answer = viewer.get(f"{path}?{query}")
    assert answer.status_code == 200
    assert "<h1>" in answer.text
    assert "is empty" not in answer.text


def test_too_many_keys_are_no_page(viewer: Bench) -> None:
    assert viewer.get("/?" + "&".join(f"k{n}=1" for n in range(21))).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static/%2e%2e%2f%2e%2e%2fkeys%2fledger.pem",
        "/static//etc/passwd",
        "/static/dashboard.js%00",
        "/static/",
        "/audit/update/..%2f..%2fkeys%2fledger.pem",
        "/audit/update/" + "0" * 64,
    ],
)
def test_nothing_else_is_served(auditor: Bench, path: str) -> None:
    answer = auditor.get(path)
    assert answer.status_code == 404
    assert "PRIVATE KEY" not in answer.text


@pytest.mark.parametrize("name", ["dashboard.css", "dashboard.js", "charts.js", "door.js", "theme.js", "icon.svg"])
def test_scripts_and_styles_are_for_everybody_and_stay(bench: Bench, name: str) -> None:
    answer = bench.get(f"/static/{name}")
    assert answer.status_code == 200
    again = bench.client.get(f"/static/{name}", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["/static/charts.js", f"/run/{RUN}?chart=loss"])
def test_what_is_large_is_compressed_for_who_can_read_that(viewer: Bench, path: str) -> None:
    plain, packed = (viewer.client.get(path, headers={"accept-encoding": way}) for way in ("identity", "gzip"))
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(plain.content) / 2
    assert packed.content == plain.content
    assert plain.headers["vary"] == packed.headers["vary"] == "accept-encoding"


def test_an_export_has_all_rows_where_the_page_shows_the_newest(viewer: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sites, "NUM_VERDICTS", 2)
    decided = sum("alps" in r.verdicts for run in viewer.follower.view.state.runs.values() for r in run.rounds.values())
    assert decided > 2
    assert f"2 of {decided} rows" in viewer.get("/site/alps").text
    assert len(json.loads(viewer.get("/site/alps?table=verdicts&format=json").text)["rows"]) == decided


# --- the public page --------------------------------------------------------------------------------------------------


def test_the_public_page_has_the_chosen_fields_and_no_others(made: Generated) -> None:
    bench = Bench(made, public=("state", "ledger"))
    page = bench.get("/public")
    assert page.status_code == 200
    assert made.ledger.root(made.ledger.size) in page.text
    assert "running" in page.text
    for hidden in ("alps", "Tokens", "/leave", "/sites", "/audit", "Forecast"):
        assert hidden not in page.text
    rows = json.loads(bench.get("/public?table=runs&format=json").text)["rows"]
    assert rows == [{"run": RUN, "state": "running"}]
    assert bench.get("/public?chart=bits").status_code == 404
    assert bench.get("/sites").status_code == 303
    assert bench.get("/events?page=/sites").status_code == 303


# --- exports and evidence ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, "/audit"])
def test_exports_hold_the_rows_of_the_page(auditor: Bench, path: str) -> None:
    page = auditor.gallery.page(path, True, auditor.clock.now, whole=True)
    names = [getattr(section, "id", "") for section in page.sections]
    get = auditor.client.get  # without a step of the clock: bars that are not over end now
    for name in filter(None, names):
        table = page.table(name)
        assert table is not None
        found = json.loads(get(f"{path}?table={name}&format=json").text)
        assert [column["key"] for column in found["columns"]] == [column.key for column in table.columns]
        answer = get(f"{path}?table={name}&format=csv")
        head, *rows = csv.reader(io.StringIO(answer.text))
        assert head == [column.name or column.key for column in table.columns]
        assert len(rows) == len(found["rows"]) == len(table.rows)
        for row, values in zip(rows, found["rows"], strict=True):
            shown = ["" if value is None else str(value) for value in values.values()]
            assert [cell.removeprefix("'") for cell in row] == [text.removeprefix("'") for text in shown]
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}.csv"'


def test_a_chart_is_figures(viewer: Bench) -> None:
    chart = json.loads(viewer.get(f"/run/{RUN}?chart=loss").text)
    assert {series["name"] for series in chart["series"]} == {"alps", "arrhenius", "capella"}
    assert any(value for series in chart["series"] for value in series["y"])
    timeline = json.loads(viewer.get(f"/run/{RUN}?chart=timeline").text)
    assert timeline["bars"]
    assert timeline["lanes"] == ["alps", "arrhenius", "capella"]


def test_a_proof_proves_what_it_says(auditor: Bench, made: Generated) -> None:
    note = auditor.get("/ledger/checkpoint").content
    entry = auditor.follower.view.rosters.current.coordinator
    assert entry is not None
    promised = notes.open_checkpoint(note, entry.ledger_origin, entry.ledger_public)
    for index in (0, 3, made.ledger.size - 1):
        data = auditor.get(f"/audit/leaf/{index}.bin").content
        assert data == made.ledger.leaf_bytes(index)
        found = json.loads(auditor.get(f"/ledger/{index}/proof.json").text)
        assert b64decode(found["checkpoint"]) == note
        assert (found["tree_size"], found["root_hash"]) == (promised.size, promised.root.hex())
        proof = [bytes.fromhex(node) for node in found["inclusion_proof"]]
        verify_inclusion(leaf_hash(data), index, promised.size, proof, promised.root)


# --- what is read -----------------------------------------------------------------------------------------------------


def test_no_key_is_opened_and_nothing_is_written(auditor: Bench) -> None:
    for path in (*PAGES, *AUDIT):
        assert auditor.get(path).status_code == 200
    assert auditor.reads.opened
    assert not [path for path in auditor.reads.opened if path.startswith(("keys", "mailbox"))]


def test_who_asks_too_often_waits(viewer: Bench) -> None:
    found = [viewer.client.get("/sites").status_code for _ in range(210)]
    assert found[:190] == [200] * 190
    assert found[-1] == 429
    viewer.clock.now += 60
    assert viewer.client.get("/sites").status_code == 200


def test_guessing_links_is_slow(bench: Bench) -> None:
    answers = [bench.client.post("/enter", data={"token": f"guess.{n}"}) for n in range(12)]
    assert "too many requests" not in answers[9].text
    assert "too many requests" in answers[10].text
    assert answers[10].status_code == 429
    assert bench.client.post("/enter", data={"token": bench.token()}).status_code == 303


def test_an_export_counts_for_several_requests(viewer: Bench) -> None:
    found = [viewer.client.get("/sites?table=sites&format=csv").status_code for _ in range(25)]
    assert found[:15] == [200] * 15
    assert found[-1] == 429


def test_another_page_cannot_end_a_session(viewer: Bench) -> None:
    answer = viewer.client.post("/leave", headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert viewer.get("/").status_code == 200


def test_another_link_ends_the_session_before(viewer: Bench) -> None:
    before = viewer.client.cookies[COOKIE]
    viewer.enter(Role.AUDITOR)
    assert viewer.client.cookies[COOKIE] != before
    assert viewer.doors.by_session(before) is None


def test_who_goes_away_while_entering_is_no_fault_of_ours(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    async def gone() -> dict[str, object]:
        return {"type": "http.disconnect"}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/enter", "query_string": b"", "headers": [], "state": {}}
    with caplog.at_level(logging.ERROR):
        asyncio.run(bench.dashboard.application()(scope, gone, send))
    assert sent[0]["status"] == 403
    assert caplog.text == ""


# --- what everybody shares --------------------------------------------------------------------------------------------


def test_what_is_added_to_an_address_makes_no_other_page(viewer: Bench) -> None:
    assert viewer.get("/sites").status_code == 200
    made = viewer.gallery.show("/sites", False, viewer.clock.now)
    assert viewer.gallery.show("/sites?junk=1", False, viewer.clock.now) is made
    assert viewer.gallery.show("//x/sites?junk=2", False, viewer.clock.now) is made
    public = viewer.gallery.show("/public", False, viewer.clock.now)
    for query in ("q=1", "page=7", "sort=runs.nonsense", "order=x", f"run={RUN}"):
        assert viewer.gallery.show(f"/public?{query}", False, viewer.clock.now) is public
    assert viewer.gallery.show("/public?sort=runs.state&order=ascending", False, viewer.clock.now) is not public


def test_nobody_takes_all_the_room_for_changes(bench: Bench) -> None:
    def opened(share: str, number: int) -> None:
        for _ in range(number):
            bench.hub.check_room(share)
            bench.hub.viewers.add(Viewer(address="/", auditor=False, who=lambda: None, share=share))

    opened("one", MAX_EACH)
    with pytest.raises(LimitExceededError, match="close some"):
        bench.hub.check_room("one")
    opened("", MAX_PUBLIC)
    with pytest.raises(LimitExceededError):
        bench.hub.check_room("")
    bench.hub.check_room("other")


def test_requests_come_in_between_while_pages_are_made(bench: Bench) -> None:
    async def given() -> int:
        viewers = [Viewer(address=f"/ledger?q={n}", auditor=False, who=lambda: None) for n in range(5)]
        bench.hub.viewers.update(viewers)
        giving, turns = asyncio.create_task(bench.hub.changed()), 0
        while not giving.done():
            await asyncio.sleep(0)
            turns += 1
        assert all(viewer.frame for viewer in viewers)
        return turns

    assert asyncio.run(given()) >= 5


def test_the_address_of_a_request_is_that_of_its_connection() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    assert web_config(application).loaded_app is application
