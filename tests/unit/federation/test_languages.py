# SPDX-License-Identifier: Apache-2.0
"""The table of languages: complete, in a fixed order, one language for each code; CLDR (Babel) as second opinion."""

import re

import pytest
from babel import Locale
from babel.core import get_global

from federation import corpus
from federation.languages import ORDER, SETS, Group, Language, find, sort_key


def found(code: str) -> str:
    language = find(code)
    return language.code if language else ""


@pytest.mark.parametrize(
    ("codes", "meant"),
    [
        ("et est ekk est_Latn ekk_Latn et_Latn et-Latn EST ekk-latn", "est_Latn"),
        ("lv lav lvs lvs_Latn lav_Latn", "lav_Latn"),
        ("sq sqi als als_Latn sqi_Latn alb", "sqi_Latn"),
        ("nb nob no nor nob_Latn nor_Latn", "nob_Latn"),
        ("sr srp srp_Cyrl sr_Cyrl", "srp_Cyrl"),
        ("sr_Latn srp_Latn sr-Latn", "srp_Latn"),
        ("ro ron mo mol rum_Latn", "ron_Latn"),
        ("nn nno_Latn", "nno_Latn"),
        ("ltg ltg_Latn", "ltg_Latn"),
        ("cnr", "cnr_Latn"),
    ],
)
def test_many_codes_of_one_language_meet(codes: str, meant: str) -> None:
    assert {found(code) for code in codes.split()} == {meant}


@pytest.mark.parametrize(
    "code", ["", "_", "_Latn", "xx", "est_Cyrl", "est_Latn_x", "est_", "<b>", "sh", "hbs", "English", "e" * 10_000]
)
def test_an_unknown_code_is_none(code: str) -> None:
    assert find(code) is None


def test_no_code_means_two_languages() -> None:
    names = [
        f"{name}_{language.script}"
        for language in ORDER
        for name in (language.iso_639_1, language.iso_639_3, *language.aliases)
        if name
    ]
    assert len(names) == len(set(names))
    for language in ORDER:
        assert find(language.code) is language
    twice = [lang.iso_639_3 for lang in ORDER if not lang.is_default_script]
    defaults = [lang.iso_639_3 for lang in ORDER if lang.is_default_script]
    assert len(defaults) == len(set(defaults))
    assert set(twice) <= set(defaults)


def test_the_union_s_24_come_first_in_its_institutions_order_then_accession_then_the_rest() -> None:
    official = "bg es cs da de et el en fr ga hr it lv lt hu mt nl pl pt ro sk sl fi sv"
    assert [language.iso_639_1 for language in ORDER[:24]] == official.split()
    assert sorted(official.split()) == list(corpus.LANGUAGES)
    assert [language.group for language in ORDER] == sorted(
        (language.group for language in ORDER), key=list(Group).index
    )
    for group in (Group.ACCESSION, Group.OTHER):
        names = [language.english_name for language in ORDER if language.group is group]
        assert names == sorted(names)


def test_sets_have_the_members_that_their_names_promise() -> None:
    assert len(SETS["official-24"]) == 24
    assert {language.group for language in SETS["official-24"]} == {Group.OFFICIAL}
    rest = {language.code for language in SETS["oellm-36"]} - {language.code for language in SETS["official-24"]}
    others = "cat eus glg bos kat mkd als srp tur ukr isl nob"
    assert {found(code) for code in others.split()} == rest
    assert len(SETS["oellm-36"]) == 36


def test_unknown_codes_sort_last_alphabetically_and_known_ones_as_in_the_table() -> None:
    codes = ["zzz", "sr_Latn", "no", "aaa", "ekk", "de", "est_Latn", "bg", "sr"]
    assert sorted(codes, key=sort_key) == ["bg", "de", "ekk", "est_Latn", "sr", "sr_Latn", "no", "aaa", "zzz"]


def test_codes_fit_what_messages_and_leaves_may_hold() -> None:
    for language in ORDER:
        assert re.fullmatch("[a-z]{3}_[A-Z][a-z]{3}", language.code)
        assert re.fullmatch("([a-z]{2})?", language.iso_639_1)


KNOWN_TO_CLDR = [language for language in ORDER if language.iso_639_1]


@pytest.mark.parametrize("language", KNOWN_TO_CLDR, ids=lambda language: language.code)
def test_cldr_has_the_same_names_and_codes(language: Language) -> None:
    locale = Locale.parse(f"{language.iso_639_1}_{language.script}")
    own = Locale.parse(language.iso_639_1).languages[language.iso_639_1]
    assert locale.language == language.iso_639_1
    if language.is_default_script:
        assert language.own_name == own
        assert language.english_name == Locale("en").languages[language.iso_639_1]
        assert get_global("likely_subtags")[language.iso_639_1].split("_")[1] == language.script
    aliases = get_global("language_aliases")
    for code in {language.iso_639_3, *language.aliases} - {"no"}:
        assert aliases.get(code, code) in {language.iso_639_1, "no", code}
    assert aliases[language.iso_639_3] == language.iso_639_1
