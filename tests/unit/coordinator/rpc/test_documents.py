# SPDX-License-Identifier: Apache-2.0
"""Questions to the driver: each document is made once, and a failure reaches who asked."""

import pytest

from coordinator.rpc import documents as module
from coordinator.rpc.documents import Documents
from federation.errors import OverloadedError, UsageError


def test_a_document_is_made_once_for_all_who_ask_before_the_driver_pauses() -> None:
    notified: list[int] = []
    documents = Documents(lambda: notified.append(1))
    asked = [documents.ask(subject) for subject in ("run-1", "", "run-1")]
    made: list[str] = []
    assert documents.answer(lambda subject: made.append(subject) or f"<{subject}>") == 2
    assert made == ["run-1", ""]
    assert [future.result(0) for future in asked] == ["<run-1>", "<>", "<run-1>"]
    assert len(notified) == 3
    assert documents.answer(lambda subject: subject) == 0


def test_a_failure_is_the_askers() -> None:
    documents = Documents(lambda: None)
    wrong, right = documents.ask("nobody"), documents.ask("run-1")

    def make(subject: str) -> str:
        if subject == "nobody":
            raise UsageError("no run of that name")
        return subject

    documents.answer(make)
    with pytest.raises(UsageError):
        wrong.result(0)
    assert right.result(0) == "run-1"


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ASKED", 2)
    documents = Documents(lambda: None)
    documents.ask("a")
    documents.ask("b")
    documents.ask("a")
    with pytest.raises(OverloadedError):
        documents.ask("c")
