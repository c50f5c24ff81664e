# SPDX-License-Identifier: Apache-2.0
"""The `site-agent` command, without a coordinator: setting up, refusing mistakes, answering runs."""

import json
import logging
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from one_site import RUN

from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, DirectoryBusyError, FederationError, UsageError
from federation.key_requests import open_request
from federation.mailbox.layout import message_name
from federation.roster_document import KeyUse
from federation.testing.rosters import MemoryConsortium
from site_agent import answers, layout
from site_agent.cli.carrier import Route
from site_agent.cli.main import cli
from site_agent.failures import failure_of
from site_agent.json_records import read_record, write_record
from site_agent.observations import HumanAnswer
from site_agent.setup import open_agent
from site_agent.views import AllocationView, RunView, SiteView

NOW_US = time.time_ns() // 1000


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, FederationError | SystemExit):
        raise result.exception
    return result


def fails(error: type[FederationError], *arguments: object) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, error), result.output
    return result.exception.diagnostics()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    result = run("init", tmp_path / "alpha", "--request", tmp_path / "alpha.req", "--languages", "de,fr")
    assert result.exit_code == 0, result.output
    return tmp_path / "alpha"


def install(site: Path, *, root: str = "") -> Result:
    request = open_request((site.parent / "alpha.req").read_bytes())
    consortium = MemoryConsortium(name="test", sites=("alpha", "beta"))
    roster = consortium.roster(now_us=NOW_US)
    entry = consortium.site_entry("alpha")
    mine = type(entry)(
        site="alpha",
        tls_public=request.key(KeyUse.TLS),
        update_public=request.key(KeyUse.ENVELOPES),
        witness_public=request.key(KeyUse.WITNESS),
    )
    sites = tuple(mine if s.site == "alpha" else s for s in roster.sites)
    document = site.parent / "roster"
    document.write_bytes(consortium.document(type(roster)(**{**vars(roster), "sites": sites})))
    return run("roster", "install", site, document, *(["--root", root] if root else []), "--json")


def show(site: Path, **changes: Any) -> None:
    values = {
        "run": RUN,
        "state": "draft",
        "manifest_digest": "aa" * 32,
        "policy": "ask",
        "answer": "",
        "sentence": "",
        "waits_for_operator": True,
        "num_commits": 0,
        "num_rounds": 3,
        "open_rounds": (),
        "allocation": AllocationView(allocation="a3"),
    }
    shown = RunView(**{**values, **changes})
    view = SiteView(
        site="alpha",
        ledger_size=3,
        heard_at_us=NOW_US,
        silent=False,
        fault="",
        blobs_wanted=0,
        waits_for_witnesses=False,
        runs=(shown,),
    )
    write_record(RealFileSystem(site), layout.VIEW, view)


def said(site: Path) -> HumanAnswer | None:
    return read_record(RealFileSystem(site), layout.answer_path(RUN), HumanAnswer)


def test_init_makes_a_request_and_private_keys(site: Path) -> None:
    assert open_request((site.parent / "alpha.req").read_bytes()).id == "alpha"
    for name in ("tls", "update", "witness"):
        assert (site / "keys" / f"{name}.pem").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "mistake",
    [
        ("--languages", "nonsense"),
        ("--data", "no-such-directory"),
        ("--profile", "no-such-centre"),
        ("--site", "coordinator"),
    ],
    ids=lambda mistake: mistake[0],
)
def test_an_init_that_fails_leaves_nothing_behind(tmp_path: Path, mistake: tuple[str, str]) -> None:
    made = ("init", tmp_path / "sites" / "alpha", "--request", tmp_path / "alpha.req")
    fails(ConfigError, *made, *mistake)
    assert list(tmp_path.iterdir()) == []
    assert run(*made).exit_code == 0, "the corrected command"


@pytest.mark.parametrize("option", [("--partition", "batch"), ("--account", "a"), ("--qos", "q"), ("--nodes", "2")])
def test_init_takes_nothing_about_a_batch_system_that_is_not_used(tmp_path: Path, option: tuple[str, str]) -> None:
    said = fails(UsageError, "init", tmp_path / "alpha", "--request", tmp_path / "alpha.req", *option)
    assert f"{option[0]}: expected --launcher slurm with it, found local" in said
    assert list(tmp_path.iterdir()) == []


def test_an_init_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "alpha" / "data").mkdir(parents=True)
    (tmp_path / "alpha" / "data" / "de.txt").write_text("Text")
    (tmp_path / "alpha" / "notes").write_text("mine")
    (tmp_path / "taken").write_text("no directory")
    made = ("init", tmp_path / "alpha", "--request")
    fails(ConfigError, *made, tmp_path / "alpha.req", "--languages", "nonsense")
    fails(FederationError, *made, tmp_path / "taken" / "alpha.req")
    assert sorted(path.name for path in (tmp_path / "alpha").rglob("*")) == ["data", "de.txt", "notes"]
    assert run(*made, tmp_path / "alpha.req", "--languages", "de").exit_code == 0
    fails(UsageError, *made, tmp_path / "other.req")
    assert (tmp_path / "alpha" / layout.UPDATE_KEY).exists(), "a site that is there is not touched"


def test_init_never_overwrites(site: Path) -> None:
    before = (site / "keys/update.pem").read_bytes()
    assert "never overwritten" in fails(UsageError, "init", site, "--request", site.parent / "again.req")
    assert (site / "keys/update.pem").read_bytes() == before


def test_serving_without_a_roster_says_what_to_do(site: Path) -> None:
    words = fails(ConfigError, "tick", site)
    assert "roster install" in words
    assert "enroll" in words


@pytest.mark.parametrize(
    "command",
    [
        ["serve"],
        ["tick"],
        ["status"],
        ["enroll"],
        ["doctor"],
        ["courier", "show"],
        ["run", "list"],
        ["roster", "install"],
    ],
)
@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_directory_that_is_no_sites(tmp_path: Path, command: list[str], name: str) -> None:
    (tmp_path / "empty").mkdir()
    more = [__file__] if command[0] == "roster" else []
    words = fails(ConfigError, *command, tmp_path / name, *more)
    assert words.startswith(f"{tmp_path / name}: expected a site's directory")
    assert "site-agent init" in words
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_roster_with_other_keys_of_this_site(site: Path) -> None:
    consortium = MemoryConsortium(name="test", sites=("alpha", "beta"))
    document = site.parent / "roster"
    document.write_bytes(consortium.document(consortium.roster(now_us=NOW_US)))
    result = run("roster", "install", site, document)
    assert "with other keys" in result.output
    assert "site-agent enroll SITE_DIR --request FILE" in result.output
    assert json.loads(run("roster", "install", site, document, "--json").output)["listed"] is False


def test_the_spool_courier_says_what_is_to_be_carried(site: Path) -> None:
    box = f"{site}/spool/mailbox/coordinator"
    text = run("courier", "set", site, "spool").output
    assert f"Somebody has to carry {box}/out to COORDINATOR_DIR/mailbox/alpha/in" in text
    assert f"site-agent carrier {site} COORDINATOR_DIR" in text
    assert "never heard" in run("courier", "show", site).output
    show(site)
    RealFileSystem(site).write(f"spool/mailbox/coordinator/out/{message_name(1, b'x')}", b"x")
    RealFileSystem(site).write("spool/mailbox/coordinator/out/ack", b"x")
    text = run("courier", "show", site).output
    assert f"somebody carries {box}" in text
    assert "1 message in its out/ not acknowledged yet" in text
    assert re.search(r"coordinator last heard \d+ (seconds?|minutes) ago", text)
    facts = json.loads(run("courier", "show", site, "--json").output)
    assert (facts["mailbox"], facts["messages_waiting"], facts["heard_at_us"]) == (box, 1, NOW_US)


def test_a_roster_with_another_root_is_refused(site: Path) -> None:
    assert install(site).exit_code == 0
    result = install(site, root="00" * 32)
    assert isinstance(result.exception, ConfigError)


def test_a_tick_of_an_installed_site_takes_the_directory_and_gives_it_back(site: Path) -> None:
    facts = json.loads(install(site).output)
    assert facts["listed"]
    for _ in range(2):
        assert run("tick", site).exit_code == 0
    figures = (site / layout.METRICS).read_text()
    assert 'federation_agent_epoch{site="alpha"} 1.0\n' in figures
    assert 'credential_expiry_timestamp_seconds{credential="roster",site="alpha"}' in figures
    agent, _ = open_agent(site, NOW_US, new_epoch=False)
    assert agent.state.epoch == 1
    assert json.loads(run("status", site, "--json").output)["site"] == "alpha"


def test_a_second_agent_is_refused(site: Path) -> None:
    from federation.directory_lock import DirectoryLock, this_process

    install(site)
    DirectoryLock(RealFileSystem(site), this_process(), base=layout.LOCK)
    assert "--take-over" in fails(DirectoryBusyError, "tick", site)
    assert run("tick", site, "--take-over").exit_code == 0
    agent, _ = open_agent(site, NOW_US, new_epoch=False)
    assert agent.state.epoch == 1  # the first epoch began under the lock that was taken over


def test_run_list_shows_what_waits_for_a_person(site: Path) -> None:
    show(site)
    assert [item["run"] for item in json.loads(run("run", "list", site, "--json").output)] == [RUN]
    show(site, waits_for_operator=False, answer="accepted")
    assert json.loads(run("run", "list", site, "--json").output) == []
    assert "No run waits" in run("run", "list", site).output
    assert RUN in run("run", "list", site, "--all").output


def test_accept_is_for_the_manifest_that_was_shown(site: Path) -> None:
    show(site)
    assert run("run", "accept", site, RUN, "--manifest", "aaaa").exit_code == 0
    assert said(site) == HumanAnswer(run=RUN, accepted=True, manifest_digest="aa" * 32)
    assert "expected manifest bb" in fails(UsageError, "run", "accept", site, RUN, "--manifest", "bb")


def test_accept_cannot_overrule_the_policy(site: Path) -> None:
    show(site, policy="decline")
    assert "cannot overrule" in fails(UsageError, "run", "accept", site, RUN)
    assert said(site) is None


def test_refuse_needs_no_knowledge_of_the_run_but_a_proper_name(site: Path) -> None:
    assert run("run", "refuse", site, RUN).exit_code == 0
    assert said(site) == HumanAnswer(run=RUN, accepted=False)
    fails(ConfigError, "run", "refuse", site, "../../keys/update")


def test_retry_and_ended_keep_the_answer(site: Path) -> None:
    show(site)
    answers.accept(RealFileSystem(site), RUN)
    assert run("run", "retry", site, RUN).exit_code == 0
    assert run("run", "ended", site, RUN, 3).exit_code == 0
    found = said(site)
    assert found is not None
    assert (found.accepted, found.ended) == (True, (3,))
    assert found.retry_at_us > NOW_US
    fails(UsageError, "run", "ended", site, RUN, 2)
    fails(UsageError, "run", "retry", site, "no-such-run")


ENDED = AllocationView(allocation="a3", state="ended", reason="no-space", sentence="no space", failures=2)


@pytest.mark.parametrize("code", ["no-space", "out-of-memory", "killed", "non-finite", "word-of-a-later-release"])
def test_retry_lets_the_next_job_start_where_that_can_help(site: Path, code: str) -> None:
    show(site, state="running", answer="accepted", allocation=replace(ENDED, reason=code))
    result = run("run", "retry", site, RUN)
    assert "The next job starts in the agent's next pass." in result.output
    assert json.loads(run("run", "retry", site, RUN, "--json").output)["starts"] is True
    assert said(site) is not None


@pytest.mark.parametrize("code", ["model-differs", "run-not-for-trainer"])
def test_retry_is_refused_where_every_job_would_end_the_same_way(site: Path, code: str) -> None:
    show(site, state="running", answer="accepted", allocation=replace(ENDED, reason=code))
    complaint = fails(UsageError, "run", "retry", site, RUN)
    assert f"found {code}" in complaint
    assert "no further job of this run starts here" in complaint
    assert failure_of(code).advice in complaint
    assert said(site) is None, "nothing was written"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"allocation": replace(ENDED, state="queued")}, "job a3 is queued; the next one follows when it has ended"),
        ({"state": "completed"}, "the run is completed, and only an evaluation that is due needs a job"),
        ({"state": "paused"}, "the run is paused, and only an evaluation that is due needs a job"),
        ({"state": "draft"}, "the run is draft"),
        ({"answer": "declined"}, "this site has not accepted the run"),
        ({"no_start": "maintenance until 12:00"}, "maintenance until 12:00"),
    ],
)
def test_retry_says_what_else_the_next_job_waits_for(site: Path, changes: dict[str, Any], words: str) -> None:
    show(site, **{"state": "running", "answer": "accepted", "allocation": ENDED, **changes})
    assert f"The next job does not start at once: {words}." in run("run", "retry", site, RUN).output
    found = json.loads(run("run", "retry", site, RUN, "--json").output)
    assert (found["starts"], found["waits_for"]) == (False, words)


def test_the_carrier_needs_two_directories(site: Path) -> None:
    assert "COORDINATOR_DIR" in fails(ConfigError, "carrier", site, "--once")
    fs = RealFileSystem(site.parent / "coordinator")
    fs.mkdir("keys")
    fs.write("keys/coordinator.pem", b"")
    assert json.loads(run("carrier", site, site.parent / "coordinator", "--once", "--json").output) == {"files": 0}


@pytest.mark.parametrize(
    ("file", "words"),
    [("site.toml", "a site's"), ("keys/operator.pem", "an operator's"), ("notes.txt", "another one")],
)
@pytest.mark.parametrize("more", [["--once"], []])
def test_the_carrier_refuses_what_is_no_coordinators(site: Path, file: str, words: str, more: list[str]) -> None:
    olga = RealFileSystem(site.parent / "olga")
    olga.write(file, b"")
    assert f"{olga.root}: expected the coordinator's directory, found {words}" in fails(
        ConfigError, "carrier", site, olga.root, *more
    )
    assert not olga.exists("mailbox")
    assert "expected a site's directory" in fails(ConfigError, "carrier", olga.root, site, site, "--once") or (
        file == "site.toml"
    )


def test_the_carrier_logs_what_it_brings_first_and_what_fails(site: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    there = RealFileSystem(site.parent / "coordinator")
    route = Route(site, "alpha", there.root)
    assert [route.carry_or_log() for _ in range(2)] == [0, 0]
    there.write("keys/coordinator.pem", b"")
    assert route.carry_or_log() == 0
    for number in (1, 2):
        data = b"%d" % number
        RealFileSystem(site).write(f"spool/mailbox/coordinator/out/{message_name(number, data)}", data)
        assert route.carry_or_log() == 1
    said = [(record.levelname, record.getMessage().split(":")[1].strip()) for record in caplog.records]
    assert said == [
        ("WARNING", "nothing could be carried, it is tried again"),
        ("INFO", "carried 1 file; this goes on"),
    ]
