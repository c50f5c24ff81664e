# SPDX-License-Identifier: Apache-2.0
"""Text files, sides of the split, and the order of sequences."""

import gzip
from hashlib import blake2b
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


def test_ranks_share_one_order_whatever_their_number() -> None:
    alone = source().next_batch(60)[1].numpy()
    for world_size in (1, 2, 3, 4, 7):
        for rank in range(world_size):
            mine = source()
            parts = [mine.next_batch(12, rank, world_size) for _ in range(5)]
            assert mine.cursor == 60
            assert np.array_equal(np.concatenate([labels for _, labels in parts]), alone[rank::world_size])
    inputs, labels = source().next_batch(2, 2, 3)
    assert inputs.shape == labels.shape == (0, 8)


def test_the_world_size_may_change_in_between() -> None:
    labels = source().next_batch(18)[1].numpy()
    for rank in range(3):
        later = source(6)
        assert np.array_equal(later.next_batch(6, rank, 3)[1], labels[6:12][rank::3])
        assert np.array_equal(later.next_batch(6, rank % 2, 2)[1], labels[12:][rank % 2 :: 2])


def weighted(weights: tuple[float, ...]) -> np.ndarray:
    texts = [np.full(50, number, np.uint8) for number in range(len(weights))]
    made = SequenceSource(texts, sequence_length=8, seed=1, site="a", weights=weights)
    return made.next_batch(4000)[1].numpy()[:, 0]


def test_weights_are_parts_of_the_sequences() -> None:
    found = np.bincount(weighted((1.0, 6.0, 3.0))) / 4000
    assert found.tolist() == pytest.approx([0.1, 0.6, 0.3], abs=0.02)
    assert np.array_equal(weighted((0.5, 3.0, 1.5)), weighted((1.0, 6.0, 3.0)))


def counted(cursor: int = 0, tokens: dict[str, int] | None = None) -> SequenceSource:
    """Two data sets of one language and one of another, 8 tokens a sequence."""
    texts = [np.full(50, number, np.uint8) for number in range(3)]
    languages = ("de", "el", "de")
    made = SequenceSource(texts, sequence_length=8, seed=1, site="a", weights=(1.0, 6.0, 3.0), languages=languages)
    made.resume(cursor, tokens)
    return made


def test_tokens_are_counted_per_language_whoever_takes_them() -> None:
    alone = counted()
    labels = alone.next_batch(60)[1].numpy()
    num_el = int((labels[:, 0] == 1).sum())
    assert 0 < num_el < 60
    assert alone.language_tokens == {"de": 8 * (60 - num_el), "el": 8 * num_el}
    for rank in range(3):
        mine = counted()
        mine.next_batch(60, rank, 3)
        assert mine.language_tokens == alone.language_tokens


def test_what_is_repeated_after_a_resumption_is_counted_once() -> None:
    first = counted()
    first.next_batch(10)
    cursor, tokens = first.cursor, dict(first.language_tokens or {})
    first.next_batch(10)
    again = counted(cursor, tokens)
    again.next_batch(10)
    assert again.language_tokens == first.language_tokens
    assert sum((first.language_tokens or {}).values()) == 20 * 8


def test_a_language_that_came_or_went_keeps_its_count() -> None:
    made = counted(10, {"fr": 40, "de": 40})
    assert made.language_tokens == {"fr": 40, "de": 40, "el": 0}
    made.next_batch(5)
    assert sum((made.language_tokens or {}).values()) == 15 * 8


def test_what_was_not_counted_from_the_beginning_is_not_known() -> None:
    late = counted(10, None)
    late.next_batch(5)
    assert late.language_tokens is None
    assert counted(0, None).language_tokens == {"de": 0, "el": 0}
    assert source().language_tokens is None


def test_equal_weights_are_no_weights() -> None:
    assert np.array_equal(weighted((2.5, 2.5, 2.5)), weighted((1.0, 1.0, 1.0)))
    texts = [np.full(50, number, np.uint8) for number in range(3)]
    plain = SequenceSource(texts, sequence_length=8, seed=1, site="a").next_batch(4000)[1].numpy()[:, 0]
    assert np.array_equal(weighted((7.0, 7.0, 7.0)), plain)


def test_the_order_of_sequences_never_changes() -> None:
    labels = source(12_345).next_batch(40)[1].numpy()
    assert blake2b(labels.astype("<i8").tobytes(), digest_size=8).hexdigest() == "bcdd6b7fc4e74e05"
    assert blake2b(weighted((1.0, 6.0, 3.0)).astype("<i8").tobytes(), digest_size=8).hexdigest() == "20eabe404285a661"
