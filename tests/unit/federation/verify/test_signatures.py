# SPDX-License-Identifier: Apache-2.0
"""Which ledger key may have signed the newest checkpoint, and what is no anchor."""

from dataclasses import replace
from pathlib import Path

import pytest

from federation import leaves as lv
from federation import notes
from federation.errors import ConfigError
from federation.merkle import Tree, leaf_hash
from federation.testing.rosters import MemoryConsortium
from federation.verify.log_files import LogFiles
from federation.verify.report import Findings
from federation.verify.signatures import Witnessed, check_cosigned, check_own, read_kept
from federation.verify.trust import Installed, Rosters

KEYS = MemoryConsortium()
ORIGIN = notes.default_origin(KEYS.name)
TREE = Tree([leaf_hash(bytes([number])) for number in range(4)])


def rosters() -> Rosters:
    """Version 2 has another ledger key than version 1."""
    first = KEYS.roster()
    assert first.coordinator is not None
    entry = replace(first.coordinator, ledger_public=KEYS.public("new ledger"))
    return Rosters(by_version={1: first, 2: replace(KEYS.next(first), coordinator=entry)})


def installed(*leaves: int) -> list[Installed]:
    return [
        Installed(leaf=leaf, at_us=0, body=lv.RosterInstalledV1(version=version, digest="", sites=()))
        for version, leaf in enumerate(leaves, start=1)
    ]


def files_of(key: str, cosigned: tuple[bytes, ...] = ()) -> LogFiles:
    checkpoint = notes.Checkpoint(origin=ORIGIN, size=4, root=TREE.root())
    note = notes.sign_checkpoint(checkpoint, ORIGIN, KEYS.key(key))
    return LogFiles(note=note, size=4, root=TREE.root(), cosigned=cosigned)


@pytest.mark.parametrize(
    ("key", "leaves", "good"),
    [
        ("ledger", (0,), True),
        ("new ledger", (0,), True),  # installed, and not yet in the ledger
        ("new ledger", (0, 2), True),
        ("ledger", (0, 3), True),  # the leaf that installs it is the last one
        ("ledger", (0, 2), False),  # a key that was replaced before
        ("nobody", (0,), False),
    ],
)
def test_the_checkpoint_is_signed_with_the_key_in_force(key: str, leaves: tuple[int, ...], good: bool) -> None:
    findings = Findings()
    check_own(findings, files_of(key), TREE, rosters(), installed(*leaves))
    assert (findings.num_failed() == 0) is good


def test_cosignatures_count_under_any_key_that_the_site_had() -> None:
    note = files_of("ledger").note
    name = notes.witness_name(KEYS.name, "lumi")
    cosigned = notes.cosign(note, name, KEYS.key("site/lumi/witness"), 1)
    findings, witnessed = Findings(), Witnessed()
    check_cosigned(findings, files_of("ledger", (cosigned,)), TREE, rosters(), witnessed)
    assert witnessed.sizes == {"lumi": 4}
    assert findings.num_failed() == 0
    stranger = notes.cosign(note, "eu/site/nowhere", KEYS.key("nobody"), 1)
    check_cosigned(findings, files_of("ledger", (stranger,)), TREE, rosters(), witnessed)
    assert findings.num_failed() == 1


def test_a_file_inside_the_directory_is_no_anchor(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/checkpoint").write_bytes(files_of("ledger").note)
    (tmp_path / "link").symlink_to(tmp_path / "d/checkpoint")
    for path in (tmp_path / "d/checkpoint", tmp_path / "link"):
        with pytest.raises(ConfigError, match="found one inside"):
            read_kept(path, tmp_path / "d")
