# SPDX-License-Identifier: Apache-2.0
"""docs/threat-model.md: every threat names a test, and every test that it names exists and can fail."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "threat-model.md"
_NAMED = re.compile(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")
_BACKTICKED = re.compile(r"`(tests/[^`]*)`")


def rows(text: str) -> list[list[str]]:
    """Cells of every line of a threat table: those whose head is threat, what stops it, test."""
    found, inside = [], False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells == ["threat", "what stops it", "test"]:
            inside = True
        elif inside and not set(line) <= set("|-: "):
            found.append(cells)
    return found


@cache
def functions(path: str) -> dict[str, bool]:
    """Per test function of a file, whether it does anything: an assertion, or at least a call."""
    file = ROOT / path
    if not file.is_file():
        return {}
    found = {}
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = any(isinstance(part, ast.Assert | ast.Call) for part in ast.walk(node))
    return found


def named() -> list[tuple[str, str]]:
    """(file, test) of the document, each once."""
    return sorted(set(_NAMED.findall(DOCUMENT.read_text())))


@pytest.mark.parametrize(("path", "name"), named())
def test_a_named_test_exists(path: str, name: str) -> None:
    assert functions(path).get(name), f"{path}: expected {name}, found {sorted(functions(path)) or 'no such file'}"


def test_every_threat_names_a_test() -> None:
    table = rows(DOCUMENT.read_text())
    assert len(table) >= 50
    for cells in table:
        assert len(cells) == 3, cells
        threat, defence, tests = cells
        assert threat, cells
        assert defence, cells
        assert _NAMED.search(tests), f"{threat}: expected a test, found {tests!r}"


def test_what_looks_like_a_test_is_one() -> None:
    """A misspelt reference must not slip through the pattern."""
    text = DOCUMENT.read_text()
    wrong = [found for found in _BACKTICKED.findall(text) if not _NAMED.fullmatch(f"`{found}`")]
    assert wrong == ["tests/architecture/test_threat_model.py"]


def test_no_threat_stands_twice() -> None:
    threats = [cells[0] for cells in rows(DOCUMENT.read_text())]
    assert len(threats) == len(set(threats))


def test_a_missing_test_would_be_noticed() -> None:
    assert not functions("tests/architecture/test_threat_model.py").get("test_that_is_not_here")
    assert functions("tests/nowhere/test_nothing.py") == {}
    assert rows("| threat | what stops it | test |\n|---|---|---|\n| a | b | c |\n\n| x | y | z |\n") == [
        ["a", "b", "c"]
    ]
