# SPDX-License-Identifier: Apache-2.0
"""The languages that a consortium looks at: one table in a fixed order, and how their many codes meet in it.

Data sets and evaluation harnesses write one language in several ways (`et`, `est`, `ekk_Latn`); sites and scores keep
the code that they were given, and whoever puts them side by side asks `find`. The order is fixed so that a table reads
alike every day: the official languages in the order that the Union's institutions print them (by their own names, in
Latin letters), then the languages of accession countries and the rest, each by English name.

Sources: ISO 639-1, 639-2, 639-3 and 15924; the Union's interinstitutional style guide for the order.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Group(StrEnum):
    """Why a language is in the table."""

    OFFICIAL = "official"
    """One of the European Union's 24."""

    ACCESSION = "accession"
    """Of a candidate country."""

    OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class Language:
    """A language in one script.

    Attributes:
        iso_639_1: "" where it has none.
        iso_639_3: the code that we show; of a macrolanguage where that is the usual one (est, lav, sqi).
        script: ISO 15924.
        own_name: as its speakers write it, in this script.
        aliases: further codes for the same: ISO 639-2/B, the individual language of a macrolanguage, retired codes.
        is_default_script: whether a code without script means this entry.
    """

    iso_639_1: str
    iso_639_3: str
    script: str
    english_name: str
    own_name: str
    group: Group
    aliases: tuple[str, ...] = ()
    is_default_script: bool = True

    @property
    def code(self) -> str:
        """Its one code here, such as `est_Latn`."""
        return f"{self.iso_639_3}_{self.script}"


# fmt: off
_TABLE: Final = (
    (Group.OFFICIAL, (
        ("bg", "bul", "Cyrl", "Bulgarian", "български", ""),
        ("es", "spa", "Latn", "Spanish", "español", ""),
        ("cs", "ces", "Latn", "Czech", "čeština", "cze"),
        ("da", "dan", "Latn", "Danish", "dansk", ""),
        ("de", "deu", "Latn", "German", "Deutsch", "ger"),
        ("et", "est", "Latn", "Estonian", "eesti", "ekk"),
        ("el", "ell", "Grek", "Greek", "Ελληνικά", "gre"),
        ("en", "eng", "Latn", "English", "English", ""),
        ("fr", "fra", "Latn", "French", "français", "fre"),
        ("ga", "gle", "Latn", "Irish", "Gaeilge", ""),
        ("hr", "hrv", "Latn", "Croatian", "hrvatski", ""),
        ("it", "ita", "Latn", "Italian", "italiano", ""),
        ("lv", "lav", "Latn", "Latvian", "latviešu", "lvs"),
        ("lt", "lit", "Latn", "Lithuanian", "lietuvių", ""),
        ("hu", "hun", "Latn", "Hungarian", "magyar", ""),
        ("mt", "mlt", "Latn", "Maltese", "Malti", ""),
        ("nl", "nld", "Latn", "Dutch", "Nederlands", "dut"),
        ("pl", "pol", "Latn", "Polish", "polski", ""),
        ("pt", "por", "Latn", "Portuguese", "português", ""),
        ("ro", "ron", "Latn", "Romanian", "română", "rum mo mol"),
        ("sk", "slk", "Latn", "Slovak", "slovenčina", "slo"),
        ("sl", "slv", "Latn", "Slovenian", "slovenščina", ""),
        ("fi", "fin", "Latn", "Finnish", "suomi", ""),
        ("sv", "swe", "Latn", "Swedish", "svenska", ""),
    )),
    (Group.ACCESSION, (
        ("sq", "sqi", "Latn", "Albanian", "shqip", "als alb"),
        ("bs", "bos", "Latn", "Bosnian", "bosanski", ""),
        ("ka", "kat", "Geor", "Georgian", "ქართული", "geo"),
        ("mk", "mkd", "Cyrl", "Macedonian", "македонски", "mac"),
        ("", "cnr", "Latn", "Montenegrin", "crnogorski", ""),
        ("sr", "srp", "Cyrl", "Serbian", "српски", ""),
        ("sr", "srp", "Latn", "Serbian (Latin)", "srpski", ""),
        ("tr", "tur", "Latn", "Turkish", "Türkçe", ""),
        ("uk", "ukr", "Cyrl", "Ukrainian", "українська", ""),
    )),
    (Group.OTHER, (
        ("eu", "eus", "Latn", "Basque", "euskara", "baq"),
        ("ca", "cat", "Latn", "Catalan", "català", ""),
        ("gl", "glg", "Latn", "Galician", "galego", ""),
        ("is", "isl", "Latn", "Icelandic", "íslenska", "ice"),
        ("", "ltg", "Latn", "Latgalian", "latgalīšu", ""),
        ("nb", "nob", "Latn", "Norwegian Bokmål", "norsk bokmål", "no nor"),
        ("nn", "nno", "Latn", "Norwegian Nynorsk", "norsk nynorsk", ""),
    )),
)
# fmt: on

_IN_TWO_SCRIPTS: Final = frozenset({"srp_Latn"})
"""Entries beside one in the default script of the same language."""


def _languages() -> Iterator[Language]:
    for group, rows in _TABLE:
        for two, three, script, english, own, aliases in rows:
            yield Language(
                iso_639_1=two,
                iso_639_3=three,
                script=script,
                english_name=english,
                own_name=own,
                group=group,
                aliases=tuple(aliases.split()),
                is_default_script=f"{three}_{script}" not in _IN_TWO_SCRIPTS,
            )


ORDER: Final[tuple[Language, ...]] = tuple(_languages())
"""Every language of the table, in the order in which it is shown."""


def _codes() -> Iterator[tuple[str, Language]]:
    for language in ORDER:
        for name in filter(None, (language.iso_639_1, language.iso_639_3, *language.aliases)):
            yield f"{name}_{language.script}", language
            if language.is_default_script:
                yield name, language


_BY_CODE: Final[Mapping[str, Language]] = MappingProxyType(dict(_codes()))
_PLACES: Final[Mapping[str, int]] = MappingProxyType({language.code: place for place, language in enumerate(ORDER)})


def find(code: str) -> Language | None:
    """The language that a code means, with or without a script: et, est, ekk, est_Latn, sr-Latn; None if not here.

    A code without script means the language's default one (Serbian: Cyrillic). A script that the table does not have
    for the language is another language to us: None.
    """
    name, separator, script = code.replace("-", "_").partition("_")
    return _BY_CODE.get(name.lower() + separator + script.title())


def sort_key(code: str) -> tuple[int, str]:
    """For `sorted`: languages of the table in its order, then unknown codes, alphabetically."""
    language = find(code)
    return (_PLACES[language.code], code) if language is not None else (len(ORDER), code)


def _oellm_36() -> Iterator[Language]:
    also = {"sqi_Latn", "bos_Latn", "kat_Geor", "mkd_Cyrl", "srp_Cyrl", "tur_Latn", "ukr_Cyrl"}
    also |= {"eus_Latn", "cat_Latn", "glg_Latn", "isl_Latn", "nob_Latn"}
    return (language for language in ORDER if language.group is Group.OFFICIAL or language.code in also)


SETS: Final[Mapping[str, tuple[Language, ...]]] = MappingProxyType(
    {
        "official-24": tuple(language for language in ORDER if language.group is Group.OFFICIAL),
        "oellm-36": tuple(_oellm_36()),
    }
)
"""Named sets for macro-averages: an average is only comparable over the same languages, so a set never changes.

A set that needs other members gets another name. `oellm-36` is OpenEuroLLM's list: Serbian counts once, in Cyrillic.
"""
