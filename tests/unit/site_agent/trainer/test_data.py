# SPDX-License-Identifier: Apache-2.0
"""Text files, sides of the split, and the order of sequences."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from federation.errors import ConfigError
from federation.text_split import Split, split_of
from site_agent.trainer.data import BEGIN_OF_TEXT, SequenceSource, load_split, text_files, with_inputs

LINES = [f"Zeile {n} ä" for n in range(400)]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    (tmp_path / "de.txt").write_text("\n".join(LINES[:200]) + "\r\n\n", encoding="utf-8")
    with gzip.open(tmp_path / "de.more.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(LINES[200:]))
    (tmp_path / "den.txt").write_text("another language\n")
    (tmp_path / "de.md").write_text("no text\n")
    return tmp_path


def test_files_of_a_language_are_found_by_name(data_dir: Path) -> None:
    assert [path.name for path in text_files(data_dir, "de")] == ["de.more.txt.gz", "de.txt"]
    with pytest.raises(ConfigError, match="expected text of language fr"):
        text_files(data_dir, "fr")


def test_both_sides_together_are_all_lines(data_dir: Path) -> None:
    train, held_out = (bytes(load_split(data_dir, "de", side)).decode().splitlines() for side in Split)
    assert sorted(train + held_out) == sorted(LINES)
    assert all(split_of(line) is Split.HELD_OUT for line in held_out)
    assert all(split_of(line) is Split.TRAIN for line in train)


def test_a_budget_cuts_exactly(data_dir: Path) -> None:
    whole = load_split(data_dir, "de", Split.TRAIN)
    assert np.array_equal(load_split(data_dir, "de", Split.TRAIN, 100), whole[:100])


def test_unreadable_text_is_the_operators_mistake(tmp_path: Path) -> None:
    (tmp_path / "fr.txt").write_bytes(b"\xff\xfe\n")
    (tmp_path / "it.txt.gz").write_bytes(b"not packed")
    for language in ("fr", "it"):
        with pytest.raises(ConfigError, match=f"{language}.txt.*expected readable UTF-8 text"):
            load_split(tmp_path, language, Split.TRAIN)


def source(cursor: int = 0, *, seed: int = 1, site: str = "a") -> SequenceSource:
    texts = [np.arange(200, dtype=np.uint8), np.full(50, 250, np.uint8), np.array([7], np.uint8)]
    made = SequenceSource(texts, sequence_length=8, seed=seed, site=site)
    made.cursor = cursor
    return made


def test_the_cursor_is_the_whole_state() -> None:
    first = source()
    batches = [first.next_batch(3) for _ in range(4)]
    inputs, labels = source(6).next_batch(3)
    assert first.cursor == 12
    assert np.array_equal(labels, batches[2][1])
    assert np.array_equal(inputs, batches[2][0])


def test_seed_and_site_change_the_order() -> None:
    expected = source().next_batch(20)[1]
    assert not np.array_equal(source(seed=2).next_batch(20)[1], expected)
    assert not np.array_equal(source(site="b").next_batch(20)[1], expected)


def test_languages_take_equal_parts_and_short_texts_are_repeated() -> None:
    labels = source().next_batch(3000)[1].numpy()
    shares = [np.mean(labels[:, 0] < 193), np.mean(labels[:, 0] == 250), np.mean((labels == 7).all(axis=1))]
    assert shares == pytest.approx([2 / 3, 1 / 3, 1 / 3], abs=0.04)


def test_inputs_are_the_labels_shifted_behind_a_mark() -> None:
    inputs, labels = with_inputs(np.array([[1, 2, 3]], np.uint8))
    assert inputs.tolist() == [[BEGIN_OF_TEXT, 1, 2]]
    assert labels.tolist() == [[1, 2, 3]]
