# SPDX-License-Identifier: Apache-2.0
"""`federation consortium` as people use it: through the real entry point, looking at output and exit code."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from federation import signing
from federation.cli.errors import exit_code_of
from federation.cli.main import federation
from federation.key_requests import coordinator_request, operator_request, site_request
from federation.roster import TrustedRosters, peek_roster

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    key = signing.generate_key
    (tmp_path / "coordinator.req").write_bytes(coordinator_request(envelopes=key(), ledger=key()))
    (tmp_path / "alice.req").write_bytes(operator_request("alice", key()))
    (tmp_path / "lumi.req").write_bytes(site_request("lumi", update=key(), witness=key()))

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["federation", "consortium", *arguments])
        code = exit_code_of(federation)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


REQUESTS = ("coordinator.req", "alice.req", "lumi.req")


def test_from_nothing_to_a_roster_that_an_agent_trusts(run: Run, tmp_path: Path) -> None:
    code, out, err = run("init", "eurollm")
    assert (code, err) == (0, "")
    assert out.startswith("consortium eurollm: 1 of 1 keys in eurollm\nroot fingerprint: ")
    fingerprint = out.split()[-1]
    code, out, _ = run("sign", "eurollm", *REQUESTS)
    assert code == 0
    assert "  site lumi: added\n" in out
    assert "roster version 1: complete with 1 signatures, written to roster" in out
    rosters = TrustedRosters()
    rosters.anchor((tmp_path / "roster").read_bytes(), fingerprint)
    assert rosters.current.consortium == "eurollm"
    assert [entry.site for entry in rosters.current.sites] == ["lumi"]


def test_two_signers(run: Run, tmp_path: Path) -> None:
    assert run("init", "root", "--consortium", "eu", "--signers", "3", "--threshold", "2")[0] == 0
    _, out, _ = run("sign", "root", *REQUESTS, "--out", "new")
    assert "roster version 1: 1 of 2 signatures, 1 missing, written to new" in out
    assert "next: federation consortium sign root new --out new --signer N" in out
    _, shown, _ = run("show", "new")
    assert "signatures: 1\ncomplete: no\n" in shown
    _, out, _ = run("sign", "root", "new", "--out", "new", "--signer", "3", "--json")
    facts = json.loads(out)
    assert (facts["complete"], facts["missing"], facts["signers"]) == (True, 0, [1, 3])
    _, shown, _ = run("show", "new", "--json")
    assert json.loads(shown) | {"complete": True, "sites": ["lumi"], "root": facts["root"]} == json.loads(shown)
    assert peek_roster((tmp_path / "new").read_bytes()).threshold == 2


def test_next_version_with_a_replaced_and_a_removed_member(run: Run, tmp_path: Path) -> None:
    run("init", "eu")
    run("sign", "eu", *REQUESTS)
    key = signing.generate_key
    (tmp_path / "lumi.req").write_bytes(site_request("lumi", update=key(), witness=key()))
    code, out, _ = run("sign", "eu", "lumi.req", "--remove", "operator:alice", "--valid-days", "30")
    assert code == 0
    assert "site lumi: keys REPLACED" in out
    assert "operator alice: removed" in out
    assert "roster version 2: complete" in out


def test_show_of_root_and_request(run: Run) -> None:
    run("init", "eu")
    _, out, _ = run("show", "eu")
    assert "consortium: eu\n" in out
    assert out.endswith("version: 0\n")
    run("sign", "eu", *REQUESTS)
    _, out, _ = run("show", "eu", "--json")
    facts = json.loads(out)
    assert (facts["version"], facts["sites"], facts["operators"]) == (1, ["lumi"], ["alice (operator)"])
    _, out, _ = run("show", "alice.req")
    assert out.startswith("request: operator\nid: alice\nroles: operator\nkeys: envelopes ")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("init", "eu"), 2, "expected nothing there"),
        (("init", "Not_A_Slug"), 2, "consortium: expected lower-case"),
        (("init", "new", "--threshold", "2"), 2, "threshold"),
        (("sign", "nowhere"), 2, "does not exist"),
        (("sign", "eu", "missing.req"), 2, "does not exist"),
        (("sign", "eu", "junk"), 2, "junk: expected a request or a roster"),
        (("sign", "eu", "lumi.req", "lumi.req"), 2, "found several"),
        (("sign", "eu", "lumi.req", "--signer", "7"), 2, "signer: expected 1 to 1"),
        (("sign", "eu", "--remove", "lumi"), 2, "remove: expected"),
        (("sign", ".", "lumi.req"), 2, "federation consortium init"),
        (("show", "junk"), 2, "junk: expected a request or a roster"),
    ],
)
def test_mistakes_are_sentences(run: Run, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    run("init", "eu")
    (tmp_path / "junk").write_bytes(b"\xff junk")
    found, out, err = run(*arguments)
    assert found == code
    assert words in err
    assert "Traceback" not in err
    assert out == ""
    assert not (tmp_path / "roster").exists()
    assert not (tmp_path / "eu" / "rosters").exists()
