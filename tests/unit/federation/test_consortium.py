# SPDX-License-Identifier: Apache-2.0
import shutil
import stat
from pathlib import Path

import pytest

from federation import dsse, signing
from federation.consortium import PENDING, init_root, load_root, load_root_rosters, sign_roster
from federation.errors import BadSignatureError, ConfigError, ProtocolError, RosterError, UsageError
from federation.key_requests import coordinator_request, operator_request, site_request
from federation.roster import TrustedRosters, peek_roster
from federation.wire import roster_to_bytes

NOW = 1_800_000_000.0
NOW_US = int(NOW * 1e6)
DAY = 24 * 3600.0


def _requests() -> list[bytes]:
    key = signing.generate_key
    return [
        coordinator_request(envelopes=key(), ledger=key()),
        operator_request("alice", key()),
        site_request("lumi", update=key(), witness=key()),
    ]


def _site(name: str) -> bytes:
    return site_request(name, update=signing.generate_key(), witness=signing.generate_key())


def _copy_for(root: Path, signer: int) -> Path:
    """A key holder's own copy: everything public, and one key."""
    target = root.with_name(f"{root.name}-{signer}")
    shutil.copytree(root, target)
    for pem in (target / "signers").iterdir():
        if pem.stem != str(signer):
            pem.unlink()
    return target


def test_one_of_one(tmp_path: Path) -> None:
    root = init_root(tmp_path / "root", "eu", now=NOW)
    signed = sign_roster(tmp_path / "root", _requests(), now=NOW)
    assert (signed.complete, signed.missing, signed.signers) == (True, 0, (1,))
    assert signed.roster.version == 1
    assert signed.roster.expires_at_us == NOW_US + int(365 * DAY * 1e6)
    rosters = TrustedRosters()
    rosters.anchor(signed.document, root.fingerprint)
    second = sign_roster(tmp_path / "root", [_site("jupiter")], now=NOW + DAY)
    assert [entry.site for entry in rosters.update(second.document, NOW_US).sites] == ["jupiter", "lumi"]
    assert second.changes[0] == "site jupiter: added"
    held = load_root_rosters(tmp_path / "root", NOW)
    assert held is not None
    assert held.document(2) == second.document


def test_keys_are_private_and_the_directory_complete(tmp_path: Path) -> None:
    root = init_root(tmp_path / "root", "eu", signers=3, threshold=2, now=NOW)
    pems = sorted((tmp_path / "root" / "signers").iterdir())
    assert [pem.name for pem in pems] == ["1.pem", "2.pem", "3.pem"]
    assert {stat.S_IMODE(pem.stat().st_mode) for pem in pems} == {0o600}
    assert load_root(tmp_path / "root") == root
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]


def test_two_of_three_in_three_places(tmp_path: Path) -> None:
    root = init_root(tmp_path / "root", "eu", signers=3, threshold=2, now=NOW)
    first, second, third = (_copy_for(tmp_path / "root", number) for number in (1, 2, 3))
    begun = sign_roster(first, _requests(), now=NOW)
    assert (begun.complete, begun.missing, begun.signers) == (False, 1, (1,))
    with pytest.raises(RosterError, match="1 good"):
        TrustedRosters().anchor(begun.document, root.fingerprint)
    done = sign_roster(second, [begun.document], now=NOW, signer=2)
    assert (done.complete, done.signers) == (True, (1, 2))
    assert done.changes == begun.changes
    TrustedRosters().anchor(done.document, root.fingerprint)
    for place in (first, third):
        everybody = sign_roster(place, [done.document], now=NOW)
        assert everybody.complete
        assert not (place / PENDING).exists()
    assert load_root_rosters(first, NOW) is not None


def test_a_pending_roster_keeps_others_from_being_begun(tmp_path: Path) -> None:
    init_root(tmp_path / "root", "eu", signers=2, threshold=2, now=NOW)
    begun = sign_roster(tmp_path / "root", _requests(), now=NOW)
    with pytest.raises(UsageError, match="waiting for signatures") as caught:
        sign_roster(tmp_path / "root", [_site("jupiter")], now=NOW)
    assert "--restart" in caught.value.diagnostics()
    other = sign_roster(tmp_path / "root", [_site("jupiter")], now=NOW, restart=True)
    assert other.roster.version == begun.roster.version == 1
    with pytest.raises(UsageError, match="waiting"):
        sign_roster(tmp_path / "root", [begun.document], now=NOW)
    assert sign_roster(tmp_path / "root", [other.document], now=NOW).complete
    assert not (tmp_path / "root" / PENDING).exists()


def test_a_second_roster_of_a_complete_version_is_refused(tmp_path: Path) -> None:
    init_root(tmp_path / "root", "eu", now=NOW)
    shutil.copytree(tmp_path / "root", tmp_path / "copy")
    sign_roster(tmp_path / "root", _requests(), now=NOW)
    rival = sign_roster(tmp_path / "copy", _requests(), now=NOW)
    with pytest.raises(RosterError, match="found another"):
        sign_roster(tmp_path / "root", [rival.document], now=NOW, signer=1)


def test_versions_are_signed_without_a_gap(tmp_path: Path) -> None:
    init_root(tmp_path / "root", "eu", signers=2, threshold=1, now=NOW)
    late = _copy_for(tmp_path / "root", 2)
    first = sign_roster(tmp_path / "root", _requests(), now=NOW)
    second = sign_roster(tmp_path / "root", [_site("jupiter")], now=NOW)
    with pytest.raises(RosterError, match="expected version 1"):
        sign_roster(late, [second.document], now=NOW)
    for document in (first.document, second.document):
        assert sign_roster(late, [document], now=NOW).complete


def test_a_roster_of_another_root_is_never_signed(tmp_path: Path) -> None:
    init_root(tmp_path / "root", "eu", now=NOW)
    init_root(tmp_path / "other", "eu", now=NOW)
    foreign = sign_roster(tmp_path / "other", _requests(), now=NOW)
    with pytest.raises(RosterError, match="root keys of this directory"):
        sign_roster(tmp_path / "root", [foreign.document], now=NOW)
    assert load_root_rosters(tmp_path / "root", NOW) is None


def test_an_offered_roster_must_obey_the_rules(tmp_path: Path) -> None:
    root = init_root(tmp_path / "root", "eu", now=NOW)
    lawless = dsse.sign_envelope(
        dsse.ROSTER_TYPE,
        roster_to_bytes(peek_roster(sign_roster(tmp_path / "root", _requests(), now=NOW).document)),
        signing.generate_key(),
    )
    shutil.rmtree(tmp_path / "root" / "rosters")
    assert sign_roster(tmp_path / "root", [lawless], now=NOW).complete  # a stranger's signature changes nothing
    shutil.rmtree(tmp_path / "root" / "rosters")
    with pytest.raises(RosterError, match="it has expired"):
        sign_roster(tmp_path / "root", [lawless], now=NOW + 400 * DAY)
    assert load_root(tmp_path / "root") == root


def test_renewal_needs_no_request(tmp_path: Path) -> None:
    init_root(tmp_path / "root", "eu", now=NOW)
    first = sign_roster(tmp_path / "root", _requests(), now=NOW)
    renewed = sign_roster(tmp_path / "root", now=NOW + 400 * DAY, valid_days=10)
    assert renewed.roster.sites == first.roster.sites
    assert renewed.roster.version == 2
    assert renewed.roster.expires_at_us == NOW_US + int(410 * DAY * 1e6)


def test_removal(tmp_path: Path) -> None:
    init_root(tmp_path / "root", "eu", now=NOW)
    sign_roster(tmp_path / "root", _requests(), now=NOW)
    assert sign_roster(tmp_path / "root", now=NOW, removals=["site:lumi"]).roster.sites == ()
    with pytest.raises(ConfigError, match="remove"):
        sign_roster(tmp_path / "root", now=NOW, removals=["site:lumi"])


@pytest.mark.parametrize(
    ("consortium", "signers", "threshold"), [("EU", 1, 1), ("eu", 0, 0), ("eu", 2, 3), ("eu", 2, 0), ("eu", 65, 1)]
)
def test_impossible_roots_are_not_made(tmp_path: Path, consortium: str, signers: int, threshold: int) -> None:
    with pytest.raises(ConfigError):
        init_root(tmp_path / "root", consortium, signers=signers, threshold=threshold, now=NOW)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with pytest.raises(UsageError, match="expected nothing there"):
        init_root(tmp_path / "root", "eu", now=NOW)
    assert list((tmp_path / "root").iterdir()) == []


def test_what_a_crash_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".tmp-root" / "signers").mkdir(parents=True)
    (tmp_path / ".tmp-root" / "signers" / "1.pem").write_text("half")
    init_root(tmp_path / "root", "eu", now=NOW)
    assert sign_roster(tmp_path / "root", _requests(), now=NOW).complete


def test_bad_inputs_sign_nothing(tmp_path: Path) -> None:
    init_root(tmp_path / "root", "eu", now=NOW)
    good, key = _site("lumi"), signing.generate_key()
    roster = sign_roster(tmp_path / "root", [good], now=NOW).document
    before = sorted(path.name for path in (tmp_path / "root").rglob("*"))
    half_signed = dsse.sign_envelope(dsse.REQUEST_TYPE, dsse.peek_payload(good), key)
    for inputs, options, error in (
        ([b"junk"], {}, ProtocolError),
        ([half_signed], {}, BadSignatureError),
        ([good, good], {}, ConfigError),
        ([roster, good], {}, UsageError),
        ([roster], {"removals": ["site:lumi"]}, UsageError),
        ([operator_request("lumi", key)], {}, RosterError),
        ([good], {"signer": 2}, ConfigError),
        ([good], {"signer": -1}, ConfigError),
        ([good], {"valid_days": 0}, ConfigError),
        ([good], {"valid_days": 10**9}, ConfigError),
    ):
        with pytest.raises(error):
            sign_roster(tmp_path / "root", inputs, now=NOW, **options)  # type: ignore[arg-type]
    assert sorted(path.name for path in (tmp_path / "root").rglob("*")) == before


def test_a_key_under_anothers_number_is_refused(tmp_path: Path) -> None:
    init_root(tmp_path / "root", "eu", signers=2, threshold=1, now=NOW)
    signers = tmp_path / "root" / "signers"
    (signers / "2.pem").rename(signers / "1.pem")
    with pytest.raises(ConfigError, match="found another key"):
        sign_roster(tmp_path / "root", _requests(), now=NOW)
    with pytest.raises(ConfigError, match="readable PEM file"):
        sign_roster(tmp_path / "root", _requests(), now=NOW, signer=2)


def test_nobody_left_to_sign(tmp_path: Path) -> None:
    init_root(tmp_path / "root", "eu", signers=2, threshold=2, now=NOW)
    mine = _copy_for(tmp_path / "root", 1)
    begun = sign_roster(mine, _requests(), now=NOW)
    with pytest.raises(UsageError, match="found none"):
        sign_roster(mine, [begun.document], now=NOW)
    again = sign_roster(mine, [begun.document], now=NOW, signer=1)
    assert (again.document, again.missing) == (begun.document, 1)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        '{"consortium": "eu", "threshold": 1, "root_keys": ["zz"], "created_at_us": 0}',
        '{"consortium": "eu", "threshold": 2, "root_keys": ["' + "ab" * 32 + '"], "created_at_us": 0}',
        '{"consortium": "E U", "threshold": 1, "root_keys": ["' + "ab" * 32 + '"], "created_at_us": 0}',
        '{"consortium": "eu", "threshold": 1, "root_keys": ["' + "ab" * 32 + '"], "created_at_us": 0, "x": 1}',
    ],
    ids=["empty", "nothing", "hex", "threshold", "slug", "unknown-key"],
)
def test_a_damaged_root_file_is_named(tmp_path: Path, content: str) -> None:
    init_root(tmp_path / "root", "eu", now=NOW)
    (tmp_path / "root" / "root.json").write_text(content)
    with pytest.raises(ConfigError, match=r"root\.json"):
        load_root(tmp_path / "root")


def test_no_root_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found none") as caught:
        load_root(tmp_path / "nowhere")
    assert "federation consortium init" in caught.value.diagnostics()


def test_a_tampered_roster_in_the_root_directory_is_not_built_upon(tmp_path: Path) -> None:
    init_root(tmp_path / "root", "eu", now=NOW)
    sign_roster(tmp_path / "root", _requests(), now=NOW)
    stored = tmp_path / "root" / "rosters" / "000001.roster"
    stored.write_bytes(stored.read_bytes().replace(b"lumi", b"lumo"))
    with pytest.raises(RosterError, match="signatures"):
        sign_roster(tmp_path / "root", [_site("jupiter")], now=NOW)
