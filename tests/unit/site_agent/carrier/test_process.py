# SPDX-License-Identifier: Apache-2.0
"""Programs that carry are bounded in what they write and how long they go on."""

import os
from pathlib import Path

import pytest

from federation.errors import ConfigError, LimitExceededError, PeerUnavailableError
from site_agent.carrier.process import Programs

MEBIBYTE = 1024 * 1024


def test_what_a_program_said(tmp_path: Path) -> None:
    programs = Programs(tmp_path)
    done = programs.run(["sh", "-c", "cat; echo bad '\033[31m' >&2; exit 3"], stdin=b"said\n")
    assert (done.code, done.output, done.complaint) == (3, "said\n", "bad ?[31m")
    assert programs.run(["sh", "-c", 'echo "$LC_ALL$DISPLAY"']).output == "C\n"


FLOOD = "head -c 60000000 /dev/zero"
"""Three times what is allowed, and no more: a limit that fails must not fill the disk."""


@pytest.mark.parametrize("command", [FLOOD, f"{FLOOD} > file; exit $?", f"{FLOOD} >&2; exit $?"])
def test_a_flood_ends_at_the_limit(tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LimitExceededError, match="20971520 bytes at most"):
        Programs(tmp_path).run(["sh", "-c", command], max_file_bytes=20 * MEBIBYTE)
    assert max(path.stat().st_size for path in tmp_path.iterdir()) <= 20 * MEBIBYTE


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no-such-program: expected this program"):
        Programs(tmp_path).run(["no-such-program"])


def test_one_that_runs_when_the_carrier_is_to_stop_is_ended(tmp_path: Path) -> None:
    asked = []

    def is_stopping() -> bool:
        asked.append(1)
        return len(asked) > 2

    with pytest.raises(PeerUnavailableError, match="stopped in the middle"):
        Programs(tmp_path, is_stopping).run(["sh", "-c", "echo $$; exec sleep 600"])
    pid = int((tmp_path / "stdout").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
