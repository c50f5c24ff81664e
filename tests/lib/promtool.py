# SPDX-License-Identifier: Apache-2.0
"""Prometheus and its tool, as Debian packages them."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROMTOOL, PROMETHEUS = shutil.which("promtool"), shutil.which("prometheus")
needs_prometheus = pytest.mark.skipif(
    PROMTOOL is None or PROMETHEUS is None,
    reason="promtool and prometheus are not installed; Debian's package `prometheus` has both",
)


LINT = 3
"""Exit code of `promtool check metrics` where something could be better."""


def promtool(*words: str | Path, text: str = "", codes: tuple[int, ...] = (0,)) -> str:
    """Runs promtool, which must end with one of these codes; returns what it said."""
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *map(str, words)], input=text, capture_output=True, text=True, timeout=240)
    said = done.stdout + done.stderr
    assert done.returncode in codes, said
    return said


_SELECTOR = re.compile(r"\b(federation_[a-z_]+|up|ALERTS)\b(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'([a-zA-Z_]+)\s*(?:=~|!~|!=|=)\s*"')


def selectors(expr: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric that an expression names, with the labels that it asks of it."""
    for name, matchers in _SELECTOR.findall(expr):
        yield name, set(_MATCHER.findall(matchers))


def expressions(panels: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """(title of the panel, expression) of every target of a Grafana dashboard, with its variables filled in."""
    for panel in panels:
        for target in panel.get("targets", ()):
            yield panel["title"], re.sub(r"\$\{?[a-z_]+\}?", "x", target["expr"])
