# SPDX-License-Identifier: Apache-2.0
"""`coordinator dashboard serve` and `link`: what a person gets who made a mistake, and what a link is worth."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from coordinator.bench.generated import Generated, generate
from coordinator.bench.setting import AUDITOR, OPERATORS, VIEWER
from coordinator.cli import dashboard as module
from coordinator.cli.dashboard import dashboard
from coordinator.dashboard.links import ADDRESS, DEFAULT_SECONDS, MAX_SECONDS, LinkDesk, Visitor
from coordinator.home import load_rosters
from coordinator.network_config import NETWORK_FILE
from coordinator.operator_client import OPERATOR_ID, OPERATOR_KEY
from federation import signing
from federation.durable.real import RealFileSystem
from federation.durable.simulated import SimulatedFileSystem
from federation.errors import AccessDeniedError, FederationError
from federation.roster_document import Role

URL = "https://dashboard.example.org:8444"


@dataclass(frozen=True)
class Place:
    """A coordinator's directory, and directories of people beside it."""

    made: Generated
    directory: Path

    def person(self, name: str) -> Path:
        """The directory of somebody with the key that the roster has for this name, if it has one."""
        found = self.directory / f"as-{name}"
        fs = RealFileSystem(found)
        if not fs.exists(OPERATOR_ID):
            signing.save_private_key(fs, OPERATOR_KEY, self.made.consortium.key(f"operator/{name}"))
            fs.write(OPERATOR_ID, name.encode())
        return found

    def link(self, name: str, *options: str) -> Result:
        """The command of that person."""
        coordinator = ["--coordinator", str(self.made.directory)]
        return invoked("link", "--as", str(self.person(name)), *coordinator, *options)

    def enters(self, token: str, after_seconds: float = 0.0) -> Visitor:
        """Who comes in with the secret of a link."""
        now_us = int((time.time() + after_seconds) * 1e6)
        roster = load_rosters(RealFileSystem(self.made.directory), now_us).current
        return LinkDesk(SimulatedFileSystem()).accept(token, roster, now_us)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generated]:
    directory = tmp_path_factory.mktemp("link") / "coordinator"
    found = generate(directory, num_rounds=1, num_sites=1, languages=["deu"], now_us=time.time_ns() // 1000)
    yield found
    found.close()


@pytest.fixture
def place(made: Generated, tmp_path: Path) -> Iterator[Place]:
    yield Place(made, tmp_path)
    RealFileSystem(made.directory).remove(ADDRESS)


def invoked(*arguments: str) -> Result:
    return CliRunner().invoke(dashboard, arguments, env={"FEDERATION_COORDINATOR": None})


def complaint(result: Result) -> str:
    """What somebody is told who made a mistake."""
    assert isinstance(result.exception, FederationError), result.output
    assert result.exception.exit_code == 2
    assert result.stdout == ""
    return result.exception.diagnostics()


# --- link -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "role"), [(OPERATORS[0], "viewer"), (VIEWER, "viewer"), (AUDITOR, "viewer"), (AUDITOR, "auditor")]
)
def test_a_link_lets_one_person_in_with_its_role(place: Place, name: str, role: str) -> None:
    result = place.link(name, "--url", f"{URL}/", "--role", role)
    assert result.exit_code == 0, result.output
    address, token = result.stdout.strip().split("#")
    assert address == f"{URL}/enter"
    assert place.enters(token) == Visitor(name=name, role=Role(role))
    assert f"as {role}" in result.stderr
    assert token not in result.stderr


def test_no_two_links_are_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: now))
    assert place.link(VIEWER, "--url", URL).stdout != place.link(VIEWER, "--url", URL).stdout


@pytest.mark.parametrize(("options", "minutes"), [((), DEFAULT_SECONDS // 60), (("--minutes", "1"), 1)])
def test_a_link_is_void_after_its_time(place: Place, options: tuple[str, ...], minutes: int) -> None:
    token = place.link(VIEWER, "--url", URL, *options).stdout.strip().partition("#")[2]
    place.enters(token, 60 * minutes - 30)
    with pytest.raises(AccessDeniedError, match="expired"):
        place.enters(token, 60 * minutes + 1)


@pytest.mark.parametrize("minutes", ["0", "-1", str(MAX_SECONDS // 60 + 1)])
def test_a_link_for_no_time_or_for_ever_is_refused(place: Place, minutes: str) -> None:
    said = complaint(place.link(VIEWER, "--url", URL, "--minutes", minutes))
    assert said.startswith(f"--minutes: expected 1 to 1440, found {minutes}")


@pytest.mark.parametrize("role", ["operator", "owner", "", "site"])
def test_a_role_that_no_link_has_is_wrong_usage(place: Place, role: str) -> None:
    result = place.link(VIEWER, "--url", URL, "--role", role)
    assert result.exit_code == 2
    assert "'viewer', 'auditor'" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(("name", "role"), [(VIEWER, "auditor"), (OPERATORS[0], "auditor"), ("mallory", "viewer")])
def test_nobody_gives_what_the_roster_does_not_give_them(place: Place, name: str, role: str) -> None:
    said = complaint(place.link(name, "--url", URL, "--role", role))
    assert f"{name} may not give the role {role}: roster version 2 says otherwise" in said
    assert "An auditor's key" in said


def test_while_no_dashboard_runs_its_address_has_to_be_given(place: Place) -> None:
    said = complaint(place.link(VIEWER))
    assert "no dashboard runs there" in said
    assert "coordinator dashboard serve" in said
    assert "--url" in said
    RealFileSystem(place.made.directory).write(ADDRESS, f"{URL}\n".encode())
    assert place.link(VIEWER).stdout.startswith(f"{URL}/enter#")


def test_who_is_no_operator_makes_no_links(place: Place, tmp_path: Path) -> None:
    said = complaint(invoked("link", "--as", str(tmp_path), "--coordinator", str(place.made.directory)))
    assert "expected a directory that `coordinator operator init` made" in said


def test_a_coordinators_directory_is_found_beside_the_operators_or_named(place: Place) -> None:
    alone = place.person(VIEWER)
    assert "expected one coordinator directory beside" in complaint(invoked("link", "--as", str(alone), "--url", URL))
    other = ("link", "--as", str(alone), "--coordinator", str(alone), "--url", URL)
    assert "no roster is installed" in complaint(invoked(*other))


# --- serve ------------------------------------------------------------------------------------------------------------


class _Asked(Exception):
    """The web server would start now: `arguments` say how."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.arguments = arguments


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket is opened, and the process's logs stay as they are."""

    def server(**arguments: Any) -> None:
        raise _Asked(**arguments)

    monkeypatch.setattr(module, "_server_class", lambda: server)
    for name in ("configure", "open_security_log"):
        monkeypatch.setattr(module, name, lambda *_: None)


@pytest.fixture
def configured(place: Place) -> Iterator[Callable[[str], None]]:
    """Sets `listen` in coordinator.toml."""
    file = place.made.directory / NETWORK_FILE
    before = file.read_text()
    yield lambda listen: file.write_text(f'[dashboard]\nlisten = "{listen}"\n') and None
    file.write_text(before)


@pytest.mark.parametrize("options", [(), ("--listen", "127.0.0.1:0")])
def test_another_directory_is_not_served_and_stays_as_it_is(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    said = complaint(invoked("serve", str(tmp_path), *options))
    assert said.startswith(f"{tmp_path.resolve()}: expected a directory that `coordinator init` made")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_directory_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    result = invoked("serve", str(tmp_path / "nowhere"))
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


@pytest.mark.parametrize("listen", ["nowhere", ":1", "127.0.0.1:70000"])
def test_an_address_of_another_form_is_refused(place: Place, no_server: None, listen: str) -> None:
    result = invoked("serve", str(place.made.directory), "--listen", listen)
    assert f"--listen: expected ADDRESS:PORT, found {listen!r}" in complaint(result)


@pytest.mark.parametrize(
    ("written", "options", "listen"),
    [
        ("", (), module.LISTEN),
        ("10.0.0.7:1", (), "10.0.0.7:1"),
        ("10.0.0.7:1", ("--listen", "[::1]:0"), "[::1]:0"),
    ],
)
def test_it_listens_where_it_is_told_to(
    place: Place,
    no_server: None,
    configured: Callable[[str], None],
    written: str,
    options: tuple[str, ...],
    listen: str,
) -> None:
    configured(written)
    result = invoked("serve", str(place.made.directory), *options)
    assert isinstance(result.exception, _Asked), result.output
    assert result.exception.arguments["section"].listen == listen
    assert result.exception.arguments["fs"].root == place.made.directory


def test_a_wrong_configuration_is_said(place: Place, no_server: None, configured: Callable[[str], None]) -> None:
    configured("x")
    assert "dashboard.listen: expected ADDRESS:PORT" in complaint(invoked("serve", str(place.made.directory)))


class WithoutUvicorn:
    """Finds modules as in an installation that has no web server."""

    def find_spec(self, name: str, *_: object) -> None:
        if name.partition(".")[0] == "uvicorn":
            raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")


def test_without_the_web_server_it_says_what_to_install(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "uvicorn" or n == "coordinator.dashboard.server"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [WithoutUvicorn(), *sys.meta_path])
    said = complaint(invoked("serve", str(place.made.directory)))
    assert "needs the package uvicorn" in said
    assert "pip install 'hpc-federation[dashboard]'" in said
