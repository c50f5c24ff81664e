# SPDX-License-Identifier: Apache-2.0
"""Ledgers of earlier releases fold to the same state digest for ever.

`python tests/golden/test_golden_ledgers.py --write VERSION` adds the ledger of a new release; older files never change.
"""

import json
import sys
from pathlib import Path

import pytest

from federation.rounds import fold
from federation.state_digest import state_digest
from federation.testing.history import history
from federation.wire import leaf_from_bytes, leaf_to_bytes

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("ledger-*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_released_ledger_folds_to_its_state(path: Path) -> None:
    golden = json.loads(path.read_text())
    leaves = [leaf_from_bytes(bytes.fromhex(leaf)) for leaf in golden["leaves"]]
    assert state_digest(fold(leaves)) == golden["state_digest"]


def test_this_release_writes_the_same_bytes() -> None:
    golden = json.loads((HERE / "ledger-0.1.json").read_text())
    assert [leaf_to_bytes(leaf).hex() for leaf in history()] == golden["leaves"]


def write(version: str) -> None:
    """Records the ledger of a release that has none yet."""
    path = HERE / f"ledger-{version}.json"
    if path.exists():
        raise SystemExit(f"{path}: a released ledger never changes")
    leaves = history()
    golden = {"leaves": [leaf_to_bytes(leaf).hex() for leaf in leaves], "state_digest": state_digest(fold(leaves))}
    path.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    write(sys.argv[sys.argv.index("--write") + 1])
