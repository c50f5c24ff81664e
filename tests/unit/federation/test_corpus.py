# SPDX-License-Identifier: Apache-2.0
"""The built-in corpus: every official language, from the seed alone."""

from pathlib import Path

import pytest

from federation.corpus import LANGUAGES, corpus_text, write_corpus
from federation.errors import ConfigError
from federation.text_split import Split, split_of


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_official_language_has_text_on_both_sides_of_the_split(language: str) -> None:
    text = corpus_text(language, 12_000).decode()
    lines = text.splitlines()
    assert text.endswith("\n")
    assert {split_of(line) for line in lines} == {Split.TRAIN, Split.HELD_OUT}
    assert len(set(lines)) > 0.9 * len(lines)
    # What Babel cannot name it writes as the id of the unit.
    assert not any(word in text for word in ("length-", "duration-", "-kilometer", "None"))


def test_the_same_seed_gives_the_same_text_and_another_one_another() -> None:
    assert corpus_text("de", 5000, 1) == corpus_text("de", 5000, 1)
    assert corpus_text("de", 5000, 1) != corpus_text("de", 5000, 2)
    assert corpus_text("de", 9000, 1).startswith(corpus_text("de", 5000, 1))


def test_languages_use_their_own_words_and_alphabets() -> None:
    assert "α" in corpus_text("el", 3000).decode()
    assert "и" in corpus_text("bg", 3000).decode()
    assert "Deutschland" in corpus_text("de", 100_000).decode()
    assert "hundert" in corpus_text("de", 20_000).decode()


def test_files_are_written_with_their_sizes(tmp_path: Path) -> None:
    sizes = write_corpus(tmp_path / "new", ("de", "mt"), 2000)
    assert {name.name: name.stat().st_size for name in (tmp_path / "new").iterdir()} == {
        f"{language}.txt": size for language, size in sizes.items()
    }
    assert all(2000 <= size < 2600 for size in sizes.values())


def test_a_language_that_is_none_of_them_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected one of bg, cs"):
        corpus_text("xx", 10)
